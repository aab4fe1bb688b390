"""Splits: made where they are missing, written down, and found again.

A split depends on the seed and on the names of the pictures alone: not on their order, the file system or the
machine. Each picture draws a number from a hash of its name, keyed by the seed, and within its class the lowest
go to the test split and the next to the validation split. So a picture that is added or removed moves at most a
few others across.
"""

from __future__ import annotations

import csv
import hashlib
import itertools
import os
import uuid
from array import array
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sightline.data.dataset import NO_SPLIT, SPLITS, ImageDataset
from sightline.data.manifest import read_rows
from sightline.errors import SightlineError

_TRAIN, _VAL, _TEST = range(3)


def make_splits(
    dataset: ImageDataset,
    *,
    seed: int,
    val: float = 0.15,
    test: float = 0.15,
    groups: ArrayLike | None = None,
) -> ImageDataset:
    """`dataset` with all three splits: those that it has stay, those that it lacks are cut from the rest.

    `val` and `test` are shares of the pictures that are in neither an existing validation nor test split. Of a
    class with n of those, share * n (rounded, at least one) go to each missing split, and at least one stays
    for training: of a class of two one is tested, and a class of one is only trained on.

    Pictures of one number in `groups`, (N,) integers, fall into one split as far as they are not in one already:
    near duplicates, or all pictures of a person. A group is drawn by the lowest draw among its pictures, counts for
    the class of that one, and is passed over by a split that it is too large for; with groups of one picture each,
    everything is as without. Raises `SightlineError` where nothing is there to train on.
    """
    if not (0 < val < 1 and 0 < test < 1 and val + test < 1):
        raise SightlineError(
            f"The shares val={val} and test={test} have to be above 0, and below 1 together."
        )
    pool = (dataset.splits == _TRAIN) | (dataset.splits == NO_SPLIT)
    if not pool.any():
        raise SightlineError(f"{dataset.name} has no pictures to train on: all are in its val or test split.")
    missing = {code: share for code, share in ((_TEST, test), (_VAL, val)) if code not in dataset.splits}
    splits = dataset.splits.copy()
    splits[pool] = _TRAIN
    if missing:
        queue = np.flatnonzero(pool)
        queue = queue[np.argsort(_draws(dataset, seed)[queue], kind="stable")]
        numbers = queue if groups is None else np.asarray(groups)[queue]
        _, firsts, unit, sizes = np.unique(
            numbers, return_index=True, return_inverse=True, return_counts=True
        )
        labels = dataset.targets[queue[firsts]]
        codes = np.empty(len(firsts), np.uint8)
        order = np.lexsort((firsts, labels))  # class by class, by draw
        for units in np.split(order, np.flatnonzero(np.diff(labels[order])) + 1):
            portions = _portions(int(sizes[units].sum()), list(missing.values()))
            codes[units] = _dealt(sizes[units], portions, list(missing))
        splits[queue] = codes[unit]
    return dataset.with_splits(splits)


def _portions(count: int, shares: Sequence[float]) -> list[int]:
    """How many of `count` pictures go to each share; the first comes first where there are too few."""
    portions = []
    left = max(count - 1, 0)  # one stays
    for still, share in zip(reversed(range(len(shares))), shares, strict=True):
        most = max(left - still, min(left, 1))  # the later ones want one each
        portions.append(min(max(1, int(share * count + 0.5)), most))
        left -= portions[-1]
    return portions


def _dealt(sizes: NDArray[np.int64], portions: Sequence[int], codes: Sequence[int]) -> NDArray[np.uint8]:
    """The split of each unit of so many pictures: the first of `codes` that still lacks so many, else train."""
    dealt = np.full(len(sizes), _TRAIN, np.uint8)
    lacking = list(portions)
    for place, size in enumerate(sizes.tolist()):
        fitting = next((k for k, lack in enumerate(lacking) if size <= lack), None)
        if fitting is not None:
            dealt[place] = codes[fitting]
            lacking[fitting] -= size
        elif not any(lacking):
            break
    for code, portion in zip(codes, portions, strict=True):
        left = np.flatnonzero(dealt == _TRAIN)
        if portion and code not in dealt and len(left) > 1:  # every unit was too large: the smallest, then
            dealt[left[sizes[left].argmin()]] = code
    return dealt


def _draws(dataset: ImageDataset, seed: int) -> NDArray[np.uint64]:
    key = seed.to_bytes(16, "little", signed=True)
    hashes = (hashlib.blake2b(os.fsencode(ref), digest_size=8, key=key).digest() for ref in dataset.refs())
    return np.frombuffer(b"".join(hashes), dtype="<u8")


def write_splits(dataset: ImageDataset, path: Path) -> None:
    """Writes `path,label,split`, and `root` for files, as CSV; beside first, then renamed.

    The paths are those of `ImageDataset.ref`, and `root` is the folder they start from: so the file is itself a
    manifest, which `open_dataset` opens with the same references. Every picture needs a split. Raises
    `SightlineError`.
    """
    root = [] if dataset.root is None else [str(dataset.root.resolve())]
    part = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        with part.open("w", encoding="utf-8", errors="surrogateescape", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(["path", "label", "split", *(["root"] if root else [])])
            rows = zip(dataset.refs(), dataset.targets.tolist(), dataset.splits.tolist(), strict=True)
            for ref, target, code in rows:
                writer.writerow([ref, dataset.classes[target], SPLITS[code], *root])
        part.replace(path)
    except OSError as error:
        raise SightlineError(f"{path} cannot be written: {error.strerror}.") from error
    finally:
        part.unlink(missing_ok=True)


def read_splits(dataset: ImageDataset, path: Path) -> ImageDataset:
    """The pictures of `dataset` that the file of `write_splits` names, in the splits that it gives them.

    The other pictures of `dataset` were set aside then, or came later: they are left out. Raises
    `SightlineError` if it lacks a picture that the file names, or has it under another label.
    """
    places = {label: place for place, label in enumerate(dataset.classes)}
    hashes, targets, splits = array("q"), array("i"), bytearray()
    for row in read_rows(path):
        if row.split == NO_SPLIT:
            raise SightlineError(f"{path} has no column for the split.")
        hashes.append(hash(row.path))
        targets.append(places.get(row.label, -1))
        splits.append(row.split)

    # Names are matched by their 64-bit hashes: a dictionary of a million names would take 150 MB.
    own = np.fromiter((hash(ref) for ref in dataset.refs()), np.int64, count=len(dataset))
    order = np.argsort(own)
    wanted = np.frombuffer(hashes, np.int64)
    found = order[np.searchsorted(own, wanted, sorter=order).clip(max=len(order) - 1)]
    for bad, what in (
        (own[found] != wanted, "which {name} does not have"),
        (dataset.targets[found] != np.frombuffer(targets, np.int32), "which has another label in {name}"),
    ):
        if bad.any():
            row = next(itertools.islice(read_rows(path), int(bad.argmax()), None))
            others = f" (and {bad.sum() - 1} more)" if bad.sum() > 1 else ""
            raise SightlineError(f"{path} names {row.path}{others}, {what.format(name=dataset.name)}.")
    codes = np.full(len(dataset), NO_SPLIT, np.uint8)
    codes[found] = np.frombuffer(splits, np.uint8)
    return dataset.with_splits(codes).subset(codes != NO_SPLIT)
