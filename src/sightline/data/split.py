"""Splits: made where they are missing, written down, and found again.

A split depends on the seed and on the names of the pictures alone: not on their order, the file system or the
machine. Each picture draws a number from a hash of its name, keyed by the seed, and within its class the lowest
go to the test split and the next to the validation split. So a picture that is added or removed moves at most a
few others across.
"""

from __future__ import annotations

import csv
import hashlib
import os
import uuid
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sightline.data.dataset import NO_SPLIT, SPLITS, ImageDataset
from sightline.data.manifest import read_rows
from sightline.errors import SightlineError

_TRAIN, _VAL, _TEST = range(3)


def make_splits(dataset: ImageDataset, *, seed: int, val: float = 0.15, test: float = 0.15) -> ImageDataset:
    """`dataset` with all three splits: those that it has stay, those that it lacks are cut from the rest.

    `val` and `test` are the shares of the pictures outside the existing test and validation splits, class by
    class. Of a class with n such pictures, round(share * n) but at least one goes to each missing split; one
    picture at least stays for training, so that a class of two has no validation picture and a class of one is
    only trained on. Raises `SightlineError` where nothing would be left to train on.
    """
    if not (0 < val < 1 and 0 < test < 1 and val + test < 1):
        raise SightlineError(f"The shares val={val} and test={test} have to be above 0 and below 1 in sum.")
    pool = (dataset.splits == _TRAIN) | (dataset.splits == NO_SPLIT)
    if not pool.any():
        raise SightlineError(f"{dataset.name} has no pictures to train on: all are in its val or test split.")
    missing = [
        (code, share)
        for code, share in ((_TEST, test), (_VAL, val))
        if not dataset.has_split(SPLITS[code])
    ]
    splits = dataset.splits.copy()
    splits[pool] = _TRAIN
    if missing:
        draws = _draws(dataset, seed)
        order = np.lexsort((draws, dataset.targets))  # class by class, by draw
        order = order[pool[order]]
        counts = np.bincount(dataset.targets[pool], minlength=len(dataset.classes))
        for start, count in zip(np.cumsum(counts) - counts, counts.tolist(), strict=True):
            place = int(start)
            left = count - 1  # one stays
            for code, share in missing:
                taken = min(max(1, int(share * count + 0.5)), left)
                splits[order[place : place + taken]] = code
                place, left = place + taken, left - taken
    return dataset.with_splits(splits)


def _draws(dataset: ImageDataset, seed: int) -> NDArray[np.uint64]:
    key = seed.to_bytes(16, "little", signed=True)
    hashes = (hashlib.blake2b(os.fsencode(ref), digest_size=8, key=key).digest() for ref in dataset.refs())
    return np.frombuffer(b"".join(hashes), dtype="<u8")


def write_splits(dataset: ImageDataset, path: Path) -> None:
    """Writes `path,label,split` (and `root` for files) as CSV, beside first and then renamed.

    The paths are those of `ImageDataset.ref`; with `root`, the folder that they start from, the file is itself a
    manifest that `open_dataset` opens, with the same references. Raises `SightlineError`.
    """
    root = [] if dataset.root is None else [str(dataset.root.resolve())]
    part = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        with part.open("w", encoding="utf-8", errors="surrogateescape", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(["path", "label", "split", *(["root"] if root else [])])
            for ref, target, code in zip(dataset.refs(), dataset.targets, dataset.splits, strict=True):
                split = "" if code == NO_SPLIT else SPLITS[code]
                writer.writerow([ref, dataset.classes[target], split, *root])
        part.replace(path)
    except OSError as error:
        raise SightlineError(f"{path} cannot be written: {error.strerror}.") from error
    finally:
        part.unlink(missing_ok=True)


def read_splits(dataset: ImageDataset, path: Path) -> ImageDataset:
    """The pictures of `dataset` that the file of `write_splits` names, in the splits that it gives them.

    Pictures that it does not name were set aside, or came later, and are left out. Raises `SightlineError` if
    `dataset` lacks a picture that it names, or has it under another label.
    """
