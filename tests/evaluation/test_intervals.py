"""Intervals against published tables, scipy, a brute-force definition, and their promise: coverage."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize
from scipy.stats import binomtest

from sightline.evaluation import intervals
from sightline.evaluation.intervals import Estimate, percent

Z = 1.959963984540054


@pytest.mark.parametrize(
    ("successes", "n", "low", "high"),
    # Newcombe, Statistics in Medicine 17 (1998) 857-872, table I, method 3.
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilson_is_the_published_one(successes: int, n: int, low: float, high: float) -> None:
    assert intervals.wilson(successes, n) == pytest.approx((low, high), abs=5e-5)


@given(st.integers(1, 5000), st.data(), st.sampled_from([0.5, 0.9, 0.95, 0.99]))
def test_wilson_is_scipys(n: int, data: st.DataObject, level: float) -> None:
    k = data.draw(st.integers(0, n))
    oracle = binomtest(k, n).proportion_ci(level, method="wilson")
    assert intervals.wilson(k, n, level) == pytest.approx((oracle.low, oracle.high), abs=1e-12)


def test_wilson_takes_arrays_and_knows_nothing_from_nothing() -> None:
    low, high = intervals.wilson([0, 5, 5], [0, 5, 10])
    assert (low[0], high[0]) == (0.0, 1.0)
    assert high[1] == 1.0
    assert (low[2], high[2]) == pytest.approx(binomtest(5, 10).proportion_ci(method="wilson"))


def test_f1_of_a_class_is_wilson_on_the_jaccard_index() -> None:
    # 18 hits and 6 mistakes: J = 18 / 24, F1 = 36 / 42.
    j = binomtest(18, 24).proportion_ci(method="wilson")
    low, high = intervals.f1(18, 6)
    assert (low, high) == pytest.approx((2 * j.low / (1 + j.low), 2 * j.high / (1 + j.high)))
    assert low < 36 / 42 < high


@pytest.mark.parametrize(
    ("a", "m", "b", "n", "low", "high"),
    # A difference of proportions a/m - b/n: Newcombe, Statistics in Medicine 17 (1998) 873-890, table II,
    # method 5 (Mee). With b counted as failures it is the sum of two proportions, less 1.
    [(56, 70, 48, 80, 0.0533, 0.3377), (9, 10, 3, 10, 0.1821, 0.8370), (5, 56, 0, 29, -0.0313, 0.1926)],
)
def test_two_proportions_are_mees(a: int, m: int, b: int, n: int, low: float, high: float) -> None:
    found = intervals.weighted_mean([a, n - b], [m, n], [1, 1], unbiased=False)
    assert np.subtract(found, 1) == pytest.approx((low, high), abs=6e-5)


@given(st.integers(1, 400), st.data())
def test_one_proportion_is_wilsons(n: int, data: st.DataObject) -> None:
    k = data.draw(st.integers(0, n))
    found = intervals.weighted_mean([k], [n], [1], unbiased=False)
    assert np.allclose(found, intervals.wilson(k, n), rtol=0, atol=1e-9)


def test_the_limits_fulfil_their_definition() -> None:
    """At each limit the maximum-likelihood proportions, found by a general optimiser, are z away."""
    k, n, w = np.array([30.0, 7, 18]), np.array([36.0, 9, 40]), np.array([0.2, 0.5, 0.3])
    seen = float(w @ (k / n))
    for limit in intervals.weighted_mean(k, n, w, unbiased=False):
        best = minimize(
            lambda p: -(k * np.log(p) + (n - k) * np.log1p(-p)).sum(),
            np.full(3, limit),
            bounds=[(1e-6, 1 - 1e-6)] * 3,
            constraints={"type": "eq", "fun": lambda p, limit=limit: w @ p - limit},
            method="SLSQP",
            options={"ftol": 1e-12, "maxiter": 500},
        ).x
        assert abs(seen - limit) / np.sqrt((w**2 * best * (1 - best) / n).sum()) == pytest.approx(Z, rel=1e-3)


def test_balanced_accuracy_of_equal_classes_all_right_is_as_wide_as_wilsons() -> None:
    low, high = intervals.balanced_accuracy(np.eye(10) * 36)
    # Without mistakes the proportions stay equal, so only the n - 1 = 35 of 36 tells the two apart.
    assert low == pytest.approx(float(intervals.wilson(350, 350)[0]), abs=1e-6)
    assert high == pytest.approx(1.0)


def test_nothing_collapses_without_mistakes() -> None:
    for confusion in (np.eye(4) * 5, np.diag([100, 2, 30]), np.diag([7.0, 0, 9]), [[1]]):
        for interval in (intervals.balanced_accuracy(confusion), intervals.macro_f1(confusion)):
            assert interval[0] < 0.97
            assert interval[1] == pytest.approx(1.0)


def test_macro_f1_equals_accuracy_where_they_are_the_same_thing() -> None:
    """Equal classes whose mistakes go evenly to all others: F1 = recall = precision = accuracy, and one more
    mistake costs macro-F1 what it costs the accuracy."""
    confusion = np.full((5, 5), 2.0) + np.eye(5) * 90
    low, high = intervals.macro_f1(confusion)
    # Each variance is divided by n - 1 = 99, as if there were 5 x 99 pictures.
    oracle = binomtest(460, 500).proportion_ci(method="wilson")
    assert (low, high) == pytest.approx((oracle.low, oracle.high), abs=1e-3)


def test_a_mistake_into_a_class_that_the_split_lacks_counts() -> None:
    low, high = intervals.macro_f1([[5, 2], [0, 0]])
    assert low < 2 * 5 / (7 + 5) < high


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 6), st.integers(0, 2**32 - 1))
def test_intervals_hold_their_value_for_any_confusion_matrix(classes: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    confusion = rng.integers(0, 6, (classes, classes)) * rng.integers(0, 2, (classes, classes))
    confusion[0, 0] += 1
    support = confusion.sum(1)
    present = support > 0
    hits = np.diag(confusion)
    recall = (hits[present] / support[present]).mean()
    f1 = (2 * hits[present] / (support + confusion.sum(0))[present]).mean()
    for value, (low, high) in (
        (recall, intervals.balanced_accuracy(confusion)),
        (f1, intervals.macro_f1(confusion)),
    ):
        assert -1e-12 <= low <= value + 1e-9
        assert value - 1e-9 <= high <= 1 + 1e-9


# Coverage: recalls and the number of pictures of each class. Digits, defects of unequal counts, a rare class,
# many classes of few pictures, a poor classifier.
POPULATIONS = {
    "even": (np.full(10, 0.98), np.full(10, 36)),
    "nearly perfect": (np.full(10, 0.999), np.full(10, 36)),
    "unequal": (np.array([0.9, 0.7, 0.85, 0.98, 0.6, 0.95]), np.array([35, 17, 26, 120, 10, 31])),
    "two classes": (np.array([0.7, 0.68]), np.array([76, 77])),
    "rare class": (np.array([0.97, 0.8]), np.array([300, 30])),
    "many classes": (np.linspace(0.5, 1, 40), np.full(40, 5)),
    "poor": (np.full(10, 0.35), np.full(10, 36)),
}
DRAWS = 400
BAND = (0.925, 0.985)  # nominal 0.95; the standard error of 400 draws is 0.011


def confusions(recall: np.ndarray, support: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The population's matrix of probabilities, and `DRAWS` test sets from it."""
    rng = np.random.default_rng(2024)
    classes = len(recall)
    population = rng.dirichlet(np.full(classes, 0.5), classes) + 1e-9
    np.fill_diagonal(population, 0)
    population *= ((1 - recall) / population.sum(1))[:, None]
    np.fill_diagonal(population, recall)
    rows = [rng.multinomial(n, p, DRAWS) for n, p in zip(support, population, strict=True)]
    return population, np.stack(rows, 1)


