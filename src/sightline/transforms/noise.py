"""Steps that a camera or a scanner may add: noise, dead pixels, blur, something in front of the lens."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
import torch
from PIL import Image

from sightline.transforms.functional import gaussian_noise, kernel_size, salt_and_pepper, smooth
from sightline.transforms.step import Picture, Size, Step, between, check, pixels_first, pixels_last, sides


@dataclass(frozen=True)
class Noise(Step):
    """Add Gaussian noise of standard deviation `std`, as a share of the whole range, to every channel by itself."""

    std: float = 0.05
    name: ClassVar[str] = "noise"
    batchable: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check(0 <= self.std <= 1, "std is a share of the range, 0 to 1")

    def apply(self, image: Picture, u: np.ndarray, size: Size | None) -> Picture:  # noqa: ARG002
        if isinstance(image, Image.Image):
            return Image.fromarray(gaussian_noise(np.asarray(image), self.std, float(u[0])))
        return pixels_first(gaussian_noise(pixels_last(image), self.std, float(u[0]))).to(image.device)


@dataclass(frozen=True)
class SaltPepper(Step):
    """Turn a share `amount` of the pixels white or black, each as likely."""

    amount: float = 0.05
    name: ClassVar[str] = "salt_pepper"
    batchable: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check(0 <= self.amount <= 1, "amount is a share of the pixels, 0 to 1")

    def apply(self, image: Picture, u: np.ndarray, size: Size | None) -> Picture:  # noqa: ARG002
        if isinstance(image, Image.Image):
            return Image.fromarray(salt_and_pepper(np.asarray(image), self.amount, float(u[0])))
        return pixels_first(salt_and_pepper(pixels_last(image), self.amount, float(u[0]))).to(image.device)


@dataclass(frozen=True)
class Blur(Step):
    """Smooth with a Gaussian whose standard deviation lies between `sigma_min` and `sigma_max` pixels."""

    sigma_min: float = 0.1
    sigma_max: float = 2.0
    name: ClassVar[str] = "blur"

    def __post_init__(self) -> None:
        check(
            0 < self.sigma_min <= self.sigma_max <= 100,
            "0 < sigma_min <= sigma_max <= 100, numbers of pixels",
        )

    def apply(self, image: Picture, u: np.ndarray, size: Size | None) -> Picture:  # noqa: ARG002
        sigma = between(self.sigma_min, self.sigma_max, u[0])
        kernel = kernel_size(sigma, *sides(image))
        if isinstance(image, Image.Image):
            blurred = np.rint(smooth(np.asarray(image), sigma, kernel))
            return Image.fromarray(blurred.clip(0, 255).astype(np.uint8))
        from torchvision.transforms.v2 import functional as F

        out: torch.Tensor = F.gaussian_blur(image, [kernel, kernel], [sigma, sigma])
        return out


@dataclass(frozen=True)
class Erase(Step):
    """With probability `p`, cover a random rectangle (Zhong et al. 2017; torchvision's drawing: ten tries, or none).

    It has `scale_min` to `scale_max` of the area, and a height of `ratio_min` to `ratio_max` times its width.
    `value` is what covers it: a number from 0 to 255, or 'mean', the mean colour of the picture.
    """

    p: float = 0.5
    scale_min: float = 0.02
    scale_max: float = 0.33
    ratio_min: float = 0.3
    ratio_max: float = 3.3
    value: float | Literal["mean"] = "mean"
    name: ClassVar[str] = "erase"
    batchable: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check(0 <= self.p <= 1, "p is a probability, 0 to 1")
        check(
            0 <= self.scale_min <= self.scale_max <= 1, "0 <= scale_min <= scale_max <= 1, shares of the area"
        )
        check(0.01 <= self.ratio_min <= self.ratio_max <= 100, "0.01 <= ratio_min <= ratio_max <= 100")
        number = not isinstance(self.value, str) and 0 <= self.value <= 255
        check(self.value == "mean" or number, "value is a number from 0 to 255, or 'mean'")

    @property
    def draws(self) -> int:
        return 23

    def box(self, height: int, width: int, u: np.ndarray) -> tuple[int, int, int, int] | None:
        """(top, left, height, width) of the rectangle that `u` (23,) draws; None for none."""
        if u[0] >= self.p:
            return None
        low, high = math.log(self.ratio_min), math.log(self.ratio_max)
        for share, aspect in u[1:21].reshape(10, 2):
            area = height * width * between(self.scale_min, self.scale_max, share)
            ratio = math.exp(between(low, high, aspect))
            h, w = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
            if h < height and w < width:
                return int(u[21] * (height - h + 1)), int(u[22] * (width - w + 1)), h, w
        return None

    def apply(self, image: Picture, u: np.ndarray, size: Size | None) -> Picture:
        if isinstance(image, torch.Tensor):
            return self.apply_batch(image[None], u[None], size)[0]
        box = self.box(*sides(image), u)
        if box is None:
            return image
        top, left, height, width = box
        bands = len(image.getbands())
        if self.value == "mean":
            import cv2

            total = np.array(cv2.sumElems(np.asarray(image))[:bands])  # whole numbers, exact
            colour = np.rint(total / (image.height * image.width)).astype(int).tolist()
        else:
            colour = [int(self.value)] * bands
        out = image.copy()
        out.paste(tuple(colour) if bands > 1 else colour[0], (left, top, left + width, top + height))
        return out

    def apply_batch(self, images: torch.Tensor, u: np.ndarray, size: Size | None) -> torch.Tensor:  # noqa: ARG002
        out = images.clone()
        for image, row in zip(out, u, strict=True):
            box = self.box(*sides(images), row)
            if box is not None:
                top, left, height, width = box
                part = image[:, top : top + height, left : left + width]
                if self.value == "mean":
                    part[:] = (image.sum((1, 2)).double() / image[0].numel()).round()[:, None, None]
                else:
                    part[:] = int(self.value)
        return out
