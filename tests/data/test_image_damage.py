"""`read_image` on what is no picture, or a broken or hostile one: `UnreadableImage`, and nothing else."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
import textwrap
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFile

from sightline.data.image_io import FORMATS, IMAGE_EXTENSIONS, MAX_PIXELS, read_header, read_image
from sightline.errors import UnreadableImage
from tests.data.helpers import colours, encoded, reason

pytestmark = pytest.mark.filterwarnings(r"ignore::UserWarning:PIL\.")  # pytest puts our own filters away


def png(width: int, height: int, *, bits: int = 8, colour: int = 0, data: bytes = b"") -> bytes:
    """A PNG by hand, for headers that Pillow would not write."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    parts = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(data)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + parts


# Sizes: refused by the header


def no_decoding(monkeypatch: pytest.MonkeyPatch) -> None:
    def decode(self: object) -> None:
        raise AssertionError("decoded")

    monkeypatch.setattr(ImageFile.ImageFile, "load", decode)


def bmp(width: int, height: int) -> bytes:
    return b"BM" + struct.pack("<IIIIiiHHIIIIII", 54, 0, 54, 40, width, height, 1, 24, *[0] * 6)


def gif(width: int, height: int) -> bytes:
    screen = struct.pack("<HHBBB", width, height, 0, 0, 0)
    return b"GIF89a" + screen + b"," + struct.pack("<HHHHB", 0, 0, width, height, 0) + b"\x02\x01\x00\x00;"


