"""Steps that move pixels about and keep the picture's size: mirrors, turns, scale, shear, perspective, waves."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from PIL import Image

from sightline.transforms.functional import generator, map_batch, smooth
from sightline.transforms.step import Picture, Size, Step, check, sides


@dataclass(frozen=True)
class HFlip(Step):
    """Mirror left and right with probability `p`."""

    p: float = 0.5
    name: ClassVar[str] = "hflip"
    batchable: ClassVar[bool] = True
    axis: ClassVar[int] = -1
    transpose: ClassVar[Image.Transpose] = Image.Transpose.FLIP_LEFT_RIGHT

    def __post_init__(self) -> None:
        check(0 <= self.p <= 1, "p is a probability, 0 to 1")

    def apply(self, image: Picture, u: np.ndarray, size: Size | None) -> Picture:  # noqa: ARG002
        if u[0] >= self.p:
            return image
        return image.transpose(self.transpose) if isinstance(image, Image.Image) else image.flip(self.axis)

    def apply_batch(self, images: torch.Tensor, u: np.ndarray, size: Size | None) -> torch.Tensor:  # noqa: ARG002
        flip = u[:, 0] < self.p
        if images.device.type == "cpu" and images.dtype == torch.uint8 and len(images):
            import cv2

            done = images.contiguous(memory_format=torch.channels_last).clone()
            pixels = done.permute(0, 2, 3, 1).numpy()
            for k in np.flatnonzero(flip).tolist():  # thirty times as fast as torch.where over both versions
                pixels[k] = cv2.flip(pixels[k], self.axis + 2).reshape(pixels[k].shape)
            return done
        chosen = torch.from_numpy(flip).to(images.device)
        return torch.where(chosen[:, None, None, None], images.flip(self.axis), images)


@dataclass(frozen=True)
class VFlip(HFlip):
    """Mirror top and bottom with probability `p`."""

    name: ClassVar[str] = "vflip"
    axis: ClassVar[int] = -2
    transpose: ClassVar[Image.Transpose] = Image.Transpose.FLIP_TOP_BOTTOM


class Linear(Step):
    """A linear map about the centre, bilinear; what enters is black.

    As torchvision has it, Pillow images and tensors differ a little: at the border the former repeat their last pixel
    for half a pixel, the latter fade to black. In training pictures are mapped as tensors.
    """

    batchable: ClassVar[bool] = True

    def maps(self, u: np.ndarray) -> np.ndarray:
        """(N, 2, 2): from where (x, y) a pixel comes, as `u` (N, draws) decides."""
        raise NotImplementedError

    def apply(self, image: Any, u: np.ndarray, size: Size | None) -> Any:
        if isinstance(image, torch.Tensor):
            return self.apply_batch(image[None], u[None], size)[0]
        (a, b), (c, d) = self.maps(u[None])[0].tolist()
        x, y = image.width / 2, image.height / 2
        matrix = (a, b, x - a * x - b * y, c, d, y - c * x - d * y)
        return image.transform(image.size, Image.Transform.AFFINE, matrix, Image.Resampling.BILINEAR)

    def apply_batch(self, images: torch.Tensor, u: np.ndarray, size: Size | None) -> torch.Tensor:  # noqa: ARG002
        return map_batch(images, self.maps(u)) if images.numel() else images


@dataclass(frozen=True)
class Rotate(Linear):
    """Turn by up to `degrees` either way about the centre; the corners are black."""

    degrees: float = 15.0
    name: ClassVar[str] = "rotate"

    def __post_init__(self) -> None:
        check(0 <= self.degrees <= 180, "degrees lies between 0 and 180")

    def angles(self, u: np.ndarray) -> np.ndarray:
        """In degrees, to the left, of `u` (N, 1)."""
        return np.asarray((2 * u[:, 0] - 1) * self.degrees)

    def maps(self, u: np.ndarray) -> np.ndarray:
        turn = np.radians(-(self.angles(u) % 360))
        cos, sin = np.cos(turn), np.sin(turn)
        return np.stack([cos, sin, -sin, cos], 1).reshape(-1, 2, 2)

    def apply(self, image: Any, u: np.ndarray, size: Size | None) -> Any:
        if isinstance(image, Image.Image):
            return image.rotate(float(self.angles(u[None])[0]), Image.Resampling.BILINEAR)
        return super().apply(image, u, size)


@dataclass(frozen=True)
class Scale(Linear):
    """Enlarge or reduce about the centre by a factor from `minimum` to `maximum`; the picture's size stays."""

    minimum: float = 0.8
    maximum: float = 1.2
    name: ClassVar[str] = "scale"

    def __post_init__(self) -> None:
        check(
            0.01 <= self.minimum <= self.maximum <= 100,
            "0.01 <= minimum <= maximum <= 100, factors of the size",
        )

    def maps(self, u: np.ndarray) -> np.ndarray:
        factors = self.minimum + u[:, 0] * (self.maximum - self.minimum)
        return np.eye(2) / factors[:, None, None]


