"""How long a step takes here, and so how many fit into the time that was asked for."""

from __future__ import annotations

import time

import numpy as np

from sightline.training.loop import Trainer, set_train_mode

STEPS = 6
SECONDS = 12.0
# Of the time that was asked for, this share is planned; the rest is for what a calibration cannot foresee.
PLANNED_SHARE = 0.9


def calibrate(trainer: Trainer, seconds: float, at_least: int = 1) -> tuple[int, float]:
    """How many steps fit into `seconds`, validation included, and the seconds that one step took.

    Measured on copies: the run itself starts untouched.
    """
    spare = trainer.spare()
    state = spare.start()
    set_train_mode(state.model)
    times: list[float] = []
    begun = before = time.perf_counter()
    while len(times) < STEPS and time.perf_counter() - begun < SECONDS:
        for _, batch in trainer.batches(0):
            if len(batch.indices):
                spare.learn(state, batch, 1e-6)[0].item()
            times.append(time.perf_counter() - before)
            before = time.perf_counter()
            if len(times) == STEPS or before - begun > SECONDS:
                break
    before = time.perf_counter()
    spare.validate(state.evaluated)
    validation = time.perf_counter() - before
    step = float(np.median(times[1:] or times))
    per_epoch = step * trainer.steps_per_epoch + validation
    budget = max(0.0, seconds * PLANNED_SHARE - (time.perf_counter() - begun))
    steps = max(at_least, int(budget / per_epoch * trainer.steps_per_epoch))
    return min(trainer.processes.gather(steps)), step
