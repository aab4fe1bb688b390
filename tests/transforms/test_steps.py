"""Each step against torchvision's map with the same parameters, on Pillow images and on tensors of any size."""

from itertools import permutations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from sightline.transforms.augment import STEPS, Augment
from sightline.transforms.colour import EIGENVALUES, EIGENVECTORS, ColorJitter, Grey, PcaColor
from sightline.transforms.crops import Crop, RandomResizedCrop, ScaleJitter, Translate
from sightline.transforms.functional import smooth
from sightline.transforms.geometry import Elastic, HFlip, Linear, Perspective, Rotate, Scale, Shear, VFlip
from sightline.transforms.noise import Blur, Erase, Noise, SaltPepper
from sightline.transforms.preprocess import to_tensor
from tests.transforms.pictures import SEEDS, both, numbers, picture, pictures, pixels

F = pytest.importorskip("torchvision.transforms.v2.functional")
BILINEAR = F.InterpolationMode.BILINEAR
UNIT = st.floats(0, 1, exclude_max=True)
thorough = settings(deadline=None, max_examples=40)


def same(step, image, u, expected, size=None):
    """The step gives what torchvision's map `expected` gives, bit for bit, for Pillow and for tensor."""
    for version in both(image):
        ours = step.apply(version, np.asarray(u, dtype=float), size)
        assert type(ours) is type(version)
        assert np.array_equal(pixels(ours), pixels(expected(version)))


@thorough
@given(pictures(), UNIT, st.sampled_from([(HFlip, F.horizontal_flip), (VFlip, F.vertical_flip)]))
def test_flips(image, u, kind):
    step, flip = kind
    same(step(0.4), image, [u], flip if u < 0.4 else lambda x: x)


@thorough
@given(pictures(), UNIT, st.floats(0, 180))
def test_rotate(image, u, degrees):
    angle = (2 * u - 1) * degrees
    same(Rotate(degrees), image, [u], lambda x: F.rotate(x, angle, interpolation=BILINEAR))


@thorough
@given(pictures(), UNIT, st.floats(0.1, 1), st.floats(1, 5))
def test_scale(image, u, low, high):
    factor = low + u * (high - low)
    same(
        Scale(low, high), image, [u], lambda x: F.affine(x, 0, [0, 0], factor, [0, 0], interpolation=BILINEAR)
    )


def test_scale_of_two_halves_what_is_seen():
    image = Image.new("L", (40, 40))
    image.paste(255, (15, 15, 25, 25))
    doubled = np.asarray(Scale(2, 2).apply(image, np.array([0.5]), None))
    assert (doubled[12:28, 12:28] == 255).all()
    assert doubled[:9].max() == doubled[31:].max() == 0


@thorough
@given(pictures(), UNIT, UNIT, st.floats(0, 60))
def test_shear(image, x, y, degrees):
    angles = [(2 * x - 1) * degrees, (2 * y - 1) * degrees]
    same(Shear(degrees), image, [x, y], lambda p: F.affine(p, 0, [0, 0], 1, angles, interpolation=BILINEAR))


@thorough
@given(pictures(), UNIT, UNIT, st.floats(0, 1))
def test_translate(image, y, x, fraction):
    shift = [-round((2 * x - 1) * fraction * image.width), -round((2 * y - 1) * fraction * image.height)]
    same(Translate(fraction), image, [y, x], lambda p: F.affine(p, 0, shift, 1, [0, 0]))


