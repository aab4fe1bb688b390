"""What each layer of a network makes of one picture, as planes that can be looked at."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sightline.errors import SightlineError, UnknownName

Kind = Literal["conv", "pool", "other"]

POOLS = (
    nn.MaxPool2d,
    nn.AvgPool2d,
    nn.LPPool2d,
    nn.FractionalMaxPool2d,
    nn.AdaptiveMaxPool2d,
    nn.AdaptiveAvgPool2d,
)


@dataclass(frozen=True, slots=True, eq=False)
class FeatureMap:
    """The output of one layer: `values` is (C, h, w) float32, before any activation that follows the layer.

    A layer that the network runs several times gives a map each time: `pool`, `pool (2)`, ...
    """

    layer: str
    kind: Kind
    values: NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class FeatureMaps:
    """The input (C, H, W), as the network was given it, and the maps in the order in which they were made."""

    input: NDArray[np.float32]
    maps: tuple[FeatureMap, ...]

    def __getitem__(self, layer: str) -> FeatureMap:
        for one in self.maps:
            if one.layer == layer:
                return one
        raise UnknownName("feature map", layer, [one.layer for one in self.maps])


def feature_maps(model: nn.Module, x: Tensor, layers: Collection[str] | None = None) -> FeatureMaps:
    """Run `model` on one normalised picture `x` (1, C, H, W) and keep what its layers put out.

    layers: dotted module names; by default all convolutions and poolings, and other layers without parts that
    change the number or the size of the planes. Maps of a single pixel are left out: there is nothing to see.

    The network runs in evaluation mode without gradients; modes, hooks and gradients are left as found.

    Raises SightlineError where `x` is not one picture, a name in `layers` is not the model's, or no layer
    puts out planes.
    """
    if x.ndim != 4 or x.shape[0] != 1:
        raise SightlineError(f"Feature maps are of one picture, of shape (1, C, H, W); got {tuple(x.shape)}.")
    modules = dict(model.named_modules())
    for name in layers or ():
        if name not in modules:
            raise UnknownName("layer", name, modules)
    wanted = {name: module for name, module in modules.items() if layers is None or name in layers}

    maps: list[FeatureMap] = []
    calls: dict[str, int] = {}

    def keep(name: str, module: nn.Module) -> Callable[[nn.Module, Any, Any], None]:
        def hook(_: nn.Module, inputs: Any, output: Any) -> None:
            if not isinstance(output, Tensor) or output.ndim != 4 or output.shape[2:].numel() < 2:
                return
            kind = _kind(module)
            if layers is None and kind == "other" and not _reshapes(module, inputs, output):
                return
            calls[name] = calls.get(name, 0) + 1
            label = name if calls[name] == 1 else f"{name} ({calls[name]})"
            # A copy: an activation that follows may work in place.
            maps.append(FeatureMap(label, kind, output[0].detach().float().cpu().numpy().copy()))

        return hook

    modes = {module: module.training for module in modules.values()}
    hooks = [module.register_forward_hook(keep(name, module)) for name, module in wanted.items()]
    parameter = next(model.parameters(), x)
    try:
        model.eval()
        # no_grad, not inference_mode: what a module caches on the way must stay usable in training.
        with torch.no_grad():
            model(x.to(parameter.device, parameter.dtype))
    finally:
        for handle in hooks:
            handle.remove()
        for module, training in modes.items():
            module.training = training
    if not maps:
        raise SightlineError(
            f"{type(model).__name__} has no layer that puts out planes, hence no feature maps."
        )
    return FeatureMaps(x[0].detach().float().cpu().numpy().copy(), tuple(maps))


def _kind(module: nn.Module) -> Kind:
    if isinstance(module, nn.Conv2d):
        return "conv"
    return "pool" if isinstance(module, POOLS) else "other"


def _reshapes(module: nn.Module, inputs: Any, output: Tensor) -> bool:
    """Whether a layer without parts makes other planes than it is given, as LeNet-5's subsampling does."""
    given = inputs[0] if inputs else None
    leaf = next(module.children(), None) is None
    return leaf and isinstance(given, Tensor) and given.ndim == 4 and given.shape != output.shape
