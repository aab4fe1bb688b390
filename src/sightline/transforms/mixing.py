"""Maps over a whole batch that mix its pictures, and their labels with them: MixUp and CutMix.

The partner of a picture is the one a drawn number of places further on, as a batch comes shuffled. The numbers are
keyed by (seed, epoch, step), and the batch is the global one.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch

from sightline.transforms.functional import generator
from sightline.transforms.step import Spelled, check


@dataclass(frozen=True)
class Mixing(Spelled):
    """With probability `p`, mixes a batch; `alpha` shapes the Beta distribution of the share that a picture keeps."""

    alpha: float
    p: float = 1.0
    draws: ClassVar[int]

    def __post_init__(self) -> None:
        check(0.01 <= self.alpha <= 100, "alpha is a parameter of a Beta distribution, 0.01 to 100")
        check(0 <= self.p <= 1, "p is a probability, 0 to 1")

    def mix(
        self, images: torch.Tensor, targets: torch.Tensor, u: np.ndarray
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """`images` (N, C, H, W), uint8 or floating, and `targets` (N, classes), floating, mixed by `u` (draws,).

        The rows of the targets keep their sum. uint8 pictures are rounded to uint8.
        """
        raise NotImplementedError

    def share(self, draw: float) -> float:
        """What a picture keeps, 0 to 1, with `draw` as its key."""
        return float(generator(draw).beta(self.alpha, self.alpha))


def places(count: int, draw: float) -> int:
    """How many places on the partner is: 1 to count - 1, each as likely."""
    return 1 + int(draw * (count - 1))


def blend(own: torch.Tensor, others: torch.Tensor, share: float) -> torch.Tensor:
    """`share` of `own` and the rest of `others`, in `own`'s type."""
    if own.dtype == torch.uint8:
        return others.float().mul_(1.0 - share).add_(own.float().mul_(share)).round_().to(torch.uint8)
    return others.mul(1.0 - share).add_(own.mul(share))


@dataclass(frozen=True)
class MixUp(Mixing):
    """Lay each picture over another one, with its label (Zhang et al. 2017)."""

    alpha: float = 0.2
    name: ClassVar[str] = "mixup"
    draws: ClassVar[int] = 3

    def mix(
        self, images: torch.Tensor, targets: torch.Tensor, u: np.ndarray
    ) -> tuple[torch.Tensor, torch.Tensor]:
        if u[0] >= self.p:
            return images, targets
        share, shift = self.share(float(u[1])), places(len(images), float(u[2]))
        return blend(images, images.roll(shift, 0), share), blend(targets, targets.roll(shift, 0), share)


@dataclass(frozen=True)
class CutMix(Mixing):
    """Put a rectangle of another picture into each one; the labels count by area (Yun et al. 2019)."""

    alpha: float = 1.0
    name: ClassVar[str] = "cutmix"
    draws: ClassVar[int] = 5

    def box(self, height: int, width: int, u: np.ndarray) -> tuple[int, int, int, int]:
        """(top, bottom, left, right) of the rectangle, from `u` (3,): its share of the area and its centre."""
        half = 0.5 * math.sqrt(1.0 - self.share(float(u[0])))
        y, x = int(u[1] * height), int(u[2] * width)
        h, w = int(half * height), int(half * width)
        return max(0, y - h), min(height, y + h), max(0, x - w), min(width, x + w)

    def mix(
        self, images: torch.Tensor, targets: torch.Tensor, u: np.ndarray
    ) -> tuple[torch.Tensor, torch.Tensor]:
        if u[0] >= self.p:
            return images, targets
        height, width = images.shape[-2:]
        top, bottom, left, right = self.box(height, width, u[[1, 3, 4]])
        shift = places(len(images), float(u[2]))
        mixed = images.clone()
        mixed[..., top:bottom, left:right] = images.roll(shift, 0)[..., top:bottom, left:right]
        share = 1.0 - (bottom - top) * (right - left) / (height * width)
        return mixed, blend(targets, targets.roll(shift, 0), share)
