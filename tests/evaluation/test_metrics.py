"""Scores against scikit-learn, and what must be said when there is nothing sensible to score."""

from __future__ import annotations

import json
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console
from scipy.stats import binomtest
from sklearn import metrics as oracle

from sightline.errors import SightlineError
from sightline.evaluation import Scores, score, scores_table
from sightline.evaluation.metrics import confusion_matrix


def names(count: int) -> list[str]:
    return [f"class {i}" for i in range(count)]


def one_hot(predictions: np.ndarray, count: int) -> np.ndarray:
    return np.eye(count)[predictions]


@settings(max_examples=80, deadline=None)
@given(st.integers(1, 9), st.integers(1, 60), st.integers(0, 2**32 - 1))
def test_every_figure_is_scikit_learns(count: int, n: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, count, n)
    rates = rng.dirichlet(np.ones(count), n) + one_hot(truth, count) * rng.random()
    rates /= rates.sum(1, keepdims=True)
    called = rates.argmax(1)
    found = score(rates, truth, names(count))

    present = np.unique(truth)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        per_class = oracle.precision_recall_fscore_support(
            truth, called, labels=np.arange(count), zero_division=np.nan
        )
        balanced = oracle.balanced_accuracy_score(truth, called)
        macro = oracle.f1_score(truth, called, labels=present, average="macro")
        matrix = oracle.confusion_matrix(truth, called, labels=np.arange(count))
    assert found.accuracy.value == pytest.approx(oracle.accuracy_score(truth, called))
    assert found.balanced_accuracy.value == pytest.approx(balanced)
    assert found.macro_f1.value == pytest.approx(macro)
    assert np.array_equal(found.confusion, matrix)
    assert [one.support for one in found.classes] == per_class[3].tolist()
    for key, values in zip(("precision", "recall", "f1"), per_class, strict=False):
        for one, value in zip(found.classes, values, strict=True):
            assert getattr(one, key) == (None if np.isnan(value) else pytest.approx(value))
    if count > 5:
        expected = oracle.top_k_accuracy_score(truth, rates, k=5, labels=np.arange(count))
        assert found.top5_accuracy is not None
        assert found.top5_accuracy.value == pytest.approx(expected)
    else:
        assert found.top5_accuracy is None


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 7), st.integers(1, 40), st.integers(0, 2**32 - 1))
def test_every_interval_holds_its_figure_and_travels_through_json(count: int, n: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    found = score(rng.dirichlet(np.ones(count), n), rng.integers(0, count, n), names(count))
    text = json.dumps(found.to_dict(), allow_nan=False)
    assert Scores.from_dict(json.loads(text)).to_dict() == found.to_dict()
    for figure in (found.accuracy, found.balanced_accuracy, found.macro_f1):
        assert 0 <= figure.low <= figure.value <= figure.high <= 1
        assert figure.n == n
    for one in found.classes:
        for value, limits in (
            (one.precision, one.precision_interval),
            (one.recall, one.recall_interval),
            (one.f1, one.f1_interval),
        ):
            assert (value is None) == (limits is None)
            assert limits is None or 0 <= limits[0] <= value + 1e-12 <= limits[1] + 2e-12


def test_the_json_is_as_documented() -> None:
    found = score(one_hot(np.array([0, 0, 1]), 2), [0, 1, 1], ["cat", "dog"]).to_dict()
    assert list(found) == [
        "split",
        "n",
        "level",
        "accuracy",
        "balanced_accuracy",
        "macro_f1",
        "classes",
        "confusion",
    ]
    assert set(found["accuracy"]) == {"value", "low", "high", "n"}
    assert found["split"] == "test"
    assert found["confusion"] == [[1, 0], [1, 1]]  # rows are the truth
    assert found["classes"][1]["name"] == "dog"
    assert found["classes"][1]["support"] == 2


def test_equal_probabilities_go_to_the_first_class_in_every_figure() -> None:
    flat = np.full((7, 7), 1 / 7)
    found = score(flat, np.arange(7), names(7))
    assert found.accuracy.value == pytest.approx(1 / 7)
    assert found.top5_accuracy is not None
    assert found.top5_accuracy.value == pytest.approx(5 / 7)


def test_a_class_that_the_split_lacks_is_left_out_of_the_means() -> None:
    found = score(one_hot(np.array([0, 1, 1, 2]), 4), [0, 1, 1, 1], names(4))
    assert found.balanced_accuracy.value == pytest.approx((1 + 2 / 3) / 2)
    absent, never = found.classes[2], found.classes[3]
    assert (absent.recall, absent.precision, absent.support, absent.predicted) == (None, 0.0, 0, 1)
    assert (never.recall, never.precision, never.f1, never.f1_interval) == (None, None, None, None)


def test_half_precision_and_lists_are_taken() -> None:
    rates = np.array([[0.3, 0.7], [0.9, 0.1]], np.float16)
    assert score(rates, [1, 0], names(2)).accuracy.value == 1.0
    assert score(rates.tolist(), np.array([1, 0], np.uint8), names(2)).n == 2


@pytest.mark.parametrize(
    ("rates", "targets", "said"),
    [
        (np.zeros((0, 2)), np.zeros(0, int), "val split holds no pictures"),
        (np.ones((3, 2)) / 2, [0, 1], "do not fit 2 pictures, 2 classes"),
        (np.ones((2, 3)) / 3, [0, 1], "do not fit 2 pictures, 2 classes"),
        (np.ones(2), [0, 1], "do not fit"),
        (np.ones((2, 2)) / 2, [0, 2], "0..1 for 2 classes; got 0..2"),
        (np.ones((2, 2)) / 2, [-1, 1], "got -1..1"),
        (np.ones((2, 2)) / 2, [0.0, 1.0], "whole number"),
        (np.ones((2, 2)) / 2, [[0, 1]], "whole number"),
        (np.array([[0.5, 0.5], [np.nan, 0.5]]), [0, 1], "1 of 2 pictures"),
        (np.array([[0.5, np.inf], [0.5, 0.5]]), [0, 1], "not finite"),
        (np.array([[-3.0, 5.0], [2.0, 0.5]]), [0, 1], "softmax"),
    ],
)
def test_what_cannot_be_scored_is_said_in_a_sentence(rates: np.ndarray, targets: object, said: str) -> None:
    with pytest.raises(SightlineError, match=said.replace(".", r"\.")):
        score(rates, targets, names(2), split="val")  # type: ignore[arg-type]


@pytest.mark.parametrize("damage", ["accuracy", "classes", "confusion", "split"])
def test_damaged_scores_are_said_so(damage: str) -> None:
    data = score(one_hot(np.array([0, 1]), 2), [0, 1], names(2)).to_dict()
    with pytest.raises(SightlineError, match="cannot be read"):
        Scores.from_dict({key: value for key, value in data.items() if key != damage})
    with pytest.raises(SightlineError, match="cannot be read"):
        Scores.from_dict({**data, "accuracy": {"value": 1}})


def test_confusion_matrix_keeps_empty_rows() -> None:
    assert confusion_matrix([0, 0, 2], [0, 2, 2], 3).tolist() == [[1, 0, 1], [0, 0, 0], [0, 0, 1]]


def printed(scores: Scores) -> str:
    console = Console(width=100, color_system=None)
    with console.capture() as capture:
        console.print(scores_table(scores))
    return capture.get()


def test_the_table_shows_figures_intervals_and_hostile_names_as_they_are() -> None:
    truth = np.repeat([0, 1], 50)
    called = truth.copy()
    called[0] = 1
    text = printed(score(one_hot(called, 2), truth, ["[red]cat[/red]", "dog"]))
    assert "test split, 100 pictures" in text
    assert "[red]cat[/red]" in text
    limits = binomtest(99, 100).proportion_ci(method="wilson")
    assert f"99.0%  {limits.low:.1%} – {limits.high:.1%}" in text
    assert "98.0%" in text  # recall 49 / 50


def test_the_table_of_many_classes_shows_the_weakest() -> None:
    truth = np.arange(120) % 30
    called = np.where(truth == 17, 3, truth)
    text = printed(score(one_hot(called, 30), truth, names(30)))
    assert "20 weakest of 30 classes" in text
    assert "class 17" in text
    assert text.count("class ") >= 20
