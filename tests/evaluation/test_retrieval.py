"""Recall: by hand, by brute force, by simulation."""

from __future__ import annotations

import json

import numpy as np
import pytest
from scipy.stats import hypergeom

from sightline.evaluation.intervals import wilson
from sightline.evaluation.retrieval import AT, RetrievalScores, by_chance, retrieval_scores, share


def unit(rng, *shape):
    x = rng.normal(size=shape)
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def test_recall_is_that_of_a_sorted_list():
    rng = np.random.default_rng(0)
    images, owners = unit(rng, 40, 8), np.sort(rng.permutation(np.r_[np.arange(40), rng.integers(0, 40, 60)]))
    texts = images[owners] + 0.6 * rng.normal(size=(100, 8))
    texts /= np.linalg.norm(texts, axis=1, keepdims=True)
    captions = [f"caption {k}" for k in range(100)]
    scores = retrieval_scores(images, texts, captions, owners, split="test")
    similarity = images @ texts.T
    for k in AT:
        best = np.argsort(-similarity, axis=1)[:, :k]
        hits = [i in owners[row] for i, row in enumerate(best)]
        assert scores.image_to_text.recall[k].value == pytest.approx(np.mean(hits))
        best = np.argsort(-similarity.T, axis=1)[:, :k]
        hits = [owners[j] in row for j, row in enumerate(best)]
        assert scores.text_to_image.recall[k].value == pytest.approx(np.mean(hits))
    values = [way.recall[k].value for way in (scores.image_to_text, scores.text_to_image) for k in AT]
    assert scores.mean_recall == pytest.approx(np.mean(values))
    assert (scores.n, scores.captions) == (40, 100)


def test_a_caption_of_two_pictures_is_right_for_both():
    images = np.eye(3)
    texts = np.array([[0.0, 1, 0], [0, 1, 0], [0, 0, 1]])
    scores = retrieval_scores(images, texts, ["same", "same", "other"], np.array([0, 1, 2]), split="test")
    # The caption lies at picture 1; picture 0 has it as well, at cosine 0, tied with "other" (ties count as wrong).
    assert scores.image_to_text.recall[1].value == pytest.approx(2 / 3)
    assert scores.image_to_text.candidates == 2
    assert scores.text_to_image.recall[1].value == 1


def test_equal_embeddings_find_nothing():
    """A model that says the same to everything must not seem perfect."""
    same = np.tile([1.0, 0.0], (20, 1))
    scores = retrieval_scores(same, same, [str(k) for k in range(20)], np.arange(20), split="val")
    assert scores.image_to_text.recall[10].value == 0
    assert scores.image_to_text.median_rank == 20


def test_chance_is_hypergeometric():
    right = np.array([1, 2, 5, 30])
    for k in AT:
        assert by_chance(right, 30, k) == pytest.approx(1 - hypergeom.pmf(0, 30, right, k))
    assert by_chance(np.array([1]), 3, 10) == pytest.approx(1)


def test_random_embeddings_lie_at_chance():
    rng = np.random.default_rng(1)
    owners = np.repeat(np.arange(400), 5)
    captions = [str(k) for k in range(2000)]
    scores = retrieval_scores(unit(rng, 400, 16), unit(rng, 2000, 16), captions, owners, split="test")
    for way in (scores.image_to_text, scores.text_to_image):
        for k in AT:
            assert way.recall[k].low <= way.chance[k] <= way.recall[k].high


def test_the_interval_of_independent_queries_is_wilsons():
    hits = np.array([True] * 30 + [False] * 70)
    estimate = share(hits, np.arange(100))
    low, high = wilson(30, 100)
    # n - 1 in the variance over clusters: one percent of difference.
    assert (estimate.low, estimate.high) == (
        pytest.approx(float(low), abs=1e-3),
        pytest.approx(float(high), abs=1e-3),
    )


def test_captions_that_agree_count_as_one_query():
    hits = np.repeat(np.array([True] * 30 + [False] * 70), 5)
    estimate = share(hits, np.repeat(np.arange(100), 5))
    low, high = wilson(30, 100)
    assert (estimate.value, estimate.n) == (0.3, 500)
    assert (estimate.low, estimate.high) == (
        pytest.approx(float(low), abs=1e-3),
        pytest.approx(float(high), abs=1e-3),
    )


def test_the_interval_covers_what_it_promises():
    """Pictures differ in how easily their five captions find them; the truth is the mean over all pictures."""
    rng = np.random.default_rng(2)
    covered = 0
    for _ in range(600):
        rates = rng.beta(0.5, 1.5, 150)  # mean 0.25
        hits = rng.uniform(size=(150, 5)) < rates[:, None]
        estimate = share(hits.ravel(), np.repeat(np.arange(150), 5))
        covered += estimate.low <= 0.25 <= estimate.high
    assert 0.92 <= covered / 600 <= 0.98


def test_scores_survive_json():
    rng = np.random.default_rng(3)
    scores = retrieval_scores(unit(rng, 9, 4), unit(rng, 9, 4), list("abcdefghi"), np.arange(9), split="val")
    assert RetrievalScores.from_dict(json.loads(json.dumps(scores.to_dict()))) == scores
