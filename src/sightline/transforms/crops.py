"""Steps that choose a part of the picture, and so bring it to the network's size; and whole-pixel shifts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from PIL import Image

from sightline.errors import SightlineError
from sightline.transforms.functional import Fill, crop_batch, crop_picture, resized
from sightline.transforms.step import Picture, Size, Step, between, check, sides


@dataclass(frozen=True)
class Crop(Step):
    """Cut the network's size (or the picture's own) at a random place, after padding every side.

    `padding` below 1 is a share of the cut's longer side, from 1 on a number of pixels; `fill` is what it is
    filled with, 'zero' (black) or 'reflect' (the picture's mirror).
    """

    padding: float = 0.0
    fill: Fill = "zero"
    name: ClassVar[str] = "crop"
    batchable: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check(self.padding >= 0, "padding is a share below 1 or a number of pixels, not negative")
        check(self.fill in ("zero", "reflect"), "fill is 'zero' or 'reflect'")

    @property
    def draws(self) -> int:
        return 2

    def corner(self, height: int, width: int, u: np.ndarray, size: Size) -> np.ndarray:
        """(top, left), in int64 (..., 2), of the cuts that `u` (..., 2) draws; negative in the padding."""
        pad = round(self.padding * max(size)) if self.padding < 1 else round(self.padding)
        room = np.array([height - size[0], width - size[1]]) + 2 * pad
        if room.min() < 0:
            raise SightlineError(
                f"crop cannot cut {size[0]}x{size[1]} out of pictures of {height}x{width}; "
                "make input.store_size at least the network's size."
            )
        # Whole corners from -pad to (side - size + pad), each as likely.
        return np.asarray(np.floor(u * (room + 1)), np.int64) - pad

    def apply(self, image: Picture, u: np.ndarray, size: Size | None) -> Picture:
        if isinstance(image, torch.Tensor):
            return self.apply_batch(image[None], u[None], size)[0]
        size = size or sides(image)
        top, left = self.corner(*sides(image), u, size).tolist()
        return crop_picture(image, top, left, size, self.fill)

    def apply_batch(self, images: torch.Tensor, u: np.ndarray, size: Size | None) -> torch.Tensor:
        size = size or sides(images)
        corners = self.corner(*sides(images), u, size)
        return crop_batch(images, corners[:, 0], corners[:, 1], size, self.fill)


@dataclass(frozen=True)
class Translate(Step):
    """Shift by up to `fraction` of each side, a whole number of pixels; what enters is black."""

    fraction: float = 0.1
    name: ClassVar[str] = "translate"
    batchable: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check(0 <= self.fraction <= 1, "fraction is a share of the side, 0 to 1")

    @property
    def draws(self) -> int:
        return 2

    def corner(self, height: int, width: int, u: np.ndarray) -> np.ndarray:
        """(top, left), in int64 (..., 2), of what is seen after the shifts that `u` (..., 2) draws."""
        return np.asarray(np.rint((2 * u - 1) * self.fraction * np.array([height, width])), np.int64)

    def apply(self, image: Picture, u: np.ndarray, size: Size | None) -> Picture:
        if isinstance(image, torch.Tensor):
            return self.apply_batch(image[None], u[None], size)[0]
        top, left = self.corner(*sides(image), u).tolist()
        return crop_picture(image, top, left, sides(image), "zero")

    def apply_batch(self, images: torch.Tensor, u: np.ndarray, size: Size | None) -> torch.Tensor:  # noqa: ARG002
        corners = self.corner(*sides(images), u)
        return crop_batch(images, corners[:, 0], corners[:, 1], sides(images), "zero")


@dataclass(frozen=True)
class RandomResizedCrop(Step):
    """Cut a random part and resize it to the network's size.

    It has `scale_min` to `scale_max` of the area and an aspect ratio between 1/`ratio` and `ratio`. Szegedy et
    al. 2014, section 6; the drawing is torchvision's: ten tries, then the largest centre part.
    """

    scale_min: float = 0.08
    scale_max: float = 1.0
    ratio: float = 4 / 3
    name: ClassVar[str] = "random_resized_crop"

    def __post_init__(self) -> None:
        check(
            0 < self.scale_min <= self.scale_max <= 1, "0 < scale_min <= scale_max <= 1, shares of the area"
        )
        check(1 <= self.ratio <= 100, "ratio is the widest aspect, 1 to 100")

    @property
    def draws(self) -> int:
        return 40

    def box(self, height: int, width: int, u: np.ndarray) -> tuple[int, int, int, int]:
        """(top, left, height, width) of the part, drawn by `u` (40,)."""
        log_ratio = np.log(self.ratio)
        for area, aspect, y, x in u.reshape(10, 4):
            target = height * width * (self.scale_min + area * (self.scale_max - self.scale_min))
            ratio = np.exp((2 * aspect - 1) * log_ratio)
            w, h = round(float(np.sqrt(target * ratio))), round(float(np.sqrt(target / ratio)))
            if 0 < w <= width and 0 < h <= height:
                return int(y * (height - h + 1)), int(x * (width - w + 1)), h, w
        w = min(width, round(height * self.ratio))
        h = min(height, round(width * self.ratio))
        return (height - h) // 2, (width - w) // 2, h, w

    def cut(self, pixels: np.ndarray, u: np.ndarray, size: Size | None) -> np.ndarray:
        """`apply` to uint8 (H, W) or (H, W, 3), within 1 of 255, as training uses it; only the part is touched."""
        top, left, h, w = self.box(pixels.shape[0], pixels.shape[1], u)
        return resized(pixels[top : top + h, left : left + w], size or (pixels.shape[0], pixels.shape[1]))

    def apply(self, image: Picture, u: np.ndarray, size: Size | None) -> Picture:
        top, left, h, w = self.box(*sides(image), u)
        out = size or sides(image)
        if isinstance(image, Image.Image):
            part = image.crop((left, top, left + w, top + h))
            return part.resize(out[::-1], Image.Resampling.BILINEAR)
        from torchvision.transforms.v2 import functional as F

        cut: torch.Tensor = F.resized_crop(image, top, left, h, w, list(out), antialias=True)
        return cut


@dataclass(frozen=True)
class ScaleJitter(Step):
    """Resize so that the short side is `minimum` to `maximum` times the network's size, and cut that size anywhere.

    Simonyan and Zisserman 2014, section 3.1: 256 to 512 pixels for a network of 224. Full detail needs an
    `input.store_size` of `maximum` times the size; smaller pictures are enlarged.
    """

    minimum: float = 256 / 224
    maximum: float = 512 / 224
    name: ClassVar[str] = "scale_jitter"

    def __post_init__(self) -> None:
        check(1 <= self.minimum <= self.maximum <= 10, "1 <= minimum <= maximum <= 10, factors of the size")

    @property
    def draws(self) -> int:
        return 3

    def apply(self, image: Any, u: np.ndarray, size: Size | None) -> Any:
        height, width = sides(image)
        size = size or (height, width)
        short = round(max(size) * between(self.minimum, self.maximum, u[0]))
        # torchvision's rounding of the long side.
        scaled = [
            short if s <= min(height, width) else int(short * s / min(height, width)) for s in (height, width)
        ]
        if isinstance(image, Image.Image):
            image = image.resize((scaled[1], scaled[0]), Image.Resampling.BILINEAR)
        else:
            from torchvision.transforms.v2 import functional as F

            image = F.resize(image, scaled, antialias=True)
        return Crop().apply(image, u[1:], size)
