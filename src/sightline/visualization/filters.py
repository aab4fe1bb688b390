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
    """The weights of one convolution, or their principal components.

    values: (O, I, h, w) float32: output planes, input planes (of one group), height, width. Of principal
        components: (n, I, h, w), each of length 1, the one that explains most first.
    scale: the largest magnitude among them, which drawing takes as full black or white; 0 where all are 0.
    explained: the share (0..1) of the filters' variance that each component has; empty for the filters themselves.
    """

    layer: str
    values: NDArray[np.float32]
    scale: float
    explained: tuple[float, ...] = ()


def filters(model: nn.Module, layer: str | None = None, *, components: int | None = None) -> Filters:
    """The filters of `layer` (a dotted module name), or of the first convolution of `model`.

    In a Vision Transformer whose patch embedding is a convolution, these are the patch filters. There are hundreds
    of them, and each alone looks like noise: `components` asks for so many of their principal components instead
    (Dosovitskiy et al. 2021, arXiv 2010.11929, figure 7, which shows 28). A component's sign is free; here its
    weight of greatest magnitude is positive.

    Raises SightlineError where the network has no two-dimensional convolution, `layer` is not one, or it has not
    as many components as asked for.
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
    explained: tuple[float, ...] = ()
    if components is not None:
        values, explained = principal_components(values, components)
    return Filters(layer, values, float(np.abs(values).max(initial=0.0)), explained)


def principal_components(
    values: NDArray[np.float32], count: int
) -> tuple[NDArray[np.float32], tuple[float, ...]]:
    """The first `count` principal components of filters (O, I, h, w), and the share of the variance of each."""
    flat = values.reshape(len(values), -1).astype(np.float64)
    most = min(len(flat) - 1, flat.shape[1])  # centred filters span one dimension less
    if not 1 <= count <= most:
        raise SightlineError(
            f"{len(flat)} filters of {flat.shape[1]} weights have 1 to {most} components, not {count}."
        )
    _, lengths, axes = np.linalg.svd(flat - flat.mean(0), full_matrices=False)
    axes = axes[:count]
    largest = np.abs(axes).argmax(1)
    axes = axes * np.where(axes[np.arange(count), largest] < 0, -1.0, 1.0)[:, None]
    variance = lengths**2
    shares = variance[:count] / max(variance.sum(), np.finfo(np.float64).tiny)
    return axes.astype(np.float32).reshape(count, *values.shape[1:]), tuple(shares.tolist())
