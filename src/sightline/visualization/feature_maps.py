"""What each layer of a network makes of one picture, as planes that can be looked at.

Maps with channels first or last and rows of tokens all become planes (C, h, w); tokens without a place in the
picture (of classes, registers) are kept apart.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, Literal, overload

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sightline.errors import SightlineError, UnknownName
from sightline.visualization.places import Places, places_of
from sightline.visualization.probe import as_found, picture_of

Kind = Literal["conv", "pool", "block", "other"]

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
    """The output of one layer on one picture, before any activation that follows the layer.

    layer: its name. A layer that the network runs several times gives a map each time: `pool`, `pool (2)`, ...
    kind: a convolution, a pooling, a transformer's block, or another layer.
    values: (C, h, w) float32. prefix: (P, C), the tokens that stand for no place (of classes, registers); None
        where there are none.
    """

    layer: str
    kind: Kind
    values: NDArray[np.float32]
    prefix: NDArray[np.float32] | None = None


@dataclass(frozen=True, slots=True, eq=False)
class FeatureMaps:
    """The input (C, H, W), as the network was given it, and the maps in the order in which they were made."""

    input: NDArray[np.float32]
    maps: tuple[FeatureMap, ...]

    @property
    def values(self) -> dict[str, NDArray[np.float32]]:
        """Each layer's planes (C, h, w) under its name."""
        return {one.layer: one.values for one in self.maps}

    def __getitem__(self, layer: str) -> FeatureMap:
        for one in self.maps:
            if one.layer == layer:
                return one
        raise UnknownName("feature map", layer, [one.layer for one in self.maps])


@overload
def feature_maps(model: nn.Module, x: Tensor, layer: str) -> FeatureMap: ...
@overload
def feature_maps(
    model: nn.Module, x: Tensor, layer: list[str] | tuple[str, ...] | set[str] | None = None
) -> FeatureMaps: ...
def feature_maps(
    model: nn.Module, x: Tensor, layer: str | list[str] | tuple[str, ...] | set[str] | None = None
) -> FeatureMap | FeatureMaps:
    """Run `model` on one normalised picture `x` (1, C, H, W) and keep what its layers put out.

    layer: a dotted module name gives that layer's FeatureMap, several names or none give FeatureMaps. By default
    these are all convolutions and poolings, a transformer's blocks, and other layers without parts that change
    the number or the size of the planes; maps of a single pixel are left out, for there is nothing to see.

    The network runs in evaluation mode without gradients; modes, hooks and gradients are left as found.

    Raises SightlineError where `x` is not one picture, a name is not the model's, or no layer puts out planes.
    """
    picture = picture_of(model, x).clone()  # the network may begin in place, on the picture itself
    modules = dict(model.named_modules())
    names = [layer] if isinstance(layer, str) else layer
    asked = None if names is None else {find_layer(modules, name) for name in names}

    maps: list[FeatureMap] = []
    calls: dict[str, int] = {}
    refused: dict[str, str] = {}
    last: tuple[Tensor, int] | None = None  # the block last kept, and how often it had been written to

    def keep(name: str, module: nn.Module, kind: Kind) -> Callable[[nn.Module, Any, Any], None]:
        def hook(_: nn.Module, inputs: Any, output: Any) -> None:
            nonlocal last
            output = first_tensor(output)
            places = None if output is None else layout(model, picture, kind, output)
            if places is None or output is None:
                shape = "no tensor" if output is None else tuple(output.shape)
                refused[name] = f"{name} puts out {shape}, which is neither planes nor tokens on a grid"
                return
            if asked is None:
                if kind == "other" and not reshapes(model, module, inputs, output, picture):
                    return
                if kind == "block":
                    # A block that puts out planes shows no more than its convolutions do; a stage puts out
                    # what its last block did.
                    known = last and last[0].data_ptr() == output.data_ptr() and last[1] == output._version
                    if known or places.kind == "first":
                        return
                    last = output, output._version
            calls[name] = calls.get(name, 0) + 1
            label = name if calls[name] == 1 else f"{name} ({calls[name]})"
            special = array(output[0, : places.prefix]) if places.prefix else None
            maps.append(FeatureMap(label, kind, array(places.fold(output)[0]), special))

        return hook

    with torch.no_grad(), as_found(model), ExitStack() as hooks:
        for name in modules if asked is None else asked:
            module = modules[name]
            handle = module.register_forward_hook(keep(name, module, kind_of(modules, name)))
            hooks.callback(handle.remove)
        model(picture)
    if isinstance(layer, str):
        for one in maps:
            if one.layer == layer:
                return one
    if not maps or isinstance(layer, str):
        if asked:
            why = next(iter(refused.values()), f"{sorted(asked)[0]} does not run so on this picture")
            raise SightlineError(f"There is no feature map of it: {why}.")
        raise SightlineError(
            f"{type(model).__name__} has no layer that puts out planes, hence no feature maps."
        )
    return FeatureMaps(array(x[0]), tuple(maps))


def find_layer(modules: dict[str, nn.Module], name: str) -> str:
    """The module that `name` speaks of, a second run's `pool (2)` included. Raises UnknownName."""
    module = re.sub(r" \(\d+\)$", "", name)
    if not module or module not in modules:
        raise UnknownName("layer", name, [known for known in modules if known])
    return module


def first_tensor(output: Any) -> Tensor | None:
    """What a module puts out; of several things the first, as blocks that give their attention too put it."""
    if isinstance(output, tuple | list) and output:
        output = output[0]
    return output if isinstance(output, Tensor) else None


def layout(model: nn.Module, picture: Tensor, kind: Kind, output: Tensor) -> Places | None:
    """How an output lies over the picture; None where it does not, or is a single cell of it."""
    if kind not in ("conv", "pool"):
        return places_of(model, picture, output)
    # Channels stand first here whatever the cells' shape.
    planes = output.ndim == 4 and len(output) == len(picture) and output.shape[2:].numel() > 1
    return Places((output.shape[2], output.shape[3]), "first") if planes else None


def kind_of(modules: dict[str, nn.Module], name: str) -> Kind:
    """A layer's kind. A block is one of a row of modules that have parts of their own."""
    module = modules[name]
    if isinstance(module, nn.Conv2d):
        return "conv"
    if isinstance(module, POOLS):
        return "pool"
    rows = nn.Sequential, nn.ModuleList
    parent = modules[name.rpartition(".")[0]]
    parts = next(module.children(), None) is not None
    return "block" if parts and isinstance(parent, rows) and not isinstance(module, rows) else "other"


def reshapes(model: nn.Module, module: nn.Module, inputs: Any, output: Tensor, picture: Tensor) -> bool:
    """Whether a layer without parts makes other planes than it is given, as LeNet-5's subsampling does."""
    given = first_tensor(inputs)
    if given is None or given.shape == output.shape or next(module.children(), None) is not None:
        return False
    found = [places_of(model, picture, tensor) for tensor in (given, output)]
    return all(places is not None and places.kind == "first" for places in found)


def array(tensor: Tensor) -> NDArray[np.float32]:
    """A copy, for what follows in the network may write over it."""
    return tensor.detach().float().cpu().numpy().copy()
