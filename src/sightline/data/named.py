"""Data sets by name: `digits`, which is built in, and torchvision's classification sets.

Each of torchvision's lives in a folder of its own, `SIGHTLINE_HOME/datasets/NAME`, in the layout that torchvision
gives it. What is not there is downloaded into a folder beside it, which takes its place once it is complete.
torchvision knows the layouts and the checksums; its data sets are only asked what they refer to, paths or
arrays. Importing it takes seconds, so that waits until a name needs it.
"""

from __future__ import annotations

import os
import shutil
import socket
import sys
import uuid
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sightline.data.arrays import from_arrays
from sightline.data.dataset import NO_SPLIT, SPLITS, Files, ImageDataset
from sightline.errors import SightlineError
from sightline.home import home

_NETWORK_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class NamedSet:
    """A set of torchvision: its class, the arguments for each split, and the files it wants, for messages."""

    torchvision: str
    files: str
    splits: dict[str, dict[str, Any]]
    downloads: bool = True
    classes: tuple[str, ...] | None = None  # where torchvision has no names, or not the plain digits


_TRAIN_TEST: dict[str, dict[str, Any]] = {"train": {"train": True}, "test": {"train": False}}
_BY_SPLIT: dict[str, dict[str, Any]] = {"train": {"split": "train"}, "test": {"split": "test"}}
_WITH_VAL: dict[str, dict[str, Any]] = {name: {"split": name} for name in SPLITS}
# Where the labels of the test pictures are not public, the validation pictures are what results are given on.
_VAL_IS_TEST: dict[str, dict[str, Any]] = {"train": {"split": "train"}, "test": {"split": "val"}}
_UNSPLIT: dict[str, dict[str, Any]] = {"": {}}
_DIGITS = tuple("0123456789")


def _emnist(split: str) -> NamedSet:
    splits = {name: {"split": split, **arguments} for name, arguments in _TRAIN_TEST.items()}
    return NamedSet(
        "EMNIST", f"EMNIST/raw/emnist-{split}-{{train,test}}-{{images-idx3,labels-idx1}}-ubyte", splits
    )


