"""Pictures on the disk: the same pixels, decoded once, whoever asks; and nothing that a disk does ends a run."""

import errno
import mmap
import os
import pickle
import shutil
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from PIL import Image

from sightline.data import ImageDataset, open_dataset
from sightline.errors import SightlineError
from sightline.pipeline import stored as module
from sightline.pipeline.cache import Canonical, read_all
from sightline.pipeline.stored import store
from sightline.training import prepare as preparing
from sightline.training.progress import Quiet
from sightline.training.recipe import read_recipe

STAGE = Canonical(20, "crop")


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A cache of the test's own."""
    monkeypatch.setenv("SIGHTLINE_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def pictures(root, count, seed=0):
    """`count` pictures of two classes and many sizes, JPEG and PNG."""
    rng = np.random.default_rng(seed)
    for k in range(count):
        place = root / ("ab"[k % 2])
        place.mkdir(parents=True, exist_ok=True)
        size = (int(rng.integers(20, 60)), int(rng.integers(20, 60)), 3)
        Image.fromarray(rng.integers(0, 256, size, dtype=np.uint8)).save(
            place / f"{k:03}.{('png', 'jpg')[k % 3 == 0]}"
        )
    return root


@pytest.fixture
def folder(tmp_path):
    return pictures(tmp_path / "pictures", 40)


def files(home):
    return sorted(path for path in home.rglob("*") if path.is_file())


def same_as_read(found, dataset, mode="RGB"):
    held = read_all(dataset, STAGE, mode)
    assert found.indices.tolist() == held.indices.tolist()
    for place, array in enumerate(held.arrays):
        assert np.array_equal(found.pictures.find(place), array)


def never(monkeypatch):
    """From here on no picture may be decoded."""

    def read(self, index, *_):
        raise AssertionError(f"{self.ref(index)} was decoded again")

    monkeypatch.setattr(ImageDataset, "read", read)
    monkeypatch.setattr(ImageDataset, "read_pixels", read)


@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_what_is_stored_is_what_is_read_and_nothing_is_copied(folder, home, mode):
    dataset = open_dataset(folder)
    found = store(dataset, STAGE, mode)
    assert found.said is None
    assert found.failures == []
    same_as_read(found, dataset, mode)
    base = found.pictures.find(3)
    while isinstance(base, np.ndarray):
        base = base.base
    assert isinstance(base, mmap.mmap)
    again = pickle.loads(pickle.dumps(found.pictures))  # as a worker process gets it
    assert np.array_equal(again.find(7), found.pictures.find(7))
    assert len(pickle.dumps(found.pictures)) < sum(path.stat().st_size for path in files(home)) / 5


def test_a_second_run_decodes_nothing_whatever_the_pictures_are_called(folder, home, tmp_path, monkeypatch):
    dataset = open_dataset(folder)
    store(dataset, STAGE, "RGB")
    expected = read_all(dataset, STAGE, "RGB").arrays
    for k, path in enumerate(sorted(folder.rglob("*.*"))):
        (tmp_path / "other" / path.parent.name).mkdir(parents=True, exist_ok=True)
        shutil.copy(path, tmp_path / "other" / path.parent.name / f"{99 - k:03}{path.suffix}")
    other = open_dataset(tmp_path / "other").subset(np.arange(5, 40))
    content = {dataset.path(i).read_bytes(): array for i, array in enumerate(expected)}
    never(monkeypatch)
    assert len(store(dataset, STAGE, "RGB").indices) == 40
    found = store(other, STAGE, "RGB")
    assert len(found.indices) == 35
    for place in range(35):
        assert np.array_equal(found.pictures.find(place), content[other.path(place).read_bytes()])


def test_another_way_of_storing_or_another_content_is_not_taken_for_it(folder, home):
    dataset = open_dataset(folder)
    store(dataset, STAGE, "RGB")
    for stage in (Canonical(16, "crop"), Canonical(20, "squash"), Canonical(20, "crop", "bicubic")):
        found = store(dataset, stage, "RGB")
        assert np.array_equal(found.pictures.find(0), stage(np.asarray(dataset.read(0))))
    assert len({path.parent for path in files(home)}) == 4
    Image.new("RGB", (30, 30), "red").save(dataset.path(1))
    assert store(dataset, STAGE, "RGB").pictures.find(1)[0, 0].tolist() == [255, 0, 0]


def test_the_same_picture_twice_is_stored_once(folder, home):
    shutil.copy(folder / "a" / "000.jpg", folder / "a" / "copy.jpg")
    dataset = open_dataset(folder)
    found = store(dataset, STAGE, "RGB")
    same_as_read(found, dataset)
    assert len(np.unique(found.pictures.rows["start"])) == 40


@pytest.mark.parametrize("damage", ["cut", "empty", "head", "table"])
def test_a_torn_file_is_made_again(folder, home, damage):
    dataset = open_dataset(folder)
    store(dataset, STAGE, "RGB")
    (path,) = files(home)
    whole = path.read_bytes()
    torn = bytearray(whole)
    if damage in ("cut", "empty"):
        torn = torn[: len(torn) // 2 if damage == "cut" else 0]
    else:
        torn[3 if damage == "head" else 60] ^= 0xFF
    path.write_bytes(torn)
    same_as_read(store(dataset, STAGE, "RGB"), dataset)
    assert [path.read_bytes() for path in files(home)] == [whole]


def test_several_at_once_end_with_whole_files(folder, home):
    dataset = open_dataset(folder)
    with ThreadPoolExecutor(4) as pool:
        for found in pool.map(lambda _: store(dataset, STAGE, "RGB"), range(4)):
            same_as_read(found, dataset)
    (path,) = files(home)  # all wrote the same, under the same name
    assert module.read_rows(path, 3) is not None


def test_what_was_used_longest_ago_makes_room(tmp_path, home, monkeypatch):
    sets = [open_dataset(pictures(tmp_path / name, 30, seed)) for seed, name in enumerate("pqr")]
    stored = []
    for dataset in sets[:2]:
        store(dataset, STAGE, "RGB")
        stored.append(next(path for path in files(home) if path not in stored))
    room = sum(path.stat().st_size for path in stored)
    for path, age in zip(stored, (200, 100), strict=True):
        os.utime(path, (age, age))
    store(sets[0], STAGE, "RGB")  # used again: now the second is the oldest
    monkeypatch.setenv("SIGHTLINE_CACHE_GB", str(1.2 * room / 1e9))
    found = store(sets[2], STAGE, "RGB")
    assert found.said is None
    assert stored[0].exists()
    assert not stored[1].exists()
    assert sum(path.stat().st_size for path in files(home)) <= 1.2 * room
    # A run that had it mapped, or opens it later, goes on.
    same_as_read(found, sets[2])
    for path in files(home):
        path.unlink()
    found.pictures.maps.clear()
    assert found.pictures.find(0) is None


def test_a_set_that_is_too_large_is_stored_in_part_and_that_is_said(folder, home, monkeypatch):
    dataset = open_dataset(folder)
    monkeypatch.setattr(module.read_chunks, "__defaults__", (8, None))
    monkeypatch.setenv("SIGHTLINE_CACHE_GB", "0.00004")
    found = store(dataset, STAGE, "RGB")
    assert "SIGHTLINE_CACHE_GB" in found.said
    there = [found.pictures.find(i) is not None for i in range(40)]
    assert any(there)
    assert not all(there)
    assert sum(path.stat().st_size for path in files(home)) <= 40_000


def test_a_bad_picture_is_named_and_left_out(folder, home):
    bad = folder / "a" / "002.png"
    bad.write_bytes(bad.read_bytes()[:100])
    dataset = open_dataset(folder)
    (folder / "b" / "001.png").unlink()
    for _ in range(2):  # also when the others are there already
        found = store(dataset, STAGE, "RGB")
        assert {failure.ref for failure in found.failures} == {"a/002.png", "b/001.png"}
        assert len(found.indices) == len(found.pictures) == 38
        same_as_read(found, dataset)


def test_a_limit_that_is_no_number_is_refused(folder, home, monkeypatch):
    monkeypatch.setenv("SIGHTLINE_CACHE_GB", "much")
    with pytest.raises(SightlineError, match="SIGHTLINE_CACHE_GB is a number of gigabytes"):
        store(open_dataset(folder), STAGE, "RGB")


def test_scaled_decoding_is_pillows_draft(tmp_path, home):
    rng = np.random.default_rng(0)
    waves = np.asarray(Image.fromarray(rng.integers(0, 256, (30, 40, 3), dtype=np.uint8)).resize((400, 300)))
    (tmp_path / "set/a").mkdir(parents=True)
    (tmp_path / "set/b").mkdir()
    Image.fromarray(waves).save(tmp_path / "set/a/0.jpg", quality=95)
    Image.fromarray(waves).save(tmp_path / "set/b/0.png")
    dataset = open_dataset(tmp_path / "set")
    plain, scaled = (store(dataset, Canonical(64, "crop", scaled=on), "RGB").pictures for on in (False, True))
    with Image.open(dataset.path(0)) as image:
        image.draft(None, (64, 64))
        assert image.size == (100, 75)
        expected = np.asarray(image.resize((85, 64), Image.Resampling.BILINEAR)).astype(int)
    assert np.abs(scaled.find(0) - expected).max() <= 1  # Pillow's resize and torch's
    assert not np.array_equal(scaled.find(0), plain.find(0))
    assert np.array_equal(scaled.find(1), plain.find(1))  # a PNG has no scales


# Training from it.


def weights(folder, workers):
    """All weights of a small network after two epochs."""
    recipe = {
        "model": {"name": "resnet10_small"},
        "input": {"size": 16, "store_size": 20, "fit": "crop"},
        "augment": "random_resized_crop(0.5) + rotate(20) + hflip + noise(0.02)",
        "batch_size": 8, "epochs": 2, "ema": 0, "precision": "fp32", "device": "cpu", "workers": workers,
    }  # fmt: skip
    said = []

    class Listening(Quiet):
        def message(self, text):
            said.append(text)

    watch = Listening()
    job = preparing.prepare(open_dataset(folder), read_recipe(recipe), watch)
    state = job.trainer.run(watch)
    return {name: value.clone() for name, value in state.model.state_dict().items()}, said


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    """From memory, without workers."""
    root = pictures(tmp_path_factory.mktemp("reference") / "pictures", 40)
    return root, weights(root, 0)[0]


@pytest.mark.parametrize("workers", [0, 1, 2])
@pytest.mark.parametrize("cache", ["memory", "map", "map again", "none", "full disk"])
def test_neither_cache_nor_workers_change_a_bit_of_the_weights(reference, home, monkeypatch, cache, workers):
    root, expected = reference
    if (cache, workers) == ("memory", 0):
        pytest.skip("the reference itself")
    monkeypatch.setattr(preparing, "fits", lambda *_: cache == "memory")
    if cache == "none":
        monkeypatch.setenv("SIGHTLINE_CACHE_GB", "0")
    if cache == "map again":
        weights(root, 0)
        monkeypatch.setattr(module, "read_chunks", None)  # nothing is left to decode
    if cache == "full disk":

        def full(*_):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        monkeypatch.setattr(os, "fsync", full)
    got, said = weights(root, workers)
    assert all(torch.equal(got[name], value) for name, value in expected.items())
    assert bool(files(home)) == cache.startswith("map")
    told = [text for text in said if "decoded anew" in text]
    assert len(told) == (cache == "full disk")
