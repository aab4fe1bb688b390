"""In which order the modules of a network run: where it can be cut, and how deep each parameter lies."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from sightline.errors import SightlineError, UnknownName
from sightline.features.embedding_network import stage_rows
from sightline.models.protocol import classifier_names, meta_copy


@dataclass(frozen=True)
class Order:
    """starts: for each module that runs, when it is first called. ends: when each stage ends, in that order.

    classifier: the names of the last layers.
    """

    starts: dict[str, int]
    ends: tuple[int, ...]
    stages: tuple[str, ...]
    classifier: tuple[str, ...]

    def depth(self, parameter: str) -> int:
        """How many stages have ended before the module that holds `parameter` runs; the classifier is the deepest.

        What does not run when a network is used (an auxiliary classifier) counts as part of the classifier.
        """
        owner = parameter.rpartition(".")[0]
        if owner in self.classifier or owner not in self.starts:
            return len(self.ends)
        return sum(end < self.starts[owner] for end in self.ends)

    def before(self, parameter: str, module: str) -> bool:
        """Whether the module that holds `parameter` is first called before `module` is."""
        owner = parameter.rpartition(".")[0]
        return self.starts.get(owner, len(self.starts)) < self.starts[module]


def order_of(model: nn.Module, size: Sequence[int]) -> Order:
    """The order in which the modules of `model` run on a picture of `size` (channels, height, width), from one run
    without data. Raises SightlineError where it cannot take such a picture.
    """
    net = meta_copy(model)
    stages = [row["module"] for row in stage_rows(model)]
    starts: dict[str, int] = {}
    ends: dict[str, int] = {}
    clock = 0

    def begin(name: str) -> None:
        nonlocal clock
        clock += 1
        starts.setdefault(name, clock)

    def end(name: str) -> None:
        nonlocal clock
        clock += 1
        ends[name] = clock

    for name, module in net.named_modules():
        module.register_forward_pre_hook(lambda _m, _i, name=name: begin(name))
        if name in stages:
            module.register_forward_hook(lambda _m, _i, _o, name=name: end(name))
    dtype = next(p.dtype for p in net.parameters())
    try:
        with torch.no_grad():
            net(torch.empty(1, *size, dtype=dtype, device="meta"))
    except (RuntimeError, ValueError, AssertionError) as error:
        raise SightlineError(f"The network cannot take an input of {tuple(size)}: {error}.") from None
    return Order(starts, tuple(sorted(ends.values())), tuple(stages), tuple(classifier_names(model)))


def freeze_before(model: nn.Module, module: str, order: Order) -> None:
    """Leave trainable only what runs from `module` on. UnknownName, which suggests near ones, unless it runs."""
    known = [name for name in order.starts if name]
    if module not in known:
        hint = f"its stages are {', '.join(order.stages)}."
        raise UnknownName("stage or module", module, known, hint)
    for name, parameter in model.named_parameters():
        if order.before(name, module):
            parameter.requires_grad_(False)


def rates_by_depth(model: nn.Module, order: Order, decay: float) -> dict[str, float]:
    """For each parameter the share of the learning rate that it gets: 1 in the classifier, `decay` times as much in
    each stage before (Howard and Ruder 2018, arXiv 1801.06146, section 3.2).
    """
    return {name: decay ** (len(order.ends) - order.depth(name)) for name, _ in model.named_parameters()}


def plain(network: Any) -> nn.Module:
    """The network itself, out of what training wraps around it."""
    while not hasattr(network, "forward_features") and isinstance(network, nn.Module):
        inner = getattr(network, "module", None) or getattr(network, "model", None)
        if inner is None:
            break
        network = inner
    return network  # type: ignore[no-any-return]
