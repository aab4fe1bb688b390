"""Properties of the files that give the class away: a network would learn the camera, and score on the camera.

For each property and class: from the property alone, is this picture of the class? The rule (the values more frequent
in the class than outside it) is learned on four fifths of the pictures and asked about the last, five times over, so
that a property with as many values as pictures cannot look good by memory. What counts is the rule's informedness,
hits among the class less false alarms among the others (Youden 1950), 0 for a property that says nothing and 1 for
one that says all; and that Fisher's exact test, corrected for the number of properties and classes, excludes chance.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from sightline.audit.files import Facts
from sightline.audit.findings import Finding
from sightline.data.dataset import ImageDataset

FOLDS = 5
# Corrected significance, and the informedness from which a property is told. What follows from the content too has to
# say more: size and shape, where pictures are cut to their object; and above all how well a picture compresses, by
# which photographs are told at 0.3 and drawings with one stroke or many at 0.9.
SIGNIFICANCE, TELLING = 0.01, 0.25
CONTENT = {"width": 0.5, "height": 0.5, "shape": 0.5, "bytes per pixel": 0.95}
BINS, GAPS = (
    12,
    4,
)  # a number is cut into so many parts of equal count, and at the widest gaps between its values
EXAMPLES = 4  # pictures of the class, and as many of others


def giveaways(dataset: ImageDataset, facts: Sequence[Facts], rows: NDArray[np.int64]) -> Iterator[Finding]:
    """A finding for each property that tells a class, by the `facts` of the pictures at `rows`; the best first."""
    targets = dataset.targets[rows]
    present = [label for label in np.unique(targets).tolist() if (targets == label).sum() >= FOLDS]
    names = sorted({name for row in rows.tolist() for name in facts[row]})
    columns = {name: coded([facts[row].get(name) for row in rows.tolist()]) for name in names}
    columns = {name: codes for name, codes in columns.items() if len(np.unique(codes)) > 1}
    folds = np.random.default_rng(0).permutation(len(rows)) % FOLDS
    found: dict[str, list[tuple[float, float, int, int, int]]] = defaultdict(list)
    for name, codes in columns.items():
        called = predicted(codes, targets, folds, len(dataset.classes))
        for label in present:
            own = targets == label
            hits, alarms = int((called[:, label] & own).sum()), int((called[:, label] & ~own).sum())
            others = len(own) - own.sum()
            if not others:
                continue
            informed = float(hits / own.sum() - alarms / others)
            if informed < CONTENT.get(name, TELLING):
                continue
            chance = fisher(hits, alarms, int(own.sum()), int(others))
            corrected = min(1.0, chance * len(columns) * len(present))
            if corrected < SIGNIFICANCE:
                found[name].append((informed, corrected, label, hits, alarms))
    for name, classes in sorted(found.items(), key=lambda item: -max(item[1])[0]):
        informed, corrected, label, hits, alarms = max(classes)
        own = targets == label
        message = (
            f"The {name} of the file alone tells the class {dataset.classes[label]}: going by it, {hits:,} of its "
            f"{own.sum():,} pictures are found, with {alarms:,} false alarms among {(~own).sum():,} others."
        )
        remedy = (
            "Make the files alike (decode and save all in one way, or collect each class from all sources), or "
            "expect lower scores on pictures from elsewhere."
        )
        details = {
            "property": name,
            "class": dataset.classes[label],
            "informedness": round(informed, 4),
            "p_value": corrected,
            "values": _typical(name, facts, rows, own),
            "classes": [dataset.classes[one[2]] for one in sorted(classes, reverse=True)],
        }
        examples = [
            *rows[own][:EXAMPLES].tolist(),
            *rows[~own][:: max(1, int((~own).sum()) // EXAMPLES)].tolist(),
        ]
        severity = "error" if informed > 0.75 and name not in CONTENT else "warning"
        yield Finding("giveaway", severity, tuple(examples[: 2 * EXAMPLES]), message, remedy, details)


def fisher(hits: int, alarms: int, own: int, others: int) -> float:
    """Chance of at least `hits` of `own` among hits + alarms drawn from own + others (Fisher's test, one-sided)."""

    def ways(n: int, k: int) -> float:
        return math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)

    drawn = hits + alarms
    of_all = ways(own + others, drawn)
    possible = range(max(hits, drawn - others), min(own, drawn) + 1)
    return min(1.0, sum(math.exp(ways(own, k) + ways(others, drawn - k) - of_all) for k in possible))


def coded(values: Sequence[str | float | None]) -> NDArray[np.int64]:
    """Values as small integers: text by value, None being one; numbers by value if few, else in bins."""
    if any(isinstance(value, (int, float)) for value in values):
        numbers = np.array([np.nan if value is None else float(value) for value in values])
        known = numbers[~np.isnan(numbers)]
        edges = np.unique(known)
        if len(edges) > BINS + GAPS:
            after_gaps = edges[1:][np.argsort(-np.diff(edges), kind="stable")[:GAPS]]
            edges = np.unique([*np.quantile(known, np.arange(1, BINS) / BINS), *after_gaps])
        return np.where(np.isnan(numbers), -1, np.searchsorted(edges, numbers, side="right")) + 1
    return np.unique([value or "" for value in values], return_inverse=True)[1].astype(np.int64)


def predicted(
    codes: NDArray[np.int64], targets: NDArray[np.int32], folds: NDArray[np.int64], classes: int
) -> NDArray[np.bool_]:
    """(N, C): whether picture i would be called class c, by its code and by the pictures of the other folds."""
    called = np.zeros((len(codes), classes), bool)
    values = int(codes.max()) + 1
    for fold in range(FOLDS):
        learn, ask = folds != fold, folds == fold
        table = np.zeros((values, classes))
        np.add.at(table, (codes[learn], targets[learn]), 1)
        totals = table.sum(0)
        inside = table / np.maximum(totals, 1)
        outside = (table.sum(1, keepdims=True) - table) / np.maximum(totals.sum() - totals, 1)
        called[ask] = (inside > outside)[codes[ask]]
    return called


def _typical(
    name: str, facts: Sequence[Facts], rows: NDArray[np.int64], own: NDArray[np.bool_]
) -> dict[str, str | float | None]:
    """The most frequent value, or the median, in the class and in the others."""

    def typical(chosen: NDArray[np.int64]) -> str | float | None:
        values = [facts[row].get(name) for row in chosen.tolist()]
        numbers = [value for value in values if isinstance(value, (int, float))]
        if numbers:
            return round(float(np.median(numbers)), 3)
        most: str | float | None = max(sorted(set(values), key=str), key=values.count)
        return most

    return {"in the class": typical(rows[own]), "in the others": typical(rows[~own])}
