"""Batches: the same bits however they are served, and one bad picture that ends nothing."""

import numpy as np
import pytest
import torch
from PIL import Image

from sightline.data import ImageDataset, open_dataset
from sightline.pipeline.cache import Canonical, read_all, read_chunks
from sightline.pipeline.loader import PlainPictures, TrainLoader, TrainPictures
from sightline.pipeline.order import epoch_order
from sightline.training.prepare import canonical_stage
from sightline.training.recipe import read_recipe
from sightline.transforms.augment import Augment
from sightline.transforms.crops import RandomResizedCrop
from sightline.transforms.preprocess import Preprocess, store_image


@pytest.fixture
def folder(tmp_path):
    """Forty pictures of two classes and many sizes; one of them is broken."""
    rng = np.random.default_rng(0)
    for k in range(40):
        place = tmp_path / "pictures" / ("ab"[k % 2])
        place.mkdir(parents=True, exist_ok=True)
        size = (int(rng.integers(20, 60)), int(rng.integers(20, 60)), 3)
        Image.fromarray(rng.integers(0, 256, size, dtype=np.uint8)).save(place / f"{k:02}.png")
    broken = tmp_path / "pictures" / "a" / "04.png"
    broken.write_bytes(broken.read_bytes()[:200])
    return tmp_path / "pictures"


PREPROCESS = Preprocess(size=(16, 16))
STAGE = canonical_stage(
    read_recipe({"input": {"store_size": 20, "fit": "crop", "interpolation": "bilinear"}})
)


def batches(dataset: ImageDataset, augment: str, *, held: bool, workers: int):
    store = read_all(dataset, STAGE, "RGB") if held else None
    pictures = TrainPictures(dataset, STAGE, Augment.parse(augment), PREPROCESS, seed=3, held=store)
    loader = TrainLoader(pictures, workers)
    orders = [np.array_split(epoch_order(len(dataset), 3, epoch), 5) for epoch in (0, 1)]
    return [batch for epoch, parts in enumerate(orders) for batch in loader.epoch(epoch, parts)]


@pytest.mark.parametrize("augment", ["photos", "crop(2) + hflip", "rotate(20) + noise(0.1)"])
def test_neither_the_cache_nor_the_workers_change_a_bit(folder, augment):
    dataset = open_dataset(folder)
    dataset = dataset.subset(read_all(dataset, STAGE, "RGB").indices)
    reference = batches(dataset, augment, held=True, workers=0)
    assert not torch.equal(reference[0].images, reference[5].images)
    for held, workers in ((False, 0), (True, 2), (False, 2)):
        other = batches(dataset, augment, held=held, workers=workers)
        assert len(other) == len(reference)
        for a, b in zip(reference, other, strict=True):
            assert torch.equal(a.images, b.images)
            assert torch.equal(a.targets, b.targets)


def test_cutting_by_the_batch_gives_the_same_pictures_as_one_by_one(folder):
    dataset = open_dataset(folder)
    dataset = dataset.subset(read_all(dataset, STAGE, "RGB").indices)
    stage = canonical_stage(
        read_recipe({"input": {"store_size": 18, "fit": "squash", "interpolation": "bilinear"}})
    )
    augment = Augment.parse("crop(2, 'reflect') + hflip")
    fast = TrainPictures(dataset, stage, augment, PREPROCESS, 0, read_all(dataset, stage, "RGB"))
    slow = TrainPictures(dataset, stage, augment, PREPROCESS, 0)
    assert fast.by_the_batch
    assert not slow.by_the_batch
    keys = [(2, i) for i in range(len(dataset))]
    assert torch.equal(fast.__getitems__(keys).images, slow.__getitems__(keys).images)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_broken_picture_is_named_and_the_rest_is_served(folder, workers):
    dataset = open_dataset(folder)
    served = batches(dataset, "none", held=False, workers=workers)
    failures = [failure for batch in served for failure in batch.failures]
    assert {failure.ref for failure in failures} == {"a/04.png"}
    assert sum(len(batch.indices) for batch in served) + len(failures) == 80
    assert all(len(batch.images) == len(batch.targets) == len(batch.indices) for batch in served)


def test_plain_pictures_are_each_served_once_in_order(folder):
    dataset = open_dataset(folder)
    streamed = list(PlainPictures(dataset, PREPROCESS).batches(7))
    seen = np.concatenate([batch.indices for batch in streamed])
    broken = [failure.index for batch in streamed for failure in batch.failures]
    assert sorted([*seen, *broken]) == list(range(40))
    assert np.array_equal(seen, np.sort(seen))
    held = read_all(dataset, PREPROCESS.image, "RGB")
    again = torch.cat([batch.images for batch in PlainPictures(dataset, PREPROCESS, held).batches(11)])
    assert torch.equal(torch.cat([batch.images for batch in streamed]), again)


def test_reading_is_in_order_and_reports_failures(folder):
    dataset = open_dataset(folder)
    chunks = list(read_chunks(dataset, STAGE, "L", size=9))
    assert [len(c.arrays) + len(c.failures) for c in chunks] == [9, 9, 9, 9, 4]
    assert sum(len(c.failures) for c in chunks) == 1
    assert all(array.ndim == 2 for c in chunks for array in c.arrays)


def test_an_epoch_can_begin_in_its_middle(folder):
    dataset = open_dataset(folder)
    pictures = TrainPictures(dataset, STAGE, Augment.parse("photos"), PREPROCESS, 0)
    loader = TrainLoader(pictures, 0)
    parts = np.array_split(epoch_order(len(dataset), 0, 0), 5)
    whole = list(loader.epoch(0, parts))
    rest = list(loader.epoch(0, parts[3:]))
    assert len(whole) == 5
    assert [b.indices.tolist() for b in rest] == [b.indices.tolist() for b in whole[3:]]


@pytest.mark.parametrize("mode", ["RGB", "L"])
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("size", [(37, 50), (500, 375), (64, 64), (20, 900), (2300, 2000)])
def test_the_canonical_stage_is_pillows_within_one_of_255(mode, interpolation, size):
    rng = np.random.default_rng(0)
    rough = rng.integers(0, 256, (size[1] // 4 + 1, size[0] // 4 + 1, 3), dtype=np.uint8)
    picture = Image.fromarray(rough).resize(size).convert(mode)
    for fit in ("crop", "squash"):
        got = Canonical(64, fit, interpolation)(np.asarray(picture)).astype(int)
        expected = np.asarray(store_image(picture, 64, fit, interpolation)).astype(int)
        assert got.shape == expected.shape
        assert np.abs(got - expected).max() <= 1
        assert np.abs(got - expected).mean() < 0.25


def test_the_part_that_is_cut_is_pillows_within_one_of_255():
    rng = np.random.default_rng(0)
    picture = Image.fromarray(rng.integers(0, 256, (30, 40, 3), dtype=np.uint8)).resize((160, 120))
    step = RandomResizedCrop(0.2)
    for _ in range(50):
        u = rng.random(step.draws)
        got = step.cut(np.asarray(picture), u, (48, 56)).astype(int)
        assert np.abs(got - np.asarray(step.apply(picture, u, (48, 56)))).max() <= 1
