"""How far the trainings of an ablation are: a live line on a terminal, a line now and then in a pipe."""

from __future__ import annotations

import sys
import time
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from sightline.training.progress import Quiet, say

# Between two lines in a pipe, seconds.
EVERY = 15.0


class RunsLine(Quiet):
    """Follows one training after the other; the trainer tells it each step."""

    def __init__(self, quiet: bool = False) -> None:
        self.progress = None
        if not quiet and sys.stderr.isatty():
            self.progress = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                TextColumn("{task.percentage:3.0f}%"),
                TimeRemainingColumn(compact=True),
                console=Console(stderr=True),
                transient=True,
            )
            self.task = self.progress.add_task("", total=1.0)
        self.lines = not quiet and self.progress is None
        self.last = time.monotonic()
        self.what, self.done, self.runs = "", 0, 1

    def begin(self, what: str, done: int, runs: int) -> None:
        """The next training is `what`, after `done` of `runs`."""
        self.what, self.done, self.runs = what, done, runs

    def step(self, epoch: int, step: int, steps: int, loss: float, accuracy: float, rate: float) -> None:  # noqa: ARG002
        share = (self.done + step / steps) / self.runs
        if self.progress:
            self.progress.update(self.task, description=self.what, completed=share)
        elif self.lines and time.monotonic() - self.last >= EVERY:
            self.last = time.monotonic()
            say(f"training {self.done + 1} of {self.runs}: {self.what}   {share:4.0%}")

    def __enter__(self) -> RunsLine:
        if self.progress:
            self.progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.progress:
            self.progress.stop()
