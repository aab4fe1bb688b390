"""What is known about a network without building it, as plain data. Imports nothing heavy."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass, field
from typing import Any

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
TORCHVISION_LICENCE = (
    "BSD-3-Clause (torchvision); trained on ImageNet-1k, whose pictures are for research only"
)


@dataclass(frozen=True, slots=True)
class ErrorRate:
    """Published errors in percent on ImageNet-1k's validation pictures, and how they were measured."""

    top1: float
    top5: float | None
    protocol: str
    source: str


@dataclass(frozen=True, slots=True)
class PublishedWeights:
    """One published set of weights, bound to the preprocessing it was measured with.

    size: side of the square that the network sees; resize: the short side before the centre crop, in pixels.
    mean, std: per channel on the scale 0..1. top1_error, top5_error: percent on ImageNet-1k's validation
    pictures, one crop, as its publishers measured them. arguments: of `create_model`, which these weights need where
    the tensors alone do not tell.
    """

    name: str
    url: str
    size: int = 224
    resize: int = 256
    interpolation: str = "bilinear"
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD
    top1_error: float | None = None
    top5_error: float | None = None
    licence: str = TORCHVISION_LICENCE
    arguments: dict[str, Any] = field(default_factory=dict, hash=False)

    @property
    def file(self) -> str:
        """The file's name, under which it is kept."""
        return self.url.rsplit("/", 1)[-1]

    @property
    def sha256(self) -> str | None:
        """The first digits of the file's SHA-256, which PyTorch writes into its name and OpenAI into its folder's."""
        found = re.search(r"-([0-9a-f]{8,64})\.", self.file) or re.search(r"/([0-9a-f]{64})/", self.url)
        return found[1] if found else None


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """One network in its default configuration.

    family: the file that holds it. title, reference: its paper. input: (channels, height, width).
    params: trainable parameters; None where only building it would tell.
    mult_adds: multiply-accumulates of convolutions, linear layers and attention for one picture of size `input`
    (what papers call FLOPs); None where not counted.
    mean, std: the normalisation it was made for, per channel on the scale 0..1.
    errors: as published, the paper's first. weights: the published sets, the recommended one first.
    """

    name: str
    family: str
    title: str
    reference: str
    year: int | None
    input: tuple[int, int, int]
    num_classes: int
    params: int | None
    mult_adds: int | None
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD
    errors: tuple[ErrorRate, ...] = ()
    weights: tuple[PublishedWeights, ...] = ()
    note: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return asdict(self)
