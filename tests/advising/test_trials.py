"""Trials on real small trainings: the folds, that every strategy sees the same, and what is never looked at."""

from __future__ import annotations

import json
from dataclasses import asdict

import numpy as np
import pytest
import torch

from sightline.advising import trials as module
from sightline.advising.advice import advise, planned
from sightline.advising.balanced import effective, weights_of
from sightline.advising.constants import FOLDS
from sightline.advising.trials import (
    Trials,
    affordable,
    can_be_tried,
    folds_of,
    rounds_for,
    run_trials,
    still_racing,
    tried_recipe,
)
from sightline.api import compose
from sightline.data import ImageDataset, make_splits, open_dataset
from sightline.training.choice import deviation_of_mean_recall
from sightline.training.plan import gather_facts

torch.set_num_threads(1)


@pytest.fixture(scope="module")
def digits() -> ImageDataset:
    """60 pictures of three digits."""
    whole = open_dataset("digits")
    return whole.subset(np.flatnonzero(whole.targets < 3)[:60])


@pytest.fixture(scope="module")
def settings(trained):
    return {"weights": str(trained.path), "device": "cpu", "precision": "fp32", "epochs": 2, "batch_size": 16}


def recipes_for(train, settings, *strategies):
    recipe, facts = compose(None, settings), gather_facts(train)
    return {s: tried_recipe(planned(recipe, facts, {"strategy": s}), len(train)) for s in strategies}


def test_each_class_is_spread_evenly_over_folds_and_halves():
    targets = np.repeat([0, 1, 2], [40, 21, 6])
    folds, halves = folds_of(targets, np.random.default_rng(0))
    for target, count in enumerate((40, 21, 6)):
        for fold in range(FOLDS):
            assert abs((folds[targets == target] == fold).sum() - count / FOLDS) < 1
            for half in (0, 1):
                there = (folds == fold) & (halves == half) & (targets == target)
                assert abs(there.sum() - count / FOLDS / 2) < 2


def test_every_strategy_is_tested_on_the_same_pictures_after_training_on_the_others(
    digits, settings, monkeypatch
):
    seen = []
    prepare = module.prepare

    def noted(part, recipe, watcher):
        seen.append(
            (recipe.strategy, set(part.split("train").refs()), list(part.split("val").refs()), recipe.steps)
        )
        return prepare(part, recipe, watcher)

    monkeypatch.setattr(module, "prepare", noted)
    monkeypatch.setattr(module, "still_racing", lambda right, racing, weights: racing)
    found = run_trials(digits, recipes_for(digits, settings, "probe", "finetune"))
    assert found.kinds == ("probe", "finetune")
    assert found.tested == (60, 60)
    assert 0.5 < min(found.accuracies) <= max(found.accuracies) < 1
    assert [row[0] for row in seen] == ["probe", "finetune"] * FOLDS
    for one, other in zip(seen[::2], seen[1::2], strict=True):
        assert one[1:3] == other[1:3]
        assert not one[1] & set(one[2])
        assert other[3] == 2 * 4  # of all 60 pictures, as in earnest
    assert sorted(ref for row in seen[::2] for ref in row[2]) == sorted(digits.refs())


def test_further_rounds_divide_the_pictures_anew_and_average_the_answers(digits, settings, monkeypatch):
    held, answers = [], []
    tested = module.tested

    def noted(train, places, half, recipe):
        held.append(places)
        answers.append(np.zeros(len(train)))
        answers[-1][places] = tested(train, places, half, recipe)
        return answers[-1][places]

    monkeypatch.setattr(module, "tested", noted)
    recipes = recipes_for(digits, settings, "probe")
    found = run_trials(digits, recipes, seed=3, rounds=3)
    assert len(held) == 3 * FOLDS
    for one in range(3):
        mine = held[one * FOLDS : (one + 1) * FOLDS]
        assert np.array_equal(np.sort(np.concatenate(mine)), np.arange(60))
    assert not np.array_equal(held[0], held[FOLDS])
    shares = np.sum(answers, axis=0) / 3
    assert set(np.round(shares * 3, 9)) - {0.0, 3.0}  # some pictures are right after some trainings alone
    assert (found.rounds, found.tested) == (3, (60,))
    recalls = [shares[digits.targets == target].mean() for target in range(3)]
    accuracy = (60 * np.mean(recalls) + 0.5) / 61
    assert found.accuracies[0] == pytest.approx(accuracy)
    # The one picture more is right or wrong, not half of both.
    squares = [np.square(shares[digits.targets == target]).mean() for target in range(3)]
    spread = (60 * np.mean(squares) + 0.5) / 61 - accuracy**2
    assert found.covariance[0][0] == pytest.approx(spread / effective(weights_of(digits.targets)))


