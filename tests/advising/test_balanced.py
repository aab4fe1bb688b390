"""Balanced shares against scikit-learn, and how sure they are against drawing them again and again."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import recall_score

from sightline.advising.balanced import balanced_accuracy, effective, weights_of
from sightline.evaluation import intervals


@given(st.lists(st.tuples(st.integers(0, 4), st.booleans()), min_size=1, max_size=60))
def test_the_weighted_mean_is_the_mean_of_the_recalls(answers):
    targets, right = (np.array(column) for column in zip(*answers, strict=True))
    weights = weights_of(targets)
    assert weights.mean() == pytest.approx(1.0)
    said = np.where(right, targets, targets + 5)
    wanted = recall_score(targets, said, labels=np.unique(targets), average="macro")
    assert np.average(right, weights=weights) == pytest.approx(wanted)
    assert balanced_accuracy(np.where(right, 1.0, -1.0), targets, 0.9)[0] == pytest.approx(wanted)


def test_equal_classes_count_as_they_are():
    targets = np.tile(np.arange(7), 5)
    assert np.array_equal(weights_of(targets), np.ones(35))
    assert effective(weights_of(targets)) == 35


def test_its_variance_is_that_of_the_effective_number_of_pictures():
    """Classes of 100, 20 and 5 pictures, each answer right with probability 0.7."""
    targets = np.repeat([0, 1, 2], [100, 20, 5])
    weights = weights_of(targets)
    assert effective(weights) == pytest.approx(9 / (1 / 100 + 1 / 20 + 1 / 5))
    right = np.random.default_rng(0).random((20_000, 125)) < 0.7
    assert np.average(right, axis=1, weights=weights).var() == pytest.approx(
        0.7 * 0.3 / effective(weights), rel=0.05
    )


def test_the_interval_is_that_of_the_evaluation():
    margins, targets = np.array([1.0, 1, -1, 1, 1, -1, 1]), np.array([0, 0, 0, 0, 2, 2, 2])
    confusion = np.array([[3, 1, 0], [0, 0, 0], [1, 0, 2]])
    found = balanced_accuracy(margins, targets, 0.9)
    assert found[1:] == pytest.approx(intervals.balanced_accuracy(confusion, level=0.9))
    assert found[1] < found[0] < found[2]
