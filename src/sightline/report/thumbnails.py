"""Pictures small enough to live inside the page, within a budget of bytes and of patience."""

from __future__ import annotations

import base64
import io
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from PIL import Image, features

BUDGET = 3_000_000
"""Characters of the page that thumbnails may take. A person mails the file; a browser opens it at once."""

PATIENCE = 60.0
"""Seconds after which no further pictures are read: photographs straight from a camera take a while each."""

LOSSLESS = 900
"""Bytes up to which a thumbnail is kept exact, as small and plain pictures (digits) can be."""


def exact_uri(image: Image.Image) -> str:
    """A drawing as a data URI, pixel for pixel."""
    return _uri(*_exact(image))


def thumbnail_uri(image: Image.Image) -> str:
    """A picture as a data URI: exact where that takes few bytes, else lossy."""
    if image.width * image.height <= 48 * 48:  # a larger one never is that plain
        kind, content = _exact(image)
        if len(content) <= LOSSLESS:
            return _uri(kind, content)
    # WebP has a tenth of JPEG's overhead, which is most of a thumbnail.
    if features.check("webp"):
        return _uri("webp", _encoded(image, "WEBP", quality=80))
    return _uri("jpeg", _encoded(image, "JPEG", quality=80, optimize=True))


def _exact(image: Image.Image) -> tuple[str, bytes]:
    if features.check("webp"):
        return "webp", _encoded(image, "WEBP", lossless=True)
    return "png", _encoded(image, "PNG", optimize=True)


def _uri(kind: str, content: bytes) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(content).decode('ascii')}"


def _encoded(image: Image.Image, kind: str, **options: bool | int) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


@dataclass(slots=True)
class Thumbnails:
    """Thumbnails of the pictures that `read` gives by number. `spent` counts characters, `clock` seconds;
    `largest` is the longest side of a picture so far, in pixels."""

    read: Callable[[int], Image.Image]
    budget: int = BUDGET
    patience: float = PATIENCE
    clock: Callable[[], float] = time.monotonic
    spent: int = 0
    largest: int = 0
    _started: float = field(init=False)

    def __post_init__(self) -> None:
        self._started = self.clock()

    @property
    def exhausted(self) -> bool:
        """Whether the budget or the patience is used up; `uri` still works, for what must be there."""
        return self.spent >= self.budget or self.clock() - self._started > self.patience

    def uri(self, number: int, side: int) -> str | None:
        """Picture `number` with its longer side at most `side` pixels; None where it cannot be read."""
        try:
            image = self.read(number)
            # The readers give L or RGB; anything else would be somebody's own `picture`.
            image = image if image.mode in ("L", "RGB") else image.convert("RGB")
            small = image.copy() if max(image.size) <= side else _shrunk(image, side)
            uri = thumbnail_uri(small)
        except Exception:  # whatever is wrong with one picture, it must not cost the report
            return None
        self.spent += len(uri)
        self.largest = max(self.largest, *image.size)
        return uri


def _shrunk(image: Image.Image, side: int) -> Image.Image:
    scale = side / max(image.size)
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    return image.resize(size, Image.Resampling.LANCZOS, reducing_gap=2.0)
