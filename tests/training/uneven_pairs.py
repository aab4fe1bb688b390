"""For torchrun: two processes with uneven numbers of pairs, one of them none; the averaged gradients as JSON."""

from __future__ import annotations

import json
import sys

import torch
from torch import distributed, nn
from torch.nn import functional as F

from sightline.training.contrastive import contrastive_losses
from sightline.training.processes import Processes

PAIRS = 5


def gradients(sizes: list[int], processes: Processes) -> list[list[float]]:
    """Of two linear towers and the scale, after one step's loss over `PAIRS` pairs spread as `sizes`."""
    torch.manual_seed(0)
    towers = nn.ModuleList([nn.Linear(6, 4), nn.Linear(6, 4)])
    scale = nn.Parameter(torch.tensor(7.0))
    data = torch.randn(2, PAIRS, 6)
    first = sum(sizes[: processes.rank])
    mine = data[:, first : first + sizes[processes.rank]]
    if not mine.shape[1]:  # what a trainer does with a batch of which nothing could be read
        mine = torch.zeros(2, 1, 6)
    seen, said = (F.normalize(tower(x), dim=1) for tower, x in zip(towers, mine, strict=True))
    own = sizes[processes.rank]
    losses, _ = contrastive_losses(seen[:own], said[:own], scale, sizes, processes)
    (losses.sum() * processes.count / PAIRS).backward()
    found = [p.grad for p in (*towers.parameters(), scale)]
    if processes.count > 1:
        for gradient in found:
            distributed.all_reduce(gradient)
            gradient /= processes.count
    return [gradient.flatten().tolist() for gradient in found]


if __name__ == "__main__":
    distributed.init_process_group("gloo")
    rank = distributed.get_rank()
    answers = [gradients(sizes, Processes(rank, 2)) for sizes in ([3, 2], [5, 0], [0, 5], [1, 4])]
    if rank == 0:
        json.dump(answers, sys.stdout)
    distributed.destroy_process_group()
