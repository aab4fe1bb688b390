"""What the tests of data sets share: made-up pictures, and what a data set or an error says."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sightline.data import ImageDataset, open_dataset, read_image
from sightline.data.dataset import SPLITS
from sightline.errors import SightlineError, UnreadableImage


def colours(height: int = 12, width: int = 20) -> Image.Image:
    rng = np.random.default_rng(5)
    return Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8))


def encoded(image: Image.Image, format: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def reason(source: object) -> str:
    """Why `read_image` refuses `source`."""
    with pytest.raises(UnreadableImage) as caught:
        read_image(source)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)
    return caught.value.reason


def png(grey: int = 0) -> bytes:
    """A picture 3 wide and 2 high."""
    return encoded(Image.new("L", (3, 2), grey), "PNG")


def tree(root: Path, *paths: str) -> Path:
    """Files at `paths` below `root`: pictures where the name says so, and folders where it ends with a slash."""
    for path in paths:
        file = root / path
        if path.endswith("/"):
            file.mkdir(parents=True, exist_ok=True)
            continue
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(png() if file.suffix.lower() in (".png", ".jpg", ".jpeg", ".ppm") else b"text")
    return root


def contents(data: ImageDataset) -> list[tuple[str, str, str]]:
    """(reference, class, split or '') of each picture."""
    names = dict(enumerate(SPLITS))
    rows = zip(data.refs(), data.targets, data.splits, strict=True)
    return [(ref, data.classes[target], names.get(int(code), "")) for ref, target, code in rows]


def error(source: str | Path) -> str:
    """The one sentence that `open_dataset` refuses `source` with."""
    with pytest.raises(SightlineError) as caught:
        open_dataset(source)
    message = str(caught.value)
    assert "\n" not in message
    assert message[-1] in ".?"
    return message
