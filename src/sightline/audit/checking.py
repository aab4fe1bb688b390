"""The check as a whole: what is read once, what is asked of it, and in which order."""

from __future__ import annotations

import time
from collections.abc import Callable
from os import PathLike
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from sightline.audit.duplicates import Indices, Pairs, group_ids, near_duplicates
from sightline.audit.files import file_findings, read_thumbnails, scan
from sightline.audit.findings import Findings, in_order
from sightline.audit.giveaway import giveaways
from sightline.audit.groups import class_findings, group_findings, identical

if TYPE_CHECKING:
    from sightline.data.dataset import ImageDataset


def check(
    source: str | PathLike[str] | ImageDataset,
    *,
    labels: bool = False,
    minutes: float = 5.0,
    progress: Callable[[int, int, str], None] | None = None,
) -> Findings:
    """Look for what is wrong with a data set (anything that `open_dataset` takes). No file is touched.

    Files, duplicates, classes and properties that give the class away are always looked at, in about the time that
    reading every picture once takes. With `labels`, also likely wrong labels and outliers, for at most about
    `minutes`; where that is too short for all pictures, a part of them is looked at, and `Findings.checked` says so.
    `progress` is told (pictures done, of how many, of which kind). Raises `SightlineError` for what is no data set.
    """
    from sightline.data import ImageDataset, open_dataset

    dataset = source if isinstance(source, ImageDataset) else open_dataset(source)
    n = len(dataset)
    begun = time.monotonic()
    done = scan(dataset, lambda count: progress(count, n, "pictures") if progress else None)
    rows = np.flatnonzero(done.readable)
    found = list(file_findings(dataset, done))
    links = identical(dataset, done)
    usable = np.flatnonzero(done.readable & ~done.constant)
    local = near_duplicates(done.thumbnails[usable], dataset.targets[usable])
    pairs = Pairs(usable[local.rows], local.alike)
    exact = group_ids(n, links)
    near = group_ids(n, np.concatenate((links, pairs.rows)))
    found += group_findings(dataset, exact, near, pairs)
    found += class_findings(dataset)
    found += giveaways(dataset, done.facts, rows)
    checked = None
    if labels:
        from sightline.audit.labels import confirmed, label_findings

        wrong, checked, embedding = label_findings(dataset, usable, begun + 60 * minutes, progress)
        found = [*confirmed(found, embedding), *wrong]
    return Findings(dataset, in_order(found), exact, near, checked)


def near_duplicate_groups(
    dataset: ImageDataset, progress: Callable[[int], None] | None = None
) -> tuple[Indices, NDArray[np.bool_]]:
    """For each of N pictures the number of its group, which near duplicates share, and whether it can be read.

    Reads every picture once. `progress` is told how many have been read so far.
    """
    thumbnails, readable = read_thumbnails(dataset, progress)
    return near_groups(thumbnails, dataset.targets, readable), readable


def near_groups(
    thumbnails: NDArray[np.uint8], targets: NDArray[np.int32], known: NDArray[np.bool_]
) -> Indices:
    """(N,) group numbers from (N, 32, 32) thumbnails, as of `thumbnail`, of the pictures that are `known`."""
    rows = np.flatnonzero(known)
    pairs = near_duplicates(thumbnails[rows], targets[rows])
    return group_ids(len(known), rows[pairs.rows])
