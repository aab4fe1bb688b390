"""What a person sees while a run is under way: a live line on a terminal, plain lines in a pipe."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn


class Quiet:
    """Says nothing."""

    def message(self, text: str) -> None:
        """A sentence about the run."""

    def reading(self, done: int, total: int, what: str) -> None:
        """`done` of `total` pictures of `what` have been read."""

    def step(self, epoch: int, step: int, steps: int, loss: float, accuracy: float, rate: float) -> None:
        """A training step is done; `rate` in pictures a second."""

    def epoch(self, row: dict[str, Any]) -> None:
        """An epoch is done and validated."""

    def __enter__(self) -> Quiet:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass


class PlainLines(Quiet):
    """One line an epoch, at most one in two seconds, on stderr."""

    def __init__(self, every: float = 2.0) -> None:
        self.every, self.last = every, 0.0
        self.epochs = 0

    def message(self, text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    def step(self, epoch: int, step: int, steps: int, loss: float, accuracy: float, rate: float) -> None:  # noqa: ARG002
        self.epochs = max(1, round(epoch * steps / max(1, step)))
        self.share = step / steps

    def epoch(self, row: dict[str, Any]) -> None:
        now = time.monotonic()
        if now - self.last < self.every and self.share < 1:
            return
        self.last = now
        self.message(epoch_line(row) + f"   {self.share:4.0%}")


class LiveLine(Quiet):
    """A progress bar with rate, loss, accuracy and time left; an epoch's line stays above it."""

    def __init__(self) -> None:
        self.console = Console(stderr=True)
        self.progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.percentage:3.0f}%  {task.fields[figures]}"),
            TimeRemainingColumn(compact=True),
            console=self.console,
            transient=True,
        )
        self.task = self.progress.add_task("preparing", total=None, figures="")
        self.best = -1.0

    def __enter__(self) -> LiveLine:
        self.progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.progress.stop()

    def message(self, text: str) -> None:
        self.console.print(text, highlight=False, markup=False)

    def reading(self, done: int, total: int, what: str) -> None:
        self.progress.update(
            self.task, description=f"reading {what}", completed=done, total=total, figures=""
        )

    def step(self, epoch: int, step: int, steps: int, loss: float, accuracy: float, rate: float) -> None:
        self.progress.update(
            self.task,
            description=f"epoch {epoch}",
            completed=step,
            total=steps,
            figures=f"loss {loss:.3f}  accuracy {accuracy:.1%}  {rate:,.0f} pictures/s ",
        )

    def epoch(self, row: dict[str, Any]) -> None:
        if row["best"]:
            self.message(epoch_line(row))


def epoch_line(row: dict[str, Any]) -> str:
    """One epoch in a line; a star marks the best so far."""
    return (
        f"epoch {row['epoch']:>3}  train loss {row['train_loss']:.3f}  accuracy {row['train_accuracy']:6.1%}   "
        f"validation loss {row['val_loss']:.3f}  balanced accuracy {row['val_balanced_accuracy']:6.1%}"
        f"{' *' if row['best'] else '  '}   {row['images_per_second']:,.0f} pictures/s"
    )


def watcher(quiet: bool = False) -> Quiet:
    """The right one for where stderr goes."""
    if quiet:
        return Quiet()
    return LiveLine() if sys.stderr.isatty() else PlainLines()
