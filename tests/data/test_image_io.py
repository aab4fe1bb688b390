"""`read_image`: what comes out of good pictures of each kind, by arithmetic or by Pillow."""

from __future__ import annotations

import io
import pickle

import numpy as np
import pytest
from PIL import Image, ImageCms, ImageOps

from sightline.data.image_io import (
    ON_WHITE,
    SCALED_16_BIT,
    SCALED_OWN_RANGE,
    TURNED,
    read_header,
    read_image,
)
from tests.data.helpers import colours, encoded, reason

pytestmark = pytest.mark.filterwarnings(r"ignore::UserWarning:PIL\.")  # pytest puts our own filters away


def values(source: object, mode: str = "RGB") -> np.ndarray:
    return np.asarray(read_image(source, mode))  # type: ignore[arg-type]


# 8-bit opaque: Pillow's own


def lab() -> Image.Image:
    profiles = [ImageCms.createProfile(name) for name in ("sRGB", "LAB")]
    return ImageCms.applyTransform(colours(), ImageCms.buildTransform(*profiles, "RGB", "LAB"))


@pytest.mark.parametrize(
    ("image", "format"),
    [
        (colours(), "PNG"),
        (colours(), "JPEG"),
        (colours(), "WEBP"),
        (colours(), "BMP"),
        (colours(), "TGA"),
        (colours().convert("L"), "PNG"),
        (colours().convert("1"), "PNG"),
        (colours().convert("1"), "TIFF"),
        (colours().quantize(8), "PNG"),
        (colours().quantize(8), "GIF"),
        (colours().convert("CMYK"), "JPEG"),
        (colours().convert("CMYK"), "TIFF"),
        (colours().convert("YCbCr"), "TIFF"),
        (lab(), "TIFF"),
    ],
    ids=lambda value: value if isinstance(value, str) else value.mode,
)
def test_eight_bit_opaque_equals_pillow(image: Image.Image, format: str) -> None:
    data = encoded(image, format)
    with Image.open(io.BytesIO(data)) as opened:
        oracle = ImageOps.exif_transpose(opened).convert("RGB")
    result = read_image(data)
    assert result.mode == "RGB"
    assert result.info == {"flags": ()}
    assert np.array_equal(np.asarray(result), np.asarray(oracle))
    assert np.array_equal(values(data, "L"), np.asarray(oracle.convert("L")))


# A 2 x 3 picture of 1..6 as it lies in the file, and as it must look, by the definition of each orientation:
# where row 0 and column 0 of the file are to be seen (EXIF 2.32, tag 0x0112).
AS_STORED = np.array([[10, 20, 30], [40, 50, 60]], dtype=np.uint8)
UPRIGHT = {
    1: [[10, 20, 30], [40, 50, 60]],  # row 0 at the top, column 0 at the left
    2: [[30, 20, 10], [60, 50, 40]],  # top, right
    3: [[60, 50, 40], [30, 20, 10]],  # bottom, right
    4: [[40, 50, 60], [10, 20, 30]],  # bottom, left
    5: [[10, 40], [20, 50], [30, 60]],  # left, top
    6: [[40, 10], [50, 20], [60, 30]],  # right, top
    7: [[60, 30], [50, 20], [40, 10]],  # right, bottom
    8: [[30, 60], [20, 50], [10, 40]],  # left, bottom
}


@pytest.mark.parametrize("orientation", UPRIGHT)
@pytest.mark.parametrize("format", ["PNG", "TIFF", "WEBP"])
def test_exif_orientations(orientation: int, format: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"lossless": True, "exact": True} if format == "WEBP" else {}
    data = encoded(Image.fromarray(AS_STORED), format, exif=exif, **options)
    expected = np.array(UPRIGHT[orientation])
    result = read_image(data, "L")
    assert np.array_equal(np.asarray(result), expected)
    assert (read_header(data).height, read_header(data).width) == expected.shape
    if format == "PNG":  # Pillow turns a TIFF by itself
        assert result.info["flags"] == ((TURNED,) if orientation > 1 else ())
    # Nobody who looks for an orientation again may find one.
    assert np.array_equal(np.asarray(ImageOps.exif_transpose(result)), expected)


def test_turned_16_bit_and_broken_exif() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    wide = Image.fromarray(AS_STORED.astype(np.uint16) * 257)
    assert values(encoded(wide, "PNG", exif=exif), "L").tolist() == UPRIGHT[6]
    broken = encoded(Image.fromarray(AS_STORED), "PNG", exif=b"Exif\0\0MM\0*\xff\xff\xff\xff")
    assert values(broken, "L").tolist() == AS_STORED.tolist()