_IDX = "{train,t10k}-{images-idx3,labels-idx1}-ubyte"
NAMED_SETS = {
    "caltech101": NamedSet("Caltech101", "caltech101/101_ObjectCategories", _UNSPLIT),
    "caltech256": NamedSet("Caltech256", "caltech256/256_ObjectCategories", _UNSPLIT),
    "cifar10": NamedSet("CIFAR10", "cifar-10-batches-py", _TRAIN_TEST),
    "cifar100": NamedSet("CIFAR100", "cifar-100-python", _TRAIN_TEST),
    "country211": NamedSet(
        "Country211", "country211/{train,valid,test}", {**_WITH_VAL, "val": {"split": "valid"}}
    ),
    "dtd": NamedSet("DTD", "dtd/dtd/{images,labels}", _WITH_VAL),
    "emnist-balanced": _emnist("balanced"),
    "emnist-byclass": _emnist("byclass"),
    "emnist-digits": _emnist("digits"),
    "emnist-letters": _emnist("letters"),
    "eurosat": NamedSet("EuroSAT", "eurosat/2750", _UNSPLIT),
    "fashion-mnist": NamedSet("FashionMNIST", f"FashionMNIST/raw/{_IDX}", _TRAIN_TEST),
    "fgvc-aircraft": NamedSet("FGVCAircraft", "fgvc-aircraft-2013b/data", _WITH_VAL),
    "flowers102": NamedSet("Flowers102", "flowers-102/{jpg,imagelabels.mat,setid.mat}", _WITH_VAL),
    "food101": NamedSet("Food101", "food-101/{images,meta}", _BY_SPLIT),
    "gtsrb": NamedSet("GTSRB", "gtsrb/{GTSRB/Training,GTSRB/Final_Test/Images,GT-final_test.csv}", _BY_SPLIT),
    "imagenet": NamedSet(
        "ImageNet",
        "ILSVRC2012_devkit_t12.tar.gz, ILSVRC2012_img_train.tar and ILSVRC2012_img_val.tar from image-net.org",
        _VAL_IS_TEST,
        downloads=False,
    ),
    "imagenette": NamedSet("Imagenette", "imagenette2/{train,val}", _VAL_IS_TEST),
    "kmnist": NamedSet("KMNIST", f"KMNIST/raw/{_IDX}", _TRAIN_TEST),
    "mnist": NamedSet("MNIST", f"MNIST/raw/{_IDX}", _TRAIN_TEST, classes=_DIGITS),
    "oxford-pets": NamedSet(
        "OxfordIIITPet",
        "oxford-iiit-pet/{images,annotations}",
        {"train": {"split": "trainval"}, "test": {"split": "test"}},
    ),
    "places365": NamedSet(
        "Places365",
        "data_256_standard, val_256, places365_train_standard.txt, places365_val.txt and categories_places365.txt",
        {"train": {"split": "train-standard", "small": True}, "test": {"split": "val", "small": True}},
    ),
    "qmnist": NamedSet(
        "QMNIST",
        "QMNIST/raw/qmnist-{train,test}-{images-idx3-ubyte,labels-idx2-int}",
        _TRAIN_TEST,
        classes=_DIGITS,
    ),
    "rendered-sst2": NamedSet("RenderedSST2", "rendered-sst2/{train,valid,test}", _WITH_VAL),
    "stanford-cars": NamedSet(
        "StanfordCars",
        "stanford_cars/{cars_train,cars_test,devkit,cars_test_annos_withlabels.mat}",
        _BY_SPLIT,
        downloads=False,
    ),
    "stl10": NamedSet("STL10", "stl10_binary", _BY_SPLIT),
    "sun397": NamedSet("SUN397", "SUN397", _UNSPLIT),
    "svhn": NamedSet("SVHN", "train_32x32.mat and test_32x32.mat", _BY_SPLIT, classes=_DIGITS),
    "usps": NamedSet("USPS", "usps.bz2 and usps.t.bz2", _TRAIN_TEST, classes=_DIGITS),
}
"""torchvision's sets by the names that `open_dataset` knows them by, beside 'digits'."""

NAMES = ("digits", *NAMED_SETS)


def open_named(name: str) -> ImageDataset:
    """The data set `name`, one of `NAMES`. Raises `SightlineError`, which says what to put where."""
    if name == "digits":
        return _open_digits()
    known = NAMED_SETS[name]
    folder = (home() / "datasets" / name).absolute()
    try:
        datasets = _load(known, folder)
    except Exception:  # RuntimeError where something is missing, nearly anything where it is there in part
        _download(name, known, folder)
        datasets = _load(known, folder)
    return _assemble(name, known, folder, datasets)


def _open_digits() -> ImageDataset:
    """scikit-learn's 1,797 handwritten digits, 8x8, their 0..16 as 0..255."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    pictures = ((digits.images.astype(np.uint16) * 255 + 8) // 16).astype(np.uint8)
    return from_arrays([("digits", NO_SPLIT, pictures, digits.target)], name="digits", where="digits")


def _load(known: NamedSet, folder: Path, **arguments: Any) -> dict[str, Any]:
    """torchvision's data set of each split."""
    if not folder.is_dir():
        raise FileNotFoundError(folder)  # some of torchvision's would make it
    import torchvision.datasets

    make = getattr(torchvision.datasets, known.torchvision)
    with redirect_stdout(sys.stderr):  # stdout is for results
        return {split: make(root=str(folder), **own, **arguments) for split, own in known.splits.items()}


