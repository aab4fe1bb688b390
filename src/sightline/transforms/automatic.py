"""Policies that were searched for once and draw from a set of operations: torchvision's sets, tables and operations.

Only the drawing is ours: which operation, how strong and which way are functions of the uniform numbers, while
torchvision's classes ask PyTorch's global generator. Their operations and tables have no public name, so they are
taken from the classes that hold them. Geometry is bilinear, what enters is black.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from PIL import Image

from sightline.transforms.functional import generator
from sightline.transforms.preprocess import to_tensor
from sightline.transforms.step import Picture, Size, Step, check, sides, to_pil

# Strengths are steps 0 to 30 of an operation's range in RandAugment and TrivialAugment.
BINS = 31
AUGMIX_BINS, AUTO_BINS = 10, 10


@lru_cache
def torchvisions(name: str, policy: str | None = None) -> Any:
    """The class of that name in torchvision, ready to lend its operations."""
    from torchvision.transforms import AutoAugmentPolicy, v2

    settings: dict[str, Any] = {"interpolation": v2.InterpolationMode.BILINEAR}
    if policy:
        settings["policy"] = AutoAugmentPolicy[policy.upper()]
    return getattr(v2, name)(**settings)


def operate(source: Any, image: Any, operation: str, bins: int, step: int, reverse: bool) -> Any:
    """`image` under `operation` of the class `source`, at `step` of `bins`, turned the other way for `reverse`."""
    levels, signed = source._AUGMENTATION_SPACE[operation]
    strengths = levels(bins, *sides(image))
    strength = 0.0 if strengths is None else float(strengths[step])
    return source._apply_image_or_video_transform(
        image, operation, -strength if signed and reverse else strength, source.interpolation, source._fill
    )


def chosen(source: Any, draw: float) -> str:
    """The operation of `source` that `draw` in [0, 1) falls on."""
    operations = list(source._AUGMENTATION_SPACE)
    return str(operations[int(draw * len(operations))])


@dataclass(frozen=True)
class RandAugment(Step):
    """`ops` operations in a row, any of 14, all of strength `magnitude` (0 to 30; Cubuk et al. 2019)."""

    ops: int = 2
    magnitude: int = 9
    name: ClassVar[str] = "rand_augment"

    def __post_init__(self) -> None:
        check(1 <= self.ops <= 14, "ops is a number of operations, 1 to 14")
        check(0 <= self.magnitude < BINS, f"magnitude is a strength, 0 to {BINS - 1}")

    @property
    def draws(self) -> int:
        return 2 * self.ops

    def apply(self, image: Any, u: np.ndarray, size: Size | None) -> Any:  # noqa: ARG002
        source = torchvisions("RandAugment")
        for which, sign in u.reshape(-1, 2):
            image = operate(source, image, chosen(source, which), BINS, self.magnitude, sign < 0.5)
        return image


@dataclass(frozen=True)
class TrivialAugment(Step):
    """One operation, any of 14, at any strength; the wide ranges (Müller and Hutter 2021)."""

    name: ClassVar[str] = "trivial_augment"

    @property
    def draws(self) -> int:
        return 3

    def apply(self, image: Any, u: np.ndarray, size: Size | None) -> Any:  # noqa: ARG002
        source = torchvisions("TrivialAugmentWide")
        return operate(source, image, chosen(source, u[0]), BINS, int(u[1] * BINS), u[2] < 0.5)


@dataclass(frozen=True)
class AutoAugment(Step):
    """A pair of operations, any of 25 found best for `policy` (imagenet, cifar10 or svhn; Cubuk et al. 2018)."""

    policy: Literal["imagenet", "cifar10", "svhn"] = "imagenet"
    name: ClassVar[str] = "auto_augment"

    def __post_init__(self) -> None:
        check(self.policy in ("imagenet", "cifar10", "svhn"), "policy is 'imagenet', 'cifar10' or 'svhn'")

    @property
    def draws(self) -> int:
        return 5

    def apply(self, image: Any, u: np.ndarray, size: Size | None) -> Any:  # noqa: ARG002
        source = torchvisions("AutoAugment", self.policy)
        pair = source._policies[int(u[0] * len(source._policies))]
        for (operation, probability, step), (taken, sign) in zip(pair, u[1:].reshape(2, 2), strict=True):
            if taken < probability:
                image = operate(source, image, operation, AUTO_BINS, step or 0, sign < 0.5)
        return image


@dataclass(frozen=True)
class AugMix(Step):
    """The picture mixed with three chains of one to three operations (Hendrycks et al. 2019).

    `severity` (1 to 10) bounds the operations' strength; `alpha` is the parameter of the Dirichlet and Beta
    distributions of the shares.
    """

    severity: int = 3
    alpha: float = 1.0
    name: ClassVar[str] = "aug_mix"

    def __post_init__(self) -> None:
        check(1 <= self.severity <= AUGMIX_BINS, f"severity is a strength, 1 to {AUGMIX_BINS}")
        check(0.01 <= self.alpha <= 100, "alpha is a parameter of a Beta distribution, 0.01 to 100")

    @property
    def draws(self) -> int:
        return 31  # one for the shares, ten for each chain

    def shares(self, draw: float) -> np.ndarray:
        """Float32 (4,) of sum 1 with `draw` as their key: of the picture itself and of the three chains."""
        rng = generator(draw)
        own = rng.beta(self.alpha, self.alpha)
        return np.array([own, *(1 - own) * rng.dirichlet([self.alpha] * 3)], np.float32)

    def apply(self, image: Picture, u: np.ndarray, size: Size | None) -> Picture:  # noqa: ARG002
        source = torchvisions("AugMix")
        own = (to_tensor(image) if isinstance(image, Image.Image) else image)[None]
        weights = self.shares(float(u[0])).tolist()
        mix = weights[0] * own
        for weight, chain in zip(weights[1:], u[1:].reshape(3, 10), strict=True):
            version = own
            for which, strength, sign in chain[1:].reshape(3, 3)[: 1 + int(chain[0] * 3)]:
                step = int(strength * self.severity)
                version = operate(source, version, chosen(source, which), AUGMIX_BINS, step, sign < 0.5)
            mix += weight * version
        mixed: torch.Tensor = mix[0].to(torch.uint8)
        return to_pil(mixed) if isinstance(image, Image.Image) else mixed
