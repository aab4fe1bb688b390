"""Every class counts as much as any other, however many pictures it has.

Training chooses its epoch by balanced accuracy, the mean of the classes' recalls, so that is what is measured,
tried and foretold here. Where the classes are met in other shares later on it stays what it is, and accuracy does not.
Of classes with as many pictures each it is the accuracy.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sightline.evaluation.intervals import weighted_mean


def weights_of(targets: NDArray[np.integer]) -> NDArray[np.float64]:
    """(n,): what each picture counts for, 1 in the mean, so that a weighted mean is that of the classes' means."""
    _, own, counts = np.unique(targets, return_inverse=True, return_counts=True)
    return np.asarray(len(targets) / (len(counts) * counts[own]))


def effective(weights: NDArray[np.float64]) -> float:
    """How many pictures of equal weight would have a mean that is as sure (Kish 1965, Survey Sampling, 11.7)."""
    return float(weights.sum() ** 2 / np.square(weights).sum())


def balanced_accuracy(
    margins: NDArray[np.floating], targets: NDArray[np.integer], level: float
) -> tuple[float, float, float]:
    """(mean of the classes' recalls, and the ends of its interval of `level`); margins (n,) are above 0 where right."""
    _, own, counts = np.unique(targets, return_inverse=True, return_counts=True)
    right = np.bincount(own, margins > 0)
    share = np.full(len(counts), 1 / len(counts))
    return float(share @ (right / counts)), *weighted_mean(right, counts, share, level=level)
