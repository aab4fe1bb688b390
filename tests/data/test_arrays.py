"""`.npz` and IDX files, and what is wrong with them."""

from __future__ import annotations

import gzip
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest

from sightline.data import open_dataset
from tests.data.helpers import contents, error
from tests.support import data_root

GREY = np.arange(6, dtype=np.uint8)[:, None, None].repeat(4, 1).repeat(5, 2)  # six pictures, 5 wide, 4 high
LABELS = np.array([10, 9, 2, 2, 9, 10])


def npz(folder: Path, **arrays: object) -> Path:
    file = folder / "digits.npz"
    np.savez(file, **arrays)
    return file


def test_an_npz_with_splits(tmp_path: Path) -> None:
    file = npz(tmp_path, x_train=GREY, y_train=LABELS, x_test=GREY[:2] + 100, y_test=np.array([2, 10]))
    data = open_dataset(file)
    assert data.name == "digits"
    assert data.classes == ("2", "9", "10")  # in the order of the numbers
    assert contents(data)[:2] == [("x_train[0]", "10", "train"), ("x_train[1]", "9", "train")]
    assert contents(data)[6:] == [("x_test[0]", "2", "test"), ("x_test[1]", "10", "test")]
    assert data.read(7, "L").getpixel((4, 3)) == 101
    assert data.read(7).size == (5, 4)


def test_an_npz_without_splits(tmp_path: Path) -> None:
    colour = np.stack([GREY, GREY + 1, GREY + 2], axis=3)
    data = open_dataset(npz(tmp_path, x=colour, y=np.array(["cat", "dog"] * 3)))
    assert data.classes == ("cat", "dog")
    assert [split for _, _, split in contents(data)] == [""] * 6
    assert data[3][0].getpixel((0, 0)) == (3, 4, 5)


def test_other_spellings_shapes_and_types(tmp_path: Path) -> None:
    medical = npz(
        tmp_path, train_images=GREY, train_labels=LABELS[:, None], val_images=GREY, val_labels=LABELS
    )
    assert [split for _, _, split in contents(open_dataset(medical))] == ["train"] * 6 + ["val"] * 6
    for pictures in (GREY.astype(np.uint16) * 257, GREY[..., None], np.stack([GREY] * 4, axis=3) | 255):
        assert len(open_dataset(npz(tmp_path, x=pictures, y=LABELS))) == 6
    assert (
        open_dataset(npz(tmp_path, x=GREY.astype(np.uint16) * 257, y=LABELS)).read(5, "L").getpixel((0, 0))
        == 5
    )
    data = open_dataset(npz(tmp_path, x=GREY > 2, y=LABELS > 5))
    assert data.classes == ("False", "True")
    assert data.read(5, "L").getpixel((0, 0)) == 255


@pytest.mark.parametrize(
    ("arrays", "expected"),
    [
        ({"a": GREY}, "needs the arrays x_train and y_train, or x and y; it holds a."),
        ({"x_train": GREY}, "it holds x_train."),
        ({"x": GREY, "y": LABELS, "x_test": GREY, "y_test": LABELS}, "both with a split and without"),
        ({"x": GREY / 255, "y": LABELS}, "x is of type float64; pictures are uint8"),
        ({"x": GREY.astype(np.int64), "y": LABELS}, "x is of type int64"),
        ({"x": GREY.reshape(6, 20), "y": LABELS}, "x has the shape (6, 20)"),
        (
            {"x": np.stack([GREY] * 3, axis=1), "y": LABELS},
            "the shape (6, 3, 4, 5), .*; put its channels last",
        ),
        ({"x": GREY, "y": LABELS[:5]}, "x has 6 pictures, but 5 labels"),
        ({"x": GREY, "y": np.eye(6)}, "one integer or text for each picture"),
        ({"x": GREY, "y": LABELS / 2}, "the labels of x are float64"),
        ({"x": GREY[:0], "y": LABELS[:0]}, "x has no pictures"),
        ({"x": GREY, "y": np.array([{}] * 6)}, "the array y cannot be read: it holds Python objects"),
        ({"x": GREY, "y": LABELS * 0}, "one class only, '0'"),
        ({"x_train": GREY, "y_train": LABELS, "x_test": GREY, "y_test": LABELS + 1}, "has the class '3'"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_npz_errors(arrays: dict[str, object], expected: str, tmp_path: Path) -> None:
    file = npz(tmp_path, **arrays)
    message = error(file)
    assert str(file) in message
    for part in expected.split(".*"):
        assert part in message


def test_damaged_npz(tmp_path: Path) -> None:
    file = npz(
        tmp_path, x=np.random.default_rng(0).integers(0, 255, (60, 9, 9), np.uint8), y=np.arange(60) % 2
    )
    whole = file.read_bytes()
    file.write_bytes(whole[:-200])
    assert "not an .npz file, or it is damaged" in error(file)
    file.write_bytes(whole[:300] + b"\xff" * 50 + whole[350:])
    assert "the array x cannot be read" in error(file)
    file.write_text("text")
    assert "not an .npz" in error(file)
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("x.npy", b"\x93NUMPY\x01\x00")
        archive.writestr("y.npy", b"nonsense")
    assert "cannot be read" in error(file)


# IDX


def idx(array: np.ndarray) -> bytes:
    return bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def mnist_files(folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    labels = np.arange(6, dtype=np.uint8) % 3
    (folder / "train-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx(GREY)))
    (folder / "train-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx(labels)))
    (folder / "t10k-images.idx3-ubyte").write_bytes(idx(GREY[:3] + 50))
    (folder / "t10k-labels.idx1-ubyte").write_bytes(idx(labels[:3]))
    return folder


def test_idx_files(tmp_path: Path) -> None:
    folder = mnist_files(tmp_path / "letters")
    data = open_dataset(folder)
    assert (data.name, data.classes) == ("letters", ("0", "1", "2"))
    assert contents(data)[5:7] == [("train[5]", "2", "train"), ("test[0]", "0", "test")]
    assert data.read(6, "L").getpixel((0, 0)) == 50
    assert contents(open_dataset(folder / "t10k-images.idx3-ubyte")) == contents(data)


def test_idx_errors(tmp_path: Path) -> None:
    folder = mnist_files(tmp_path / "letters")
    images = folder / "t10k-images.idx3-ubyte"
    whole = images.read_bytes()
    for data, expected in (
        (whole[:-1], "announces 60 values and has 59"),
        (whole + b"x", "announces 60 values and has more"),
        (b"\0\0\x0b" + whole[3:], "does not begin as an IDX file"),
        (whole[:4] + b"\xff" * 12 + whole[16:], "too small for what it announces"),
        (b"", "does not begin"),
        (whole[:9], "cannot be read"),
    ):
        images.write_bytes(data)
        message = error(folder)
        assert str(images) in message
        assert expected in message
    images.unlink()
    assert "lacks t10k-images-idx3-ubyte (or t10k-images-idx3-ubyte.gz)" in error(folder)
    (folder / "train-images-idx3-ubyte.gz").write_bytes(b"\x1f\x8b nonsense")
    assert "train-images-idx3-ubyte.gz cannot be read" in error(folder)


def test_real_mnist() -> None:
    data = open_dataset(data_root("mnist") / "mnist.npz")
    assert data.classes == tuple("0123456789")
    assert (len(data.split("train")), len(data.split("test"))) == (60_000, 10_000)
    assert data[0][0].size == (28, 28)
