"""What happens to a sample depends on the seed, the epoch and the sample alone: over all policies and steps."""

import numpy as np
import pytest
import torch
from PIL import Image

from sightline.data import open_dataset
from sightline.pipeline.cache import read_all
from sightline.pipeline.loader import TrainLoader, TrainPictures
from sightline.pipeline.order import AUGMENT, MIX, uniforms
from sightline.training.prepare import canonical_stage
from sightline.training.recipe import read_recipe
from sightline.transforms.augment import STEPS, Augment
from sightline.transforms.policies import POLICIES
from sightline.transforms.preprocess import Preprocess

EVERYTHING = " + ".join(name for name in STEPS if name != "crop")
TEXTS = [*POLICIES, *STEPS, EVERYTHING]


def drawn(root, sizes):
    """A data set of noise in two classes, of these (height, width)."""
    rng = np.random.default_rng(0)
    for k, size in enumerate(sizes):
        place = root / "ab"[k % 2]
        place.mkdir(exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (*size, 3), dtype=np.uint8)).save(place / f"{k:02}.png")
    return open_dataset(root)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    """Twelve pictures of many sizes."""
    sizes = np.random.default_rng(0).integers(20, 60, (12, 2)).tolist()
    return drawn(tmp_path_factory.mktemp("pictures"), sizes)


@pytest.fixture(scope="module")
def squares(tmp_path_factory):
    """Twelve squares of one size."""
    return drawn(tmp_path_factory.mktemp("squares"), [(24, 24)] * 12)


def train_pictures(dataset, text, *, fit="crop", store=20, resize=None, held=False, seed=3):
    stage = canonical_stage(
        read_recipe({"input": {"store_size": store, "fit": fit, "interpolation": "bilinear"}})
    )
    preprocess = Preprocess((16, 16), fit=fit, resize=resize)
    store = read_all(dataset, stage, "RGB") if held else None
    return TrainPictures(dataset, stage, Augment.parse(text), preprocess, seed, store)


def one_by_one(pictures):
    """Every sample of epochs 0 and 1, each in a batch of its own."""
    return {(e, i): pictures.__getitems__([(e, i)]).images[0] for e in (0, 1) for i in range(len(pictures))}


def agree(reference, batches):
    """The batches, as (epoch, batch), hold what the reference has."""
    for epoch, batch in batches:
        for index, image in zip(batch.indices.tolist(), batch.images, strict=True):
            assert torch.equal(image, reference[epoch, index])


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize(
    ("which", "shape"),
    [
        ("dataset", {"fit": "crop", "store": 20}),
        ("dataset", {"fit": "squash", "store": 20}),
        ("squares", {"fit": "squash", "store": 16}),
        ("squares", {"fit": "crop", "store": 16, "resize": 18}),
    ],
)
def test_neither_the_batch_nor_the_cache_changes_a_draw(request, which, text, shape):
    dataset = request.getfixturevalue(which)
    reference = one_by_one(train_pictures(dataset, text, **shape))
    order = np.random.default_rng(1).permutation(12)
    for held in (False, True):
        pictures = train_pictures(dataset, text, held=held, **shape)
        for size in (5, 12):
            keys = [[(e, int(i)) for i in order[k : k + size]] for e in (0, 1) for k in range(0, 12, size)]
            agree(reference, [(batch[0][0], pictures.__getitems__(batch)) for batch in keys])


def test_a_batch_that_a_picture_is_missing_from_changes_no_draw(dataset):
    pictures = train_pictures(dataset, "photos + noise")
    reference = one_by_one(pictures)
    broken = dataset.path(4)
    content = broken.read_bytes()
    try:
        broken.write_bytes(content[:60])
        batch = pictures.__getitems__([(1, i) for i in range(12)])
    finally:
        broken.write_bytes(content)
    assert [failure.index for failure in batch.failures] == [4]
    assert len(batch.images) == 11
    agree(reference, [(1, batch)])


@pytest.mark.parametrize("text", [*POLICIES, EVERYTHING])
def test_neither_the_workers_nor_a_resume_change_a_draw(dataset, text):
    pictures = train_pictures(dataset, text)
    reference = one_by_one(pictures)
    parts = np.random.default_rng(2).permutation(12).reshape(3, 4)
    for workers in (0, 1, 2):
        loader = TrainLoader(pictures, workers)
        whole = [(e, batch) for e in (0, 1) for batch in loader.epoch(e, list(parts))]
        assert len(whole) == 6
        agree(reference, whole)
        rest = [(1, batch) for batch in loader.epoch(1, list(parts[2:]))]
        assert rest[0][1].indices.tolist() == parts[2].tolist()
        agree(reference, rest)


@pytest.mark.parametrize("text", [text for text in TEXTS if text not in ("none", "crop")])
def test_the_seed_and_the_epoch_change_the_draws(dataset, text):
    pictures = one_by_one(train_pictures(dataset, text))
    again = one_by_one(train_pictures(dataset, text, seed=4))
    assert any(not torch.equal(pictures[0, i], pictures[1, i]) for i in range(12))
    assert any(not torch.equal(pictures[0, i], again[0, i]) for i in range(12))


def test_the_numbers_of_mixing_are_not_those_of_a_sample():
    samples = uniforms(0, 1, np.arange(50), 4, AUGMENT)
    steps = uniforms(0, 1, np.arange(50), 4, MIX)
    assert not np.isin(samples, steps).any()
    assert np.array_equal(uniforms(0, 1, np.array([7]), 4, MIX)[0], steps[7])