# Wide modes: arithmetic


@pytest.mark.parametrize("format", ["PNG", "TIFF", "PPM"])
def test_16_bit_is_divided_by_257(format: str) -> None:
    stored = np.array([[0, 128, 129, 257], [32896, 65406, 65407, 65535]], dtype=np.uint16)
    result = read_image(encoded(Image.fromarray(stored), format), "L")
    assert np.asarray(result).tolist() == [[0, 0, 1, 1], [128, 254, 255, 255]]  # round(v / 257)
    assert result.info["flags"] == (SCALED_16_BIT,)
    assert np.array_equal(values(encoded(Image.fromarray(stored), format))[..., 1], np.asarray(result))


def test_big_endian_16_bit() -> None:
    stored = np.array([[0, 257 * 7, 257 * 255]], dtype=">u2")
    image = Image.frombytes("I;16B", (3, 1), stored.tobytes())
    assert values(encoded(image, "TIFF"), "L").tolist() == [[0, 7, 255]]
    assert values(image, "L").tolist() == [[0, 7, 255]]


def test_a_dark_16_bit_pgm_stays_dark() -> None:
    assert values(b"P5 2 1 65535\n\x00\x00\x00\xff", "L").tolist() == [[0, 1]]  # 255 / 257


@pytest.mark.parametrize(
    ("stored", "expected", "flags"),
    [
        ([0, 7, 255], [0, 7, 255], ()),
        ([0, 257, 65535], [0, 1, 255], (SCALED_16_BIT,)),
        ([-100, 0, 100], [0, 128, 255], (SCALED_OWN_RANGE,)),
        ([0, 100000, 200000], [0, 128, 255], (SCALED_OWN_RANGE,)),
        ([-(2**31), 0, 2**31 - 1], [0, 128, 255], (SCALED_OWN_RANGE,)),
    ],
)
def test_integers_by_their_range(stored: list[int], expected: list[int], flags: tuple[str, ...]) -> None:
    image = Image.fromarray(np.array([stored], dtype=np.int32))
    for source in (image, encoded(image, "TIFF")):
        result = read_image(source, "L")
        assert np.asarray(result).tolist() == [expected]
        assert result.info["flags"] == flags


@pytest.mark.parametrize(
    ("stored", "expected"),
    [
        ([0.0, 0.5, 1.0], [0, 128, 255]),
        ([-3.0, 0.0, 3.0], [0, 128, 255]),
        ([5.0, 5.0, 5.0], [0, 0, 0]),
        ([np.nan, 0.0, 2.0], [0, 0, 255]),
        ([-np.inf, np.inf, 1.0], [0, 255, 0]),
        ([-3e38, 0.0, 3e38], [0, 128, 255]),
    ],
)
def test_floats_by_their_range(stored: list[float], expected: list[int]) -> None:
    image = Image.fromarray(np.array([stored], dtype=np.float32))
    for source in (image, encoded(image, "TIFF"), np.asarray(image), np.array([stored])):
        result = read_image(source, "L")
        assert np.asarray(result).tolist() == [expected]
        assert result.info["flags"] == (SCALED_OWN_RANGE,)


def test_floats_without_a_finite_value() -> None:
    assert "finite" in reason(np.full((2, 2), np.nan))


# Transparency: over white, rounded


def over_white(colour: int, alpha: int) -> int:
    return round((colour * alpha + 255 * (255 - alpha)) / 255)


def test_rgba_is_laid_on_white() -> None:
    stored = np.array([[[200, 100, 0, 0], [200, 100, 0, 51], [200, 100, 0, 255]]], dtype=np.uint8)
    expected = [[[over_white(int(c), int(pixel[3])) for c in pixel[:3]] for pixel in stored[0]]]
    for source in (stored, Image.fromarray(stored), encoded(Image.fromarray(stored), "PNG")):
        result = read_image(source)
        assert np.asarray(result).tolist() == expected
        assert result.info["flags"] == (ON_WHITE,)


def test_opaque_alpha_changes_nothing() -> None:
    image = colours().convert("RGBA")
    result = read_image(encoded(image, "PNG"))
    assert np.array_equal(np.asarray(result), np.asarray(image)[..., :3])
    assert result.info["flags"] == ()


def test_grey_with_alpha() -> None:
    image = Image.merge("LA", (Image.new("L", (1, 1), 40), Image.new("L", (1, 1), 128)))
    assert values(encoded(image, "PNG"), "L").tolist() == [[over_white(40, 128)]]


