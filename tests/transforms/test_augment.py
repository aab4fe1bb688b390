"""Augment: its text, its maps against Pillow and torchvision, one by one against by the batch."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from sightline.errors import SightlineError
from sightline.transforms.augment import STEPS, Augment, RandomResizedCrop
from sightline.transforms.policies import POLICIES
from sightline.transforms.preprocess import to_tensor


def picture(height=20, width=24, channels=3, seed=0):
    shape = (height, width, 3) if channels == 3 else (height, width)
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8))


# Text.


def test_text_round_trip():
    text = "crop(padding=4, fill='reflect') + hflip(p=0.3) + rotate(degrees=30) + noise()"
    assert str(Augment.parse(text)) == text
    assert Augment.parse(str(Augment.parse("photos"))) == Augment.parse("photos")


@pytest.mark.parametrize("name", POLICIES)
def test_every_policy_reads_and_says_what_it_assumes(name):
    Augment.parse(name)
    assert POLICIES[name].assumes


def test_a_policy_may_be_part_of_a_sum():
    assert Augment.parse("digits + noise(0.1)").steps == (
        *Augment.parse("digits").steps,
        *Augment.parse("noise(0.1)").steps,
    )


def test_none_is_the_identity():
    image = picture()
    assert Augment.parse("none")(image) is image
    assert str(Augment.parse("")) == "none"


@pytest.mark.parametrize(
    ("text", "column", "hint"),
    [
        ("hflip(0.5) + rotat(30)", 14, "rotate"),
        ("hflip(1.5)", 1, "probability"),
        ("hflip(0.5) - rotate(3)", 1, "joined by +"),
        ("hflip(0.5) + rotate(degrees=a)", 14, "rotate"),
        ("hflip(0.5) + rotate(1, 2, 3)", 14, "too many"),
        ("hflip(0.5", 6, "step"),
        ("__import__('os').system('true')", 1, "joined by +"),
        ("random_resized_crop(0.9, 0.2)", 1, "scale_min"),
    ],
)
def test_a_mistake_is_pointed_at(text, column, hint):
    with pytest.raises(SightlineError, match=hint.replace("+", r"\+")) as error:
        Augment.parse(text)
    message = str(error.value)
    assert f"character {column}" in message
    assert message.splitlines()[-1] == "  " + " " * (column - 1) + "^"


# Maps.


def test_the_digits_policy_never_flips_and_photos_flips_left_right_only():
    assert not {"hflip", "vflip"} & set(POLICIES["digits"].steps.replace("(", " ").split())
    assert "vflip" not in POLICIES["photos"].steps
    assert "hflip" in POLICIES["photos"].steps


@settings(deadline=None, max_examples=60)
@given(
    st.sampled_from(["hflip(0.5)", "vflip", "crop(3)", "crop(0.2, 'reflect')", "translate(0.3)"]),
    st.integers(0, 99),
)
def test_a_batch_gives_the_pixels_of_one_by_one(text, seed):
    augment = Augment.parse(text)
    assert augment.batchable
    images = torch.stack([to_tensor(picture(seed=k)) for k in range(6)])
    u = np.random.default_rng(seed).random((6, augment.draws))
    batch = augment.apply_batch(images, u)
    for image, row, expected in zip(images, u, batch, strict=True):
        assert torch.equal(augment.apply(image, row), expected)
        pil = Image.fromarray(image.numpy().transpose(1, 2, 0))
        assert torch.equal(to_tensor(augment.apply(pil, row)), expected)


def test_reflected_padding_is_numpys():
    image = picture(9, 7, channels=1)
    padded = np.pad(np.asarray(image), 4, mode="reflect")
    out = Augment.parse("crop(4, 'reflect')").apply(image, np.array([0.0, 0.999]))
    assert np.array_equal(np.asarray(out), padded[0:9, 8:15])


def test_crop_reaches_every_corner_equally_often():
    image = to_tensor(Image.fromarray(np.arange(25, dtype=np.uint8).reshape(5, 5)))
    augment = Augment.parse("crop(1)")
    u = np.random.default_rng(0).random((9000, 2))
    centres = augment.apply_batch(image[None].expand(9000, 1, 5, 5), u)[:, 0, 2, 2]
    counts = torch.unique(centres, return_counts=True)[1]
    assert len(counts) == 9
    assert counts.min() > 850  # 1,000 expected; the standard deviation is 30
    assert counts.max() < 1150


def test_crop_cuts_the_networks_size_and_refuses_what_is_too_small():
    augment = Augment.parse("crop(2)", size=(16, 16))
    assert augment(picture(20, 24)).size == (16, 16)
    with pytest.raises(SightlineError, match="store_size"):
        Augment.parse("crop", size=(32, 32))(picture(20, 24))


def test_rotation_is_pillows_and_torchvisions():
    from torchvision.transforms.v2 import functional as F

    image, u = picture(), np.array([0.9])  # 0.8 of 30 degrees
    ours = Augment.parse("rotate(30)").apply(image, u)
    assert np.array_equal(np.asarray(ours), np.asarray(image.rotate(24.0, Image.Resampling.BILINEAR)))
    expected = F.rotate(to_tensor(image), 24.0, interpolation=F.InterpolationMode.BILINEAR)
    assert torch.equal(Augment.parse("rotate(30)").apply(to_tensor(image), u), expected)


def test_resized_crop_is_torchvisions_on_the_same_box():
    from torchvision.transforms.v2 import functional as F

    image, u = picture(60, 50), np.random.default_rng(1).random(40)
    top, left, height, width = RandomResizedCrop(0.2).box(60, 50, u)
    expected = F.resized_crop(image, top, left, height, width, [32, 32], antialias=True)
    ours = Augment.parse("random_resized_crop(0.2)", size=(32, 32)).apply(image, u)
    assert np.array_equal(np.asarray(ours), np.asarray(expected))


@settings(deadline=None, max_examples=100)
@given(st.integers(1, 90), st.integers(1, 90), st.integers(0, 10**6))
def test_the_drawn_box_lies_inside_and_keeps_its_promises(height, width, seed):
    step = RandomResizedCrop(0.3, 0.8)
    top, left, h, w = step.box(height, width, np.random.default_rng(seed).random(40))
    assert 0 <= top <= height - h
    assert 0 <= left <= width - w
    assert h >= 1
    assert w >= 1
    if min(height, width) > 40 and max(height, width) < 1.3 * min(height, width):
        assert 0.25 <= h * w / (height * width) <= 0.85


def test_noise_has_the_deviation_asked_for():
    grey = Image.new("L", (200, 200), 128)
    noisy = np.asarray(Augment.parse("noise(0.05)")(grey, np.random.default_rng(0)), dtype=float)
    assert abs(noisy.mean() - 128) < 0.3
    assert abs(noisy.std() - 0.05 * 255) < 0.3


@pytest.mark.parametrize("name", STEPS)
@pytest.mark.parametrize("channels", [1, 3])
def test_every_step_takes_pillow_and_tensors_and_repeats_with_its_generator(name, channels):
    augment = Augment.parse(name)
    image = picture(channels=channels)
    for version in (image, to_tensor(image)):
        first, second = (augment(version, np.random.default_rng(5)) for _ in range(2))
        assert type(first) is type(version)
        assert np.array_equal(np.asarray(first), np.asarray(second))


def test_a_policy_serves_a_torchvision_data_set_as_its_transform(tmp_path):
    from torchvision.datasets import ImageFolder

    (tmp_path / "a").mkdir()
    picture().save(tmp_path / "a" / "x.png")
    image, _ = ImageFolder(str(tmp_path), transform=Augment.parse("photos"))[0]
    assert isinstance(image, Image.Image)