@dataclass(frozen=True)
class Shear(Linear):
    """Slant by up to `degrees` either way, along x and along y; what enters is black."""

    degrees: float = 10.0
    name: ClassVar[str] = "shear"

    def __post_init__(self) -> None:
        check(0 <= self.degrees < 90, "degrees lies between 0 and 90")

    @property
    def draws(self) -> int:
        return 2

    def maps(self, u: np.ndarray) -> np.ndarray:
        return np.array([shear_map(*angles) for angles in ((2 * u - 1) * self.degrees).tolist()])


def shear_map(along_x: float, along_y: float) -> list[list[float]]:
    """From where a pixel comes; angles in degrees. To the last bit torchvision's, which Pillow's pixels depend on."""
    x, y = math.radians(along_x), math.radians(along_y)
    cos, sin = math.cos(-y) / math.cos(y), math.sin(-y) / math.cos(y)
    return [[1.0 - sin * math.tan(x), cos * math.tan(x)], [-sin, cos]]


@dataclass(frozen=True)
class Perspective(Step):
    """With probability `p`, look from the side: each corner moves inwards by up to `distortion` of half a side."""

    distortion: float = 0.5
    p: float = 0.5
    name: ClassVar[str] = "perspective"

    def __post_init__(self) -> None:
        check(0 <= self.distortion <= 1, "distortion is a share of half a side, 0 to 1")
        check(0 <= self.p <= 1, "p is a probability, 0 to 1")

    @property
    def draws(self) -> int:
        return 9

    def corners(self, height: int, width: int, u: np.ndarray) -> list[list[int]]:
        """Where `u` (8,) takes the corners, [x, y] each, clockwise from the top left; drawn as torchvision does."""
        deepest = [int(self.distortion * (width // 2)), int(self.distortion * (height // 2))]
        x, y = (np.floor(u.reshape(4, 2) * (np.array(deepest) + 1)).astype(int)).T.tolist()
        right, bottom = width - 1, height - 1
        return [[x[0], y[0]], [right - x[1], y[1]], [right - x[2], bottom - y[2]], [x[3], bottom - y[3]]]

    def apply(self, image: Picture, u: np.ndarray, size: Size | None) -> Picture:  # noqa: ARG002
        height, width = sides(image)
        if u[0] >= self.p or min(height, width) < 2:  # a line of pixels has no corners to move
            return image
        from torchvision.transforms.v2 import InterpolationMode
        from torchvision.transforms.v2 import functional as F

        right, bottom = width - 1, height - 1
        start = [[0, 0], [right, 0], [right, bottom], [0, bottom]]
        seen: Picture = F.perspective(
            image, start, self.corners(height, width, u[1:]), interpolation=InterpolationMode.BILINEAR
        )
        return seen


@dataclass(frozen=True)
class Elastic(Step):
    """Let the pixels swim (Simard et al. 2003): `sigma` is the length of the waves, `alpha` their strength.

    Every pixel moves by noise between -alpha/2 and alpha/2 pixels, smoothed by a Gaussian of `sigma` pixels.
    """

    alpha: float = 50.0
    sigma: float = 5.0
    name: ClassVar[str] = "elastic"

    def __post_init__(self) -> None:
        check(self.alpha >= 0, "alpha is a strength in half pixels, not negative")
        check(0 < self.sigma <= 100, "sigma is a number of pixels, above 0 and at most 100")

    def displacement(self, height: int, width: int, draw: float) -> torch.Tensor:
        """(1, height, width, 2): how far the source of each pixel lies, x and y, in half widths and half heights."""
        noise = generator(draw).random((height, width, 2), dtype=np.float32) * 2 - 1
        # torchvision's width of the kernel.
        waves = smooth(noise, self.sigma, int(8 * self.sigma + 1) | 1)
        return torch.from_numpy(waves * np.float32(self.alpha) / np.array([width, height], np.float32))[None]

    def apply(self, image: Picture, u: np.ndarray, size: Size | None) -> Picture:  # noqa: ARG002
        from torchvision.transforms.v2 import InterpolationMode
        from torchvision.transforms.v2 import functional as F

        field = self.displacement(*sides(image), float(u[0]))
        if isinstance(image, torch.Tensor):
            field = field.to(image.device)
        swum: Picture = F.elastic(image, field, interpolation=InterpolationMode.BILINEAR)
        return swum
