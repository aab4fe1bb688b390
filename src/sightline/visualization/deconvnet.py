"""The deconvnet: what in a picture a unit responds to, projected back down to the pixels.

    Zeiler, Fergus: Visualizing and Understanding Convolutional Networks. ECCV 2014, arXiv 1311.2901, section 2.1

All other units of the layer are set to zero, and the one is sent back through the network: through each pooling
into the places that its maxima came from (the "switches"), through each ReLU by setting to zero what is negative
now, whatever was negative on the way up, and through each convolution by its transposed filters. Where pooling
windows overlap, a place that is the maximum of several gets the sum of what they send.

Zeiler and Fergus say nothing of what came later: batch normalisation scales what goes back by what it scaled on
the way up, sums send it along every branch, response normalisation passes its gradient.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sightline.errors import SightlineError
from sightline.visualization.feature_maps import array, find_layer, first_tensor
from sightline.visualization.probe import as_found, picture_of
from sightline.visualization.relu import ReluRule, deconvnet, unruled

# What bends the signal on its way up as ReLU does, and for which the paper has no way down.
OTHERS = (
    "Gelu", "Silu", "Tanh", "Sigmoid", "Softmax", "LogSoftmax", "Elu", "LeakyRelu", "PreluKernel", "Hardswish",
    "Hardsigmoid", "Hardtanh", "Softplus", "Mish", "Erf", "Glu", "ScaledDotProduct",
)  # fmt: skip


@dataclass(frozen=True, slots=True, eq=False)
class Projection:
    """One unit projected back to the pixels.

    values: (C, H, W) float32, in the units of the normalised picture's channels, times the unit's activation.
    scale: the largest magnitude among them, which drawing takes as full black or white.
    layer, channel, position: the unit; (row, column) in its map, () in a layer without places. activation: its
    value on this picture. input: (C, H, W), the picture as the network was given it.
    """

    layer: str
    channel: int
    position: tuple[int, ...]
    activation: float
    values: NDArray[np.float32]
    scale: float
    input: NDArray[np.float32]


def deconvolve(
    model: nn.Module,
    x: Tensor,
    *,
    layer: str,
    channel: int | None = None,
    position: tuple[int, int] | None = None,
) -> Projection:
    """Project a unit of `layer` on the normalised picture `x` (1, C, H, W) back to the pixels.

    channel: a plane of the layer (its first run), or a unit of a linear layer; by default the one with the
    strongest unit. position: (row, column) in that plane, by default its strongest.

    Every ReLU is taken the paper's way, be it a module, a function or in place.
    Raises SightlineError where `x` is not one picture, there is no such layer, channel or position, the layer puts
    out neither maps (1, C, h, w) nor units (1, C), or other activations than ReLU stand before it.
    """
    picture = picture_of(model, x)
    shape: tuple[int, ...] = ()

    def pick(output: Tensor) -> Tensor:
        nonlocal shape
        shape = tuple(output.shape[1:])
        planes = output.detach()[0].flatten(1) if output.ndim == 4 else output.detach()[0, :, None]
        row = int(planes.amax(1).argmax()) if channel is None else check_channel(layer, channel, len(planes))
        if position is None:
            cell = int(planes[row].argmax())
        else:
            cell = check_position(layer, position, shape[1:])
        return torch.tensor([row * planes.shape[1] + cell])

    units, pixels, chosen = project(model, picture, layer, pick)
    place = np.unravel_index(int(chosen[0]), shape)
    values = array(pixels[0])
    return Projection(
        layer,
        int(place[0]),
        tuple(int(i) for i in place[1:]),
        float(units[0]),
        values,
        float(np.abs(values).max()),
        array(x[0]),
    )


def project(
    model: nn.Module, pictures: Tensor, layer: str, pick: Callable[[Tensor], Tensor]
) -> tuple[Tensor, Tensor, Tensor]:
    """One unit for each of `pictures` (N, C, H, W): its activations (N,), its projections (N, C, H, W), the units.

    pick: from the output of `layer` to the unit of each picture, places in that picture's output laid out flat.
    """
    pixels = fitted(model, pictures.detach()).clone()
    with torch.enable_grad(), ReluRule(deconvnet):
        pixels.requires_grad_()
        # `+ 0`: the network may begin in place, on the picture itself.
        output = output_of(model, pixels + 0, layer)
        check_projectable(model, layer, output)
        chosen = pick(output).to(output.device)
        units = output.flatten(1)[torch.arange(len(output), device=output.device), chosen]
        # In evaluation mode no picture sees another, so all go back at once. The signal starts at 1 and is scaled
        # in the end: a unit that is negative would otherwise lose its way at the first ReLU.
        (signal,) = torch.autograd.grad(units.sum(), pixels)
    activations = units.detach()
    return activations, signal * activations[:, None, None, None], chosen


def fitted(model: nn.Module, pictures: Tensor) -> Tensor:
    """`pictures` on the device and in the precision of the network."""
    weight = next((p for p in model.parameters() if p.is_floating_point()), pictures)
    return pictures.to(weight.device, weight.dtype)


class _ReachedError(Exception):
    """The layer has put out what was wanted; the rest of the network need not run."""


def output_of(model: nn.Module, pictures: Tensor, layer: str) -> Tensor:
    """What the first run of `layer` puts out for normalised `pictures`; what comes after it does not run."""
    find_layer(dict(model.named_modules()), layer)
    found: list[Any] = []

    def stop(_module: nn.Module, _inputs: Any, output: Any) -> NoReturn:
        found.append(output)
        raise _ReachedError

    with as_found(model):
        handle = model.get_submodule(layer).register_forward_hook(stop)
        try:
            model(pictures)
        except _ReachedError:
            pass
        finally:
            handle.remove()
    output = first_tensor(found[0]) if found else None
    if output is None:
        raise SightlineError(f"{layer} {'puts out no tensor' if found else 'does not run on this picture'}.")
    return output


def check_projectable(model: nn.Module, layer: str, output: Tensor) -> None:
    """Raise SightlineError unless the paper's rules lead from the layer's units back to the pixels."""
    name = type(model).__name__
    if output.ndim not in (2, 4):
        raise SightlineError(
            f"{layer} of {name} puts out {tuple(output.shape)}; the deconvnet is for maps (1, C, h, w) "
            "and units (1, C)."
        )
    if output.grad_fn is None:
        raise SightlineError(f"What {layer} of {name} puts out does not depend on the picture by a gradient.")
    others, seen = set(unruled(output)), set[Any]()
    waiting: list[Any] = [output.grad_fn]
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        kind = type(node).__name__
        others.update(other for other in OTHERS if kind.startswith(other))
        waiting += [following for following, _ in node.next_functions]
    if others:
        raise SightlineError(
            f"The deconvnet is for convolutions, poolings and ReLU; before {layer}, {name} has "
            f"{', '.join(sorted(others))}, for which it would silently be the plain gradient. "
            "integrated_gradients and occlusion work on any network."
        )


def check_channel(layer: str, channel: int, count: int) -> int:
    """`channel`, from the end if negative; SightlineError where the layer has none such."""
    if not -count <= channel < count:
        raise SightlineError(f"{layer} has channels 0 to {count - 1}, not {channel}.")
    return channel % count


def check_position(layer: str, position: tuple[int, int], grid: tuple[int, ...]) -> int:
    """Where `position` (row, column) stands in a map of `grid` laid out flat; SightlineError outside of it."""
    if not grid:
        raise SightlineError(f"The units of {layer} stand at no place, so position cannot be given.")
    row, column = position
    if not (0 <= row < grid[0] and 0 <= column < grid[1]):
        raise SightlineError(
            f"{layer} has rows 0 to {grid[0] - 1} and columns 0 to {grid[1] - 1}, not {position}."
        )
    return row * grid[1] + column
