"""Several processes that train one model: torch.distributed's, started by torchrun. One process is the usual case.

    torchrun --nproc-per-node 2 -m sightline fit DATA

Every process reads the same recipe and draws the same order, takes its part of each global batch, and averages
gradients with the others. The main one (rank 0) alone writes files and speaks.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar

import numpy as np
import torch
from torch import distributed, nn

from sightline.errors import SaidByMain, SightlineError

Value = TypeVar("Value")

# A process that waits for longer than this takes the others for dead.
TIMEOUT = timedelta(minutes=10)


class Processes:
    """This process among those of the run: `rank` of `count`, `local` the rank on its machine."""

    def __init__(self, rank: int = 0, count: int = 1, local: int = 0) -> None:
        self.rank, self.count, self.local = rank, count, local

    @property
    def main(self) -> bool:
        """Whether this process writes files and speaks."""
        return self.rank == 0

    def on_main(self, work: Callable[[], Value]) -> Value:
        """What `work` gives on the main process, for all of them; a SightlineError of it ends all of them."""
        if self.count == 1:
            return work()
        answer: list[Any] = [None, None]
        if self.main:
            try:
                answer[0] = work()
            except SightlineError as error:
                distributed.broadcast_object_list([None, str(error)])
                raise
        distributed.broadcast_object_list(answer)
        if answer[1] is not None:
            raise SaidByMain(answer[1])
        value: Value = answer[0]
        return value

    def total(self, values: np.ndarray) -> np.ndarray:
        """The sum of `values` (float64, of one shape) over the processes."""
        if self.count == 1:
            return values
        sums = torch.from_numpy(values.astype(np.float64))
        distributed.all_reduce(sums)
        return sums.numpy()

    def any(self, flag: bool) -> bool:
        """Whether `flag` holds in one of the processes."""
        return bool(self.total(np.array([float(flag)]))[0]) if self.count > 1 else flag

    def gather(self, value: Value) -> list[Value]:
        """The values of all processes, by rank."""
        if self.count == 1:
            return [value]
        values: list[Any] = [None] * self.count
        distributed.all_gather_object(values, value)
        return values

    @torch.no_grad()
    def share_buffers(self, model: nn.Module) -> None:
        """Give every process the main one's buffers: its running batch statistics."""
        if self.count > 1:
            for buffer in model.buffers():
                distributed.broadcast(buffer, 0)

    def part(self, positions: np.ndarray) -> np.ndarray:
        """This process's part of `positions`: each position is in exactly one part, and sizes differ by one at most."""
        return np.array_split(positions, self.count)[self.rank]


ALONE = Processes()


@contextmanager
def joined() -> Iterator[Processes]:
    """The processes of this run, as torchrun's environment has them; alone where there is none.

    Within, what torch.distributed says of a process that died is one sentence.
    """
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if count == 1 or "RANK" not in os.environ:
        yield ALONE
        return
    local = int(os.environ.get("LOCAL_RANK", "0"))
    if torch.cuda.is_available():
        torch.cuda.set_device(local)
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    with losses_said():
        distributed.init_process_group(backend, timeout=TIMEOUT)
        try:
            yield Processes(distributed.get_rank(), distributed.get_world_size(), local)
            distributed.barrier()
        finally:
            distributed.destroy_process_group()


@contextmanager
def losses_said() -> Iterator[None]:
    """Turn what the connections say when a process is gone into a sentence."""
    try:
        yield
    except RuntimeError as error:
        signs = ("gloo", "nccl", "connection", "timed out", "socket", "store")
        if not any(sign in str(error).lower() for sign in signs):
            raise
        raise SightlineError(
            "Another process of this run has ended; start all of them again with --resume RUN, "
            "the run's folder, to go on from the last checkpoint."
        ) from None


class WholeRows(torch.autograd.Function):
    """Each process's rows, one after the other; each gets back the gradient that all processes have for its rows."""

    @staticmethod
    def forward(ctx: Any, rows: torch.Tensor, first: int, total: int) -> torch.Tensor:
        ctx.own = slice(first, first + len(rows))
        whole = rows.new_zeros(total, *rows.shape[1:])
        whole[ctx.own] = rows
        distributed.all_reduce(whole)  # a sum with zeros, so parts may differ in size
        return whole

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        gradient = gradient.contiguous()
        distributed.all_reduce(gradient)
        return gradient[ctx.own], None, None


def whole_rows(rows: torch.Tensor, sizes: Sequence[int], processes: Processes) -> torch.Tensor:
    """The rows (n, ...) of all processes, by rank, with gradients; process r has sizes[r] of them."""
    if processes.count == 1:
        return rows
    whole: torch.Tensor = WholeRows.apply(rows, sum(sizes[: processes.rank]), sum(sizes))
    return whole


class SyncBatchNorm(nn.BatchNorm2d):
    """Batch norm over the whole global batch, on any device. PyTorch's own needs a GPU."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """As nn.BatchNorm2d, with mean and variance over the pictures of all processes."""
        if not self.training:
            return super().forward(input)
        from torch.distributed.nn.functional import all_reduce

        x = input if input.dtype == torch.float64 else input.float()
        n = x.new_full((1,), x.numel() // x.shape[1])
        sums = all_reduce(torch.cat([x.sum((0, 2, 3)), (x * x).sum((0, 2, 3)), n]))  # type: ignore[no-untyped-call]
        c = x.shape[1]
        count = sums[-1]
        mean = sums[:c] / count
        var = sums[c : 2 * c] / count - mean * mean
        if self.track_running_stats and self.running_mean is not None and self.running_var is not None:
            with torch.no_grad():
                share = self.momentum if self.momentum is not None else 0.1
                self.running_mean.lerp_(mean, share)
                self.running_var.lerp_(var * (count / (count - 1).clamp(min=1)), share)
                if self.num_batches_tracked is not None:
                    self.num_batches_tracked.add_(1)
        scale = torch.rsqrt(var + self.eps) * self.weight
        shift = self.bias - mean * scale
        normalised: torch.Tensor = (x * scale[:, None, None] + shift[:, None, None]).to(input.dtype)
        return normalised


def synchronised(model: nn.Module) -> nn.Module:
    """`model` with its batch norms over the global batch; names, parameters and buffers stay."""
    if next(model.parameters()).is_cuda:
        converted: nn.Module = nn.SyncBatchNorm.convert_sync_batchnorm(model)  # type: ignore[no-untyped-call]
        return converted
    for module in model.modules():
        if type(module) is nn.BatchNorm2d:
            module.__class__ = SyncBatchNorm
    return model
