"""The confusion matrix as a table, and which pictures stand behind each of its cells."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sightline.report.data import ReportData
from sightline.report.thumbnails import Thumbnails

WHOLE = 40
"""Up to so many classes the whole matrix is shown; beyond, that many of the most mistaken ones."""
PAIRS = 12
"""Of the most frequent mistakes, so many are listed; twice as many where the matrix is not whole."""
PER_CELL = 24
"""Pictures behind a cell at most; half as many behind a cell of hits, which are many and alike."""
PICTURES = 1200
"""Pictures behind all cells together, beyond the first of each."""
SIDE = 72


@dataclass(frozen=True, slots=True)
class Cell:
    """One cell: how many, its share of the row, its key in the page's data, "" where there is nothing to open."""

    count: int
    share: float
    heat: float
    key: str
    label: str


@dataclass(frozen=True, slots=True)
class Row:
    """One class that was true, with a cell per column and what went to classes without a column."""

    name: str
    support: int
    cells: list[Cell]
    right: int
    elsewhere: int


@dataclass(frozen=True, slots=True)
class Pair:
    """A mistake that is made often."""

    truth: str
    said: str
    count: int
    support: int
    key: str


@dataclass(frozen=True, slots=True)
class Confusion:
    """`data` is what the page's script opens cells with."""

    columns: list[str]
    rows: list[Row]
    whole: bool
    pairs: list[Pair]
    mistakes: int
    data: dict[str, Any]


def confusion(data: ReportData, thumbnails: Thumbnails) -> Confusion:
    """The matrix, the most frequent mistakes, and thumbnails behind the cells that can be opened."""
    matrix = data.scores.confusion
    names = data.classes
    wrong = matrix - np.diag(np.diag(matrix))
    shown = np.arange(len(names))
    if len(names) > WHOLE:
        shown = np.sort(np.argsort(-(wrong.sum(0) + wrong.sum(1)), kind="stable")[:WHOLE])
    pairs = _pairs(wrong, PAIRS if len(shown) == len(names) else 2 * PAIRS)
    support = matrix.sum(1)

    rows = []
    for i in shown:
        cells = [_cell(matrix, names, int(i), int(j)) for j in shown]
        elsewhere = int(support[i] - matrix[i, shown].sum())
        rows.append(Row(names[i], int(support[i]), cells, int(np.flatnonzero(shown == i)[0]), elsewhere))
    frequent = [Pair(names[i], names[j], int(matrix[i, j]), int(support[i]), _key(i, j)) for i, j in pairs]
    wanted = dict.fromkeys(pairs)  # the pairs first, then the matrix by rows, each cell once
    wanted |= dict.fromkeys((int(i), int(j)) for i in shown for j in shown if matrix[i, j])
    return Confusion(
        columns=[names[j] for j in shown],
        rows=rows,
        whole=len(shown) == len(names),
        pairs=frequent,
        mistakes=int(wrong.sum()),
        data=_behind(data, list(wanted), thumbnails),
    )


def losses(data: ReportData) -> NDArray[np.float64]:
    """(N,) cross-entropy of each picture in nats: minus the logarithm of the true class's probability."""
    own = np.take_along_axis(data.probabilities, np.asarray(data.targets)[:, None], 1)[:, 0]
    return -np.log(np.maximum(own.astype(np.float64), 1e-12))


def roughly(probability: float) -> str:
    """Whole percents, without making certain what is not: 69%, >99%, <1%."""
    text = f"{probability:.0%}"
    return {"100%": ">99%", "0%": "<1%"}.get(text, text)


def _pairs(wrong: NDArray[np.int64], count: int) -> list[tuple[int, int]]:
    """The cells (truth, said) with the most mistakes, those of equal number in the order of the classes."""
    flat = wrong.ravel()
    order = np.argsort(-flat, kind="stable")[:count]
    return [(int(c // len(wrong)), int(c % len(wrong))) for c in order if flat[c]]


def _cell(matrix: NDArray[np.int64], names: list[str], i: int, j: int) -> Cell:
    count, of = int(matrix[i, j]), int(matrix[i].sum())
    share = count / of if of else 0.0
    pictures = "picture" if count == 1 else "pictures"
    label = f"{names[i]} called {names[j]}: {count} {pictures} of {of}"
    # The square root lifts the few mistakes of a good classifier out of the paper's colour.
    return Cell(count, share, round(math.sqrt(share), 3), _key(i, j) if count else "", label)


def _key(truth: int, said: int) -> str:
    return f"{truth}-{said}"


def _behind(data: ReportData, cells: list[tuple[int, int]], thumbnails: Thumbnails) -> dict[str, Any]:
    """For each cell its pictures, the most telling first: of mistakes the surest, of hits the least sure.

    Thumbnails are dealt out in rounds, one to each cell, so that a budget that ends leaves none empty.
    """
    called = data.probabilities.argmax(1)
    loss = losses(data)
    by_cell: dict[tuple[int, int], list[int]] = {cell: [] for cell in cells}
    for number in np.argsort(-loss, kind="stable"):
        cell = (int(data.targets[number]), int(called[number]))
        if cell in by_cell:
            by_cell[cell].append(int(number))

    entries: dict[tuple[int, int], list[dict[str, Any]]] = {cell: [] for cell in cells}
    left = PICTURES
    for turn in range(PER_CELL):
        for cell, numbers in by_cell.items():
            limit = PER_CELL if cell[0] != cell[1] else PER_CELL // 2
            if turn >= min(limit, len(numbers)) or (turn and left <= 0) or thumbnails.exhausted:
                continue
            left -= 1
            entries[cell].append(_entry(data, numbers[turn], cell, thumbnails))
    return {
        _key(*cell): {
            "truth": data.classes[cell[0]],
            "said": data.classes[cell[1]],
            "count": len(by_cell[cell]),
            "pictures": entries[cell],
        }
        for cell in cells
    }


def _entry(data: ReportData, number: int, cell: tuple[int, int], thumbnails: Thumbnails) -> dict[str, Any]:
    truth, said = cell
    return {
        "ref": data.refs[number],
        "src": thumbnails.uri(number, SIDE),
        "said": roughly(float(data.probabilities[number, said])),
        "truth": roughly(float(data.probabilities[number, truth])),
    }
