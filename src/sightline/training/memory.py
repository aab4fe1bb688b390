"""A batch that does not fit into memory is computed in parts, as many as it takes."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

import torch

from sightline.errors import SightlineError

if TYPE_CHECKING:
    from sightline.training.loop import Trainer
    from sightline.training.state import TrainState

T = TypeVar("T")
# It is settled in so many steps: the first makes the optimiser's buffers, so that the second needs the most.
SETTLED = 3
# What PyTorch's allocators and oneDNN say (it gives no reason); only the GPU's error has a class of its own.
SAID = (
    "can't allocate memory",
    "out of memory",
    "not enough memory",
    "bad_alloc",
    "could not create a primitive",
)


def within_memory(trainer: Trainer, state: TrainState, pictures: int, compute: Callable[[], T]) -> T:
    """`compute`, the gradient of a batch of `pictures`; where it does not fit, in twice as many parts, and again.

    That is settled in the first steps of a run: batches are of one size. Raises SightlineError where it cannot be.
    """
    buffers = (
        {name: buffer.clone() for name, buffer in state.model.named_buffers()} if state.step < SETTLED else {}
    )
    while True:
        try:
            return compute()
        except (RuntimeError, MemoryError) as error:
            if not out_of_memory(error):
                raise
            said = str(error).partition("\n")[0]
        # Outside of the handler: the error's traceback holds the activations.
        state.optimizer.zero_grad(set_to_none=True)
        if trainer.device.type == "cuda":
            torch.cuda.empty_cache()
        parts = 2 * trainer.accumulate
        if state.step >= SETTLED or trainer.processes.count > 1 or parts > pictures // 2:
            raise SightlineError(
                f"Memory ran out at step {state.step + 1:,} (batches of {pictures} pictures, parts: "
                f"{trainer.accumulate}); begin again with --set accumulate={parts}, or with a smaller batch_size. "
                f"What was said: {said}"
            )
        trainer.accumulate = parts
        with torch.no_grad():  # batch statistics have moved in the parts that were done
            for name, buffer in state.model.named_buffers():
                buffer.copy_(buffers[name])


def out_of_memory(error: BaseException) -> bool:
    """Whether `error` says that memory was not enough."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or any(s in str(error) for s in SAID)