def test_few_pictures_are_divided_more_often():
    assert [rounds_for(n) for n in (4, 40, 83, 84, 125, 126, 1000)] == [3, 3, 3, 2, 2, 1, 1]


def test_what_is_tested_did_not_choose_the_epoch(digits, settings):
    """An epoch is kept for one half where the other half finds it better."""
    recipe = recipes_for(digits, settings, "finetune")["finetune"]
    folds, halves = folds_of(digits.targets, np.random.default_rng(0))
    held = np.flatnonzero(folds == 0)
    others = np.flatnonzero(folds != 0)
    part = digits.subset(np.concatenate([others, held, held])).with_splits(
        np.repeat([0, 1, 2], [len(others), len(held), len(held)])
    )
    fold = module.Fold(module.prepare(part, recipe, module.Quiet()).trainer, halves[held])
    answers = []
    truth = torch.nn.functional.one_hot(torch.from_numpy(digits.targets[held].astype(np.int64)), 10)

    def forward(network, images, *more):
        logits = type(fold.trainer).forward(fold.trainer, network, images, *more)
        if not network.training and len(images) == len(held):
            # One half is mostly right in the first epochs, the other in the last ones.
            known = torch.from_numpy(halves[held] == (len(answers) > 2))[:, None]
            logits = logits + 50 * truth * known - 50 * truth * ~known
            logits[len(answers) :: 5] -= 200 * truth[len(answers) :: 5]
            answers.append(logits.argmax(1).numpy() == digits.targets[held])
        return logits

    fold.trainer.forward = forward
    fold.trainer.run(fold, state=fold.state)
    assert len(answers) == 5  # the head alone, and four epochs of two steps: as many steps as with all 60
    chosen = []
    for own in (0, 1):
        mine = halves[held] == own
        classes = digits.targets[held][mine]
        hits = [np.bincount(classes, right[mine], minlength=3) for right in answers]
        seen = np.bincount(classes, minlength=3)
        merits = [float((row / seen).mean()) for row in hits]
        floor = max(m - deviation_of_mean_recall(row, seen) for m, row in zip(merits, hits, strict=True))
        chosen.append(max(number for number, merit in enumerate(merits) if merit >= floor))
        assert np.array_equal(fold.right[~mine], answers[chosen[-1]][~mine])
    assert chosen == [2, 4]


def test_test_pictures_are_never_read(digits, trained, monkeypatch):
    whole = make_splits(digits, seed=0)
    allowed, read = set(whole.split("train").refs()) | set(whole.split("val").refs()), set()
    original = ImageDataset.read_pixels

    def read_pixels(self, index, *arguments, **named):
        read.add(self.ref(index))
        return original(self, index, *arguments, **named)

    monkeypatch.setattr(ImageDataset, "read_pixels", read_pixels)
    cheap = {"weights": str(trained.path), "device": "cpu", "epochs": 1, "batch_size": 16}
    advise(whole, compose(None, cheap))
    assert read == allowed


def test_the_random_state_is_left_alone(digits, settings):
    torch.manual_seed(1)
    before = torch.get_rng_state()
    run_trials(digits, recipes_for(digits, settings, "probe"))
    assert torch.equal(before, torch.get_rng_state())


