"""Which pictures a split must not part: the first tier of the check, as every `fit` makes it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from sightline.audit.checking import near_groups
from sightline.audit.duplicates import FLAT, Indices, group_ids, groups_of
from sightline.audit.files import read_thumbnails
from sightline.errors import UnreadableImage
from sightline.pipeline.content import digest

if TYPE_CHECKING:
    from sightline.data.dataset import ImageDataset

# The search for near duplicates grows with the square of the pictures. Up to so many it takes a percent or two of
# the time that training on them does; beyond, only identical files are looked for.
MOST = 50_000
# Where so many pictures of a class are alike, and more than a few, its pictures are alike by nature (stripes, a stamp
# that every picture of it shows): no copies, and nothing that could be kept on one side.
OF_CLASS, FEW = 0.5, 3


@dataclass(frozen=True, slots=True)
class Alike:
    """groups: (N,) numbers, one for all pictures that show the same; said: what was left out, in a sentence."""

    groups: Indices
    said: str | None = None


def alike(dataset: ImageDataset, progress: Callable[[int, int, str], None] | None = None) -> Alike:
    """The groups of identical and nearly identical pictures of `dataset`, for `make_splits` and `leaking`.

    Reads every picture once, on all cores. Of more than `MOST` pictures only identical files are found, without
    decoding them. `progress` is told (pictures done, of how many, of which kind).
    """
    n = len(dataset)

    def tell(done: int) -> None:
        if progress:
            progress(done, n, "pictures for copies")

    if n > MOST:
        said = (
            f"Identical files are kept on one side of a split; near duplicates were not looked for among {n:,} "
            "pictures: `sightline check` does that."
        )
        return Alike(same_content(dataset, tell), said)
    thumbnails, readable = read_thumbnails(dataset, tell)
    near = near_groups(thumbnails, dataset.targets, readable)
    same = same_thumbnails(thumbnails, readable)
    return by_nature(dataset, group_ids(n, np.concatenate((links(near), links(same)))), same)


def by_nature(dataset: ImageDataset, near: Indices, same: Indices) -> Alike:
    """`near`, (N,) groups, but only as far as in `same` where the pictures of a class are alike by nature."""
    groups, counts = near.copy(), dataset.class_counts()
    natural: dict[int, int] = {}
    for rows in groups_of(near):
        labels = dataset.targets[rows]
        for label, own in zip(
            *(part.tolist() for part in np.unique(labels, return_counts=True)), strict=True
        ):
            if own > max(FEW, OF_CLASS * counts[label]):
                natural[label] = own
                groups[rows] = same[rows]
    if not natural:
        return Alike(groups)
    parts = [
        f"{own:,} of the {counts[label]:,} of {dataset.classes[label]}" for label, own in natural.items()
    ]
    several = f" and of {len(parts) - 3} more classes" if len(parts) > 3 else ""
    return Alike(
        groups,
        f"Pictures that are alike by nature ({', '.join(parts[:3])}{several}) cannot be kept on one side of a split; "
        "of them only identical ones are.",
    )


def same_thumbnails(thumbnails: NDArray[np.uint8], readable: NDArray[np.bool_]) -> Indices:
    """(N,) groups of readable pictures with equal thumbnails; those of one colour say nothing and stay alone."""
    textured = np.flatnonzero(readable & (np.ptp(thumbnails, axis=(1, 2)) > FLAT))
    firsts: dict[bytes, int] = {}
    groups = np.arange(len(thumbnails))
    for row in textured.tolist():
        groups[row] = firsts.setdefault(thumbnails[row].tobytes(), row)
    return groups


def same_content(dataset: ImageDataset, tell: Callable[[int], None]) -> Indices:
    """(N,) groups of pictures whose files are the same byte for byte."""
    firsts: dict[bytes, int] = {}
    groups = np.arange(len(dataset))
    for row in range(len(dataset)):
        try:
            groups[row] = firsts.setdefault(digest(dataset, row), row)
        except UnreadableImage:  # it will be set aside
            continue
        if row % 1000 == 999:
            tell(row + 1)
    return groups


def links(groups: Indices) -> Indices:
    """(M, 2) pairs that link each picture of a group to the group's first."""
    rows = np.flatnonzero(groups != np.arange(len(groups)))
    return np.stack((groups[rows], rows), axis=1)
