"""What differs between a run that learns classes and one that learns from captions; the rest of a fit is the same."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from sightline.fitting.folder import Fit
from sightline.run import Run
from sightline.training.prepare import Job
from sightline.training.recipe import Recipe
from sightline.training.state import TrainState


class Named(Protocol):
    """A data set of any kind."""

    @property
    def name(self) -> str: ...


@dataclass(frozen=True)
class Course:
    """One way of learning.

    kind: the class of its data sets; open: one from a path or name. prepare: split (or take the splits of a run that is
    resumed, from their file), plan, read and build; and the names of test pictures that show the same as others (see
    `fitting.audit`). write_splits: what was trained, chosen and tested
    on. fingerprint: of the training pictures and what is known of them. keep: the best model so far. conclude: measure,
    and write the report, given the seconds before a resume. use: what to do with an early model in {run}, made from
    {source}.
    """

    kind: type[Any]
    open: Callable[[str | Path], Named]
    prepare: Callable[[Any, Recipe, Fit, Path | None], tuple[Job, list[str]]]
    write_splits: Callable[[Run, Job], None]
    fingerprint: Callable[[Job], str]
    keep: Callable[[Run, Job, TrainState], None]
    conclude: Callable[[Fit, Job, TrainState, float], None]
    use: str
