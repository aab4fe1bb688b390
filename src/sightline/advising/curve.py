"""How a probe's error falls with the number of pictures, and what more of them would give.

A ridge head is fitted on parts of the pictures and tested on the rest; of all pictures its error is leave-one-out.
Through these errors goes a power law, error = a m^-b (Hestness et al. 2017, arXiv 1712.00409), fitted to their
logarithms with the noise that tests of so many pictures have, and a weak prior on b.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sightline.advising.balanced import effective, weights_of
from sightline.advising.constants import CURVE_NOISE, EXPONENT, EXPONENT_SPREAD
from sightline.features.heads import RidgeHead

SHARES = (0.125, 0.25, 0.5)
DRAWS = 4


@dataclass(frozen=True, slots=True)
class Curve:
    """The errors measured, and the power law through them.

    sizes: pictures fitted on; errors: 1 less the balanced accuracy with each; tested: answers that each rests on.
    level, exponent: log a and b, with their covariance (2, 2) as rows.
    """

    sizes: tuple[int, ...]
    errors: tuple[float, ...]
    tested: tuple[int, ...]
    level: float
    exponent: float
    covariance: tuple[tuple[float, float], tuple[float, float]]

    def error(self, pictures: float) -> tuple[float, float]:
        """(the error with so many pictures, the standard deviation of its logarithm)."""
        row = np.array([1.0, -np.log(pictures)])
        spread = float(row @ np.array(self.covariance) @ row) + CURVE_NOISE**2
        return float(min(1.0, np.exp(row @ [self.level, self.exponent]))), spread**0.5


def measure_curve(
    features: NDArray[np.floating], targets: NDArray[np.integer], whole: float, seed: int = 0
) -> Curve:
    """From features (n, D) of one layer. whole: the balanced leave-one-out error on all of them, 0..1."""
    n, classes = len(targets), len(np.unique(targets))
    rng = np.random.default_rng(seed)
    sizes, errors, tested = [], [], []
    for share in SHARES:
        size = round(share * n)
        if size < 2 * classes:
            continue
        wrong, count, draws = 0.0, 0, 0
        for _ in range(DRAWS):
            part = some(targets, size, rng)
            if len(np.unique(targets[part])) < 2:
                continue
            rest = np.setdiff1d(np.arange(n), part)
            said = RidgeHead().fit(features[part], targets[part]).predict(features[rest])
            wrong += float(weights_of(targets[rest]) @ (said != targets[rest]))
            count, draws = count + len(rest), draws + 1
        if draws:
            sizes.append(size)
            errors.append((wrong + 0.5) / (count + 1))
            tested.append(count)
    sizes.append(n)
    errors.append((whole * n + 0.5) / (n + 1))
    tested.append(n)
    sure = effective(weights_of(targets)) / n
    level, exponent, covariance = power_law(sizes, errors, [sure * min(t, n) for t in tested])
    return Curve(tuple(sizes), tuple(errors), tuple(tested), level, exponent, covariance)


def some(targets: NDArray[np.integer], size: int, rng: np.random.Generator) -> NDArray[np.intp]:
    """`size` places, each class in its share."""
    order = rng.permutation(len(targets))
    # Places of a class one after the other, spread evenly: the first `size` have each class in its share.
    rank = np.empty(len(targets))
    for target in np.unique(targets):
        own = order[targets[order] == target]
        rank[own] = (np.arange(len(own)) + rng.random()) / len(own)
    return np.argsort(rank, kind="stable")[:size]


def power_law(
    sizes: list[int], errors: list[float], tested: list[float]
) -> tuple[float, float, tuple[tuple[float, float], tuple[float, float]]]:
    """(log a, b, their covariance) of error = a size^-b, least squares with the prior on b."""
    e, n = np.array(errors), np.array(tested, dtype=float)
    rows = np.column_stack([np.ones(len(sizes)), -np.log(sizes)])
    precision = 1.0 / ((1.0 - e) / (e * n) + CURVE_NOISE**2)  # of log e
    prior = np.diag([1e-6, 1.0 / EXPONENT_SPREAD**2])
    covariance = np.linalg.inv(rows.T @ (precision[:, None] * rows) + prior)
    level, exponent = covariance @ (rows.T @ (precision * np.log(e)) + prior @ [0.0, EXPONENT])
    (a, b), (c, d) = covariance.tolist()
    return float(level), float(exponent), ((a, b), (c, d))
