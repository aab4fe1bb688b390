"""The one door for pictures: training, evaluating, predicting and serving all read through `read_image`.

What comes out is upright, opaque and 8-bit, whatever went in:

- 8-bit opaque pictures (also palettes, 1-bit, CMYK, YCbCr and LAB) are what Pillow's `exif_transpose`
  followed by `convert("RGB")` makes of them;
- 16-bit grey is divided by 257, so that 65535 becomes 255 (Pillow's own `convert` would clip it to white);
  32-bit integers likewise where they hold 16-bit values; 0..255 stays as it is;
- floats, and integers beyond 16 bits, are stretched from their own range onto 0..255; a constant one becomes
  black, as does NaN, and the infinities are the ends of the range;
- transparency is laid on white;
- of an animation the first frame is taken.

Everything else ends as `UnreadableImage` with the file and the reason, and nothing else is ever raised for a
bad picture. A picture of more than `MAX_PIXELS` is refused from its header, before any of it is decoded.
"""

from __future__ import annotations

import ctypes
import io
import logging
import os
import stat
import struct
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import IO, Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, IcoImagePlugin, Image, UnidentifiedImageError, _imaging

from sightline.errors import UnreadableImage

MAX_PIXELS = 64_000_000

# All that Pillow decodes, but EPS (it starts Ghostscript), WMF (Windows alone), BUFR, GRIB, HDF5 and MPEG
# (recognised, never decoded), ICNS and IPTC (another file inside, whose size the header does not bound).
# MPO is opened as JPEG. The common formats stand first, the rest in Pillow's order, which decides where a
# signature is weak.
FORMATS = (
    *("JPEG", "PNG", "GIF", "BMP", "PPM", "WEBP", "TIFF", "AVIF"),
    *("BLP", "DIB", "CUR", "PCX", "DCX", "DDS", "FITS", "FLI", "FTEX", "GBR", "JPEG2000", "ICO", "IM", "IMT"),
    *("MCIDAS", "MSP", "PCD", "PIXAR", "PSD", "QOI", "SGI", "SPIDER", "SUN", "TGA", "XBM", "XPM", "XVTHUMB"),
)

_EXTENSIONS = """apng avif bmp bw dds dib gif ico j2c j2k jfif jp2 jpc jpe jpeg jpf jpg jpx mpo msp pbm pcx
    pfm pgm png pnm ppm psd qoi ras rgb sgi tga tif tiff webp xbm xpm"""
IMAGE_EXTENSIONS = frozenset(f".{name}" for name in _EXTENSIONS.split())
"""Lower-case file name endings of what counts as a picture when a folder or an archive is searched."""

SCALED_16_BIT = "scaled from 16-bit"
SCALED_OWN_RANGE = "scaled from its own range"
ON_WHITE = "laid on white"
TURNED = "turned upright"

Array = np.ndarray[Any, Any]
ImageSource = str | PathLike[str] | bytes | Array | Image.Image

# Pillow reports through warnings and its log what we say in words or mend. Filters that come and go with
# each call (`catch_warnings`) are not safe where several threads decode: these stay, for Pillow alone.
for _category in (UserWarning, RuntimeWarning):
    warnings.filterwarnings("ignore", category=_category, module=r"PIL\.")
logging.getLogger("PIL").setLevel(logging.CRITICAL)
with suppress(OSError, AttributeError):  # libtiff prints from C, and goes on where it cannot be reached
    _libtiff = ctypes.CDLL(_imaging.__file__)
    for _handler in (_libtiff.TIFFSetErrorHandler, _libtiff.TIFFSetWarningHandler):
        _handler.argtypes, _handler.restype = [ctypes.c_void_p], ctypes.c_void_p
        _handler(None)

