"""All that a training step changes, in one place; and who is told of it."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Protocol

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

from sightline.pipeline.cache import Failure
from sightline.training.choice import Choice


class Watcher(Protocol):
    """Who is told what happens: a progress line, a log, a test."""

    def message(self, text: str) -> None: ...

    def step(self, epoch: int, step: int, steps: int, loss: float, accuracy: float, rate: float) -> None: ...

    def record(self, row: dict[str, Any]) -> None: ...

    def epoch(self, row: dict[str, Any]) -> None: ...


class Saver(Protocol):
    """Who keeps the state now and then."""

    def due(self) -> bool: ...

    def save(self, state: TrainState) -> None: ...


class Forgetful:
    """Keeps nothing."""

    def due(self) -> bool:
        return False

    def save(self, state: TrainState) -> None: ...


@dataclass
class Best:
    """The epoch that is kept so far (see `Choice`), and what it reached on the validation split.

    merit: balanced accuracy; of a contrastive run the mean recall.
    """

    epoch: int
    merit: float
    loss: float
    weights: dict[str, torch.Tensor]


@dataclass
class Sums:
    """Of an epoch so far, in this process: the losses, how many pictures were right, how many there were, seconds."""

    loss: float = 0.0
    right: float = 0.0
    seen: float = 0.0
    seconds: float = 0.0


@dataclass
class TrainState:
    """All that a step changes. `facts` and the tensors are what a checkpoint holds; `restore` takes facts back."""

    model: nn.Module
    optimizer: torch.optim.Optimizer
    ema: AveragedModel | None
    step: int = 0
    epoch: int = 0
    sums: Sums = field(default_factory=Sums)
    best: Best | None = None
    choice: Choice = field(default_factory=Choice)
    history: list[dict[str, Any]] = field(default_factory=list)
    failures: dict[str, Failure] = field(default_factory=dict)

    @property
    def evaluated(self) -> nn.Module:
        """The weights that are measured and kept: the averaged ones where there are."""
        return self.ema.module if self.ema is not None else self.model

    def facts(self) -> dict[str, Any]:
        """Everything but the tensors, as plain data; floats come back from JSON to the bit."""
        best = self.best
        return {
            "step": self.step,
            "epoch": self.epoch,
            "sums": asdict(self.sums),
            "best": best and {"epoch": best.epoch, "merit": best.merit, "loss": best.loss},
            "choice": asdict(self.choice),
            "history": self.history,
            "failures": [asdict(failure) for failure in self.failures.values()],
        }

    def restore(self, facts: dict[str, Any], best_weights: dict[str, torch.Tensor]) -> None:
        """Take back what `facts` gave, and the weights of the epoch that is kept."""
        self.step, self.epoch = facts["step"], facts["epoch"]
        self.sums = Sums(**facts["sums"])
        self.best = Best(**facts["best"], weights=best_weights) if facts["best"] else None
        self.choice, self.history = Choice(**facts["choice"]), facts["history"]
        self.failures = {row["ref"]: Failure(**row) for row in facts["failures"]}