def test_who_is_clearly_worse_is_out_of_the_race():
    good, bad = np.ones(40), np.ones(40)
    bad[:20] = 0
    close = good.copy()
    close[0] = 0
    good[20:] = bad[20:] = close[20:] = np.nan
    right = {"good": good, "bad": bad, "close": close}
    assert still_racing(right, list(right), np.ones(40)) == ["good", "close"]
    assert still_racing(right, ["bad", "close"], np.ones(40)) == ["close"]


def test_covariance_of_what_was_counted():
    """100 pictures, 80 and 70 right, of which 15 and 5 are right with one strategy alone."""
    one, other = np.zeros(100), np.zeros(100)
    one[:80], other[15:85] = 1, 1
    other[80:85], other[5:10] = 1, 0
    other[15:20] = 1
    assert (one.sum(), other.sum()) == (80, 70)
    found = Trials.of({"one": one, "other": other}, np.ones(100))
    p, q = 80.5 / 101, 70.5 / 101
    assert found.accuracies == pytest.approx((p, q))
    covariance = np.array(found.covariance)
    assert covariance.diagonal() == pytest.approx([p * (1 - p) / 100, q * (1 - q) / 100])
    alone = (one > other).sum(), (other > one).sum()
    assert alone == (15, 5)
    difference = 21 / 101 - 0.1**2  # the variance of right minus right, of a picture
    assert covariance[0, 1] == pytest.approx((p * (1 - p) + q * (1 - q) - difference) / 2 / 100)
    assert np.linalg.eigvalsh(covariance).min() > 0


def test_of_a_strategy_out_of_the_race_half_of_the_pictures_count():
    whole = np.tile([1.0, 1, 1, 0], 20)
    half = np.where(np.arange(80) < 40, whole, np.nan)
    found = Trials.of({"whole": whole, "half": half}, np.ones(80))
    assert found.tested == (80, 40)
    assert found.accuracies == pytest.approx((60.5 / 81, 30.5 / 41))
    p, q = found.accuracies
    # The same answers: they differ on none of 40 pictures but the one that is added.
    same = (p * (1 - p) + q * (1 - q) - 1 / 41) / 2
    assert found.covariance[0][1] == pytest.approx(same / 80)
    assert Trials.from_dict(json.loads(json.dumps(asdict(found)))) == found


def test_a_class_of_few_pictures_counts_as_much_as_any_other():
    """90 pictures of one class, all right, and 10 of another, half of them."""
    targets = np.repeat([0, 1], [90, 10])
    right = np.repeat([1.0, 0.0], [95, 5])
    found = Trials.of({"one": right, "same": right}, weights_of(targets))
    p = (100 * 0.75 + 0.5) / 101  # 75 % but for the picture that is half right
    assert found.accuracies == pytest.approx((p, p))
    # The spread of a picture where both classes are drawn as often, and as many pictures as are as sure:
    # 1 / (1/2)^2 / (1/90 + 1/10) = 36.
    assert found.covariance[0][0] == pytest.approx(p * (1 - p) / 36)


def test_the_race_is_run_in_the_mean_of_the_classes():
    """270 pictures of one class, and 30 of another."""
    good, bad = np.ones(300), np.ones(300)
    bad[270:275] = 0
    right, targets = {"good": good, "bad": bad}, np.repeat([0, 1], [270, 30])
    assert still_racing(right, list(right), np.ones(300)) == ["good"]
    bad[271:] = 1
    good[:9] = 0
    # Of all pictures bad has eight more right; but each lacks a thirtieth of one class.
    assert good.sum() < bad.sum()
    assert still_racing(right, list(right), np.ones(300)) == ["bad"]
    assert still_racing(right, list(right), weights_of(targets)) == ["good", "bad"]


def test_the_quickest_are_tried_first():
    costs = {"scratch": 50.0, "probe": 2.0, "finetune": 30.0}
    assert affordable(costs, 40.0) == ["probe", "finetune"]
    assert affordable(costs, 1.0) == []


def test_too_few_to_try(digits):
    assert can_be_tried(digits)
    assert not can_be_tried(digits.subset(np.arange(3)))
    assert not can_be_tried(digits.subset(np.append(np.flatnonzero(digits.targets == 0), 1)))
