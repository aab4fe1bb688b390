"""The learning-rate range test (Smith 2017, arXiv 1506.01186, section 3.3): train while the rate rises, watch loss."""

from __future__ import annotations

import copy
import errno
import math
import os
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sightline.errors import SightlineError
from sightline.files import disk_errors
from sightline.training.loop import Trainer, Watcher, set_train_mode

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
    spare = copy.copy(trainer)
    spare.model = copy.deepcopy(trainer.model)
    state = spare.start()
    state.ema = None
    set_train_mode(state.model)
    rates: list[float] = []
    losses: list[float] = []
    mean, lowest, epoch = 0.0, math.inf, 0
    batches = trainer.train.epoch(epoch, trainer.order(epoch))
    while len(rates) < steps:
        batch = next(batches, None)
        if batch is None:
            epoch += 1
            batches = trainer.train.epoch(epoch, trainer.order(epoch))
            continue
        if not len(batch.indices):
            continue
        rate = LOWEST * (HIGHEST / LOWEST) ** (len(rates) / (steps - 1))
        before = time.perf_counter()
        loss, right = spare.learn(state, batch, rate)
        mean = 0.9 * mean + 0.1 * loss
        smooth = mean / (1 - 0.9 ** (len(rates) + 1))
        lowest = min(lowest, smooth)
        if not math.isfinite(loss) or (len(rates) > 10 and smooth > 3 * lowest):
            break
        rates.append(rate)
        losses.append(smooth)
        count, seconds = len(batch.indices), time.perf_counter() - before
        watcher.step(epoch + 1, len(rates), steps, smooth, right / count, count / max(1e-9, seconds))
    return RateCurve(tuple(rates), tuple(losses), propose(rates, losses))


def propose(rates: list[float], losses: list[float]) -> float:
    """A tenth of the rate with the lowest loss: there the loss still falls, and a whole run stays stable."""
    end = int(np.argmin(losses)) + 1 if losses else 0
    if end < 5:
        raise SightlineError(
            "The loss never fell while the learning rate rose; check the data and the labels."
        )
    return rates[end - 1] / 10
