"""What it means that pictures show the same: identical and nearly identical ones, split leaks, conflicting labels."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from sightline.audit.duplicates import Indices, Pairs, groups_of
from sightline.audit.files import Scan
from sightline.audit.findings import Finding
from sightline.data.dataset import SPLITS, ImageDataset
from sightline.errors import UnreadableImage


def identical(dataset: ImageDataset, done: Scan) -> Indices:
    """(M, 2) pairs that link pictures with the same pixels, whatever their files are.

    What has the same size and thumbnail is read again and compared; pictures of one colour are left out, as each
    has a finding of its own.
    """
    keys: dict[tuple[int, int, bytes], list[int]] = {}
    for row in np.flatnonzero(done.readable & ~done.constant).tolist():
        width, height = done.sizes[row].tolist()
        keys.setdefault((width, height, done.thumbnails[row].tobytes()), []).append(row)
    links = []
    for rows in keys.values():
        if len(rows) > 1:
            by_pixels: dict[bytes, list[int]] = {}
            for row in rows:
                try:
                    by_pixels.setdefault(dataset.read(row).tobytes(), []).append(row)
                except UnreadableImage:  # gone since it was first read
                    continue
            links += [link for same in by_pixels.values() for link in pairwise(same)]
    return np.array(links, np.int64).reshape(-1, 2)


def group_findings(dataset: ImageDataset, exact: Indices, near: Indices, pairs: Pairs) -> Iterator[Finding]:
    """Findings on the groups `exact` and `near`, (N,) each; `near` joins those of `exact` by `pairs`."""
    for rows in groups_of(exact):
        message = f"{_named(dataset, rows)} are identical, pixel by pixel."
        remedy = "Keep one of them."
        yield Finding("exact_duplicate", "warning", tuple(rows.tolist()), message, remedy)
    of_pair = near[pairs.rows[:, 0]]
    for rows in groups_of(near):
        inside = of_pair == near[rows[0]]
        links, alike = pairs.rows[inside], pairs.alike[inside]
        different = exact[links[:, 0]] != exact[links[:, 1]]
        if different.any():
            worst, best = float(alike[different].min()), float(alike[different].max())
            message = f"{_named(dataset, rows)} show the same, {_share(worst, best)} alike."
            remedy = "Keep them on one side of every split, or keep one of them."
            details = {"alike": [round(worst, 4), round(best, 4)]}
            yield Finding("near_duplicate", "warning", tuple(rows.tolist()), message, remedy, details)
        yield from _leak(dataset, rows)
        yield from _conflict(dataset, rows, links, exact)


def _leak(dataset: ImageDataset, rows: Indices) -> Iterator[Finding]:
    splits = [SPLITS[code] for code in np.unique(dataset.splits[rows]).tolist() if code < len(SPLITS)]
    if len(splits) > 1:
        message = f"{_named(dataset, rows)} show the same, in {' and '.join(splits)}."
        remedy = (
            "Move them to one split, or take the copies out: scores on pictures seen in training say nothing."
        )
        yield Finding("split_leak", "error", tuple(rows.tolist()), message, remedy, {"splits": splits})


def _conflict(dataset: ImageDataset, rows: Indices, links: Indices, exact: Indices) -> Iterator[Finding]:
    """The pictures of a group that are linked to one with another label."""
    labels = dataset.targets
    same = rows[np.argsort(exact[rows], kind="stable")]
    together = np.stack((same[:-1], same[1:]), axis=1)
    together = together[exact[together[:, 0]] == exact[together[:, 1]]]
    links = np.concatenate((links, together))
    torn = links[labels[links[:, 0]] != labels[links[:, 1]]]
    if len(torn):
        chosen: NDArray[np.int64] = np.unique(torn)
        names = [dataset.classes[label] for label in dict.fromkeys(labels[chosen].tolist())]
        message = f"{_named(dataset, chosen)} show the same, labelled {' and '.join(names)}."
        remedy = "Look which label is right, and take the others out."
        yield Finding("label_conflict", "error", tuple(chosen.tolist()), message, remedy, {"labels": names})


def class_findings(dataset: ImageDataset, least: int = 10) -> Iterator[Finding]:
    """Classes with fewer than `least` pictures to train on, and classes that a split lacks."""
    given = [code for code in range(len(SPLITS)) if (dataset.splits == code).any()]
    held = (dataset.splits == SPLITS.index("val")) | (dataset.splits == SPLITS.index("test"))
    to_train = np.bincount(dataset.targets[~held], minlength=len(dataset.classes))
    for label, name in enumerate(dataset.classes):
        own = dataset.targets == label
        rows = np.flatnonzero(own & ~held)
        if 0 < len(rows) < least:
            count = f"{len(rows)} picture{'s' * (len(rows) != 1)}"
            message = f"The class {name} has {count} to train on; the largest has {to_train.max():,}."
            remedy = "Collect more, or join it with a class like it."
            details = {"class": name, "n": len(rows)}
            yield Finding("small_class", "warning", tuple(rows.tolist()), message, remedy, details)
        for code in given:
            if not (own & (dataset.splits == code)).any():
                split = SPLITS[code]
                message = f"The class {name} has no picture in the {split} split."
                remedy = "Move some there: what is not measured is not known."
                examples = tuple(np.flatnonzero(own)[:4].tolist())
                yield Finding(
                    "missing_class", "error", examples, message, remedy, {"class": name, "split": split}
                )


def leaking(dataset: ImageDataset, groups: Indices, split: str = "test") -> Indices:
    """The places in `dataset` of the pictures of `split` whose group, (N,) numbers, reaches into another split.

    For the test split: those that a model has seen, in training or when its epoch was chosen.
    """
    inside = dataset.splits == SPLITS.index(split)
    outside = ~inside & (dataset.splits < len(SPLITS))
    return np.flatnonzero(inside & np.isin(groups, groups[outside]))


def _named(dataset: ImageDataset, rows: Indices) -> str:
    """`a`, `b` and 3 more."""
    names = [dataset.ref(row) for row in rows[:2].tolist()]
    return f"{names[0]}, {names[1]} and {len(rows) - 2} more" if len(rows) > 2 else " and ".join(names)


def _share(worst: float, best: float) -> str:
    low, high = f"{100 * worst:.0f}", f"{100 * best:.0f}"
    return f"{low} %" if low == high else f"{low} to {high} %"