_SIXTEEN_TO_EIGHT = ((np.arange(65536) + 128) // 257).astype(np.uint8)  # v / 257, rounded
_WITH_ALPHA = ("RGBA", "LA", "PA", "RGBa", "La")
_WITH_KEY = ("1", "L", "P", "RGB")  # where a colour, or a palette's entries, may be declared transparent
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class _RefusedError(Exception):
    """A reason of our own, already in words for the user."""


@dataclass(frozen=True, slots=True)
class ImageHeader:
    """What a picture's header says: the upright size in pixels, and the file's own Pillow mode."""

    width: int
    height: int
    mode: str

    @property
    def is_grey(self) -> bool:
        """Whether the file has one channel, apart from transparency."""
        return self.mode in ("1", "L", "LA", "La", "I", "F") or self.mode.startswith("I;16")


def read_image(
    source: ImageSource, mode: Literal["RGB", "L"] = "RGB", at_least: int | None = None
) -> Image.Image:
    """The picture, upright, opaque and 8-bit, as a new Pillow image of `mode`.

    `source` is a path (a `str` is always a path), the bytes of a file, a Pillow image (its current frame), or
    an array of shape (H, W), (H, W, 1), (H, W, 3) or (H, W, 4) and type uint8, uint16, float or bool. The
    fourth channel is opacity, 0 to 1 in a float array. The values follow the rules at the top of this module.

    `info["flags"]` of the result is a tuple that says what was done: `SCALED_16_BIT`, `SCALED_OWN_RANGE`,
    `ON_WHITE`, `TURNED`. It is all that `info` holds, so that nobody turns the picture a second time.

    `at_least`: a JPEG may come at half, a quarter or an eighth of its size, as long as both sides have so many pixels.
    That is faster; the pixels are not those of a full decode that is then reduced.

    Raises `UnreadableImage`, and for a bad picture nothing else.
    """
    if mode not in ("RGB", "L"):
        raise ValueError(f"mode is {mode!r}; 'RGB' or 'L' is possible")
    try:
        if isinstance(source, np.ndarray):
            return _finish(*_from_array(source), mode)
        if isinstance(source, Image.Image):
            _check_size(source.size)
            return _finish(*_opaque(source), mode, _orientation(source))
        with _open_stream(source) as stream, _identify(stream) as image:
            if at_least is not None and image.format == "JPEG":
                image.draft(None, (at_least, at_least))
            image.load()
            _check_size(image.size)  # a few formats learn their size only now
            if (
                image.mode == mode and "transparency" not in image.info
            ):  # as most are; no one else has it: no copy
                return _finish(image._new(image.im), [], mode, _orientation(image))
            return _finish(*_opaque(image), mode, _orientation(image))
    except Exception as error:  # decoders of hostile bytes raise nearly everything
        raise _unreadable(source, error) from error


def read_pixels(
    source: ImageSource, mode: Literal["RGB", "L"] = "RGB", at_least: int | None = None
) -> NDArray[np.uint8]:
    """The values of `read_image`, uint8 (H, W) or (H, W, 3), in less time; do not write to them.

    An upright JPEG of `mode` that is whole is decoded by OpenCV, whose libjpeg-turbo gives the bits of Pillow's without
    the copies from one memory to another. `at_least`, and what is raised, are as in `read_image`.
    """
    if at_least is None and isinstance(source, (str, PathLike)):
        with suppress(Exception):  # whatever it is, `read_image` says it better
            with _open_stream(source) as stream, _identify(stream) as image:
                plain = image.format == "JPEG" and image.mode == mode and _orientation(image) == 1
                size = image.size
                stream.seek(0)
                content = stream.read() if plain else b""
            if content.endswith(b"\xff\xd9"):  # else it is cut short, which OpenCV passes over
                import cv2

                kind = cv2.IMREAD_COLOR_RGB if mode == "RGB" else cv2.IMREAD_GRAYSCALE
                pixels = cv2.imdecode(np.frombuffer(content, np.uint8), kind | cv2.IMREAD_IGNORE_ORIENTATION)
                if pixels is not None and pixels.shape[1::-1] == size:
                    return np.asarray(pixels)
    return np.asarray(read_image(source, mode, at_least))


def read_header(source: ImageSource) -> ImageHeader:
    """Size and mode without decoding (but ICO, which Pillow decodes at once). Raises like `read_image`."""
    try:
        if isinstance(source, np.ndarray):
            height, width, channels = _check_array(source).shape
            return ImageHeader(width, height, {1: "L", 3: "RGB", 4: "RGBA"}[channels])
        if isinstance(source, Image.Image):
            return _header(source)
        with _open_stream(source) as stream, _identify(stream) as image:
            return _header(image)
    except Exception as error:
        raise _unreadable(source, error) from error


def _header(image: Image.Image) -> ImageHeader:
    width, height = image.size
    if image.format != "TIFF" and _orientation(image) >= 5:  # Pillow's size of a TIFF is the upright one
        width, height = height, width
    return ImageHeader(width, height, image.mode)


# Opening


@contextmanager
def _open_stream(source: object) -> Iterator[IO[bytes]]:
    if isinstance(source, (bytes, bytearray, memoryview)):
        if not source:
            raise _RefusedError("it is empty")
        yield io.BytesIO(source)
        return
    if not isinstance(source, (str, PathLike)):
        raise _RefusedError(
            f"{type(source).__name__} is no picture: give a path, bytes, an array or a Pillow image"
        )
    status = Path(source).stat()
    if stat.S_ISDIR(status.st_mode):
        raise _RefusedError("it is a folder")
    if not stat.S_ISREG(status.st_mode):  # opening a named pipe would wait for ever
        raise _RefusedError("it is not a regular file")
    if status.st_size == 0:
        raise _RefusedError("the file is empty")
    # Pillow gets the open file, not its name: by name it would map raw pixels into memory, and a file that is
    # changed meanwhile would change, or end, this process.
    with Path(source).open("rb") as stream:
        yield stream


def _identify(stream: IO[bytes]) -> Image.Image:
    """The picture with its header read, its size checked and its pixels still to be decoded."""
    _check_icon(stream)
    image = Image.open(stream, formats=FORMATS)
    _check_size(image.size)
    return image


def _check_size(size: tuple[int, int]) -> None:
    if size[0] * size[1] > MAX_PIXELS:
        raise _RefusedError(_too_large(f"{size[0]} x {size[1]}"))


def _too_large(what: str) -> str:
    return f"it has {what} pixels, and at most {MAX_PIXELS // 1_000_000} million are read"


def _check_icon(stream: IO[bytes]) -> None:
    """Refuses an ICO whose PNG is too large: Pillow decodes an ICO on opening, and its directory may lie."""
    is_icon = stream.read(4) == b"\0\0\1\0"
    stream.seek(0)
    if not is_icon:
        return
    entries = IcoImagePlugin.IcoFile(stream).entry
    stream.seek(entries[0].offset if entries else 0)
    head = stream.read(24)
    stream.seek(0)
    if head.startswith(b"\x89PNG\r\n\x1a\n") and len(head) == 24:
        _check_size(struct.unpack(">II", head[16:]))


def _unreadable(source: object, error: Exception) -> UnreadableImage:
    path = os.fspath(source) if isinstance(source, (str, PathLike)) else None
    return UnreadableImage(path, _reason(error))


def _reason(error: Exception) -> str:
    """Why, in words that fit into 'X cannot be read: ... .'"""
    match error:
        case _RefusedError():
            return str(error)
        case FileNotFoundError() | NotADirectoryError():
            return "there is no such file"
        case PermissionError():
            return "permission to read it is denied"
        case UnidentifiedImageError():
            return "it is not a picture in a format that is read, or its beginning is damaged"
        case Image.DecompressionBombError():
            return _too_large("too many")
        case MemoryError():
            return "there is not enough memory to decode it"
        case OSError(strerror=str(text)):
            return text[0].lower() + text[1:]
    text = " ".join(str(error).split()).removesuffix(" when reading image file").rstrip(".")
    return f"it is damaged ({text or type(error).__name__})"


# Pixels


def _orientation(image: Image.Image) -> int:
    """The EXIF (or XMP) orientation, 1 to 8; broken EXIF says nothing about how the picture lies, so 1."""
    try:
        value = image.getexif().get(ExifTags.Base.Orientation, 1)
        return int(value) if value in _TURNS else 1
    except Exception:
        return 1


def _finish(image: Image.Image, flags: list[str], mode: str, orientation: int = 1) -> Image.Image:
    """From an opaque L or RGB image that is no one else's to the one that is handed out."""
    result = image if image.mode == mode else image.convert(mode)
    if orientation in _TURNS:
        result = result.transpose(_TURNS[orientation])
        flags = [*flags, TURNED]
    result.info = {"flags": tuple(flags)}
    return result


def _opaque(image: Image.Image) -> tuple[Image.Image, list[str]]:
    """A new image of mode L or RGB from any Pillow image, and what was done to its values."""
    key = image.info.get("transparency")
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        return _opaque_wide(image, key)
    if image.mode in _WITH_ALPHA or (key is not None and image.mode in _WITH_KEY):
        return _on_white(image.convert("RGBA"))
    return image.convert("L" if image.mode in ("1", "L") else "RGB"), []  # a copy, where it is that already


def _on_white(rgba: Image.Image) -> tuple[Image.Image, list[str]]:
    page = Image.new("RGB", rgba.size, "white")
    page.paste(rgba, mask=rgba)
    lowest = rgba.getchannel("A").getextrema()[0]
    return page, [ON_WHITE] if lowest != 255 else []


def _opaque_wide(image: Image.Image, key: object) -> tuple[Image.Image, list[str]]:
    """`_opaque` for one channel of more than 8 bits; pixels of the value `key` are transparent."""
    values = np.asarray(image)
    if image.mode == "I" and image.format == "PPM":
        values = values.astype(np.uint16)  # what Pillow makes of every PPM of more than 8 bits, dark ones too
    grey, flags = _eight_bit(values)
    if isinstance(key, int) and (hidden := values == key).any():
        grey[hidden] = 255
        flags.append(ON_WHITE)
    return Image.fromarray(grey), flags


def _check_array(array: Array) -> Array:
    """`array` as (H, W, C), its shape and size checked."""
    given = array.shape
    if array.ndim == 2:
        array = array[:, :, None]
    if array.ndim != 3 or array.shape[2] not in (1, 3, 4):
        raise _RefusedError(f"its shape {given} is not (H, W), (H, W, 1), (H, W, 3) or (H, W, 4)")
    if array.size == 0:
        raise _RefusedError(f"it is empty, of shape {given}")
    _check_size((array.shape[1], array.shape[0]))
    return array


def _from_array(array: Array) -> tuple[Image.Image, list[str]]:
    array = _check_array(array)
    if array.dtype.kind == "i":  # `_eight_bit` takes Pillow's, but for an array the range is anyone's guess
        raise _RefusedError(f"its type is {array.dtype}, not uint8, uint16, float or bool")
    colours, flags = _eight_bit(array[:, :, :3])
    if array.shape[2] == 4:
        opacity = array[:, :, 3:]
        if array.dtype.kind == "f":  # it has a range of its own, and must not share in that of the colours
            opacity = np.rint(np.nan_to_num(opacity).clip(0, 1) * 255).astype(np.uint8)
        else:
            opacity, _ = _eight_bit(opacity)
        page, on_white = _on_white(Image.fromarray(np.concatenate((colours, opacity), axis=2)))
        return page, flags + on_white
    if array.shape[2] == 1:
        colours = colours[:, :, 0]
    return Image.fromarray(np.ascontiguousarray(colours)), flags


def _eight_bit(values: Array) -> tuple[Array, list[str]]:
    """Values of any shape as a new uint8 array, and what was done to them.

    The types are those of Pillow's wide modes and of the arrays that are read: bool, uint8, uint16, int32
    (Pillow's I), and floats.
    """
    kind, size = values.dtype.kind, values.dtype.itemsize
    if kind == "b":
        return values * np.uint8(255), []
    if kind == "u" and size == 1:
        return values.copy(), []
    if kind == "u" and size == 2:
        return _SIXTEEN_TO_EIGHT[values], [SCALED_16_BIT]
    if kind == "i":
        low, high = int(values.min()), int(values.max())
        if low >= 0 and high <= 255:
            return values.astype(np.uint8), []
        if low >= 0 and high <= 65535:
            return _SIXTEEN_TO_EIGHT[values], [SCALED_16_BIT]
        return _stretch(values), [SCALED_OWN_RANGE]
    if kind == "f":
        return _stretch(values), [SCALED_OWN_RANGE]
    raise _RefusedError(f"its type is {values.dtype}, not uint8, uint16, float or bool")


def _stretch(values: Array) -> Array:
    """`values` from their own finite range onto 0..255, rounded."""
    with np.errstate(all="ignore"):
        values = values.astype(np.float32 if values.dtype == np.float32 else np.float64)
        finite = values[np.isfinite(values)]
        if finite.size == 0:
            raise _RefusedError("none of its values is finite")
        low, high = finite.min() / 2, finite.max() / 2  # halves: the difference of two floats may overflow
        stretched = (values / 2 - low) / (high - low) * 255
    stretched = np.nan_to_num(stretched, nan=0, posinf=255, neginf=0)  # 0 / 0 is the constant picture
    eight_bit: Array = np.rint(stretched).clip(0, 255).astype(np.uint8)
    return eight_bit
