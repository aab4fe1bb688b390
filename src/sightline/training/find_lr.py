"""The learning-rate range test (Smith 2017, arXiv 1506.01186, section 3.3): train while the rate rises, watch loss."""

from __future__ import annotations

import errno
import itertools
import math
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sightline.errors import SightlineError
from sightline.files import disk_errors
from sightline.pipeline.loader import Batch
from sightline.training.loop import Trainer, set_train_mode
from sightline.training.state import Watcher

LOWEST, HIGHEST = 1e-5, 10.0


@dataclass(frozen=True)
class RateCurve:
    """rates, losses: a point a step, the losses smoothed. proposed: the rate to use."""

    rates: tuple[float, ...]
    losses: tuple[float, ...]
    proposed: float

    def figure(self, path: Path) -> None:
        """Draw the curve as a PNG. Raises SightlineError."""
        from matplotlib.figure import Figure

        figure = Figure(figsize=(7, 4), layout="constrained")
        axes = figure.subplots()
        axes.plot(self.rates, self.losses)
        axes.axvline(self.proposed, linestyle="--", color="0.4")
        axes.annotate(
            f"{self.proposed:.2g}", (self.proposed, max(self.losses)), ha="right", rotation=90, va="top"
        )
        axes.set(xscale="log", xlabel="learning rate", ylabel="training loss (smoothed)")
        axes.grid(alpha=0.3)
        with disk_errors(path):
            figure.savefig(path, dpi=120, format="png")


def curve_file(out: Path | None) -> Path:
    """Where to draw: `out` if it is a .png, else learning-rate.png in that folder, made where it is not there."""
    path = out.expanduser() if out else Path()
    if path.suffix.lower() != ".png":
        path = path / "learning-rate.png"
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        if not os.access(path.parent, os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    return path


def find_lr(trainer: Trainer, watcher: Watcher, steps: int = 100) -> RateCurve:
    """Raise the rate from 1e-5 to 10 in `steps` steps, or until the loss leaves for good; the model is left as it was.

    Proposes a tenth of the rate at which the smoothed loss is lowest. Raises SightlineError where it never falls.
    """
    spare = trainer.spare()
    state = spare.start()
    state.ema = None
    set_train_mode(state.model)
    rates: list[float] = []
    losses: list[float] = []
    mean, lowest = 0.0, math.inf
    for epoch, batch in endless(spare):
        rate = LOWEST * (HIGHEST / LOWEST) ** (len(rates) / (steps - 1))
        before, count = time.perf_counter(), len(batch.indices)
        loss_sum, right = (figure.item() for figure in spare.learn(state, batch, rate))
        loss = loss_sum / count
        mean = 0.9 * mean + 0.1 * loss
        smooth = mean / (1 - 0.9 ** (len(rates) + 1))
        lowest = min(lowest, smooth)
        if not math.isfinite(loss) or (len(rates) > 10 and smooth > 3 * lowest):
            break
        rates.append(rate)
        losses.append(smooth)
        seconds = time.perf_counter() - before
        watcher.step(epoch + 1, len(rates), steps, smooth, right / count, count / max(1e-9, seconds))
        if len(rates) == steps:
            break
    return RateCurve(tuple(rates), tuple(losses), propose(rates, losses))


def endless(trainer: Trainer) -> Iterator[tuple[int, Batch]]:
    """(epoch, batch) for ever; batches of which nothing could be read are left out. SightlineError if all are."""
    for epoch in itertools.count():
        served = 0
        for _, batch in trainer.batches(epoch):
            if len(batch.indices):
                served += 1
                yield epoch, batch
        if not served:
            raise SightlineError("None of the training pictures could be read.")


def propose(rates: list[float], losses: list[float]) -> float:
    """A tenth of the rate with the lowest loss: there the loss still falls, and a whole run stays stable."""
    end = int(np.argmin(losses)) + 1 if losses else 0
    if end < 5:
        raise SightlineError(
            "The loss never fell while the learning rate rose; check the data and the labels."
        )
    return rates[end - 1] / 10
