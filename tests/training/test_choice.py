"""Which epoch is kept."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sightline.training.choice import Choice, deviation_of_mean_recall


def kept(epochs):
    choice = Choice()
    return [number for number, epoch in enumerate(epochs) if choice.keeps(*epoch)][-1]


def test_the_latest_within_a_standard_error_of_the_highest_is_kept():
    merits = [0.50, 0.70, 0.66, 0.64, 0.60]
    assert kept([(merit, 1.0, 0.05) for merit in merits]) == 2
    assert kept([(merit, 1.0, 0.00) for merit in merits]) == 1
    assert kept([(merit, 1.0, 0.11) for merit in merits]) == 4


def test_a_lower_merit_that_is_surer_does_not_lower_what_is_asked():
    """Both have to be reached: the floor of the highest, and that of any other."""
    assert kept([(0.70, 1.0, 0.02), (0.69, 1.0, 0.10), (0.60, 1.0, 0.10)]) == 1


epochs = st.lists(
    st.tuples(st.integers(0, 20).map(lambda n: n / 20), st.floats(0, 5), st.floats(0, 0.2)), min_size=1
)


@given(epochs)
def test_what_is_kept_is_as_good_as_the_best_of_all(rows):
    best = max(rows, key=lambda row: row[0])
    number = kept(rows)
    assert rows[number][0] >= best[0] - best[2]
    assert all(later[0] < best[0] for later in rows[number + 1 :])


@given(epochs)
def test_epochs_are_counted_from_the_highest_merit_and_among_equal_ones_from_the_lowest_loss(rows):
    choice = Choice()
    for row in rows:
        choice.keeps(*row)
    ranks = [(merit, -loss) for merit, loss, _ in rows]
    assert choice.epochs_since == len(rows) - 1 - ranks.index(max(ranks))


def test_the_standard_error_is_that_of_drawn_pictures():
    rng = np.random.default_rng(0)
    seen, recalls = np.array([40, 90, 400]), np.array([0.6, 0.9, 0.3])
    drawn = rng.binomial(seen, recalls, (20_000, 3))
    said = [deviation_of_mean_recall(right, seen) for right in drawn]
    assert np.mean(said) == pytest.approx((drawn / seen).mean(1).std(), rel=0.02)


def test_few_pictures_that_are_all_right_are_not_sure_of_it():
    # Of 2 and half a picture more, 2.5 of 3 are right: the root of 5/6 * 1/6 / 2.
    assert deviation_of_mean_recall(np.array([2]), np.array([2])) == pytest.approx((5 / 72) ** 0.5)
