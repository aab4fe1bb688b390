"""Smoothed accuracies: what they are, and that they are steadier than counts."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm

from sightline.advising.balanced import weights_of
from sightline.advising.constants import BOLSTER, STEADIER
from sightline.advising.smoothed import smoothed
from sightline.features.embedding_stages import margins_of


def test_margins_are_the_lead_of_the_own_class():
    decided = np.array([[1.0, 3.0, 2.0], [0.5, 0.2, 0.4]])
    assert margins_of(decided, np.array([1, 2])) == pytest.approx([1.0, -0.1])


def test_each_answer_counts_by_how_clear_it_is():
    margins = np.array([2.0, 1.0, 0.0, -1.0, 3.0, 1.0, 0.5, 0.5])
    width = BOLSTER / 2 * margins.std()  # 8 ** (1 / 3) is 2
    assert smoothed(margins, np.ones(8)) == pytest.approx(norm.cdf(margins / width).mean())


def test_every_class_counts_as_much_as_any_other():
    margins, targets = np.array([2.0, 1.0, 3.0, 1.5, -1.0, 0.5]), np.array([0, 0, 0, 0, 1, 1])
    clear = norm.cdf(margins / (BOLSTER * 6 ** (-1 / 3) * margins.std()))
    assert smoothed(margins, weights_of(targets)) == pytest.approx((clear[:4].mean() + clear[4:].mean()) / 2)


@given(st.lists(st.floats(-5, 5), min_size=2, max_size=60), st.floats(0.1, 10))
def test_the_scale_of_margins_does_not_matter(values, scale):
    margins = np.array(values)
    if margins.std() > 1e-3:
        even = np.ones(len(margins))
        assert smoothed(margins * scale, even) == pytest.approx(smoothed(margins, even))
        assert smoothed(-margins, even) == pytest.approx(1 - smoothed(margins, even))


def test_equal_margins_are_counted():
    assert smoothed(np.full(5, 0.3), np.ones(5)) == 1.0
    assert smoothed(np.zeros(5), np.ones(5)) == 0.0


def test_of_few_pictures_it_varies_less_than_a_count_and_of_many_it_is_one():
    rng = np.random.default_rng(0)
    draws = rng.normal(0.5, 1.0, (2000, 40))
    counts, steadier = (draws > 0).mean(1), np.array([smoothed(row, np.ones(40)) for row in draws])
    assert steadier.var() / counts.var() == pytest.approx(STEADIER, abs=0.15)
    many = rng.normal(0.5, 1.0, 100_000)
    assert smoothed(many, np.ones(100_000)) == pytest.approx((many > 0).mean(), abs=2e-3)
