"""The same picture more than once: resized, recompressed, brightened, cropped by some percent, or shot again.

Three sieves. A thumbnail's locally normalised low frequencies, 63 numbers, are compared with everybody's in blocks
of one matrix product; the pairs that stand out are laid over each other (`alignment`); and what is left has to be
more alike than different pictures of the same class are. That last bar is measured in the set itself: among
photographs of ants two different pictures are never alike, among handwritten ones many are.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sightline.audit.alignment import SIDE, Floats, local_normalised, similarity

if TYPE_CHECKING:
    from PIL import Image

Indices = NDArray[np.int64]

# No pair that is less alike than this, once aligned, counts, whatever the set. Photographs: different ones reach
# 0.78 (frames, objects cut out on white), copies with a tenth of the edges cut 0.8 to 0.9, other copies more.
LEAST_ALIKE = 0.8
# Nor one whose middles, without the edges, are less alike than this: copies reach 0.85, a common frame does not help.
LEAST_MIDDLE = 0.75
# A pair of a class has to be so many (robust) deviations further above the class's pairs, on Fisher's scale, than the
# highest of as many normal numbers as the class has pairs would be, sqrt(2 ln pairs): tails are heavier than normal.
FURTHER = 1.5
SAMPLE, SMALL_CLASS = 120, 50
# The low frequencies of copies that lost a tenth of their width and height correlate by more, but a few of a hundred;
# those of two photographs seldom ...
LEAST_CORRELATED = 0.7
# ... and where that is common, the bar rises until about this many pairs, and one more a picture, are left to align.
PAIRS = 15_000
NEIGHBOURS = 16  # of one picture, at most: a heap of equal ones is found by its links
FREQUENCIES, COARSE_WINDOW, COARSE_CONTRAST = 8, 15, 8.0
# Rows of one piece of work, and values of a block of the matrix product.
BLOCK, BLOCK_VALUES = 512, 2_000_000
# A thumbnail whose values span no more than this has nothing to compare.
FLAT = 4


@dataclass(frozen=True, slots=True)
class Pairs:
    """Near duplicates: `rows` (M, 2), places in the data set, the smaller first; `alike` (M,), in 0..1."""

    rows: Indices
    alike: Floats


def thumbnail(picture: Image.Image) -> NDArray[np.uint8]:
    """(32, 32) grey values: all that is kept of a picture to find its duplicates.

    Any size and mode L or RGB will do, so also a picture that was already reduced for training.
    """
    from PIL import Image

    small = picture.resize((SIDE, SIDE), Image.Resampling.BILINEAR, reducing_gap=2.0)
    return np.asarray(small.convert("L"))


def near_duplicates(thumbnails: NDArray[np.uint8], targets: ArrayLike, seed: int = 0) -> Pairs:
    """The pairs of (N, 32, 32) `thumbnails`, with (N,) `targets`, that show one picture.

    10,000 take a few seconds. The first sieve grows with the square of N, the others and the memory with N.
    """
    rng = np.random.default_rng(seed)
    labels = np.asarray(targets)
    textured = np.flatnonzero(np.ptp(thumbnails, axis=(1, 2)) > FLAT)
    if len(textured) < 2:
        return Pairs(np.zeros((0, 2), np.int64), np.zeros(0, np.float32))
    rows = textured[_candidates(coarse(thumbnails[textured]), rng)]
    alike, middle = similarity(thumbnails[rows[:, 0]], thumbnails[rows[:, 1]])
    likely = (alike >= LEAST_ALIKE) & (middle >= LEAST_MIDDLE)
    rows, alike = rows[likely], alike[likely]
    kept = alike >= _bars(thumbnails, labels, textured, rows, rng)
    order = np.lexsort((rows[kept, 1], rows[kept, 0]))
    return Pairs(rows[kept][order], alike[kept][order])


def coarse(thumbnails: NDArray[np.uint8]) -> Floats:
    """(N, 63): the lowest frequencies of the locally normalised thumbnails, of length 1 each."""
    places = (2 * np.arange(SIDE) + 1) * np.pi / (2 * SIDE)
    cosines = np.cos(places * np.arange(FREQUENCIES)[:, None]).astype(np.float32)
    parts = []
    for start in range(0, len(thumbnails), BLOCK):
        normalised = local_normalised(thumbnails[start : start + BLOCK], COARSE_WINDOW, COARSE_CONTRAST)
        parts.append((cosines @ normalised @ cosines.T).reshape(-1, FREQUENCIES**2)[:, 1:])
    values = np.concatenate(parts)
    return np.asarray(values / np.maximum(np.linalg.norm(values, axis=1, keepdims=True), 1e-6), np.float32)


def _candidates(values: Floats, rng: np.random.Generator) -> Indices:
    """(M, 2) pairs of rows of `values` whose correlation stands out."""
    n = len(values)
    first, second = (values[rng.choice(n, min(n, 1500), replace=False)] for _ in range(2))
    expected = first @ second.T
    wanted = (PAIRS + n) / (n * n / 2)
    others = expected[expected < 0.9999]  # a picture against itself is in the sample too
    bar = (
        max(LEAST_CORRELATED, float(np.quantile(others, max(0.0, 1 - wanted))))
        if len(others)
        else LEAST_CORRELATED
    )
    found = [np.zeros((0, 2), np.int64)]
    rows = max(1, min(BLOCK, BLOCK_VALUES // n))
    for start in range(0, n, rows):
        block = values[start : start + rows] @ values[start:].T
        row, column = np.nonzero(block > bar)
        row, column = row[column > row], column[column > row]  # each pair once, none with itself
        found.append(_nearest(row, column, block[row, column]) + start)
    return np.concatenate(found)


def _nearest(row: Indices, column: Indices, value: Floats) -> Indices:
    """Of the pairs (row, column), the `NEIGHBOURS` with the highest values of each row."""
    order = np.lexsort((-value, row))
    row, column = row[order], column[order]
    starts = np.searchsorted(row, row)  # where each row's pairs begin
    kept = np.arange(len(row)) - starts < NEIGHBOURS
    return np.stack((row[kept], column[kept]), axis=1)


def _bars(
    thumbnails: NDArray[np.uint8],
    labels: NDArray[Any],
    textured: Indices,
    rows: Indices,
    rng: np.random.Generator,
) -> Floats:
    """(M,): how alike each pair has to be, by what different pictures of its classes are.

    The median and the median deviation of random pairs of a class hold against duplicates among them. A class too
    small to tell is taken with all others.
    """
    members = {label: textured[labels[textured] == label] for label in np.unique(labels[rows]).tolist()}
    pooled: float | None = None
    bars: dict[int, float] = {}
    for label, own in members.items():
        if len(own) >= SMALL_CLASS:
            bars[label] = _bar(thumbnails, rng.choice(own, (SAMPLE, 2)), len(own) ** 2 / 2)
            continue
        if pooled is None:
            one = rng.choice(textured, 3 * SAMPLE)
            other = [rng.choice(textured[labels[textured] == label]) for label in labels[one]]
            pairs = float((np.bincount(labels[textured].astype(np.int64)) ** 2).sum()) / 2
            pooled = _bar(thumbnails, np.stack((one, np.array(other)), axis=1), pairs)
        bars[label] = pooled
    return np.array([max(bars[a], bars[b]) for a, b in labels[rows].tolist()], np.float32)


def _bar(thumbnails: NDArray[np.uint8], rows: Indices, pairs: float) -> float:
    """What one of so many `pairs`, of which `rows` (M, 2) are a sample, does not reach by chance."""
    rows = rows[rows[:, 0] != rows[:, 1]]
    if not len(rows):
        return 0.0
    whole, _ = similarity(thumbnails[rows[:, 0]], thumbnails[rows[:, 1]])
    scores = np.arctanh(whole.clip(-0.9999, 0.9999))
    middle = float(np.median(scores))
    deviation = 1.4826 * float(np.median(np.abs(scores - middle)))
    deviations = np.sqrt(2 * np.log(max(pairs, 2.0))) + FURTHER
    return float(np.tanh(middle + deviations * deviation))


# Groups of pictures that belong together.


def group_ids(n: int, rows: ArrayLike) -> Indices:
    """(n,) group numbers: the smallest place among those that the pairs `rows` (M, 2) link, directly or not."""
    parents = list(range(n))

    def root(place: int) -> int:
        while parents[place] != place:
            parents[place] = parents[parents[place]]
            place = parents[place]
        return place

    for first, second in np.asarray(rows, np.int64).reshape(-1, 2).tolist():
        a, b = root(first), root(second)
        parents[max(a, b)] = min(a, b)
    return np.array([root(place) for place in range(n)], np.int64)


def groups_of(ids: Indices) -> Iterator[Indices]:
    """The places of each group of two or more, group by group."""
    order = np.argsort(ids, kind="stable")
    _, starts = np.unique(ids[order], return_index=True)
    return (part for part in np.split(order, starts[1:]) if len(part) > 1)
