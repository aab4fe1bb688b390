"""The run's folder while a fit works on it: what is written down, and what is said of one that ends early."""

from __future__ import annotations

import os
import shlex
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sightline.data import ImageDataset
from sightline.data.captions import CaptionDataset
from sightline.errors import SaidByMain, SightlineError
from sightline.pipeline.cache import Failure
from sightline.run import RECIPE, Run
from sightline.training.checkpoint import Checkpoints
from sightline.training.event_log import EventLog
from sightline.training.prepare import Job
from sightline.training.processes import Processes
from sightline.training.progress import Quiet
from sightline.training.state import TrainState

# Rows of single steps wait so many seconds, to be written together.
TOGETHER = 1.0


@dataclass(frozen=True)
class Fit:
    """What the parts of one fit share. `source` is where the pictures came from, as run.json has it; `use` says what
    to do with an early model in {run}, made from {source}."""

    run: Run
    source: str | None
    processes: Processes
    watch: Quiet
    checkpoints: Checkpoints
    log: str | None
    begun: float
    use: str
    resumed: bool = False


@contextmanager
def working_on(fit: Fit) -> Iterator[None]:
    """Within, this process alone works on the run; one that ends early says what there is and how to go on.

    A run begun here that has neither model nor checkpoint is removed.
    """
    run, source = fit.run, fit.source or "DATA"
    if not fit.processes.main:
        try:
            yield
        except KeyboardInterrupt:
            raise SaidByMain("interrupted") from None
        return
    with run.locked():
        try:
            yield
        except BaseException as error:
            measure = fit.use.format(run=shlex.quote(str(run)), source=shlex.quote(source))
            if isinstance(error, KeyboardInterrupt) and fit.checkpoints.steps():
                raise KeyboardInterrupt(
                    f"Interrupted; all is kept up to step {fit.checkpoints.steps()[-1]:,}: go on with "
                    f"`sightline fit --resume {shlex.quote(str(run))}`."
                    + (f" The best model so far is in {run}; {measure}." if run.has_model else "")
                ) from None
            if not run.has_model and not fit.checkpoints.steps():
                if fit.resumed:  # another process made it: not ours to remove
                    raise
                fit.checkpoints.discard()
                run.discard()
                if isinstance(error, KeyboardInterrupt):
                    raise KeyboardInterrupt(
                        "Interrupted before the first checkpoint, so there is no model yet and nothing was kept."
                    ) from None
            elif isinstance(error, KeyboardInterrupt):
                raise KeyboardInterrupt(
                    f"Interrupted: the best model so far is in {run}; {measure}."
                ) from None
            elif isinstance(error, SightlineError):
                what = "the best model so far is" if run.has_model else "the checkpoints are"
                raise SightlineError(f"{str(error).rstrip('.')}; {what} in {run}.") from None
            raise


class Keeper(Quiet):
    """Passes everything on to the watcher, and writes it down: history, event log, checkpoints."""

    def __init__(self, fit: Fit, job: Job, log: EventLog | None) -> None:
        self.watch, self.run, self.checkpoints = fit.watch, fit.run, fit.checkpoints
        self.job, self.log = job, log
        self.message, self.step = fit.watch.message, fit.watch.step  # type: ignore[method-assign]
        self.due = fit.checkpoints.due
        self.rows: list[dict[str, Any]] = []
        self.written = time.monotonic()

    def record(self, row: dict[str, Any]) -> None:
        self.rows.append(row)
        if self.log:
            self.log.step(row)
        if time.monotonic() - self.written > TOGETHER:
            self.write()

    def epoch(self, row: dict[str, Any]) -> None:
        self.rows.append(row)
        self.write()
        if self.log:
            self.log.epoch(row)
        self.watch.epoch(row)

    def save(self, state: TrainState) -> None:
        """Keep `state`; what came before it is in the history, and how it was computed in the recipe, by then."""
        self.write()
        parts, pictures = self.job.trainer.accumulate, self.job.recipe.batch_size
        if parts != self.job.recipe.accumulate:
            self.job.recipe = self.job.recipe.model_copy(update={"accumulate": parts})
            self.run.write_json(RECIPE, self.job.recipe.to_dict())
            self.job.reasons.append(
                f"A batch of {pictures} pictures does not fit into memory: {parts} parts."
            )
            self.watch.message(self.job.reasons[-1])
        self.checkpoints.save(state)

    def write(self) -> None:
        """Put the rows that wait into the history."""
        self.run.add_history(self.rows)
        self.rows, self.written = [], time.monotonic()


def source_name(source: str | Path | ImageDataset | CaptionDataset) -> str | None:
    """`source` as a later process finds it, wherever it is started; None for a data set made in Python."""
    if isinstance(source, ImageDataset | CaptionDataset):
        return None
    return str(Path(source).expanduser().resolve()) if os.path.exists(source) else str(source)  # noqa: PTH110


def rows_of(failures: Iterable[Failure]) -> list[dict[str, str]]:
    """Pictures that could not be read, as run.json has them."""
    return [{"ref": failure.ref, "reason": failure.reason} for failure in failures]


def say_set_aside(rows: Sequence[Mapping[str, str]], watch: Quiet) -> None:
    """Name pictures that could not be read, the first few of many."""
    for row in rows[:5]:
        watch.message(f"Set aside: {row['ref']}: {row['reason']}.")
    if len(rows) > 5:
        watch.message(f"... and {len(rows) - 5} more; all of them are in run.json and the report.")
