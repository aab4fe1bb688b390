"""Evidence for a class, or for one class against another: where in the maps of a layer it stands.

    cam        Zhou et al.: Learning Deep Features for Discriminative Localization. CVPR 2016, arXiv 1512.04150
    grad_cam   Selvaraju et al.: Grad-CAM: Visual Explanations from Deep Networks via Gradient-based Localization.
               ICCV 2017, arXiv 1610.02391
    hires_cam  Draelos & Carin: Use HiResCAM instead of Grad-CAM for faithful explanations of convolutional neural
               networks. 2020, arXiv 2011.08891

All take a model, a normalised picture (1, C, H, W) and the class (`target=`, by default the one with the highest
logit; `versus=`, to ask what speaks for it rather than for another), and return an `Evidence`. Those that look at
pixels stand in `pixel_evidence`.

The layer is found by itself: the last one with more than one cell whose cells the answer depends on. In a network
that pools its last map this is that map. In a transformer that reads its class token it is the norm in front of
the last attention, as what the patches' tokens become after that goes nowhere.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sightline.errors import SightlineError, UnknownName
from sightline.visualization.places import Places, places_of
from sightline.visualization.probe import Question, as_found, gradients, picture_of, question, run

LITTLE = 0.01
"""The share of the spread of the logits below which evidence counts as none."""
AT_ONCE = 16
"""Layers that one backward pass is asked about at most; the first pass asks about the last one alone, which mostly
is the one, each further pass about twice as many."""
NO_PLACE = (nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d, nn.Dropout, nn.Dropout2d, nn.Identity)


@dataclass(frozen=True, slots=True, eq=False)
class Evidence:
    """What speaks for a class, and where.

    view: the function's name. values: float32, (h, w) over the picture's whole area, or (C, H, W) for each number
    of the picture; as computed, neither resized nor rescaled. unit: of the values.
    layer: the one looked into, by its dotted name; "" for the picture itself.
    target, versus: class numbers, versus None where none was named. score: the target's logit, less that of versus.
    floor: the magnitude that counts as none, in the same unit: what `LITTLE` of the spread of the logits would be.
    signed: whether values below zero can be (they speak against the target).
    picture: its (height, width).
    """

    view: str
    values: NDArray[np.float32]
    unit: str
    layer: str
    target: int
    versus: int | None
    score: float
    floor: float
    signed: bool
    picture: tuple[int, int]

    @property
    def scale(self) -> float:
        """The magnitude to draw as full: that of the largest value, but never less than `floor`."""
        return max(float(np.abs(self.values).max(initial=0.0)), self.floor)

    @property
    def empty(self) -> bool:
        """Whether there is no evidence to speak of."""
        return float(np.abs(self.values).max(initial=0.0)) <= self.floor


@dataclass(frozen=True, slots=True, eq=False)
class Cam(Evidence):
    """A class activation map: the mean of `values` and `bias` make up the score."""

    bias: float = field(kw_only=True)


@dataclass(slots=True, eq=False)
class Output:
    """What a module put out in a run, and its version then: one that was written over since has another."""

    name: str
    tensor: Tensor
    places: Places
    version: int


def grad_cam(
    model: nn.Module,
    x: Tensor,
    *,
    layer: str | None = None,
    target: int | None = None,
    versus: int | None = None,
) -> Evidence:
    """Grad-CAM: the planes of `layer`, each weighted by the mean of its gradient, summed; what is below zero is 0.

    values (h, w) in shares of the logit: where the map is pooled and classified by one linear layer they sum, but
    for what was cut off below zero, to the score less the bias.
    Raises SightlineError for a class or a layer that is not there, or a layer whose output has no places.
    """
    output, slope, asked, score = activation_and_gradient(model, x, layer, target, versus)
    maps, slopes = output.places.fold(output.tensor)[0], output.places.fold(slope)[0]
    values = (slopes.mean((1, 2), keepdim=True) * maps).sum(0).clamp(min=0)
    return at_layer("grad_cam", values, output.name, asked, score, x)


def hires_cam(
    model: nn.Module,
    x: Tensor,
    *,
    layer: str | None = None,
    target: int | None = None,
    versus: int | None = None,
) -> Evidence:
    """HiResCAM: the planes of `layer` times their gradients, cell by cell, summed over the planes.

    values (h, w) in shares of the logit, those that speak against the target below zero. Where the map is pooled
    and classified by one linear layer, `grad_cam` is this without what is below zero.
    Raises SightlineError as `grad_cam` does.
    """
    output, slope, asked, score = activation_and_gradient(model, x, layer, target, versus)
    values = (output.places.fold(output.tensor)[0] * output.places.fold(slope)[0]).sum(0)
    return at_layer("hires_cam", values, output.name, asked, score, x, signed=True)


def at_layer(
    view: str, values: Tensor, layer: str, asked: Question, score: float, x: Tensor, signed: bool = False
) -> Evidence:
    """The record of values (h, w) that are shares of the logit."""
    floor = LITTLE * asked.spread / values.numel()
    unit, size = "share of the logit", (x.shape[2], x.shape[3])
    return Evidence(
        view, as_array(values), unit, layer, asked.target, asked.versus, score, floor, signed, size
    )


def cam(
    model: nn.Module, x: Tensor, *, layer: None = None, target: int | None = None, versus: int | None = None
) -> Cam:
    """CAM: the classifier's weights applied to each cell of the map that is pooled in front of it.

    values (h, w) are logits: their mean plus `bias` is the score, exactly. Those below zero speak against.
    Raises SightlineError for a class that is not there, and for a network that does not average a map and classify
    it by one linear layer: there `grad_cam` is what comes closest.
    """
    if layer is not None:
        raise SightlineError(
            "CAM has one layer to look at, the one in front of the pooling; leave `layer` out."
        )
    x = picture_of(model, x)
    with as_found(model), torch.no_grad():
        entering: list[tuple[nn.Module, Tensor]] = []

        def keep(module: nn.Module, inputs: Any, _output: Any) -> None:
            entering.append((module, inputs[0].detach().clone()))

        linear = [module for module in model.modules() if isinstance(module, nn.Linear)]
        hooks = [module.register_forward_hook(keep) for module in linear]
        try:
            with listening(model, x) as outputs:
                logits = run(model, x)
        finally:
            for hook in hooks:
                hook.remove()
        asked = question(logits, target, versus)
        score = asked.score(logits)
        for name, planes in maps_from_the_end(model, x, outputs):
            mean = planes.mean((1, 2))
            if entering and matches(mean, entering[-1][1]):
                classifier = cast(nn.Linear, entering[-1][0])
                weight, bias = classifier.weight.data, logits.new_zeros(classifier.out_features)
                bias = bias if classifier.bias is None else classifier.bias.data
            elif matches(mean, logits):  # each class has a map of its own, as in SqueezeNet
                weight, bias = torch.eye(len(mean)).to(mean), torch.zeros_like(mean)
            else:
                continue
            values = torch.einsum("kc,chw->khw", weight, planes)[None].flatten(2)
            values = asked.score(values.transpose(1, 2)[0]).reshape(planes.shape[1:])
            rest = float(asked.score(bias[None]))
            if torch.allclose(values.mean() + rest, score, rtol=1e-3, atol=1e-3 * (1 + asked.spread)):
                size = (x.shape[2], x.shape[3])
                return Cam(
                    "cam", as_array(values), "logits", name, asked.target, asked.versus, float(score),
                    LITTLE * asked.spread, True, size, bias=rest,
                )  # fmt: skip
    raise SightlineError(
        f"{type(model).__name__} does not average a map and classify it by one linear layer, which CAM needs; "
        "grad_cam and hires_cam work on any network."
    )


def maps_from_the_end(model: nn.Module, x: Tensor, outputs: list[Output]) -> Iterator[tuple[str, Tensor]]:
    """(name, map (C, h, w)) of the modules, the last one first, and at the end of the body as a whole."""
    for output in reversed(outputs):
        yield output.name, output.places.fold(output.tensor)[0]
    # What a network does between its last module and the pooling is seen here alone.
    body = getattr(model, "forward_features", None)
    features = None if body is None else body(x)
    places = places_of(model, x, features)
    if features is not None and places is not None:
        yield "forward_features", places.fold(features)[0]


def matches(mean: Tensor, row: Tensor) -> bool:
    """Whether `row` (1, C) is the mean over a map's cells, to rounding."""
    return row.shape == (1, len(mean)) and torch.allclose(mean, row[0], rtol=1e-3, atol=1e-5)