def _download(name: str, known: NamedSet, folder: Path) -> None:
    """All of the set into `folder`, or nothing. Raises `SightlineError`."""
    failure = "cannot be downloaded by a program"
    if known.downloads:
        part = folder.with_name(f".part-{name}-{uuid.uuid4().hex}")
        try:
            part.mkdir(parents=True)
            with _impatient():
                _load(known, part, download=True)
            if folder.is_dir():  # with some of the files
                shutil.copytree(part, folder, dirs_exist_ok=True)
            else:
                part.rename(folder)
            return
        except Exception as error:
            lines = str(error).strip().splitlines() or [type(error).__name__]
            failure = f"could not be downloaded ({lines[-1].strip(' <>.')})"
        finally:
            shutil.rmtree(part, ignore_errors=True)
    raise SightlineError(
        f"{name} is not there, or not whole, and {failure}; put {known.files} into {folder}."
    )


@contextmanager
def _impatient() -> Iterator[None]:
    """Without it, a network that swallows what is sent would keep us waiting for minutes."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(_NETWORK_SECONDS)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


def _assemble(name: str, known: NamedSet, folder: Path, datasets: dict[str, Any]) -> ImageDataset:
    """From what torchvision's data sets refer to; classes without a picture are left out."""
    codes = [SPLITS.index(split) if split else NO_SPLIT for split in datasets]
    classes = known.classes or _class_names(next(iter(datasets.values())))
    if all(hasattr(dataset, "data") for dataset in datasets.values()):
        arrays = [
            (split, code, *_arrays(datasets[split])) for split, code in zip(datasets, codes, strict=True)
        ]
        return from_arrays(arrays, name=name, where=name, classes=classes)
    below = f"{folder}{os.sep}"
    names: list[str] = []
    labels: list[int] = []
    splits = bytearray()
    for code, dataset in zip(codes, datasets.values(), strict=True):
        # Sorted, since a few of them come in the order of the file system.
        found = sorted((os.fspath(path).removeprefix(below), int(label)) for path, label in _paths(dataset))
        names += (path.replace(os.sep, "/") for path, _ in found)
        labels += (label for _, label in found)
        splits += bytes([code]) * len(found)
    distinct, targets = np.unique(labels, return_inverse=True)
    kept = [classes[label] if classes else str(label) for label in distinct.tolist()]
    return ImageDataset(Files(folder, names), targets, kept, splits=list(splits), name=name)


def _arrays(dataset: Any) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Pictures (N, H, W) or (N, H, W, C), as views of what torchvision loaded, and labels (N,)."""
    pictures = np.asarray(dataset.data)
    if pictures.ndim == 4 and pictures.shape[1] == 3:
        pictures = pictures.transpose(0, 2, 3, 1)
    labels = np.asarray(dataset.targets if hasattr(dataset, "targets") else dataset.labels)
    return pictures, labels if labels.ndim == 1 else labels[:, 0]  # QMNIST's have seven columns more


def _paths(dataset: Any) -> Iterator[tuple[str | Path, int]]:
    """The files and labels of a data set, under the names that torchvision's authors gave them."""
    for pairs in ("samples", "_samples", "imgs"):
        if hasattr(dataset, pairs):
            yield from getattr(dataset, pairs)
            return
    for files, labels in (("_image_files", "_labels"), ("_images", "_labels")):
        if hasattr(dataset, files):
            yield from zip(getattr(dataset, files), getattr(dataset, labels), strict=True)
            return
    # Caltech's two make up the path of a picture when it is asked for.
    for label, category in enumerate(dataset.categories):
        for top in Path(dataset.root).glob("*_ObjectCategories"):
            yield from ((path, label) for path in (top / category).glob("*.jpg"))


def _class_names(dataset: Any) -> Sequence[str] | None:
    """One name a label, or None; ImageNet has several names a class, and two classes of one name."""
    given = getattr(dataset, "classes", None) or getattr(dataset, "categories", None)
    if given is None:
        return None
    names = [one if isinstance(one, str) else one[0] for one in given]
    counts = Counter(names)
    ids = getattr(dataset, "wnids", range(len(names)))
    return [name if counts[name] == 1 else f"{name} ({id_})" for name, id_ in zip(names, ids, strict=True)]