@pytest.mark.parametrize("size", [(8001, 8000), (10000, 8000), (60000, 60000)])
def test_too_many_pixels_are_refused_undecoded(
    size: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    no_decoding(monkeypatch)
    for data in (png(*size), bmp(*size), gif(*size), b"P5 %d %d 255\n" % size):
        assert "at most 64 million" in reason(data)
    assert "at most 64 million" in reason(png(2**31 - 1, 2**31 - 1))


def test_an_icon_that_lies_about_its_size(monkeypatch: pytest.MonkeyPatch) -> None:
    no_decoding(monkeypatch)
    inside = png(8001, 8000)
    directory = struct.pack("<HHHBBBBHHII", 0, 1, 1, 16, 16, 0, 0, 1, 32, len(inside), 22)
    assert "at most 64 million" in reason(directory + inside)


def test_the_largest_size_is_read() -> None:
    assert MAX_PIXELS == 8000 * 8000
    assert read_header(png(8000, 8000)).width == 8000
    assert read_image(np.broadcast_to(np.uint8(9), (8000, 8000)), "L").size == (8000, 8000)


# Files that are none


def test_files_that_cannot_be_pictures(tmp_path: Path) -> None:
    empty = tmp_path / "empty.png"
    empty.touch()
    text = tmp_path / "page.jpg"
    text.write_text("<html><title>404</title></html>")
    pipe = tmp_path / "pipe.png"
    os.mkfifo(pipe)
    assert reason(empty) == "the file is empty"
    assert reason(b"") == "it is empty"
    assert "not a picture" in reason(text)
    assert "regular file" in reason(pipe)  # opening it would wait for a writer
    assert "regular file" in reason("/dev/zero")
    assert reason(tmp_path) == "it is a folder"
    assert "no such file" in reason(tmp_path / "none.png")
    assert "no such file" in reason(text / "below.png")
    reason("a" * 5000)
    reason("zero\0byte.png")
    reason("")


def test_the_file_is_named() -> None:
    with pytest.raises(UnreadableImage) as caught:
        read_image(Path("nowhere") / "cat.jpg")
    assert caught.value.path == str(Path("nowhere") / "cat.jpg")
    assert str(caught.value) == f"{caught.value.path} cannot be read: there is no such file."


def test_permission_denied(tmp_path: Path) -> None:
    file = tmp_path / "cat.png"
    file.write_bytes(encoded(colours(), "PNG"))
    file.chmod(0)
    script = """
        import os, sys
        from sightline.data import read_image
        if os.geteuid() == 0:  # root may read everything
            os.setuid(65534)
        read_image(sys.argv[1])
    """
    run = [sys.executable, "-c", textwrap.dedent(script), file]
    said = subprocess.run(run, capture_output=True, text=True, check=False).stderr
    assert said.rstrip().endswith("permission to read it is denied.")


def test_no_other_program_is_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An EPS, also one that calls itself a JPEG, must not reach Ghostscript."""
    ghostscript = tmp_path / "gs"
    ghostscript.write_text(f"#!/bin/sh\ntouch {tmp_path}/started\n")
    ghostscript.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    file = tmp_path / "drawing.jpg"
    file.write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n%%EOF\n")
    assert "not a picture" in reason(file)
    assert not (tmp_path / "started").exists()


def test_the_formats_are_pillow_s() -> None:
    Image.init()
    assert set(FORMATS) <= set(Image.OPEN)
    unread = {"EPS", "WMF", "BUFR", "GRIB", "HDF5", "MPEG", "ICNS", "IPTC"}
    assert set(Image.OPEN) - set(FORMATS) <= unread
    extensions = {ending for ending, format in Image.EXTENSION.items() if format in FORMATS}
    assert extensions | {".jxl"} > IMAGE_EXTENSIONS - {".mpo"}


# Damage


@pytest.mark.parametrize("format", ["PNG", "JPEG", "GIF", "TIFF", "WEBP", "BMP", "TGA", "PPM", "JPEG2000"])
def test_truncated_files_are_refused(format: str, tmp_path: Path) -> None:
    data = encoded(colours(64, 64), format)
    for part in (0.1, 0.5, 0.8):
        file = tmp_path / f"cut.{format.lower()}"
        file.write_bytes(data[: int(len(data) * part)])
        assert reason(file)


SEEDS = {
    "png": encoded(colours(), "PNG"),
    "palette": encoded(colours().quantize(16), "PNG", transparency=3),
    "wide": encoded(Image.fromarray(np.arange(240, dtype=np.uint16).reshape(12, 20) * 200), "PNG"),
    "jpeg": encoded(
        colours(), "JPEG", exif=b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0"
    ),
    "gif": encoded(colours().quantize(16), "GIF", save_all=True, append_images=[colours()]),
    "tiff": encoded(colours(), "TIFF", compression="tiff_lzw"),
    "float": encoded(Image.fromarray(np.linspace(0, 1, 240, dtype=np.float32).reshape(12, 20)), "TIFF"),
    "webp": encoded(colours().convert("RGBA"), "WEBP", lossless=True),
    "bmp": encoded(colours().quantize(16), "BMP"),
    "ico": encoded(colours(32, 32), "ICO"),
}


def read_or_refuse(data: bytes) -> None:
    """Anything but a picture or an `UnreadableImage` fails the test."""
    try:
        image = read_image(data)
    except UnreadableImage:
        return
    assert image.mode == "RGB"
    assert image.width * image.height <= MAX_PIXELS


fuzzing = settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@fuzzing
@given(st.binary(max_size=400))
@example(b"\0\0\1\0\1\0")
def test_random_bytes(data: bytes) -> None:
    read_or_refuse(data)


@fuzzing
@given(st.sampled_from(sorted(SEEDS)), st.data())
def test_damaged_pictures(kind: str, data: st.DataObject) -> None:
    """Bits flipped, bytes replaced, pieces cut out of small pictures of each format."""
    damaged = bytearray(SEEDS[kind])
    places = st.integers(0, len(damaged) - 1)
    for place, value in data.draw(st.lists(st.tuples(places, st.integers(0, 255)), max_size=8)):
        damaged[place] = value
    start, end = sorted((data.draw(places), data.draw(places)))
    if data.draw(st.booleans()):
        del damaged[start:end]
    read_or_refuse(bytes(damaged))


def test_nothing_is_printed(tmp_path: Path) -> None:
    """Neither Pillow's warnings and log, nor what libtiff prints from C."""
    tiff = bytearray(encoded(colours(64, 64), "TIFF", compression="tiff_lzw"))
    tiff[len(tiff) // 3 : len(tiff) // 2] = bytes(len(tiff) // 2 - len(tiff) // 3)
    files = {
        "cut.tif": SEEDS["tiff"][: len(SEEDS["tiff"]) * 2 // 3],
        "zeros.tif": bytes(tiff),
        "large.png": png(9000, 9000),
        "palette.png": encoded(colours().quantize(16), "PNG", transparency=bytes(range(16))),
        "exif.jpg": SEEDS["jpeg"][:30] + b"\xff" * 20 + SEEDS["jpeg"][50:],
    }
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    script = """
        import logging, pathlib, sys, warnings
        from sightline.data import read_image
        from sightline.errors import UnreadableImage
        logging.basicConfig(level=logging.DEBUG)
        for file in pathlib.Path(sys.argv[1]).iterdir():
            try:
                read_image(file)
            except UnreadableImage:
                pass
    """
    run = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script), tmp_path], capture_output=True, text=True, check=True
    )
    assert run.stdout + run.stderr == ""


def test_importing_the_data_floor_is_light() -> None:
    heavy = ["torch", "torchvision", "timm", "sklearn", "matplotlib", "pyarrow", "scipy", "cv2", "rich"]
    script = f"import sightline.data, sys; print([name for name in {heavy} if name in sys.modules])"
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"
