"""What the views share: the network as it was found, the picture checked, the class that is asked for.

No view leaves a trace: networks run in evaluation mode within `as_found`, gradients are taken with respect to
activations by `torch.autograd.grad`, which writes no parameter's `.grad`, and hooks are removed in every case.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from sightline.errors import SightlineError
from sightline.models.protocol import first_line


@contextmanager
def as_found(model: nn.Module) -> Iterator[None]:
    """Run `model` in evaluation mode; afterwards each of its modules has the mode it had."""
    modes = [(module, module.training) for module in model.modules()]
    try:
        # Setting an attribute of hundreds of modules takes its time.
        if any(training for _, training in modes):
            model.eval()
        yield
    finally:
        for module, training in modes:
            if module.training != training:
                module.training = training


def picture_of(model: nn.Module, x: Tensor) -> Tensor:
    """`x`, on the device and in the precision of `model`. Raises SightlineError unless it is (1, C, H, W)."""
    if x.ndim != 4 or x.shape[0] != 1:
        raise SightlineError(f"A view is of one picture, of shape (1, C, H, W); got {tuple(x.shape)}.")
    parameter = next((p for p in model.parameters() if p.is_floating_point()), x)
    return x.detach().to(parameter.device, parameter.dtype)


def run(model: nn.Module, x: Tensor) -> Tensor:
    """The logits (N, classes) of `x`. Raises SightlineError where the network does not take it, or gives others."""
    try:
        logits = model(x)
    except (RuntimeError, ValueError, AssertionError, IndexError, TypeError) as error:
        shape = "x".join(map(str, x.shape[1:]))
        raise SightlineError(
            f"{type(model).__name__} cannot take a picture of {shape}: {first_line(error)}."
        ) from error
    if not isinstance(logits, Tensor) or logits.ndim != 2 or not logits.shape[1]:
        what = str(tuple(logits.shape)) if isinstance(logits, Tensor) else type(logits).__name__
        raise SightlineError(
            f"{type(model).__name__} puts out {what}, not one row of scores for each picture."
        )
    return logits


@dataclass(frozen=True, slots=True)
class Question:
    """What evidence is asked for: `target`, or `target` rather than `versus`; `spread` is that of all logits.

    spread: the highest logit less the lowest (the logit's size, of a network with one): what the network tells its
    classes apart by in this picture, and hence what much and little evidence are measured against.
    """

    target: int
    versus: int | None
    spread: float

    def score(self, logits: Tensor) -> Tensor:
        """(N, classes) -> (N,): the logit of the target, less that of the other class if one was named."""
        scores = logits[:, self.target]
        return scores if self.versus is None else scores - logits[:, self.versus]


def question(logits: Tensor, target: int | None, versus: int | None) -> Question:
    """The question about `logits` (1, classes); without a target it is about the class with the highest one.

    Raises SightlineError for a class that is not there, or set against itself.
    """
    classes = logits.shape[1]
    for number in (target, versus):
        if number is not None and not 0 <= number < classes:
            raise SightlineError(
                f"There is no class {number}; the network tells {classes} apart, 0 to {classes - 1}."
            )
    if target is None:
        ranked = logits[0].argsort(descending=True, stable=True).tolist()
        target = next((one for one in ranked if one != versus), ranked[0])
    if target == versus:
        raise SightlineError(f"Class {target} cannot be set against itself; name another one as versus.")
    row = logits[0].detach().float()
    return Question(target, versus, float(row.max() - row.min()) if classes > 1 else float(row.abs()))


def gradients(score: Tensor, inputs: list[Tensor]) -> tuple[Tensor | None, ...]:
    """Gradients of a scalar with respect to `inputs`, None for those that it does not depend on."""
    if not score.requires_grad:
        return (None,) * len(inputs)
    return torch.autograd.grad(score, inputs, allow_unused=True, retain_graph=True)