@pytest.mark.parametrize("name", POPULATIONS)
def test_coverage_is_nominal(name: str) -> None:
    recall, support = POPULATIONS[name]
    population, draws = confusions(recall, support)
    true_f1 = (2 * support * recall / (support + support @ population)).mean()
    for true, interval in ((recall.mean(), intervals.balanced_accuracy), (true_f1, intervals.macro_f1)):
        limits = np.array([interval(matrix) for matrix in draws])
        covered = ((limits[:, 0] <= true) & (true <= limits[:, 1])).mean()
        assert BAND[0] <= covered <= BAND[1], interval.__name__


def test_coverage_with_a_single_picture_of_each_class() -> None:
    """Nothing is known of a class from one picture; the interval must then not pretend to be narrow."""
    recall, support = np.linspace(0.5, 1, 60), np.ones(60, int)
    _, draws = confusions(recall, support)
    limits = np.array([intervals.balanced_accuracy(matrix) for matrix in draws])
    assert ((limits[:, 0] <= 0.75) & (limits[:, 1] >= 0.75)).mean() >= BAND[0]


def test_an_estimate_reads_as_a_figure_with_its_interval() -> None:
    assert str(Estimate(0.9812, 0.96, 0.99, 360)) == "98.1% [96.0%, 99.0%]"


@pytest.mark.parametrize(
    ("value", "text"), [(1.0, "100.0%"), (0.9999, "99.99%"), (0.0, "0.0%"), (0.0002, "0.02%"), (0.5, "50.0%")]
)
def test_rounding_never_makes_perfect(value: float, text: str) -> None:
    assert percent(value) == text
