"""The change in accuracy between two ways of training, from several seeds and the same validation pictures.

Every condition is trained with the same seeds and asked the same pictures, so what is compared is paired twice:
d[s, v] is 1 where only the new way is right about picture v with seed s, -1 where only the old one is, else 0. Its
mean moves with the seeds that happened to be drawn and with the pictures that happened to be there, and both count:
the design of many readers judging many cases. The variance of the mean of S seeds and V pictures is taken from the
mean squares of a two-way table without replication (Gallas, Academic Radiology 13, 2006; Hillis, Statistics in
Medicine 26, 2007):

    variance = (MS_seeds + max(MS_pictures - MS_rest, 0)) / (S V)

Few seeds tell little about MS_seeds: with three, the 99.5 % point of Student's t is 14. So it is pooled over the K
conditions, as an analysis of variance does, with K (S - 1) degrees of freedom; a condition that moves more than that
from seed to seed keeps its own, larger one. Several intervals together hold with the level that is asked for
(Bonferroni): each is made for 1 - (1 - level) / comparisons.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sightline.evaluation.intervals import LEVEL

Answers = NDArray[np.bool_]
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Change:
    """A difference of two accuracies, -1 to 1, with its simultaneous interval; None where one seed tells none."""

    value: float
    low: float | None
    high: float | None


def paired_changes(
    base: Answers, others: Sequence[Answers], comparisons: int | None = None, level: float = LEVEL
) -> list[Change]:
    """How the accuracy of each of `others` differs from that of `base`.

    base, others[k]: (S, V), whether the training with seed s was right about picture v; V >= 2.
    comparisons: how many intervals are to hold together, by default as many as `others`.
    With a single seed there are no intervals: nothing is known of how another seed would differ.
    """
    tables = [other.astype(np.float64) - base for other in others]
    if not tables:
        return []
    seeds, pictures = base.shape
    means = [float(table.mean()) for table in tables]
    if seeds < 2:
        return [Change(mean, None, None) for mean in means]
    by_seed, by_picture = (np.array(part) for part in zip(*map(mean_squares, tables), strict=True))
    freedom = len(tables) * (seeds - 1)
    moved = np.maximum(by_seed, by_seed.mean())
    # Where not one answer differs, the next picture's still might: no less than for one answer in all of them.
    variance = np.maximum((moved + by_picture) / (seeds * pictures), 1 / pictures**2)
    # Satterthwaite's: pictures are many, so the few degrees of freedom are those of the seeds' share alone.
    with np.errstate(divide="ignore"):
        effective = np.minimum(freedom * (variance * seeds * pictures / moved) ** 2, 1e6)
    half = t_quantile(1 - (1 - level) / (2 * (comparisons or len(tables))), effective) * np.sqrt(variance)
    return [
        Change(mean, max(-1.0, mean - float(h)), min(1.0, mean + float(h)))
        for mean, h in zip(means, half, strict=True)
    ]


def mean_squares(table: Floats) -> tuple[float, float]:
    """(MS_seeds, max(MS_pictures - MS_rest, 0)) of a table of differences (S, V)."""
    seeds, pictures = table.shape
    rows, columns = table.mean(1), table.mean(0)
    rest = table - rows[:, None] - columns[None, :] + table.mean()
    within = float((rest**2).sum()) / ((seeds - 1) * (pictures - 1))
    by_seed = pictures * float(rows.var(ddof=1))
    return by_seed, max(seeds * float(columns.var(ddof=1)) - within, 0.0)


def t_quantile(probability: float, freedom: Floats) -> Floats:
    """Student's t at `probability` for each of the degrees of freedom."""
    from scipy.special import stdtrit

    return np.asarray(stdtrit(freedom, probability), np.float64)
