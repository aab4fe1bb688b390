"""What a classifier scored on one split: overall and per class, each figure with its interval.

Everything but the top-5 accuracy follows from the confusion matrix by one line of arithmetic each, so
scikit-learn (2.5 s to import) is the oracle of the tests and not a dependency of the evaluation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sightline.errors import SightlineError
from sightline.evaluation import intervals
from sightline.evaluation.intervals import LEVEL, Estimate

Interval = tuple[float, float]


@dataclass(frozen=True, slots=True)
class ClassScores:
    """One class on one split; `predicted` is how many pictures were called so.

    A figure that is 0 / 0 is None: the recall of a class without pictures, the precision of one that was
    never predicted, the F1 where both hold.
    """

    name: str
    support: int
    predicted: int
    precision: float | None
    recall: float | None
    f1: float | None
    precision_interval: Interval | None
    recall_interval: Interval | None
    f1_interval: Interval | None

    def to_dict(self) -> dict[str, Any]:
        # By hand, so that the reading order of scores.json is a choice.
        return {
            "name": self.name,
            "precision": self.precision,
            "recall": self.recall,
            "f1": self.f1,
            "support": self.support,
            "predicted": self.predicted,
            "precision_interval": _listed(self.precision_interval),
            "recall_interval": _listed(self.recall_interval),
            "f1_interval": _listed(self.f1_interval),
        }

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Self:
        limits = {
            key: data[key] and (data[key][0], data[key][1]) for key in data if key.endswith("_interval")
        }
        return cls(**{**data, **limits})


# Compared by identity: an array has no single truth value for ==.
@dataclass(frozen=True, slots=True, eq=False)
class Scores:
    """What `score` returns. `confusion` is (C, C) int64, rows the truth, columns the prediction."""

    split: str
    n: int
    accuracy: Estimate
    top5_accuracy: Estimate | None
    balanced_accuracy: Estimate
    macro_f1: Estimate
    classes: tuple[ClassScores, ...]
    confusion: NDArray[np.int64]

    def to_dict(self) -> dict[str, Any]:
        """JSON-safe plain data; `top5_accuracy` only where it is defined. Intervals are of the 95 % level."""
        top5 = {} if self.top5_accuracy is None else {"top5_accuracy": self.top5_accuracy.to_dict()}
        return {
            "split": self.split,
            "n": self.n,
            "level": LEVEL,
            "accuracy": self.accuracy.to_dict(),
            **top5,
            "balanced_accuracy": self.balanced_accuracy.to_dict(),
            "macro_f1": self.macro_f1.to_dict(),
            "classes": [one.to_dict() for one in self.classes],
            "confusion": self.confusion.tolist(),
        }

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Self:
        """The scores that `to_dict` wrote. Raises SightlineError where something is missing or malformed."""
        try:
            top5 = data.get("top5_accuracy")
            return cls(
                split=data["split"],
                n=data["n"],
                accuracy=Estimate(**data["accuracy"]),
                top5_accuracy=None if top5 is None else Estimate(**top5),
                balanced_accuracy=Estimate(**data["balanced_accuracy"]),
                macro_f1=Estimate(**data["macro_f1"]),
                classes=tuple(ClassScores.from_dict(one) for one in data["classes"]),
                confusion=np.array(data["confusion"], np.int64),
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise SightlineError(
                f"These scores cannot be read ({type(error).__name__}: {error}); evaluate the run again."
            ) from error


def score(
    probabilities: ArrayLike, targets: ArrayLike, classes: Sequence[str], *, split: str = "test"
) -> Scores:
    """Score predictions on one split.

    probabilities: (N, C) in 0..1, a row per picture; the highest is the prediction, the first one of equals.
    targets: (N,) integers in 0..C-1. classes: the C names. The top-5 accuracy needs more than five classes.
    Balanced accuracy and macro-F1 are means over the classes that the split holds.

    Raises SightlineError for no pictures, shapes that do not fit, targets out of range, and probabilities
    that are not finite or not in 0..1.
    """
    rates, truth = _checked(probabilities, targets, classes, split)
    n, count = rates.shape
    confusion = confusion_matrix(truth, rates.argmax(1), count)
    hits, support, predicted = np.diag(confusion), confusion.sum(1), confusion.sum(0)
    present = support > 0
    recall = _ratio(hits, support)
    f1 = _ratio(2 * hits, support + predicted)

    def proportion(successes: int) -> Estimate:
        low, high = intervals.wilson(successes, n)
        return Estimate(successes / n, float(low), float(high), n)

    def mean(values: NDArray[np.float64], limits: Interval) -> Estimate:
        value = float(values[present].mean())
        return Estimate(value, min(limits[0], value), min(max(limits[1], value), 1.0), n)

    return Scores(
        split=split,
        n=n,
        accuracy=proportion(int(hits.sum())),
        top5_accuracy=proportion(int((_rank(rates, truth) < 5).sum())) if count > 5 else None,
        balanced_accuracy=mean(recall, intervals.balanced_accuracy(confusion)),
        macro_f1=mean(f1, intervals.macro_f1(confusion)),
        classes=_per_class(classes, hits, support, predicted),
        confusion=confusion,
    )


def confusion_matrix(targets: ArrayLike, predictions: ArrayLike, count: int) -> NDArray[np.int64]:
    """(C, C) int64: how many pictures of class i (row) were called j (column)."""
    cell = np.asarray(targets, np.int64) * count + np.asarray(predictions, np.int64)
    return np.bincount(cell, minlength=count * count).reshape(count, count).astype(np.int64)


def _per_class(
    names: Sequence[str], hits: NDArray[Any], support: NDArray[Any], predicted: NDArray[Any]
) -> tuple[ClassScores, ...]:
    either = support + predicted - hits  # of the class, or called so
    precision, recall, f1 = (
        _ratio(hits, predicted),
        _ratio(hits, support),
        _ratio(2 * hits, support + predicted),
    )
    limits = {
        "precision": (precision, intervals.wilson(hits, predicted)),
        "recall": (recall, intervals.wilson(hits, support)),
        "f1": (f1, intervals.f1(hits, either - hits)),
    }
    rows = []
    for i, name in enumerate(names):
        figures: dict[str, Any] = {}
        for key, (values, (low, high)) in limits.items():
            defined = bool(np.isfinite(values[i]))
            figures[key] = float(values[i]) if defined else None
            figures[f"{key}_interval"] = (float(low[i]), float(high[i])) if defined else None
        rows.append(
            ClassScores(name=str(name), support=int(support[i]), predicted=int(predicted[i]), **figures)
        )
    return tuple(rows)


def _rank(rates: NDArray[Any], truth: NDArray[np.int64]) -> NDArray[np.int64]:
    """(N,): how many classes come before the true one. Of equal probabilities the first comes first, as in
    argmax, so that rank 0 is exactly a right prediction."""
    own = np.take_along_axis(rates, truth[:, None], 1)
    earlier = np.arange(rates.shape[1]) < truth[:, None]
    ahead: NDArray[np.int64] = ((rates > own) | ((rates == own) & earlier)).sum(1)
    return ahead


def _ratio(part: NDArray[Any], whole: NDArray[Any]) -> NDArray[np.float64]:
    ratio: NDArray[np.float64] = np.divide(part, whole, out=np.full(len(part), np.nan), where=whole > 0)
    return ratio


def _listed(interval: Interval | None) -> list[float] | None:
    return None if interval is None else list(interval)


def _checked(
    probabilities: ArrayLike, targets: ArrayLike, classes: Sequence[str], split: str
) -> tuple[NDArray[Any], NDArray[np.int64]]:
    rates, truth = np.asarray(probabilities), np.asarray(targets)
    if truth.ndim != 1 or (truth.size and truth.dtype.kind not in "iu"):
        raise SightlineError(
            f"Targets must be one whole number per picture; got {truth.dtype} {truth.shape}."
        )
    if not len(truth):
        raise SightlineError(f"There is nothing to score: the {split} split holds no pictures.")
    if rates.shape != (len(truth), len(classes)):
        raise SightlineError(
            f"Probabilities of shape {rates.shape} do not fit {len(truth)} pictures, {len(classes)} classes."
        )
    if truth.min() < 0 or truth.max() >= len(classes):
        raise SightlineError(
            f"Targets must lie in 0..{len(classes) - 1} for {len(classes)} classes; "
            f"got {truth.min()}..{truth.max()}."
        )
    broken = np.flatnonzero(~np.isfinite(rates).all(1))
    if len(broken):
        raise SightlineError(
            f"{len(broken)} of {len(truth)} pictures of the {split} split have probabilities that are not "
            f"finite (the first is number {broken[0]}); the network has diverged or its weights are damaged."
        )
    if rates.min() < 0 or rates.max() > 1.001:  # half precision rounds a softmax to a little over 1
        raise SightlineError(
            f"Probabilities must lie in 0..1; got {rates.min():.4g}..{rates.max():.4g}: "
            "logits go through softmax first."
        )
    return rates, truth.astype(np.int64)
