"""`ImageDataset`: references, subsets that share them, splits, and reading by name."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sightline.data.dataset import NO_SPLIT, Arrays, Files, ImageDataset
from sightline.errors import SightlineError, UnknownName, UnreadableImage


def files(root: Path, count: int = 10, **options: object) -> ImageDataset:
    """`count` pictures, the i-th of them i + 1 pixels wide and of the grey i; of the classes cat and dog in turn."""
    for i in range(count):
        Image.new("L", (i + 1, 2), i).save(root / f"{i:03d}.png")
    names = (f"{i:03d}.png" for i in range(count))
    return ImageDataset(Files(root, names), np.arange(count) % 2, ("cat", "dog"), name="pets", **options)


def arrays() -> ImageDataset:
    train = np.arange(5, dtype=np.uint8)[:, None, None].repeat(4, 1).repeat(3, 2)
    test = train[:2] + 100
    return ImageDataset(
        Arrays([("x_train", train), ("x_test", test)]),
        [0, 1, 2, 0, 1, 2, 0],
        ("a", "b", "c"),
        splits=[0] * 5 + [2] * 2,
        name="numbers",
    )


def test_items_and_names(tmp_path: Path) -> None:
    dataset = files(tmp_path)
    picture, target = dataset[3]
    assert (picture.mode, picture.size, picture.getpixel((0, 0)), target) == ("RGB", (4, 2), (3, 3, 3), 1)
    assert dataset.ref(3) == "003.png"
    assert dataset.ref(-1) == "009.png"
    assert dataset.path(3) == tmp_path / "003.png"
    assert list(dataset.refs()) == [f"{i:03d}.png" for i in range(10)]
    assert dataset.read(3, "L").mode == "L"
    assert len(list(dataset)) == len(dataset) == 10
    with pytest.raises(IndexError):
        dataset[10]


def test_arrays_are_shared_and_named() -> None:
    dataset = arrays()
    assert [dataset.ref(i) for i in (0, 4, 5, 6)] == ["x_train[0]", "x_train[4]", "x_test[0]", "x_test[1]"]
    assert dataset.path(0) is None
    assert dataset.root is None
    assert [dataset.read(i, "L").getpixel((0, 0)) for i in (0, 4, 5, 6)] == [0, 4, 100, 101]
    assert dataset.read(0).size == (3, 4)
    assert dataset.subset([6]).ref(0) == "x_test[1]"


def test_subsets_of_subsets(tmp_path: Path) -> None:
    dataset = files(tmp_path)
    odd = dataset.subset(dataset.targets == 1)
    assert list(odd.refs()) == ["001.png", "003.png", "005.png", "007.png", "009.png"]
    some = odd.subset([4, 0, -2])
    assert [some.ref(i) for i in range(3)] == ["009.png", "001.png", "007.png"]
    assert some.targets.tolist() == [1, 1, 1]
    assert list(odd.without([0, 4]).refs()) == ["003.png", "005.png", "007.png"]
    assert len(dataset.subset([])) == 0
    assert dataset.class_counts().tolist() == [5, 5]
    assert odd.class_counts().tolist() == [0, 5]


def test_splits(tmp_path: Path) -> None:
    dataset = files(tmp_path, splits=[0] * 6 + [2] * 4)
    assert [dataset.has_split(name) for name in ("train", "val", "test")] == [True, False, True]
    assert len(dataset.split("train")) == 6
    assert dataset.split("test").ref(0) == "006.png"
    with pytest.raises(SightlineError, match="pets has no val split; it has train and test"):
        dataset.split("val")
    with pytest.raises(UnknownName, match="did you mean test"):
        dataset.split("tests")
    moved = dataset.with_splits([1] * 10)
    assert len(moved.split("val")) == 10
    assert not dataset.has_split("val")
    assert (files(tmp_path).splits == NO_SPLIT).all()


def test_types(tmp_path: Path) -> None:
    dataset = files(tmp_path)
    assert dataset.targets.dtype == np.int32
    assert dataset.splits.dtype == np.uint8
    assert "10 pictures; 2 classes" in repr(dataset)


def test_it_pickles(tmp_path: Path) -> None:
    for dataset in (files(tmp_path).subset([3, 1]), arrays().split("test")):
        again = pickle.loads(pickle.dumps(dataset))
        assert list(again.refs()) == list(dataset.refs())
        assert again.targets.tolist() == dataset.targets.tolist()
        assert again.classes == dataset.classes
        assert again[0][0].tobytes() == dataset[0][0].tobytes()


def test_bad_pictures_are_named(tmp_path: Path) -> None:
    dataset = files(tmp_path)
    (tmp_path / "004.png").write_bytes(b"not a picture")
    (tmp_path / "005.png").unlink()
    for index in (4, 5):
        with pytest.raises(UnreadableImage) as caught:
            dataset[index]
        assert caught.value.path == str(tmp_path / dataset.ref(index))
    nothing = np.full((1, 2, 2), np.nan)
    bad = ImageDataset(Arrays([("x", nothing)]), [0], ("a", "b"), name="bad")
    with pytest.raises(UnreadableImage, match=r"x\[0\] cannot be read: none of its values is finite"):
        bad[0]


def test_probe(tmp_path: Path) -> None:
    dataset = files(tmp_path)
    assert [header.width for header in dataset.probe(4)] == [1, 4, 7, 10]  # evenly spaced, both ends
    assert [header.width for header in dataset.probe()] == list(range(1, 11))
    assert all(header.is_grey and header.height == 2 for header in dataset.probe())
    (tmp_path / "000.png").unlink()
    assert [header.width for header in dataset.probe(4)] == [4, 7, 10]
    for file in tmp_path.iterdir():
        file.unlink()
    with pytest.raises(SightlineError, match=r"None of the 4 pictures of pets .* no such file"):
        dataset.probe(4)
    assert [(header.width, header.height) for header in arrays().probe(2)] == [(3, 4)] * 2


def test_the_index_is_packed() -> None:
    count = 20_000
    names = [f"a/folder/of/pictures/{i:06d}.jpg" for i in range(count)]
    dataset = ImageDataset(Files(Path("/data"), names), np.zeros(count), ("a", "b"), name="many")
    letters = sum(map(len, names))
    assert dataset.nbytes == letters + 4 * (count + 1) + 4 * count + count  # paths, offsets, targets, splits
    half = dataset.subset(np.arange(0, count, 2))
    assert half.nbytes == letters + 4 * (count + 1) + (4 + 1 + 4) * count // 2  # and rows of its own
    assert half.ref(3) == names[6]
    assert len(pickle.dumps(dataset)) < dataset.nbytes + 2000


def test_names_that_are_not_utf8(tmp_path: Path) -> None:
    name = b"caf\xe9.png".decode(errors="surrogateescape")
    Image.new("L", (1, 1)).save(tmp_path / "x.png")
    try:
        (tmp_path / "x.png").rename(tmp_path / name)
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    dataset = ImageDataset(Files(tmp_path, [name]), [0], ("a", "b"), name="pets")
    assert dataset.ref(0) == name
    assert dataset.read(0).size == (1, 1)
