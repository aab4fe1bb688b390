"""The filters of a convolution: the small pictures that a network has learned to look for."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import nn

from sightline.errors import SightlineError, UnknownName


# Compared by identity: an array has no single truth value for ==.
@dataclass(frozen=True, slots=True, eq=False)
class Filters:
    """The weights of one convolution.

    values: (O, I, h, w) float32: output planes, input planes (of one group), height, width.
    scale: the largest magnitude among them, which drawing takes as full black or white; 0 where all are 0.
    """

    layer: str
    values: NDArray[np.float32]
    scale: float


def filters(model: nn.Module, layer: str | None = None) -> Filters:
    """The filters of `layer` (a dotted module name), or of the first convolution of `model`.

    In a Vision Transformer whose patch embedding is a convolution, these are the patch filters.

    Raises SightlineError where the network has no two-dimensional convolution, or `layer` is not one.
    """
    convolutions = {name: module for name, module in model.named_modules() if isinstance(module, nn.Conv2d)}
    if not convolutions:
        raise SightlineError(f"{type(model).__name__} has no convolution, hence no filters to show.")
    if layer is None:
        layer = next(iter(convolutions))
    elif layer not in convolutions:
        raise UnknownName("convolution", layer, convolutions)
    # float() first: numpy has no bfloat16.
    values = convolutions[layer].weight.detach().float().cpu().numpy().copy()
    return Filters(layer, values, float(np.abs(values).max(initial=0.0)))
