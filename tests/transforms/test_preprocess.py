"""Preprocess against torchvision's two-step preset, on pictures of many sizes."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from sightline.transforms.preprocess import IMAGENET_MEAN, IMAGENET_STD, Preprocess, store_image
from tests.support import data_root


def photo(width, height, seed=0):
    """A picture with structure at several scales."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (6, 8, 3), dtype=np.uint8)).resize(
        (width, height), Image.Resampling.BICUBIC
    )
    fine = rng.integers(-20, 21, (height, width, 3))
    return Image.fromarray((np.asarray(coarse) + fine).clip(0, 255).astype(np.uint8))


def two_steps(resize, crop, interpolation):
    from torchvision.transforms import v2

    return v2.Compose(
        [v2.Resize(resize, v2.InterpolationMode(interpolation)), v2.CenterCrop(crop), v2.PILToTensor()]
    )


@settings(deadline=None, max_examples=40)
@given(st.integers(40, 300), st.integers(40, 300), st.sampled_from([(32, 36), (64, 64), (56, 73)]))
def test_torchvisions_resize_and_centre_crop_even_of_noise(width, height, sizes):
    crop, resize = sizes
    picture = photo(width, height)
    ours = Preprocess(size=(crop, crop), resize=resize)(picture)
    # Pillow rounds to 8 bits after each of its two passes and chooses their order by the size of the result, so
    # each pass may differ by one.
    assert (ours.int() - two_steps(resize, crop, "bilinear")(picture).int()).abs().max() <= 2


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_within_one_on_photographs(interpolation):
    preprocess = Preprocess(size=(224, 224), resize=256, interpolation=interpolation)
    expected = two_steps(256, 224, interpolation)
    beyond = pixels = 0
    for path in sorted((data_root("hymenoptera") / "test" / "ants").glob("*.jpg"))[:30]:
        picture = Image.open(path).convert("RGB")
        difference = (preprocess(picture).int() - expected(picture).int()).abs()
        beyond += int((difference > 1).sum())
        pixels += difference.numel()
    # Bicubic overshoots black and white; what is clipped between the passes depends on their order.
    assert beyond <= (0 if interpolation == "bilinear" else pixels * 5e-4)


def test_normalisation_is_torchvisions():
    from torchvision.transforms import v2

    preprocess = Preprocess(size=(16, 16))
    batch = torch.randint(0, 256, (2, 3, 16, 16), dtype=torch.uint8)
    expected = v2.Normalize(IMAGENET_MEAN, IMAGENET_STD)(batch.float() / 255)
    normal = preprocess.normalize(batch)
    assert torch.allclose(normal, expected, atol=1e-5)
    last = batch.contiguous(memory_format=torch.channels_last)
    again = preprocess.normalize(last)
    assert torch.equal(again, normal)
    assert again.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(last, batch)
    assert torch.equal(preprocess.normalize(last[0]), normal[0])


def test_squash_keeps_the_edges():
    picture = Image.new("L", (200, 50))
    picture.paste(255, (0, 0, 10, 50))
    squashed = Preprocess(size=(40, 40), channels=1, fit="squash", mean=(0.5,), std=(0.5,))(picture)
    cropped = Preprocess(size=(40, 40), channels=1, mean=(0.5,), std=(0.5,))(picture)
    assert squashed[0, :, 0].float().mean() > 200
    assert cropped.max() == 0


def test_a_picture_of_the_right_size_is_not_touched():
    picture = photo(32, 32)
    assert np.array_equal(np.asarray(Preprocess(size=(32, 32)).image(picture)), np.asarray(picture))


def test_plain_data_round_trip_through_json():
    import json

    preprocess = Preprocess(
        size=(24, 32), channels=1, fit="squash", interpolation="bicubic", mean=(0.1,), std=(0.3,)
    )
    assert Preprocess.from_dict(json.loads(json.dumps(preprocess.to_dict()))) == preprocess


@pytest.mark.parametrize(
    "wrong",
    [{"channels": 1}, {"size": (0, 5)}, {"resize": 10}, {"fit": "squash", "resize": 64}, {"std": (1, 1, 0)}],
)
def test_contradictions_are_refused(wrong):
    with pytest.raises(ValueError, match=r"."):
        Preprocess(**({"size": (32, 32)} | wrong))


def test_the_canonical_stage_has_the_short_side():
    assert store_image(photo(200, 100), 50, "crop").size == (100, 50)
    assert store_image(photo(201, 100), 50, "crop").size == (100, 50)  # torchvision cuts 100.5
    assert store_image(photo(200, 100), 50, "squash").size == (50, 50)
