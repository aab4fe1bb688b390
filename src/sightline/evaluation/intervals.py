"""Confidence intervals for what a classifier is judged by.

All of them are score intervals: the limits are the true values at which the figure that was seen would lie
exactly z standard errors away, with the standard error taken at that true value and not at the one seen.
That is what keeps an interval honest at the edge: 36 right out of 36 is not "100 % to 100 %".

  accuracy, top-5, recall, precision    Wilson's interval (1927)
  F1 of a class                         Wilson's interval of the Jaccard index, mapped to F1
  balanced accuracy                     the score interval of a weighted sum of proportions
  macro-F1                              the same construction with the delta method's variance

The intervals tell how far another test set of the same kind and size may differ. They say nothing of
another training run, nor of pictures of another kind.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

LEVEL = 0.95
"""The confidence level of every interval in Sightline."""

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Estimate:
    """A figure in 0..1 with the two ends of its 95 % interval and the number of pictures it rests on."""

    value: float
    low: float
    high: float
    n: int

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    def __str__(self) -> str:
        return f"{percent(self.value)} [{percent(self.low)}, {percent(self.high)}]"


def percent(value: float) -> str:
    """A share as text: one decimal, and two where one would round a mistake away ("99.99%")."""
    text = f"{value:.1%}"
    return f"{value:.2%}" if text in ("100.0%", "0.0%") and value not in (0, 1) else text


def wilson(successes: ArrayLike, n: ArrayLike, level: float = LEVEL) -> tuple[Floats, Floats]:
    """Wilson's score interval for proportions `successes / n`, elementwise; (0, 1) where `n` is 0.

    E. B. Wilson, "Probable inference, the law of succession, and statistical inference", JASA 22 (1927).
    """
    z2 = _z(level) ** 2
    k, trials = np.broadcast_arrays(np.asarray(successes, np.float64), np.asarray(n, np.float64))
    some = np.where(trials > 0, trials, 1.0)
    p = k / some
    centre = (p + z2 / (2 * some)) / (1 + z2 / some)
    half = np.sqrt(z2 * (p * (1 - p) / some + z2 / (4 * some**2))) / (1 + z2 / some)
    # At 0 and at n one limit is exact; rounding would leave it at 1e-17 or 0.9999...
    low = np.where(k == 0, 0.0, centre - half)
    high = np.where(k == trials, 1.0, centre + half)
    return np.where(trials > 0, low, 0.0), np.where(trials > 0, high, 1.0)


def f1(hits: ArrayLike, mistakes: ArrayLike, level: float = LEVEL) -> tuple[Floats, Floats]:
    """Interval for a class's F1 from its true positives and its false positives plus false negatives.

    F1 = 2J / (1 + J) rises with the Jaccard index J = TP / (TP + FP + FN), and given the number of pictures
    that were of the class or called so, TP is binomial with just that J.
    """
    tp = np.asarray(hits, np.float64)
    low, high = wilson(tp, tp + np.asarray(mistakes, np.float64), level)
    return 2 * low / (1 + low), 2 * high / (1 + high)


def weighted_mean(
    successes: ArrayLike, n: ArrayLike, weights: ArrayLike, *, level: float = LEVEL, unbiased: bool = True
) -> tuple[float, float]:
    """Score interval for `sum(w * p)` of independent proportions, each of `n` >= 1 trials, `w` >= 0.

    At a hypothesis sum(w * p) = v, the proportions are estimated by maximum likelihood under it, and v is
    kept while the value seen lies within z standard errors. One proportion: Wilson's interval. Two: the
    interval of Mee (Biometrics 40, 1984). Any number: Martín Andrés, Álvarez Hernández and Herranz Tejedor
    (Statistical Methods in Medical Research 20, 2011). `unbiased` divides each variance by n - 1 in place of
    n, as in stratified sampling; with many classes of few pictures plain n is too hopeful.
    """
    trials = np.asarray(n, np.float64)
    p = np.asarray(successes, np.float64) / trials
    w = np.asarray(weights, np.float64)

    def model(rates: Floats) -> tuple[float, float]:
        spread = _sum_of_variances(w * rates, w**2 * rates * (1 - rates), trials, unbiased)
        return float(w @ rates), spread

    # The likelihood's maximum depends on w only up to a common factor.
    return _score_limits(model, p, trials / (w / w.max()), _z(level))


def balanced_accuracy(confusion: ArrayLike, level: float = LEVEL) -> tuple[float, float]:
    """Interval for the mean recall over the classes present in a confusion matrix (rows are the truth)."""
    matrix = np.asarray(confusion, np.float64)
    support = matrix.sum(1)
    present = support > 0
    share = np.full(present.sum(), 1 / present.sum())
    return weighted_mean(np.diag(matrix)[present], support[present], share, level=level)


def macro_f1(confusion: ArrayLike, level: float = LEVEL) -> tuple[float, float]:
    """Interval for the mean F1 over the classes present in a confusion matrix (rows are the truth).

    The same score interval along one line of confusion matrices: the recalls move as they do for the balanced
    accuracy, and the mistakes of a class keep their shares (equal shares for a class without any). The
    variance at each is the delta method's (Takahashi et al., Applied Intelligence 52, 2022), given the number
    of pictures of each class. It covers better than a bootstrap, which is lost where no mistake was seen.
    """
    matrix = np.asarray(confusion, np.float64)
    present = matrix.sum(1) > 0
    # Mistakes into a class that the split lacks lower a recall but belong to no F1 that is averaged: they
    # stay in a last column of their own.
    absent = matrix[np.ix_(present, ~present)].sum(1)
    square = matrix[np.ix_(present, present)]
    support = matrix.sum(1)[present]
    classes = len(support)
    recall = np.diag(square) / support

    wrong = np.column_stack([square - np.diag(np.diag(square)), absent])
    evenly = np.column_stack([1 - np.eye(classes), np.ones(classes) if classes == 1 else np.zeros(classes)])
    wrong = np.where(wrong.sum(1, keepdims=True) > 0, wrong, evenly)
    share = wrong / wrong.sum(1, keepdims=True)  # where a mistake goes; K, K + 1

    def model(rates: Floats) -> tuple[float, float]:
        called = support * rates + ((support * (1 - rates)) @ share)[:classes]
        total = support + called  # 2 TP + FP + FN
        scores = 2 * support * rates / total
        # What one more picture in cell (i, j) does to the mean: gain[i] if right, loss[j] if called j.
        loss = np.append(-scores / total, 0.0)
        gain = 2 / total + loss[:classes]
        lost, lost_square = (share @ np.column_stack([loss, loss**2])).T
        mean = rates * gain + (1 - rates) * lost
        square_mean = rates * gain**2 + (1 - rates) * lost_square
        scale = support / classes
        spread = _sum_of_variances(scale * mean, scale**2 * (square_mean - mean**2), support)
        return float(scores.mean()), spread

    return _score_limits(model, recall, support, _z(level))


def _z(level: float) -> float:
    return NormalDist().inv_cdf((1 + level) / 2)


def _sum_of_variances(means: Floats, variances: Floats, n: Floats, unbiased: bool = True) -> float:
    """The variance of a sum of independent group means, from each group's variance of a single draw.

    A group of one tells nothing of its own variance. Such groups are taken as draws from one population,
    which errs on the safe side ("collapsed strata", Cochran, Sampling Techniques, 3rd edition, 5A.12).
    """
    if not unbiased:
        return float((variances / n).sum())
    alone = n == 1
    spread = variances[~alone] / (n[~alone] - 1)
    among = np.var(means[alone], ddof=1) * alone.sum() if alone.sum() > 1 else 0.0
    return max(float(spread.sum() + variances[alone].sum() + among), 0.0)


def _score_limits(
    model: Callable[[Floats], tuple[float, float]], rates: Floats, n: Floats, z: float
) -> tuple[float, float]:
    """The least and the greatest value that `model` (rates -> value, variance) does not reject."""
    seen, _ = model(rates)

    def plausible(moved: Floats) -> bool:
        value, variance = model(moved)
        return abs(seen - value) <= z * math.sqrt(variance)

    def furthest(path: Callable[[float], Floats]) -> float:
        inside, outside = 0.0, float(n.max())
        # Below the smallest n nothing moves for rates of 1, so start beyond it and grow.
        while plausible(path(outside)):
            if outside > 1e12:  # the path has come to its end: a rate of 0 goes no lower
                return model(path(outside))[0]
            inside, outside = outside, 4 * outside
        for _ in range(45):
            middle = (inside + outside) / 2
            inside, outside = (middle, outside) if plausible(path(middle)) else (inside, middle)
        return model(path(inside))[0]

    low = furthest(lambda pull: _lowered(rates, n, pull))
    high = furthest(lambda pull: 1 - _lowered(1 - rates, n, pull))
    return min(low, seen), max(high, seen)


def _lowered(rates: Floats, n: Floats, pull: float) -> Floats:
    """The most likely proportions under a (weighted) sum lower than the one seen, by what `pull` >= 0 asks.

    Maximising the binomial likelihood under that constraint with Lagrange's multiplier `pull` gives
    n (rate - p) = pull p (1 - p) for each; this is its root in 0..1, in the form that does not cancel.
    """
    b = n + pull
    root: Floats = 2 * n * rates / (b + np.sqrt(np.maximum(b * b - 4 * pull * n * rates, 0.0)))
    return root