@thorough
@given(pictures(), UNIT, UNIT, st.integers(0, 9), st.sampled_from(["zero", "reflect"]))
def test_crop(image, y, x, padding, fill):
    size = (image.height // 2 + 1, image.width)
    room = [image.height - size[0] + 2 * padding, 2 * padding]
    top, left = int(y * (room[0] + 1)) - padding, int(x * (room[1] + 1)) - padding

    def expected(p):
        if fill == "zero":
            return F.crop(F.pad(p, padding), top + padding, left + padding, *size)
        padded = np.pad(pixels(p), [(0, 0), (padding, padding), (padding, padding)], mode="reflect")
        cut = padded[:, top + padding :, left + padding :][:, : size[0], : size[1]]
        return torch.from_numpy(cut.astype(np.uint8))

    same(Crop(padding, fill), image, [y, x], expected, size)


@thorough
@given(pictures(), SEEDS)
def test_random_resized_crop(image, seed):
    step = RandomResizedCrop(0.2)
    u = numbers(step, seed)
    box = step.box(image.height, image.width, u)
    same(step, image, u, lambda x: F.resized_crop(x, *box, [16, 12], antialias=True), (16, 12))


@thorough
@given(pictures(), UNIT, UNIT, UNIT, st.floats(1, 2), st.floats(2, 3))
def test_scale_jitter(image, s, y, x, low, high):
    short = round(16 * (low + s * (high - low)))

    def expected(p):
        resized = F.resize(p, [short], antialias=True)
        height, width = F.get_size(resized)
        return F.crop(resized, int(y * (height - 16 + 1)), int(x * (width - 12 + 1)), 16, 12)

    same(ScaleJitter(low, high), image, [s, y, x], expected, (16, 12))


@thorough
@given(pictures(2), SEEDS, st.floats(0, 1))
def test_perspective(image, seed, distortion):
    step = Perspective(distortion, 1.0)
    u = numbers(step, seed)
    right, bottom = image.width - 1, image.height - 1
    start = [[0, 0], [right, 0], [right, bottom], [0, bottom]]
    end = step.corners(image.height, image.width, u[1:])
    for (x0, y0), (x1, y1) in zip(start, end, strict=True):  # torchvision's bounds
        assert abs(x1 - x0) <= int(distortion * (image.width // 2))
        assert abs(y1 - y0) <= int(distortion * (image.height // 2))
    same(step, image, u, lambda x: F.perspective(x, start, end, interpolation=BILINEAR))


@thorough
@given(pictures(), UNIT, st.floats(0, 200), st.floats(0.5, 8))
def test_elastic(image, u, alpha, sigma):
    step = Elastic(alpha, sigma)
    field = step.displacement(image.height, image.width, u)
    same(step, image, [u], lambda x: F.elastic(x, field, interpolation=BILINEAR))


def test_elastics_waves_are_those_of_torchvision():
    """Its ElasticTransform blurs uniform noise of -1 to 1 and scales it by alpha over the side."""
    noise = np.random.default_rng(0).random((60, 50), dtype=np.float32) * 2 - 1
    expected = F.gaussian_blur(torch.from_numpy(noise)[None], [33, 33], [4.0, 4.0])[0].numpy()
    assert np.abs(smooth(noise, 4.0, 33) - expected).max() < 1e-6
    one, two = (Elastic(alpha, 4.0).displacement(60, 50, 0.3)[0] for alpha in (10.0, 20.0))
    assert torch.allclose(2 * one, two)
    # Smoothing leaves 1/(4 pi sigma^2) of the noise's variance, which is 1/3.
    pixels_moved = two.numpy() * np.array([50, 60]) / 20
    assert pixels_moved.std() == pytest.approx(np.sqrt(1 / 3 / (4 * np.pi)) / 4, rel=0.25)


@thorough
@given(pictures(), SEEDS)
def test_color_jitter(image, seed):
    from torchvision.transforms.v2 import ColorJitter as Theirs

    u = numbers(ColorJitter(), seed)
    factors = [0.5 + u[1], 0.4 + 1.2 * u[2], 2.5 * u[3], 0.6 * u[4] - 0.3]
    names = ("brightness_factor", "contrast_factor", "saturation_factor", "hue_factor")
    order = list(permutations(range(4)))[int(u[0] * 24)]
    parameters = dict(zip(names, factors, strict=True)) | {"fn_idx": order}
    same(ColorJitter(0.5, 0.6, 1.5, 0.3), image, u, lambda x: Theirs().transform(x, parameters))


@thorough
@given(pictures(), UNIT)
def test_grey(image, u):
    channels = 3 if image.mode == "RGB" else 1
    same(Grey(0.7), image, [u], lambda x: F.rgb_to_grayscale(x, channels) if u < 0.7 else x)


@thorough
@given(pictures(), UNIT, st.floats(0.1, 3))
def test_blur(image, u, sigma):
    reach = min(image.size)
    kernel = min(2 * int(np.ceil(3 * sigma)) + 1, 2 * reach - 1)
    for version in both(image):
        ours = pixels(Blur(sigma, sigma).apply(version, np.array([u]), None))
        expected = pixels(F.gaussian_blur(version, [kernel, kernel], [sigma, sigma]))
        # On Pillow images one axis after the other: what lies at half a step may be rounded the other way.
        assert np.abs(ours - expected).max() <= (isinstance(version, Image.Image))
        assert (ours != expected).mean() <= 0.01


@thorough
@given(pictures(2), SEEDS, st.sampled_from([0, 200, "mean"]))
def test_erase(image, seed, value):
    step = Erase(0.8, 0.1, 0.4, 0.5, 2.0, value)
    u = numbers(step, seed)
    box = step.box(image.height, image.width, u)
    if box is None:
        same(step, image, u, lambda x: x)
        return
    mean = np.rint(pixels(image).mean((1, 2)))
    fill = torch.tensor(mean if value == "mean" else [value])[:, None, None]
    # torchvision has no erasing of Pillow images.
    same(step, image, u, lambda x: F.erase(to_tensor(x) if isinstance(x, Image.Image) else x, *box, fill))


@settings(deadline=None, max_examples=100)
@given(st.integers(4, 90), st.integers(4, 90), SEEDS)
def test_the_erased_part_keeps_its_promises(height, width, seed):
    step = Erase(1.0, 0.05, 0.3, 0.5, 2.0)
    box = step.box(height, width, numbers(step, seed))
    if box is None:
        assert max(height, width) > 1.5 * min(height, width)  # there a rectangle may not fit, ten times
        return
    top, left, h, w = box
    assert 0 <= top <= height - h
    assert 0 <= left <= width - w
    if min(height, width) > 30:
        assert 0.04 <= h * w / (height * width) <= 0.32
        assert 0.4 <= h / w <= 2.2


def test_erasing_happens_as_often_as_asked_for():
    step = Erase(0.3)
    draws = np.random.default_rng(0).random((3000, step.draws))
    erased = sum(step.box(32, 32, u) is not None for u in draws)
    assert 800 < erased < 1000  # 900 expected, the standard deviation is 25


@settings(deadline=None, max_examples=100)
@given(st.integers(1, 90), st.integers(1, 90), SEEDS)
def test_the_drawn_box_lies_inside_and_keeps_its_promises(height, width, seed):
    step = RandomResizedCrop(0.3, 0.8)
    top, left, h, w = step.box(height, width, numbers(step, seed))
    assert 0 <= top <= height - h
    assert 0 <= left <= width - w
    assert h >= 1
    assert w >= 1
    if min(height, width) > 40 and max(height, width) < 1.3 * min(height, width):
        assert 0.25 <= h * w / (height * width) <= 0.85


def test_crop_reaches_every_corner_equally_often():
    image = to_tensor(Image.fromarray(np.arange(25, dtype=np.uint8).reshape(5, 5)))
    u = np.random.default_rng(0).random((9000, 2))
    centres = Crop(1).apply_batch(image[None].expand(9000, 1, 5, 5), u, None)[:, 0, 2, 2]
    counts = torch.unique(centres, return_counts=True)[1]
    assert len(counts) == 9
    assert counts.min() > 850  # 1,000 expected; the standard deviation is 30
    assert counts.max() < 1150


# Noise has no counterpart with the same parameters; it has moments.


@pytest.mark.parametrize("std", [0.02, 0.1])
def test_noise_has_the_moments_asked_for(std):
    grey = Image.new("RGB", (200, 200), (128, 128, 128))
    noisy = pixels(Noise(std).apply(grey, np.array([0.7]), None)) - 128
    n = noisy.size
    deviation = 255 * std
    assert abs(noisy.mean()) < 4 * deviation / np.sqrt(n)
    assert noisy.std() == pytest.approx(
        np.sqrt(deviation**2 + 1 / 12), rel=4 / np.sqrt(2 * n)
    )  # rounding adds 1/12
    kurtosis = ((noisy / noisy.std()) ** 4).mean()
    assert kurtosis == pytest.approx(3, abs=4 * np.sqrt(24 / n))
    correlation = np.corrcoef(noisy.reshape(3, -1))[np.triu_indices(3, 1)]
    assert np.abs(correlation).max() < 4 / np.sqrt(n / 3)


def test_noise_differs_from_picture_to_picture():
    grey = Image.new("L", (100, 100), 128)
    one, two = (pixels(Noise(0.1).apply(grey, np.array([u]), None))[0].ravel() for u in (0.1, 0.1 + 2**-32))
    assert abs(np.corrcoef(one, two)[0, 1]) < 0.04


@pytest.mark.parametrize("amount", [0.01, 0.2, 1.0])
def test_salt_and_pepper_are_as_many_as_asked_for_and_equally_many(amount):
    image = Image.new("RGB", (200, 200), (100, 120, 140))
    out = np.asarray(SaltPepper(amount).apply(image, np.array([0.3]), None))
    n = out.shape[0] * out.shape[1]
    for value in (0, 255):
        share = (out == value).all(-1).mean()
        assert share == pytest.approx(amount / 2, abs=4 * np.sqrt(amount / 2 * (1 - amount / 2) / n))
    kept = (out == (100, 120, 140)).all(-1).mean()
    assert kept + (out == 0).all(-1).mean() + (out == 255).all(-1).mean() == 1  # whole pixels


def test_pca_color_adds_the_papers_sum():
    """Krizhevsky et al. 2012, section 4.1: [p1, p2, p3][a1 l1, a2 l2, a3 l3]^T is added to every pixel."""
    from scipy.stats import norm

    u = np.array([0.9, 0.2, 0.6])
    image = picture(channels=3)
    shift = 255 * sum(
        EIGENVECTORS[:, i] * 0.3 * norm.ppf(u[i]) * EIGENVALUES[i] for i in range(3)
    )  # the scale of the pixels is 0 to 255
    expected = np.rint(np.asarray(image) + shift).clip(0, 255)
    for version in both(image):
        assert np.array_equal(pixels(PcaColor(0.3).apply(version, u, None)), expected.transpose(2, 0, 1))
    # The components are orthonormal and ordered; the first is brightness.
    assert np.allclose(EIGENVECTORS.T @ EIGENVECTORS, np.eye(3), atol=1e-3)
    assert np.all(np.diff(EIGENVALUES) < 0)
    assert np.allclose(EIGENVECTORS[:, 0], EIGENVECTORS[:, 0].mean(), atol=0.01)


def test_pca_colors_factors_are_normal():
    step, u = PcaColor(0.1), np.random.default_rng(0).random((4000, 3))
    grey = torch.full((4000, 3, 1, 1), 128, dtype=torch.uint8)
    shifts = step.apply_batch(grey, u, None)[:, :, 0, 0].double().numpy() - 128
    factors = shifts @ EIGENVECTORS / (255 * EIGENVALUES)
    assert factors[:, 0].mean() == pytest.approx(0, abs=4 * 0.1 / np.sqrt(4000))
    assert factors[:, 0].std() == pytest.approx(0.1, rel=0.06)


# What holds for every step.


@pytest.mark.parametrize("name", STEPS)
@settings(deadline=None, max_examples=15)
@given(pictures(), SEEDS, st.sampled_from([None, (17, 23)]))
def test_every_step_takes_every_picture(name, image, seed, size):
    if name == "crop":
        size = None
    augment = Augment.parse(name, size)
    u = numbers(augment, seed)
    for version in both(image):
        before = pixels(version).copy()
        first, second = (augment.apply(version, u) for _ in range(2))
        assert type(first) is type(version)
        assert pixels(first).dtype == int
        assert len(pixels(first)) == len(before)
        assert np.array_equal(pixels(first), pixels(second))
        assert np.array_equal(pixels(version), before)  # what is given is not written to
        cut = name in ("random_resized_crop", "scale_jitter") and size
        assert pixels(first).shape[1:] == (size if cut else before.shape[1:])


@pytest.mark.parametrize("name", STEPS)
@settings(deadline=None, max_examples=10)
@given(st.integers(2, 30), st.integers(2, 30), st.sampled_from([1, 3]), SEEDS)
def test_a_batch_gives_the_pixels_of_one_by_one(name, height, width, channels, seed):
    augment = Augment.parse(name)
    one_by_one = [picture(height, width, channels, k) for k in range(5)]
    u = np.random.default_rng(seed).random((5, augment.draws))
    batch = augment.apply_batch(torch.stack([to_tensor(p) for p in one_by_one]), u)
    for image, row, expected in zip(one_by_one, u, batch, strict=True):
        assert torch.equal(augment.apply(to_tensor(image), row), expected)
        if augment.steps[0].batchable and not isinstance(augment.steps[0], Linear):
            assert torch.equal(to_tensor(augment.apply(image, row)), expected)
