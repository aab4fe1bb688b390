"""Pictures small enough to live inside the page, within a budget of bytes and of patience."""

from __future__ import annotations

import base64
import io
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from PIL import Image, features

from sightline.errors import SightlineError

BUDGET = 3_000_000
"""Characters of the page that thumbnails may take. A person mails the file; a browser opens it at once."""

PATIENCE = 60.0
"""Seconds after which no further pictures are read: photographs straight from a camera take a while each."""

LOSSLESS = 900
"""Bytes up to which a thumbnail is kept exact, as small and plain pictures (digits) can be."""


def data_uri(image: Image.Image) -> str:
    """`image` as a data URI: exact where that takes few bytes or has transparency, else lossy.

    WebP has a tenth of JPEG's overhead, which is most of a thumbnail; without it, PNG and JPEG.
    """
    webp = features.check("webp")
    exact = _encoded(image, "WEBP", lossless=True) if webp else _encoded(image, "PNG", optimize=True)
    if len(exact) <= LOSSLESS or image.mode in ("LA", "RGBA"):
        kind, content = ("webp" if webp else "png"), exact
    elif webp:
        kind, content = "webp", _encoded(image, "WEBP", quality=80)
    else:
        kind, content = "jpeg", _encoded(image, "JPEG", quality=80, optimize=True)
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
            uri = data_uri(small)
        except (SightlineError, OSError, ValueError):
            return None
        self.spent += len(uri)
        self.largest = max(self.largest, *image.size)
        return uri


def _shrunk(image: Image.Image, side: int) -> Image.Image:
    scale = side / max(image.size)
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    return image.resize(size, Image.Resampling.LANCZOS, reducing_gap=2.0)
