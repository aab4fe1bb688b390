"""LogME against the evidence itself: the density of the labels under the model, made as large as it gets."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.stats import multivariate_normal

from sightline.advising.logme import logme


def largest_evidence(features: np.ndarray, y: np.ndarray) -> float:
    """log N(y; 0, 1 / beta + F F' / alpha) per picture (You et al. 2021, section 4.1), over alpha and beta."""
    n = len(y)
    gram = features @ features.T

    def cost(logs: np.ndarray) -> float:
        alpha, beta = np.exp(np.clip(logs, -30, 30))
        return -multivariate_normal.logpdf(y, np.zeros(n), np.eye(n) / beta + gram / alpha) / n

    starts = [(a, b) for a in (-2.0, 3.0) for b in (-1.0, 4.0)]
    return -min(minimize(cost, start, method="Nelder-Mead", options={"fatol": 1e-10}).fun for start in starts)


@pytest.mark.parametrize(("n", "d"), [(40, 6), (30, 50)], ids=["more pictures", "more features"])
@pytest.mark.parametrize("signal", [0.3, 1.5])
def test_logme_is_the_largest_evidence_in_the_mean_over_the_classes(n: int, d: int, signal: float) -> None:
    rng = np.random.default_rng(n)
    labels = rng.integers(0, 3, n)
    features = np.column_stack(
        [rng.normal(size=(n, d)) + signal * rng.normal(size=(3, d))[labels], np.ones(n)]
    )
    expected = np.mean([largest_evidence(features, (labels == k).astype(float)) for k in range(3)])
    assert logme(features, labels) == pytest.approx(expected, abs=2e-5)


def test_features_that_tell_the_classes_apart_score_higher() -> None:
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1], 50)
    noise = rng.normal(size=(100, 5))
    scores = [logme(noise + shift * labels[:, None], labels) for shift in (0.0, 0.5, 1.0, 2.0)]
    assert scores == sorted(scores)


def test_features_without_any_length_explain_nothing() -> None:
    """y ~ N(0, 1 / beta) alone: the best beta is 1 over the mean square, here 1/2 of the labels being 1."""
    expected = -0.5 * (np.log(2 * np.pi * 0.5) + 1)
    assert logme(np.zeros((10, 3)), [0, 1] * 5) == pytest.approx(expected)
