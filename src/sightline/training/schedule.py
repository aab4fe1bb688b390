"""The learning rate as a function of the step. No state: a resumed run asks for its step and gets the same rate."""

from __future__ import annotations

import math
from typing import Literal

ScheduleName = Literal["constant", "step", "cosine", "onecycle"]


def factor(
    name: ScheduleName,
    step: int,
    total: int,
    *,
    warmup: int = 0,
    step_size: int = 1,
    gamma: float = 0.1,
    rise: float = 0.3,
    final: float = 0.0,
) -> float:
    """What the recipe's learning rate is multiplied by at `step` of `total` (0 is the first).

    constant: 1. step: times `gamma` every `step_size` steps. cosine: from 1 to `final`, half a cosine
    (Loshchilov & Hutter 2017). onecycle: from 1/25 up to 1 over a `rise` share of the run and down to 1/250,000, both
    on a cosine (Smith & Topin 2018, with PyTorch's defaults). The first `warmup` steps rise in a line to 1, except
    for onecycle, which has its own.
    """
    if name == "onecycle":
        peak = rise * total - 1
        if step <= peak:
            return cosine(1 / 25, 1.0, step / max(peak, 1e-9))
        return cosine(1.0, 1 / 25e4, min((step - peak) / max(total - 1 - peak, 1e-9), 1.0))
    if step < warmup:
        return (step + 1) / (warmup + 1)
    if name == "constant":
        return 1.0
    if name == "step":
        return float(gamma ** (step // step_size))
    return cosine(1.0, final, (step - warmup) / max(total - warmup, 1))


def cosine(start: float, end: float, share: float) -> float:
    """From `start` to `end` along half a cosine."""
    return end + (start - end) * (1 + math.cos(math.pi * share)) / 2
