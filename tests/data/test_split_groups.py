"""`make_splits` with groups: what belongs together falls on one side."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from sightline.data import make_splits
from sightline.data.dataset import NO_SPLIT, Files, ImageDataset

TRAIN, VAL, TEST = range(3)


def dataset(targets: np.ndarray, splits: np.ndarray | None = None) -> ImageDataset:
    names = [f"{i:04d}.png" for i in range(len(targets))]
    classes = [f"c{label}" for label in range(int(targets.max()) + 1)]
    return ImageDataset(Files(Path("/data"), names), targets, classes, splits=splits, name="pets")


@settings(deadline=None, max_examples=80)
@given(st.integers(1, 120), st.integers(1, 5), st.integers(1, 60), st.integers(0, 2**32), st.booleans())
def test_no_group_is_torn(n: int, classes: int, groups: int, seed: int, tested: bool) -> None:
    rng = np.random.default_rng(seed)
    given_splits = np.where(rng.random(n) < 0.2, TEST, TRAIN) if tested else np.full(n, NO_SPLIT)
    given_splits[0] = TRAIN
    data = dataset(rng.integers(0, classes, n), given_splits)
    numbers = rng.integers(0, groups, n)
    split = make_splits(data, seed=seed, groups=numbers)
    assert (split.splits[given_splits == TEST] == TEST).all()
    free = given_splits != TEST
    for number in np.unique(numbers[free]):
        assert len(np.unique(split.splits[free & (numbers == number)])) == 1
    assert (split.splits == TRAIN).any()


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 100), st.integers(1, 5), st.integers(0, 2**32))
def test_groups_of_one_change_nothing(n: int, classes: int, seed: int) -> None:
    data = dataset(np.random.default_rng(seed).integers(0, classes, n))
    numbers = np.random.default_rng(seed).permutation(n)
    assert (make_splits(data, seed=seed, groups=numbers).splits == make_splits(data, seed=seed).splits).all()


def test_the_shares_hold_with_pairs() -> None:
    data = dataset(np.repeat([0, 1], 200))
    counts = np.bincount(make_splits(data, seed=0, groups=np.arange(400) // 2).splits, minlength=3)
    assert counts.tolist() == [280, 60, 60]


def test_large_groups_leave_something_everywhere() -> None:
    data = dataset(np.zeros(60, int))
    counts = np.bincount(make_splits(data, seed=0, groups=np.arange(60) // 20).splits, minlength=3)
    assert counts.tolist() == [20, 20, 20]