def as_array(values: Tensor) -> NDArray[np.float32]:
    """A copy that shares nothing with the network."""
    return values.detach().float().cpu().numpy().copy()


@contextmanager
def listening(model: nn.Module, x: Tensor, everywhere: bool = False) -> Iterator[list[Output]]:
    """What the modules put out over the picture meanwhile, in the order of completion; those that can be a map of
    it, or really `everywhere`."""
    modules = model.named_modules() if everywhere else outside_attention(model)
    outputs: list[Output] = []
    open_ears = True

    def keep(name: str) -> Callable[[nn.Module, Any, Any], None]:
        def hook(_module: nn.Module, _inputs: Any, output: Any) -> None:
            if open_ears and (places := places_of(model, x, output)) is not None:
                outputs.append(Output(name, output, places, output._version))

        return hook

    hooks = [m.register_forward_hook(keep(name)) for name, m in modules]
    try:
        yield outputs
    finally:
        open_ears = False
        for hook in hooks:
            hook.remove()


def outside_attention(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Modules whose output can be a map of the picture: queries, keys and values look like tokens and are not."""
    inside: set[nn.Module] = set()
    for name, module in model.named_modules():
        if "Attention" in type(module).__name__ or "Attn" in type(module).__name__:
            inside.update(module.modules())
        elif name and module not in inside and not isinstance(module, NO_PLACE):
            yield name, module


def activation_and_gradient(
    model: nn.Module, x: Tensor, layer: str | None, target: int | None, versus: int | None
) -> tuple[Output, Tensor, Question, float]:
    """A layer's output, the gradient of the score with respect to it, the question, and the score."""
    x = picture_of(
        model, x
    ).requires_grad_()  # so that there is a graph, however much of the network is frozen
    with as_found(model), torch.enable_grad():
        if layer is None:
            with listening(model, x) as outputs:
                logits = run(model, x)
            asked = question(logits, target, versus)
            score = asked.score(logits).sum()
            chosen, slope = last_with_a_say(model, outputs, score)
            if chosen.version == chosen.tensor._version:
                return chosen, slope, asked, float(score.detach())
            layer = chosen.name  # what follows wrote over its output
        output, logits = run_keeping(model, x, layer)
        asked = question(logits, target, versus)
        score = asked.score(logits).sum()
        (found,) = gradients(score, [output.tensor])
        return (
            output,
            torch.zeros_like(output.tensor) if found is None else found,
            asked,
            float(score.detach()),
        )


def run_keeping(model: nn.Module, x: Tensor, layer: str) -> tuple[Output, Tensor]:
    """(what `layer` puts out, the logits). Raises SightlineError where it is not there or has no places."""
    modules = dict(model.named_modules())
    if layer not in modules or not layer:
        raise UnknownName("layer", layer, [name for name in modules if name])
    kept: list[Any] = []

    def hook(_module: nn.Module, _inputs: Any, output: Any) -> Any:
        if kept:
            return None
        kept.append(output)
        return output.clone() if isinstance(output, Tensor) else None  # what follows may work in place

    handle = modules[layer].register_forward_hook(hook)
    try:
        logits = run(model, x)
    finally:
        handle.remove()
    if not kept:
        raise SightlineError(f"The layer {layer} takes no part in what {type(model).__name__} answers.")
    places = places_of(model, x, kept[0])
    if places is None:
        shape = tuple(kept[0].shape) if isinstance(kept[0], Tensor) else type(kept[0]).__name__
        with torch.no_grad(), listening(model, x) as outputs:
            run(model, x)
        some = list(dict.fromkeys(output.name for output in outputs if output.name.count(".") < 2)) or [
            "none"
        ]
        raise SightlineError(
            f"{layer} puts out {shape}, which has no places in the picture; among those that have are "
            f"{', '.join(some[-8:])}."
        )
    return Output(layer, kept[0], places, kept[0]._version), logits


def last_with_a_say(model: nn.Module, outputs: list[Output], score: Tensor) -> tuple[Output, Tensor]:
    """The last output whose cells the score depends on, and its gradient; the last of all where none matters."""
    if not outputs:
        raise SightlineError(
            f"{type(model).__name__} has no layer with places in the picture (maps or tokens of patches)."
        )
    # Of modules that hand on one tensor the outermost stands for all, or the one that the network calls a stage.
    named: dict[int, list[Output]] = {}
    for output in outputs:
        named.setdefault(id(output.tensor), []).append(output)
    stages = {
        stage["module"] for stage in getattr(model, "feature_info", None) or [] if isinstance(stage, dict)
    }
    distinct = []
    for group in named.values():
        whole = [one for one in group if one.version == one.tensor._version] or group
        distinct.append(next((one for one in whole if one.name in stages), whole[-1]))
    end, count = len(distinct), 1
    while end > 0:
        some = distinct[max(0, end - count) : end]
        slopes = gradients(score, [one.tensor for one in some])
        for one, slope in zip(reversed(some), reversed(slopes), strict=True):
            if slope is not None and bool(one.places.fold(slope).any()):
                return one, slope
        end, count = end - count, min(2 * count, AT_ONCE)
    return distinct[-1], torch.zeros_like(distinct[-1].tensor)
