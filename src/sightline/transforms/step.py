"""What a random map is: a few numbers that a person writes, and a few uniform ones that decide what it does."""

from __future__ import annotations

from dataclasses import MISSING, fields
from typing import Any, ClassVar, TypeVar

import numpy as np
import torch
from PIL import Image

Picture = TypeVar("Picture", Image.Image, torch.Tensor)
Size = tuple[int, int]


class Spelled:
    """A frozen dataclass that prints as it is written: `rotate(degrees=30)`; what is left at its default is not."""

    name: ClassVar[str]

    def __str__(self) -> str:
        given = [f for f in fields(self) if f.default is MISSING or getattr(self, f.name) != f.default]  # type: ignore[arg-type]
        return f"{self.name}({', '.join(f'{f.name}={getattr(self, f.name)!r}' for f in given)})"


class Step(Spelled):
    """One random map over pictures. `batchable` ones are quicker for a batch of one size at once."""

    batchable: ClassVar[bool] = False

    @property
    def draws(self) -> int:
        """How many uniform numbers in [0, 1) decide one picture."""
        return 1

    def apply(self, image: Any, u: np.ndarray, size: Size | None) -> Any:
        """`image` (8-bit Pillow, L or RGB, or uint8 tensor (C, H, W)) mapped by `u` of shape (draws,).

        `size` is the (height, width) that the network wants; None leaves the picture's own.
        """
        raise NotImplementedError

    def apply_batch(self, images: torch.Tensor, u: np.ndarray, size: Size | None) -> torch.Tensor:
        """`images` (N, C, H, W) mapped by `u` (N, draws): the same pixels as `apply` to each tensor."""
        return torch.stack([self.apply(image, row, size) for image, row in zip(images, u, strict=True)])


def check(ok: bool, message: str) -> None:
    """Raises ValueError, which `Augment.parse` shows at its place in the text."""
    if not ok:
        raise ValueError(message)


def between(low: float, high: float, draw: float) -> float:
    """The number that lies at `draw` (0 to 1) of the way from `low` to `high`."""
    return low + float(draw) * (high - low)


def sides(image: Image.Image | torch.Tensor) -> Size:
    """(height, width) of a picture."""
    if isinstance(image, Image.Image):
        return image.height, image.width
    return int(image.shape[-2]), int(image.shape[-1])


def to_pil(tensor: torch.Tensor) -> Image.Image:
    """A uint8 tensor (C, H, W) as a Pillow image, grey for one channel."""
    return Image.fromarray(pixels_last(tensor))


def pixels_last(tensor: torch.Tensor) -> np.ndarray:
    """A tensor (C, H, W) as an array (H, W, C), or (H, W) for one channel."""
    array = tensor.cpu().numpy()
    return array[0] if array.shape[0] == 1 else np.ascontiguousarray(array.transpose(1, 2, 0))


def pixels_first(array: np.ndarray) -> torch.Tensor:
    """The inverse of `pixels_last`."""
    return torch.from_numpy(
        array[None] if array.ndim == 2 else np.ascontiguousarray(array.transpose(2, 0, 1))
    )