def test_transparent_keys() -> None:
    rgb = Image.fromarray(np.array([[[1, 2, 3], [9, 9, 9]]], dtype=np.uint8))
    assert values(encoded(rgb, "PNG", transparency=(1, 2, 3))).tolist() == [[[255] * 3, [9] * 3]]
    grey = Image.fromarray(np.array([[7, 8]], dtype=np.uint8))
    assert values(encoded(grey, "PNG", transparency=7), "L").tolist() == [[255, 8]]
    wide = Image.fromarray(np.array([[257, 514]], dtype=np.uint16))
    result = read_image(encoded(wide, "PNG", transparency=257), "L")
    assert np.asarray(result).tolist() == [[255, 2]]
    assert result.info["flags"] == (SCALED_16_BIT, ON_WHITE)
    palette = Image.fromarray(np.array([[0, 1]], dtype=np.uint8)).convert("P")
    palette.putpalette([10, 20, 30, 40, 50, 60])
    for transparency in (0, b"\x00\xff"):
        data = encoded(palette, "PNG", transparency=transparency)
        assert values(data).tolist() == [[[255, 255, 255], [40, 50, 60]]]


# Animations


@pytest.mark.parametrize("format", ["GIF", "PNG", "WEBP", "TIFF"])
def test_the_first_frame_is_taken(format: str) -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    options = {"lossless": True} if format == "WEBP" else {}
    data = encoded(frames[0], format, save_all=True, append_images=frames[1:], **options)
    assert (values(data) == [255, 0, 0]).all()


# Arrays and Pillow images


def test_arrays_of_each_shape_and_type() -> None:
    grey = np.arange(6, dtype=np.uint8).reshape(2, 3)
    assert values(grey, "L").tolist() == grey.tolist()
    assert values(grey[..., None], "L").tolist() == grey.tolist()
    assert values(np.stack([grey] * 3, axis=2)).tolist() == np.stack([grey] * 3, axis=2).tolist()
    assert values(grey.astype(np.uint16) * 257, "L").tolist() == grey.tolist()
    assert values(grey.astype(">u2") * 257, "L").tolist() == grey.tolist()
    assert values(np.stack([grey] * 3, axis=2).astype(np.uint16) * 257)[..., 0].tolist() == grey.tolist()
    assert values(grey > 2, "L").tolist() == [[0, 0, 0], [255, 255, 255]]
    assert values(grey[:, ::-1], "L").tolist() == grey[:, ::-1].tolist()
    clear = np.zeros((1, 2, 4))
    clear[0, 1] = (1, 1, 1, 1)
    assert values(clear).tolist() == [[[255] * 3, [255] * 3]]  # transparent; white
    clear[0, 0, 3] = 1
    assert values(clear).tolist() == [[[0] * 3, [255] * 3]]


@pytest.mark.parametrize(
    ("array", "word"),
    [
        (np.zeros(5, np.uint8), "shape (5,)"),
        (np.zeros((2, 3, 4, 5), np.uint8), "shape"),
        (np.zeros((3, 8, 8), np.uint8), "shape (3, 8, 8)"),
        (np.zeros((8, 8, 2), np.uint8), "shape"),
        (np.zeros((0, 8), np.uint8), "empty"),
        (np.zeros((8, 8), np.int64), "int64"),
        (np.zeros((8, 8), np.int32), "int32"),
        (np.zeros((8, 8), np.uint32), "uint32"),
        (np.zeros((8, 8), complex), "complex128"),
        (np.full((8, 8), "a"), "<U1"),
        (np.full((8, 8), None), "object"),
        (np.broadcast_to(np.uint8(0), (8001, 8000)), "at most 64 million"),
    ],
    ids=str,
)
def test_arrays_that_are_no_pictures(array: np.ndarray, word: str) -> None:
    assert word in reason(array)


@pytest.mark.parametrize("thing", [None, 3, [1, 2], object(), {"path": "a.jpg"}])
def test_things_that_are_no_pictures(thing: object) -> None:
    assert "give a path" in reason(thing)


def test_a_pillow_image_is_left_as_it_was() -> None:
    image = colours()
    image.info["comment"] = "mine"
    result = read_image(image)
    result.putpixel((0, 0), (1, 2, 3))
    assert image.info == {"comment": "mine"}
    assert image.getpixel((0, 0)) != (1, 2, 3)


def test_the_result_is_plain_and_pickles() -> None:
    result = read_image(encoded(colours(), "JPEG"))
    assert type(result) is Image.Image
    again = pickle.loads(pickle.dumps(result))
    assert np.array_equal(np.asarray(again), np.asarray(result))
