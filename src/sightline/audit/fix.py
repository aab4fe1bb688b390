"""A manifest that leaves out what cannot stay and keeps together what belongs together. No picture is touched."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sightline.audit.duplicates import Indices, groups_of
from sightline.audit.findings import Findings
from sightline.data.dataset import SPLITS, ImageDataset
from sightline.data.split import make_splits, write_splits
from sightline.errors import SightlineError

TRAIN, TEST = SPLITS.index("train"), SPLITS.index("test")


@dataclass(frozen=True, slots=True)
class Fix:
    """The mended data set, and a sentence for each thing that was done."""

    dataset: ImageDataset
    done: tuple[str, ...]


def mend(findings: Findings, seed: int = 0) -> Fix:
    """Drops, groups and re-splits; labels and near duplicates with different labels are left to a person.

    - Unreadable pictures, and those of one colour, are left out.
    - Of identical pictures one stays: of those under several labels none, as nobody knows which is right.
    - Near duplicates fall on one side of the splits that are made here (those that the set lacks). Where they lie on
      several sides of given splits, all of them go to train: test pictures that remain are then unseen. If that would
      leave a class without test (or validation) pictures, or less than half of them all, everything is split anew.

    Raises SightlineError where nothing would be left.
    """
    dataset = findings.dataset
    unusable = {row for one in findings.of("unreadable", "constant") for row in one.rows}
    copies, torn = _copies(dataset, findings.exact, unusable)
    away = np.array(sorted(unusable | copies | torn), np.int64)
    if len(away) == len(dataset):
        raise SightlineError(f"Nothing would be left of {dataset.name}: none of its pictures can be used.")
    kept = dataset.without(away)
    near = np.delete(findings.near, away)
    done = [
        f"{count:,} {what}"
        for count, what in (
            (len(unusable), "left out that cannot be read or are of one colour"),
            (len(copies), "left out that are copies of one that stays"),
            (len(torn), "left out that are one picture under several labels"),
        )
        if count
    ]
    kept, said = _with_clean_splits(kept, near)
    grouped = sum(len(rows) for rows in groups_of(near))
    split = make_splits(kept, seed=seed, groups=near)
    made = [name for name in SPLITS if split.has_split(name) and not kept.has_split(name)]
    if made:
        together = f"; {grouped:,} near duplicates stay on one side of them" if grouped else ""
        said.append(f"splits made: {', '.join(made)}{together}")
    return Fix(split, tuple(done + said))


def write_fix(fix: Fix, path: Path) -> None:
    """Writes the manifest, which `open_dataset` opens. Raises SightlineError."""
    if fix.dataset.root is None:
        raise SightlineError(f"{fix.dataset.name} holds arrays, not files, which no manifest can name.")
    if path.suffix.lower() != ".csv":
        raise SightlineError(f"--fix writes a CSV manifest; {path} should end in .csv.")
    write_splits(fix.dataset, path)


def _copies(dataset: ImageDataset, exact: Indices, unusable: set[int]) -> tuple[set[int], set[int]]:
    """Of identical pictures: those of one label but the first, and all of those of several labels.

    The first is one that is tested on, if there is one: the test split stays what it was.
    """
    copies: set[int] = set()
    torn: set[int] = set()
    for rows in groups_of(exact):
        group = [row for row in rows.tolist() if row not in unusable]
        if len({int(dataset.targets[row]) for row in group}) > 1:
            torn.update(group)
        else:
            copies.update(sorted(group, key=lambda row: dataset.splits[row] != TEST)[1:])
    return copies, torn


def _with_clean_splits(dataset: ImageDataset, near: Indices) -> tuple[ImageDataset, list[str]]:
    """The data set without near duplicates on several sides of its splits, and what was done for that."""
    splits = dataset.splits.copy()
    for rows in groups_of(near):
        if len(np.unique(splits[rows])) > 1:
            splits[rows] = TRAIN
    moved = int((splits != dataset.splits).sum())
    if not moved:
        return dataset, []
    for code, name in enumerate(SPLITS):
        before, after = (
            np.bincount(dataset.targets[some == code], minlength=len(dataset.classes))
            for some in (dataset.splits, splits)
        )
        if ((before > 0) & (after == 0)).any() or after.sum() < before.sum() / 2:
            none = np.full(len(dataset), TRAIN, np.uint8)
            why = f"moving {moved:,} near duplicates to train would leave too few {name} pictures"
            return dataset.with_splits(none), [f"all split anew: {why}"]
    return dataset.with_splits(splits), [f"{moved:,} moved to train, where their near duplicates are"]
