"""Small made-up copies of torchvision's sets of files, in their published layouts, and what is to come of them.

torchvision checks MD5 sums of some files, which made-up ones cannot have: there the sums are replaced by theirs.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.data.helpers import tree

MonkeyPatch = pytest.MonkeyPatch


def md5(path: Path) -> str:
    return hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()


def flowers102(root: Path, monkeypatch: MonkeyPatch) -> None:
    from scipy.io import savemat
    from torchvision.datasets import Flowers102

    tree(root, *(f"flowers-102/jpg/image_{i:05d}.jpg" for i in range(1, 7)))
    folder = root / "flowers-102"
    savemat(folder / "imagelabels.mat", {"labels": [[1, 102, 1, 102, 1, 102]]})
    savemat(folder / "setid.mat", {"trnid": [[5, 2]], "valid": [[3, 4]], "tstid": [[1, 6]]})
    names = {key: name for key, (name, _) in Flowers102._file_dict.items()}
    sums = {key: (name, md5(folder / name) if key != "image" else "") for key, name in names.items()}
    monkeypatch.setattr(Flowers102, "_file_dict", sums)


def imagenet(root: Path, monkeypatch: MonkeyPatch) -> None:
    import torch

    tree(root, *(f"{split}/{wnid}/1.JPEG" for split in ("train", "val") for wnid in ("n01", "n02", "n03")))
    names = {"n01": ("tench", "Tinca tinca"), "n02": ("crane",), "n03": ("crane",)}
    torch.save((names, []), root / "meta.bin")


def food101(root: Path, monkeypatch: MonkeyPatch) -> None:
    tree(root, *(f"food-101/images/{label}/{i}.jpg" for label in ("pho", "waffles") for i in (1, 2)))
    (root / "food-101" / "meta").mkdir()
    for split, i in (("train", 1), ("test", 2)):
        listed = {label: [f"{label}/{i}"] for label in ("waffles", "pho")}
        (root / "food-101" / "meta" / f"{split}.json").write_text(json.dumps(listed))


def oxford_pets(root: Path, monkeypatch: MonkeyPatch) -> None:
    names = ("Abyssinian_1", "great_pyrenees_2")
    tree(root, *(f"oxford-iiit-pet/images/{name}.jpg" for name in names), "oxford-iiit-pet/annotations/")
    for split in ("trainval", "test"):
        lines = [f"{name} {label} 1 1\n" for label, name in enumerate(names, 1)]
        (root / "oxford-iiit-pet" / "annotations" / f"{split}.txt").write_text("".join(lines))


def gtsrb(root: Path, monkeypatch: MonkeyPatch) -> None:
    tree(
        root / "gtsrb" / "GTSRB", *("Training/00000/1.ppm", "Training/00001/1.ppm", "Final_Test/Images/7.ppm")
    )
    (root / "gtsrb" / "GT-final_test.csv").write_text("Filename;Width;ClassId\n7.ppm;3;1\n")


def dtd(root: Path, monkeypatch: MonkeyPatch) -> None:
    folder = tree(root / "dtd" / "dtd", "images/dotted/1.jpg", "images/woven/1.jpg", "labels/")
    for split in ("train", "val", "test"):
        (folder / "labels" / f"{split}1.txt").write_text("dotted/1.jpg\nwoven/1.jpg\n")


def aircraft(root: Path, monkeypatch: MonkeyPatch) -> None:
    folder = tree(root / "fgvc-aircraft-2013b" / "data", "images/1.jpg", "images/2.jpg")
    (folder / "variants.txt").write_text("A300\nBoeing 707\n")
    for split in ("train", "val", "test"):
        (folder / f"images_variant_{split}.txt").write_text("1 Boeing 707\n2 A300\n")


def sun397(root: Path, monkeypatch: MonkeyPatch) -> None:
    folder = tree(root / "SUN397", "a/abbey/sun_2.jpg", "a/abbey/sun_1.jpg", "a/apse/indoor/sun_3.jpg")
    (folder / "ClassName.txt").write_text("/a/abbey\n/a/apse/indoor\n")


def stanford_cars(root: Path, monkeypatch: MonkeyPatch) -> None:
    from scipy.io import savemat

    folder = tree(
        root / "stanford_cars", "cars_train/1.jpg", "cars_train/2.jpg", "cars_test/1.jpg", "devkit/"
    )
    kind = [("class", "O"), ("fname", "O")]
    savemat(
        folder / "devkit" / "cars_train_annos.mat",
        {"annotations": np.array([(2, "1.jpg"), (1, "2.jpg")], kind)},
    )
    tested = np.array([(1, "1.jpg"), (2, "1.jpg")], kind)
    savemat(folder / "cars_test_annos_withlabels.mat", {"annotations": tested})
    savemat(folder / "devkit" / "cars_meta.mat", {"class_names": np.array(["Audi", "BMW"], dtype=object)})


def places365(root: Path, monkeypatch: MonkeyPatch) -> None:
    from torchvision.datasets import Places365

    tree(root, *("data_256_standard/a/attic/1.jpg", "data_256_standard/b/bar/1.jpg", "val_256/1.jpg"))
    (root / "categories_places365.txt").write_text("/a/attic 0\n/b/bar 1\n")
    (root / "places365_train_standard.txt").write_text("/a/attic/1.jpg 0\n/b/bar/1.jpg 1\n")
    (root / "places365_val.txt").write_text("1.jpg 1\n")
    lists = {
        split: (name, md5(root / name))
        for split, (name, _) in Places365._FILE_LIST_META.items()
        if (root / name).exists()
    }
    monkeypatch.setattr(Places365, "_FILE_LIST_META", lists)
    name = "categories_places365.txt"
    monkeypatch.setattr(Places365, "_CATEGORIES_META", (name, md5(root / name)))


def plain(*paths: str) -> Callable[[Path, MonkeyPatch], None]:
    return lambda root, monkeypatch: tree(root, *paths) and None


LAYOUTS: dict[str, tuple[Callable[[Path, MonkeyPatch], None], list[tuple[str, str, str]]]] = {
    "flowers102": (
        flowers102,
        [
            ("flowers-102/jpg/image_00002.jpg", "blackberry lily", "train"),
            ("flowers-102/jpg/image_00005.jpg", "pink primrose", "train"),
            ("flowers-102/jpg/image_00003.jpg", "pink primrose", "val"),
            ("flowers-102/jpg/image_00004.jpg", "blackberry lily", "val"),
            ("flowers-102/jpg/image_00001.jpg", "pink primrose", "test"),
            ("flowers-102/jpg/image_00006.jpg", "blackberry lily", "test"),
        ],
    ),
    "imagenet": (
        imagenet,
        [
            ("train/n01/1.JPEG", "tench", "train"),
            ("train/n02/1.JPEG", "crane (n02)", "train"),
            ("train/n03/1.JPEG", "crane (n03)", "train"),
            ("val/n01/1.JPEG", "tench", "test"),
            ("val/n02/1.JPEG", "crane (n02)", "test"),
            ("val/n03/1.JPEG", "crane (n03)", "test"),
        ],
    ),
    "imagenette": (
        plain(*(f"imagenette2/{s}/{w}/1.jpeg" for s in ("train", "val") for w in ("n01440764", "n02102040"))),
        [
            ("imagenette2/train/n01440764/1.jpeg", "tench", "train"),
            ("imagenette2/train/n02102040/1.jpeg", "English springer", "train"),
            ("imagenette2/val/n01440764/1.jpeg", "tench", "test"),
            ("imagenette2/val/n02102040/1.jpeg", "English springer", "test"),
        ],
    ),
    "eurosat": (
        plain("eurosat/2750/Forest/2.jpg", "eurosat/2750/Forest/1.jpg", "eurosat/2750/River/1.jpg"),
        [
            ("eurosat/2750/Forest/1.jpg", "Forest", ""),
            ("eurosat/2750/Forest/2.jpg", "Forest", ""),
            ("eurosat/2750/River/1.jpg", "River", ""),
        ],
    ),
    "food101": (
        food101,
        [
            ("food-101/images/pho/1.jpg", "pho", "train"),
            ("food-101/images/waffles/1.jpg", "waffles", "train"),
            ("food-101/images/pho/2.jpg", "pho", "test"),
            ("food-101/images/waffles/2.jpg", "waffles", "test"),
        ],
    ),
    "oxford-pets": (
        oxford_pets,
        [
            ("oxford-iiit-pet/images/Abyssinian_1.jpg", "Abyssinian", "train"),
            ("oxford-iiit-pet/images/great_pyrenees_2.jpg", "Great Pyrenees", "train"),
            ("oxford-iiit-pet/images/Abyssinian_1.jpg", "Abyssinian", "test"),
            ("oxford-iiit-pet/images/great_pyrenees_2.jpg", "Great Pyrenees", "test"),
        ],
    ),
    "gtsrb": (
        gtsrb,
        [
            ("gtsrb/GTSRB/Training/00000/1.ppm", "0", "train"),
            ("gtsrb/GTSRB/Training/00001/1.ppm", "1", "train"),
            ("gtsrb/GTSRB/Final_Test/Images/7.ppm", "1", "test"),
        ],
    ),
    "dtd": (
        dtd,
        [
            (f"dtd/dtd/images/{label}/1.jpg", label, split)
            for split in ("train", "val", "test")
            for label in ("dotted", "woven")
        ],
    ),
    "fgvc-aircraft": (
        aircraft,
        [
            (f"fgvc-aircraft-2013b/data/images/{i}.jpg", label, split)
            for split in ("train", "val", "test")
            for i, label in ((1, "Boeing 707"), (2, "A300"))
        ],
    ),
    "sun397": (
        sun397,
        [
            ("SUN397/a/abbey/sun_1.jpg", "abbey", ""),
            ("SUN397/a/abbey/sun_2.jpg", "abbey", ""),
            ("SUN397/a/apse/indoor/sun_3.jpg", "apse/indoor", ""),
        ],
    ),
    "stanford-cars": (
        stanford_cars,
        [
            ("stanford_cars/cars_train/1.jpg", "BMW", "train"),
            ("stanford_cars/cars_train/2.jpg", "Audi", "train"),
            ("stanford_cars/cars_test/1.jpg", "Audi", "test"),
            ("stanford_cars/cars_test/1.jpg", "BMW", "test"),
        ],
    ),
    "places365": (
        places365,
        [
            ("data_256_standard/a/attic/1.jpg", "/a/attic", "train"),
            ("data_256_standard/b/bar/1.jpg", "/b/bar", "train"),
            ("val_256/1.jpg", "/b/bar", "test"),
        ],
    ),
    "country211": (
        plain(*(f"country211/{s}/{c}/1.jpg" for s in ("train", "valid", "test") for c in ("AD", "ZW"))),
        [
            (f"country211/{folder}/{label}/1.jpg", label, split)
            for folder, split in (("train", "train"), ("valid", "val"), ("test", "test"))
            for label in ("AD", "ZW")
        ],
    ),
    "rendered-sst2": (
        plain(
            *(
                f"rendered-sst2/{s}/{c}/1.png"
                for s in ("train", "valid", "test")
                for c in ("negative", "positive")
            )
        ),
        [
            (f"rendered-sst2/{folder}/{label}/1.png", label, split)
            for folder, split in (("train", "train"), ("valid", "val"), ("test", "test"))
            for label in ("negative", "positive")
        ],
    ),
    "caltech101": (
        plain(
            "caltech101/101_ObjectCategories/BACKGROUND_Google/image_0001.jpg",
            "caltech101/101_ObjectCategories/ant/image_0002.jpg",
            "caltech101/101_ObjectCategories/ant/image_0001.jpg",
            "caltech101/101_ObjectCategories/bass/image_0001.jpg",
        ),
        [
            ("caltech101/101_ObjectCategories/ant/image_0001.jpg", "ant", ""),
            ("caltech101/101_ObjectCategories/ant/image_0002.jpg", "ant", ""),
            ("caltech101/101_ObjectCategories/bass/image_0001.jpg", "bass", ""),
        ],
    ),
    "caltech256": (
        plain(
            "caltech256/256_ObjectCategories/001.ak47/001_0001.jpg",
            "caltech256/256_ObjectCategories/002.cat/002_0001.jpg",
        ),
        [
            ("caltech256/256_ObjectCategories/001.ak47/001_0001.jpg", "001.ak47", ""),
            ("caltech256/256_ObjectCategories/002.cat/002_0001.jpg", "002.cat", ""),
        ],
    ),
}
