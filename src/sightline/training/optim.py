"""PyTorch's optimisers, with this project's groups: no weight decay on norms and biases."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

from sightline.training.recipe import Recipe

Tensors = tuple[torch.Tensor, ...] | list[torch.Tensor]


def parameter_groups(
    model: nn.Module,
    weight_decay: float,
    shares: Mapping[str, float] | None = None,
    pulled: Iterable[str] = (),
) -> list[dict[str, object]]:
    """The trainable parameters in groups: matrices and kernels decay; vectors (norms, biases) do not.

    Position embeddings and class tokens do not decay either: what a model lists in `no_weight_decay()`; nor do
    those that are `pulled` towards where they started instead. shares: of the learning rate, by a parameter's name.
    """
    listing: Callable[[], Iterable[str]] | None = getattr(model, "no_weight_decay", None)
    spared_names = set(listing()) if callable(listing) else set()
    spared_names |= set(pulled)
    sorted_out: dict[tuple[float, bool], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            spared = parameter.ndim <= 1 or name in spared_names
            share = shares[name] if shares else 1.0
            sorted_out.setdefault((share, spared), []).append(parameter)
    return [
        {"params": parameters, "weight_decay": 0.0 if spared else weight_decay, "share": share}
        for (share, spared), parameters in sorted(sorted_out.items(), key=lambda row: row[0])
    ]


def make_optimizer(
    model: nn.Module,
    recipe: Recipe,
    shares: Mapping[str, float] | None = None,
    pulled: Iterable[str] = (),
) -> torch.optim.Optimizer:
    """The recipe's optimiser over `model`'s trainable parameters, in PyTorch's fused form where there is one."""
    chosen = recipe.optimizer
    assert chosen.lr is not None
    groups = parameter_groups(model, chosen.weight_decay or 0.0, shares, pulled)
    devices = {p.device.type for p in model.parameters()}
    fused = devices <= {"cpu"} or devices <= {"cuda"}
    if chosen.name == "adamw":
        return torch.optim.AdamW(groups, lr=chosen.lr, betas=chosen.betas, fused=fused)
    return torch.optim.SGD(
        groups, lr=chosen.lr, momentum=chosen.momentum, nesterov=bool(chosen.nesterov), fused=fused
    )


def averaged(model: nn.Module, decay: float) -> AveragedModel:
    """An exponential moving average of `model`, buffers too, that forgets its start: decay min(decay, (1+n)/(10+n))."""

    @torch.no_grad()
    def average(mean: Tensors, new: Tensors, count: torch.Tensor | int) -> None:
        share = 1 - min(decay, (1 + int(count)) / (10 + int(count)))
        if mean[0].is_floating_point():
            torch._foreach_lerp_(mean, new, share)
        else:
            for kept, value in zip(mean, new, strict=True):
                kept.copy_(value)

    return AveragedModel(model, multi_avg_fn=average, use_buffers=True)
