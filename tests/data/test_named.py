"""Data sets by name, over small files made in each set's published layout; no network anywhere."""

from __future__ import annotations

import pickle
import struct
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest

from sightline.data import open_dataset
from sightline.data.named import NAMED_SETS, NAMES
from tests.data.helpers import contents, error, tree
from tests.data.published import LAYOUTS, md5

MonkeyPatch = pytest.MonkeyPatch


@pytest.fixture(autouse=True)
def no_network(monkeypatch: MonkeyPatch) -> None:
    for variable in ("http_proxy", "https_proxy"):  # nobody listens on the discard port
        monkeypatch.setenv(variable, "http://127.0.0.1:9")


@pytest.fixture
def datasets(home: Path) -> Path:
    return home / "datasets"


def test_digits() -> None:
    from sklearn.datasets import load_digits

    data = open_dataset("digits")
    assert (data.name, len(data), data.classes) == ("digits", 1797, tuple("0123456789"))
    assert data.ref(12) == "digits[12]"
    original = load_digits().images[12]
    assert np.abs(np.asarray(data.read(12, "L")) - original * 255 / 16).max() <= 0.5
    assert {split for _, _, split in contents(data)} == {""}


def idx(array: np.ndarray, kind: int = 8) -> bytes:
    return bytes([0, 0, kind, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


GREY = np.arange(4, dtype=np.uint8)[:, None, None].repeat(28, 1).repeat(28, 2)


@pytest.mark.parametrize(
    ("name", "folder", "classes"),
    [
        ("mnist", "MNIST", ("3", "7")),
        ("fashion-mnist", "FashionMNIST", ("Dress", "Sneaker")),
        ("Fashion_MNIST", "FashionMNIST", ("Dress", "Sneaker")),
        ("kmnist", "KMNIST", ("tsu", "ya")),
    ],
)
def test_the_mnist_family(name: str, folder: str, classes: tuple[str, ...], datasets: Path) -> None:
    raw = datasets / name.lower().replace("_", "-") / folder / "raw"
    raw.mkdir(parents=True)
    for stem, grey in (("train", 0), ("t10k", 50)):
        (raw / f"{stem}-images-idx3-ubyte").write_bytes(idx(GREY + grey))
        (raw / f"{stem}-labels-idx1-ubyte").write_bytes(idx(np.array([7, 3, 7, 3], np.uint8)))
    data = open_dataset(name)
    assert data.classes == classes
    assert contents(data)[3:5] == [("train[3]", classes[0], "train"), ("test[0]", classes[1], "test")]
    assert data.read(5, "L").getpixel((27, 27)) == 51


def test_emnist_and_qmnist(datasets: Path) -> None:
    raw = datasets / "emnist-letters" / "EMNIST" / "raw"
    raw.mkdir(parents=True)
    for split in ("train", "test"):
        (raw / f"emnist-letters-{split}-images-idx3-ubyte").write_bytes(idx(GREY))
        (raw / f"emnist-letters-{split}-labels-idx1-ubyte").write_bytes(
            idx(np.array([1, 26, 1, 26], np.uint8))
        )
    assert open_dataset("emnist-letters").classes == ("a", "z")  # and not the "N/A" that has no picture
    raw = datasets / "qmnist" / "QMNIST" / "raw"
    raw.mkdir(parents=True)
    for split in ("train", "test"):
        (raw / f"qmnist-{split}-images-idx3-ubyte").write_bytes(idx(GREY))
        labels = np.array([[digit, *range(7)] for digit in (5, 6, 5, 6)], dtype=">i4")
        (raw / f"qmnist-{split}-labels-idx2-int").write_bytes(idx(labels, kind=12))
    assert [label for _, label, _ in contents(open_dataset("qmnist"))] == ["5", "6"] * 4


def test_cifar10(datasets: Path, monkeypatch: MonkeyPatch) -> None:
    from torchvision.datasets import CIFAR10

    folder = datasets / "cifar10" / "cifar-10-batches-py"
    folder.mkdir(parents=True)
    planes = np.arange(3, dtype=np.uint8).repeat(1024)  # red 0, green 1, blue 2
    for number, (name, _) in enumerate([*CIFAR10.train_list, *CIFAR10.test_list]):
        batch = {"data": np.stack([planes, planes + number]), "labels": [0, 1]}
        (folder / name).write_bytes(pickle.dumps(batch))
    (folder / "batches.meta").write_bytes(pickle.dumps({"label_names": ["airplane", "automobile"]}))
    for sums in ("train_list", "test_list"):
        monkeypatch.setattr(CIFAR10, sums, [[name, md5(folder / name)] for name, _ in getattr(CIFAR10, sums)])
    monkeypatch.setattr(CIFAR10, "meta", {**CIFAR10.meta, "md5": md5(folder / "batches.meta")})
    data = open_dataset("cifar10")
    assert data.classes == ("airplane", "automobile")
    assert (len(data.split("train")), len(data.split("test"))) == (10, 2)
    assert data[11][0].getpixel((31, 31)) == (5, 6, 7)


def test_svhn(datasets: Path, monkeypatch: MonkeyPatch) -> None:
    from scipy.io import savemat
    from torchvision.datasets import SVHN

    folder = datasets / "svhn"
    folder.mkdir(parents=True)
    pictures = np.zeros((32, 32, 3, 2), np.uint8)
    pictures[3, 4, 2, 1] = 9  # blue, at row 3 and column 4 of the second
    sums = {}
    for split, (url, file, _) in SVHN.split_list.items():
        savemat(folder / file, {"X": pictures, "y": np.array([[10], [1]])})  # 10 stands for the digit 0
        sums[split] = [url, file, md5(folder / file)]
    monkeypatch.setattr(SVHN, "split_list", sums)
    data = open_dataset("svhn")
    assert contents(data)[:2] == [("train[0]", "0", "train"), ("train[1]", "1", "train")]
    assert data[1][0].getpixel((4, 3)) == (0, 0, 9)


# Sets of files


@pytest.mark.parametrize("name", LAYOUTS)
def test_published_layouts(name: str, datasets: Path, monkeypatch: MonkeyPatch) -> None:
    make, expected = LAYOUTS[name]
    root = datasets / name
    root.mkdir(parents=True)
    make(root, monkeypatch)
    data = open_dataset(name)
    assert contents(data) == expected
    assert data.name == name
    assert all(data.path(i) == root / expected[i][0] for i in range(len(data)))
    assert data[0][0].size == (3, 2)


# What is not there


@pytest.mark.parametrize("name", ["mnist", "cifar100", "flowers102", "eurosat", "caltech101", "usps"])
def test_without_a_network(name: str, datasets: Path, capfd: pytest.CaptureFixture[str]) -> None:
    message = error(name)
    assert f"{name} is not there" in message
    assert "could not be downloaded (urlopen error" in message
    assert f"put {NAMED_SETS[name].files} into {datasets / name}." in message
    assert list(datasets.iterdir()) == []  # not a half file
    assert capfd.readouterr().out == ""


@pytest.mark.parametrize("name", ["imagenet", "stanford-cars"])
def test_what_nobody_may_download(name: str, datasets: Path) -> None:
    assert "cannot be downloaded by a program; put " in error(name)


def test_a_set_of_which_a_part_is_there(datasets: Path) -> None:
    tree(datasets / "flowers102" / "flowers-102", "jpg/image_00001.jpg")
    assert "is not there, or not whole" in error("flowers102")
    assert (datasets / "flowers102" / "flowers-102" / "jpg" / "image_00001.jpg").exists()


def test_a_download_takes_its_place_when_it_is_complete(datasets: Path, monkeypatch: MonkeyPatch) -> None:
    """With files of the set's own layout from a server of our own, also beside what a person put there."""
    import torchvision.datasets

    def fetch(self: object) -> None:
        tree(Path(self._base_folder), "2750/Forest/1.jpg", "2750/River/1.jpg")  # type: ignore[attr-defined]

    monkeypatch.setattr(torchvision.datasets.EuroSAT, "download", fetch)
    tree(datasets / "eurosat", "notes.txt")
    assert len(open_dataset("eurosat")) == 2
    assert sorted(path.name for path in datasets.iterdir()) == ["eurosat"]
    assert (datasets / "eurosat" / "notes.txt").exists()


def test_each_name_is_torchvision_s() -> None:
    import torchvision.datasets

    assert NAMES[0] == "digits"
    for known in NAMED_SETS.values():
        assert hasattr(torchvision.datasets, known.torchvision)


def test_a_home_that_cannot_be_written(tmp_path: Path) -> None:
    script = """
        from sightline.data import open_dataset
        from sightline.errors import SightlineError
        try:
            open_dataset("mnist")
        except SightlineError as error:
            print(error)
    """
    run = [sys.executable, "-c", textwrap.dedent(script)]
    environment = {"SIGHTLINE_HOME": "/proc/sightline", "PATH": ""}
    said = subprocess.run(run, capture_output=True, text=True, check=True, env=environment).stdout
    assert said.startswith("mnist is not there, or not whole, and could not be downloaded (")
    assert said.endswith("into /proc/sightline/datasets/mnist.\n")
