"""The learning curve: what it measures, and the power law through it."""

from __future__ import annotations

import numpy as np
import pytest

from sightline.advising.constants import CURVE_NOISE, EXPONENT, EXPONENT_SPREAD
from sightline.advising.curve import Curve, measure_curve, power_law, some


def test_a_power_law_is_found_again() -> None:
    sizes = [50, 100, 200, 400]
    errors = [2.0 * size**-0.5 for size in sizes]
    level, exponent, covariance = power_law(sizes, errors, [10**6] * 4)
    # Least squares of the four logarithms and of the prior, each over its deviation.
    rows = np.column_stack([np.ones(4), -np.log(sizes)])
    noise = [np.sqrt((1 - e) / (e * 10**6) + CURVE_NOISE**2) for e in errors]
    a = np.vstack([rows / np.array(noise)[:, None], [[1e-3, 0], [0, 1 / EXPONENT_SPREAD]]])
    b = np.append(np.log(errors) / noise, [0, EXPONENT / EXPONENT_SPREAD])
    expected = np.linalg.lstsq(a, b, rcond=None)[0]
    assert [level, exponent] == pytest.approx(expected)
    assert np.array(covariance) == pytest.approx(np.linalg.inv(a.T @ a))
    assert exponent == pytest.approx(0.5, abs=0.02)


def test_uncertainty_grows_with_the_distance() -> None:
    curve = Curve(
        (50, 100, 200, 400),
        (0.3, 0.25, 0.2, 0.15),
        (300,) * 4,
        *power_law([50, 100, 200, 400], [0.3, 0.25, 0.2, 0.15], [300] * 4),
    )
    spreads = [curve.error(n)[1] for n in (200, 1_000, 10_000)]
    assert spreads == sorted(spreads)
    assert curve.error(10_000)[0] < curve.error(1_000)[0] < 0.15


def test_each_part_has_every_class_in_its_share() -> None:
    targets = np.repeat([0, 1, 2], [60, 30, 10])
    part = some(targets, 50, np.random.default_rng(0))
    assert len(np.unique(part)) == 50
    assert np.abs(np.bincount(targets[part]) - [30, 15, 5]).max() <= 1


def test_the_error_of_a_part_is_that_on_the_pictures_left_out() -> None:
    """Two classes far apart on one axis: nothing is ever told wrong, the counts are half a picture away from 0."""
    targets = np.repeat([0, 1], 40)
    features = targets[:, None] * 10.0 + np.random.default_rng(0).normal(size=(80, 1)) * 0.01
    curve = measure_curve(features, targets, whole=0.0)
    assert curve.sizes == (10, 20, 40, 80)
    assert curve.tested == (4 * 70, 4 * 60, 4 * 40, 80)
    assert curve.errors == pytest.approx([0.5 / (n + 1) for n in curve.tested])
