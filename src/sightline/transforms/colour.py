"""Steps that change colours and leave every pixel where it is. Grey pictures have no saturation, hue or colour."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import permutations
from statistics import NormalDist
from typing import Any, ClassVar

import numpy as np
import torch
from PIL import Image

from sightline.transforms.step import Picture, Size, Step, between, check

# Of ImageNet's colours on the scale 0..1: the eigenvalues of their covariance, and its eigenvectors as columns
# (rows R, G, B). The figures of fb.resnet.torch, which everybody takes.
EIGENVALUES = np.array([0.2175, 0.0188, 0.0045])
EIGENVECTORS = np.array([[-0.5675, 0.7192, 0.4009], [-0.5808, -0.0045, -0.8140], [-0.5836, -0.6948, 0.4203]])

ORDERS = tuple(permutations(range(4)))


@dataclass(frozen=True)
class ColorJitter(Step):
    """Change brightness, contrast, saturation and hue, in a random order, as torchvision's ColorJitter does.

    The first three are factors up to 1 - x and 1 + x, `hue` a turn of up to that share of the colour circle.
    """

    brightness: float = 0.4
    contrast: float = 0.4
    saturation: float = 0.4
    hue: float = 0.0
    name: ClassVar[str] = "color_jitter"

    def __post_init__(self) -> None:
        for key in ("brightness", "contrast", "saturation"):
            check(0 <= getattr(self, key) <= 10, f"{key} is the largest change of a factor, 0 to 10")
        check(0 <= self.hue <= 0.5, "hue is a share of the colour circle, 0 to 0.5")

    @property
    def draws(self) -> int:
        return 5

    def apply(self, image: Any, u: np.ndarray, size: Size | None) -> Any:  # noqa: ARG002
        from torchvision.transforms.v2 import functional as F

        changes = (F.adjust_brightness, F.adjust_contrast, F.adjust_saturation, F.adjust_hue)
        spans = [(max(0.0, 1 - x), 1 + x) for x in (self.brightness, self.contrast, self.saturation)]
        spans.append((-self.hue, self.hue))
        for which in ORDERS[int(u[0] * len(ORDERS))]:
            low, high = spans[which]
            if low < high:
                image = changes[which](image, between(low, high, u[1 + which]))
        return image


@dataclass(frozen=True)
class Grey(Step):
    """Take the colours away with probability `p`; the picture keeps its channels."""

    p: float = 0.1
    name: ClassVar[str] = "grey"

    def __post_init__(self) -> None:
        check(0 <= self.p <= 1, "p is a probability, 0 to 1")

    def apply(self, image: Picture, u: np.ndarray, size: Size | None) -> Picture:  # noqa: ARG002
        grey = image.mode == "L" if isinstance(image, Image.Image) else image.shape[0] == 1
        if u[0] >= self.p or grey:
            return image
        from torchvision.transforms.v2 import functional as F

        out: Picture = F.rgb_to_grayscale(image, num_output_channels=3)
        return out


@dataclass(frozen=True)
class PcaColor(Step):
    """Shift all colours along the principal components of ImageNet's colours (Krizhevsky et al. 2012, section 4.1).

    Component i is added a_i times its eigenvalue, with a_i normal of standard deviation `std`, drawn once a picture.
    """

    std: float = 0.1
    name: ClassVar[str] = "pca_color"
    batchable: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check(0 <= self.std <= 10, "std is a factor of the eigenvalues, 0 to 10")

    @property
    def draws(self) -> int:
        return 3

    def table(self, u: np.ndarray) -> np.ndarray:
        """What the values 0 to 255 of each channel become: uint8 (3, 256)."""
        factors = [self.std * NormalDist().inv_cdf(max(float(v), 2.0**-33)) for v in u]
        shift = 255 * EIGENVECTORS @ (factors * EIGENVALUES)
        return np.asarray(np.rint(np.arange(256) + shift[:, None]).clip(0, 255), np.uint8)

    def apply(self, image: Picture, u: np.ndarray, size: Size | None) -> Picture:
        if isinstance(image, torch.Tensor):
            return self.apply_batch(image[None], u[None], size)[0]
        return image.point(self.table(u).ravel().tolist()) if image.mode == "RGB" else image

    def apply_batch(self, images: torch.Tensor, u: np.ndarray, size: Size | None) -> torch.Tensor:  # noqa: ARG002
        if images.shape[1] != 3:
            return images
        tables = torch.from_numpy(np.concatenate([self.table(row) for row in u])).to(
            images.device
        )  # N * 3, 256
        return tables.gather(1, images.reshape(len(tables), -1).long()).reshape(images.shape)
