"""What a person sees: a live line on a terminal, or plain lines in a pipe, while a run is under way; then results."""

from __future__ import annotations

import json
import os
import sys
import time
from types import TracebackType
from typing import Any

from rich.console import Console, RenderableType
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn


class Quiet:
    """Says nothing."""

    def message(self, text: str) -> None:
        """A sentence about the run."""

    def reading(self, done: int, total: int, what: str) -> None:
        """`done` of `total` pictures of `what` have been read."""

    def step(self, epoch: int, step: int, steps: int, loss: float, accuracy: float, rate: float) -> None:
        """A training step is done; `rate` in pictures a second."""

    def record(self, row: dict[str, Any]) -> None:
        """The figures of one step."""

    def epoch(self, row: dict[str, Any]) -> None:
        """An epoch is done and validated."""

    def __enter__(self) -> Quiet:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass


class PlainLines(Quiet):
    """A line an epoch, at most one in two seconds, and one now and then within a long one, on stderr."""

    def __init__(self, every: float = 2.0, within: float = 15.0) -> None:
        self.every, self.within = every, within
        self.last = time.monotonic() - every
        self.first: tuple[float, int] | None = None  # when training began, at which step
        self.rest = ""

    def message(self, text: str) -> None:
        say(text)

    def reading(self, done: int, total: int, what: str) -> None:
        if self.due(self.within):
            self.message(f"reading {what}: {done:,} of {total:,}")

    def step(self, epoch: int, step: int, steps: int, loss: float, accuracy: float, rate: float) -> None:
        now = time.monotonic()
        self.first = self.first or (now, step - 1)
        begun, before = self.first
        left = (now - begun) / (step - before) * (steps - step)
        self.rest = f"   {step / steps:4.0%}, {clock(left)} left" if step < steps else "   100%"
        if self.due(self.within):
            self.message(
                f"epoch {epoch:>3}  train loss {loss:.3f}  accuracy {accuracy:6.1%}   {rate:,.0f} pictures/s{self.rest}"
            )

    def epoch(self, row: dict[str, Any]) -> None:
        if self.due(self.every) or self.rest.endswith("100%"):
            self.message(epoch_line(row) + self.rest)

    def due(self, seconds: float) -> bool:
        """Whether it is so long since the last line of progress; if so, one is written now."""
        if time.monotonic() - self.last < seconds:
            return False
        self.last = time.monotonic()
        return True


class LiveLine(Quiet):
    """A progress bar with rate, loss, accuracy and time left; the line of an epoch that is the best stays above it."""

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
        self.console.print(printable(text), highlight=False, markup=False, emoji=False)

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
        merit = row["val_recall"] if "val_recall" in row else row["val_balanced_accuracy"]
        if merit > self.best:
            self.best = merit
            self.message(epoch_line(row))


def epoch_line(row: dict[str, Any]) -> str:
    """One epoch in a line; a star marks those as good as the best so far, of which the latest is kept."""
    if "val_recall" in row:
        to_text, to_image = row["val_image_to_text_1"], row["val_text_to_image_1"]
        figures = f"recall@1 {to_text:6.1%} captions, {to_image:6.1%} pictures"
    else:
        figures = f"balanced accuracy {row['val_balanced_accuracy']:6.1%}"
    return (
        f"epoch {row['epoch']:>3}  train loss {row['train_loss']:.3f}  accuracy {row['train_accuracy']:6.1%}   "
        f"validation loss {row['val_loss']:.3f}  {figures}"
        f"{' *' if row['best'] else '  '}   {row['images_per_second']:,.0f} pictures/s"
    )


def clock(seconds: float) -> str:
    """Seconds as a clock has them: 0:07, 12:30, 1:02:03."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


# What a terminal would obey rather than show, but the end of a line.
CONTROLS = {code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160)) if code != ord("\n")}


def printable(text: str) -> str:
    """`text` with control characters, which the name of a file may have, spelled out."""
    return text.translate(CONTROLS)


def say(text: str) -> None:
    """A line on stderr."""
    print(printable(text), file=sys.stderr, flush=True)


def show(result: RenderableType | dict[str, Any]) -> None:
    """Print a result on stdout.

    A table is as wide as the terminal, or as wide as it likes for files and other programs. A dictionary is one JSON
    object on one line, in letters that stdout can hold.
    """
    if isinstance(result, dict):
        print(json.dumps(result, ensure_ascii=sys.stdout.encoding.lower() != "utf-8"))
        return
    console = Console(width=None if sys.stdout.isatty() or "COLUMNS" in os.environ else 200)
    with console.capture() as text:
        console.print(result)
    print(text.get(), end="")


def watcher(quiet: bool = False) -> Quiet:
    """The right one for where stderr goes."""
    if quiet:
        return Quiet()
    return LiveLine() if sys.stderr.isatty() else PlainLines()
