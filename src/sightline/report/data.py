"""What a report is made from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sightline.errors import SightlineError

if TYPE_CHECKING:
    from PIL import Image
    from torch import nn

    from sightline.advising import Advice
    from sightline.evaluation.metrics import Scores
    from sightline.transforms.preprocess import Preprocess


@dataclass(frozen=True, slots=True, eq=False)
class ReportData:
    """Everything that `write_report` shows of one run. N pictures in the scored split, C classes.

    title: the run's name. created: ISO 8601 time.
    dataset: {"name", "source", "classes": [C names], "counts": {"train"|"val"|"test": [C counts]},
        "set_aside": [{"ref", "reason"}]}.
    recipe: the whole recipe as nested plain data. reasons: what was chosen automatically and why, in sentences.
    history: a dict per epoch: epoch (from 1), lr, train_loss, train_accuracy, val_loss, val_accuracy,
        val_balanced_accuracy, val_deviation (its standard error), seconds, best (true for the one kept). A value may be
        missing, None or not finite.
    scores: of the split scored; clean: a sentence on those of its pictures that no other split shows the same as, or
        "" where all are; probabilities (N, C); targets (N,); refs: N names of pictures.
    advice: what the strategy was chosen by, if it was.
    path: (penalty, error on pictures left out, 0..1) of each penalty that a linear head was fitted with.
    picture: reads picture i of that split; may raise `UnreadableImage`.
    model: trained, in evaluation mode, on the CPU. preprocess: the map from a picture to its input.
    environment: versions, device, threads; "seconds" is how long the run took.

    Raises SightlineError where the parts do not fit each other.
    """

    title: str
    created: str
    dataset: dict[str, Any]
    recipe: dict[str, Any]
    reasons: Sequence[str]
    history: Sequence[dict[str, Any]]
    scores: Scores
    probabilities: NDArray[np.floating[Any]]
    targets: NDArray[np.integer[Any]]
    refs: Sequence[str]
    picture: Callable[[int], Image.Image]
    model: nn.Module
    preprocess: Preprocess
    environment: dict[str, Any]
    clean: str = ""
    path: Sequence[tuple[float, float]] = ()
    advice: Advice | None = None

    def __post_init__(self) -> None:
        n, classes = self.scores.n, len(self.classes)
        if self.probabilities.shape != (n, classes) or len(self.targets) != n or len(self.refs) != n:
            raise SightlineError(
                f"The report's parts do not fit: scores of {n} pictures and {classes} classes, probabilities "
                f"{self.probabilities.shape}, {len(self.targets)} targets, {len(self.refs)} names of pictures."
            )

    @property
    def classes(self) -> list[str]:
        """The C names, as text."""
        return [str(name) for name in self.dataset["classes"]]
