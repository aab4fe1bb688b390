"""Gradient checkpointing (Chen et al.: Training Deep Nets with Sublinear Memory Cost. 2016, arXiv 1604.06174).

What a block computes on the way is not kept for the gradient but computed again when the gradient comes by:
less memory, about a third more time, the same numbers.
"""

# In PyTorch's stubs the call of a module is Any.
# mypy: disable-error-code="no-any-return"
from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint


class Stage(nn.Sequential):
    """Blocks one after another, each checkpointed while `grad_checkpointing` is on and gradients are wanted."""

    grad_checkpointing = False

    def forward(self, x: Tensor) -> Tensor:
        again = self.grad_checkpointing and torch.is_grad_enabled()
        for block in self:
            x = checkpointed(block, x) if again else block(x)
        return x


def set_grad_checkpointing(model: nn.Module, enable: bool) -> None:
    """Turn the checkpointing of all stages in `model` on or off."""
    for module in model.modules():
        if isinstance(module, Stage):
            module.grad_checkpointing = enable


def checkpointed(block: nn.Module, x: Tensor) -> Tensor:
    """`block(x)`, computed a second time for the gradient; batch norm counts the batch once."""
    if (
        torch.compiler.is_compiling()
    ):  # the compiler repeats the arithmetic alone, never what it leaves behind
        return checkpoint(block, x, use_reentrant=False)
    return checkpoint(block, x, use_reentrant=False, context_fn=partial(both_times, block))


def both_times(block: nn.Module) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
    """What surrounds the first and the second computation of `block`."""
    return nullcontext(), statistics_at_rest(block)


@contextmanager
def statistics_at_rest(module: nn.Module) -> Iterator[None]:
    """Batch norms inside normalise as they do, but their running statistics do not move.

    They are still passed on: both times the same tensors must be there for the gradient.
    """
    moving = [
        m for m in module.modules() if isinstance(m, _BatchNorm) and m.training and m.track_running_stats
    ]
    before = [(norm, norm.momentum, norm.num_batches_tracked) for norm in moving]
    for norm, _, batches in before:
        norm.momentum = 0.0
        norm.num_batches_tracked = None if batches is None else batches.clone()
    try:
        yield
    finally:
        for norm, momentum, batches in before:
            norm.momentum, norm.num_batches_tracked = momentum, batches
