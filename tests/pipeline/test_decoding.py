"""The fast way to a picture's values gives those of `read_image`, and refuses what that refuses."""

import io

import numpy as np
import pytest
from PIL import Image

from sightline.data.image_io import read_image, read_pixels
from sightline.errors import UnreadableImage

VARIANTS = {
    "plain": {},
    "rough": {"quality": 20},
    "fine": {"quality": 98, "subsampling": 0},
    "half": {"subsampling": 1},
    "progressive": {"progressive": True, "optimize": True},
    "restarts": {"restart_marker_blocks": 3},
}


def photo(width=157, height=93, mode="RGB"):
    """Something with edges and shades, of sides that no block divides."""
    rng = np.random.default_rng(0)
    rough = Image.fromarray(rng.integers(0, 256, (12, 20, 3), dtype=np.uint8))
    return rough.resize((width, height), Image.Resampling.BICUBIC).convert(mode)


@pytest.mark.parametrize("mode", ["RGB", "L"])
@pytest.mark.parametrize("own", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize("variant", VARIANTS)
def test_jpegs_have_pillows_bits(tmp_path, variant, own, mode):
    path = tmp_path / "picture.jpg"
    photo(mode=own).save(path, "JPEG", **VARIANTS[variant])
    assert np.array_equal(read_pixels(path, mode), np.asarray(read_image(path, mode)))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_turned_ones_are_turned(tmp_path, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    photo().save(tmp_path / "picture.jpg", exif=exif)
    pixels = read_pixels(tmp_path / "picture.jpg")
    assert pixels.shape == ((93, 157, 3) if orientation < 5 else (157, 93, 3))
    assert np.array_equal(pixels, np.asarray(read_image(tmp_path / "picture.jpg")))


@pytest.mark.parametrize("kind", ["PNG", "GIF", "BMP", "WEBP", "TIFF"])
def test_other_formats_and_sources_go_the_old_way(tmp_path, kind):
    path = tmp_path / "picture.jpg"  # the content decides, not the name
    photo().save(path, kind)
    for source in (path, path.read_bytes(), np.asarray(photo())):
        assert np.array_equal(read_pixels(source), np.asarray(read_image(source)))


@pytest.mark.parametrize("share", [0.3, 0.7, 0.999])
def test_one_that_is_cut_short_is_refused(tmp_path, share):
    path = tmp_path / "picture.jpg"
    photo().save(path)
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    with pytest.raises(UnreadableImage) as expected:
        read_image(path)
    with pytest.raises(UnreadableImage) as got:
        read_pixels(path)
    assert str(got.value) == str(expected.value)


def test_whatever_both_read_of_damaged_ones_is_equal(tmp_path):
    rng = np.random.default_rng(3)
    path = tmp_path / "picture.jpg"
    compared = 0
    for number in range(120):
        whole = io.BytesIO()
        photo().save(whole, "JPEG", quality=int(rng.integers(30, 98)), progressive=bool(number % 2))
        content = bytearray(whole.getvalue())
        for place in rng.integers(2, len(content) - 2, 3).tolist():
            content[place] = int(rng.integers(256))
        path.write_bytes(content)
        try:
            expected = np.asarray(read_image(path))
        except UnreadableImage:
            continue
        assert np.array_equal(read_pixels(path), expected)
        compared += 1
    assert compared > 40
