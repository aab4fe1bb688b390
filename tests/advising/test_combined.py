"""The combination of evidence and trials, against the same by hand."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest

from sightline.advising.combined import by_evidence, combined, observed
from sightline.advising.constants import BLENDS, FLATTEST, SHARED, STEADIER, STRAYS, WIDER
from sightline.advising.prediction import Measured, counting, share
from sightline.advising.trials import Trials

KINDS = ("scratch", "finetune")
MEASURED = Measured(base=1.0, last=1.2, near_by=0.5, far=-0.4, per_class=20.0, strays=0.0, grows=0.8)


def trials(pictures, *parts):
    """Of pictures that both strategies have right, scratch alone, and finetune alone; of the first where it is one."""
    both, one, other = (round(pictures * part) for part in parts)
    answers = {
        "scratch": np.repeat([1.0, 1, 0, 0], [both, one, other, pictures - both - one - other]),
        "finetune": np.repeat([1.0, 0, 1, 0], [both, one, other, pictures - both - one - other]),
    }
    return Trials.of(answers, np.ones(pictures))


def test_before_any_trial():
    told = by_evidence(KINDS, MEASURED, 100)
    blend = BLENDS["scratch"]
    steep = -math.log(0.8)
    z = 1.0 + blend.shift - 0.4 * steep * blend.by_far
    assert told.mean[0] == pytest.approx(z)
    counted = SHARED * STEADIER * counting(share(z), 100)
    assert told.covariance[0, 0] == pytest.approx(steep * blend.spread**2 + counted)
    other = SHARED * STEADIER * counting(share(told.mean[1]), 100)
    assert told.covariance[0, 1] == pytest.approx(math.sqrt(counted * other))


def test_probes_follow_the_accuracy_of_what_enters_the_classifier():
    told = by_evidence(("probe", "probe@", "finetune"), MEASURED, 100)
    blends = [BLENDS[kind] for kind in told.kinds]
    anchors = 1.2, 1.2, 1.0
    steep = -math.log(0.8)
    wanted = [a + b.shift - 0.4 * steep * b.by_far for a, b in zip(anchors, blends, strict=True)]
    assert told.mean == pytest.approx(wanted)
    counted = [STEADIER * counting(share(z), 100) for z in wanted]
    assert told.covariance[1, 1] == pytest.approx(steep * blends[1].spread ** 2 + counted[1])
    assert told.covariance[0, 1] == pytest.approx(math.sqrt(counted[0] * counted[1]))
    assert told.covariance[0, 2] == pytest.approx(SHARED * math.sqrt(counted[0] * counted[2]))
    assert np.linalg.eigvalsh(told.covariance).min() > 0


def test_a_trial_is_brought_to_all_pictures_on_the_scale_of_logits():
    """100 pictures, 80 and 70 right, of which 15 and 5 are right with one strategy alone."""
    counted = trials(100, 0.65, 0.15, 0.05)
    found, noise = observed(counted, 0.8)
    p, q = 80.5 / 101, 70.5 / 101
    assert found == pytest.approx([math.log(x / (1 - x)) for x in (1 - 0.8 * (1 - p), 1 - 0.8 * (1 - q))])
    assert noise[0, 0] == pytest.approx(1 / (100 * p * (1 - p)))
    assert noise[0, 1] == pytest.approx(counted.covariance[0][1] / (p * (1 - p) * q * (1 - q)))


def test_one_strategy_tried_weighs_both_by_precision():
    alone = Trials.of({"scratch": np.repeat([1.0, 0.0], [80, 20])}, np.ones(100))
    told = combined(KINDS, MEASURED, 100, alone)
    before = by_evidence(KINDS, MEASURED, 100)
    found, noise = observed(alone, 0.8)
    steep = -math.log(0.8)
    own, other = 1 / before.covariance[0, 0], 1 / (noise[0, 0] + (STRAYS["scratch"] * steep) ** 2)
    mean = (own * before.mean[0] + other * found[0]) / (own + other)
    assert told.mean[0] == pytest.approx(mean)
    assert told.covariance[0, 0] == pytest.approx(WIDER**2 / (own + other))
    # What was not tried follows in part, and less is learned of it.
    slope = before.covariance[0, 1] / before.covariance[0, 0]
    assert told.mean[1] - before.mean[1] == pytest.approx(slope * (mean - before.mean[0]))
    learned = told.covariance.diagonal() / WIDER**2 / before.covariance.diagonal()
    assert learned[0] < learned[1] < 1


def test_many_pictures_decide_and_few_do_not():
    few = combined(KINDS, MEASURED, 30, trials(30, 19 / 30, 6 / 30, 1 / 30))
    many = combined(KINDS, MEASURED, 990, trials(990, 19 / 30, 6 / 30, 1 / 30))
    before = by_evidence(KINDS, MEASURED, 30)

    def lead(told):
        return float(told.mean[0] - told.mean[1])

    assert lead(before) < lead(few) < lead(many)
    low, high = few.accuracy("finetune")[1:], many.accuracy("finetune")[1:]
    assert high[1] - high[0] < low[1] - low[0]


def test_evidence_that_trials_contradict_is_trusted_less():
    """From scratch 99 % are expected, and 30 of 100 counted."""
    sure = Measured(base=4.6, last=4.6, near_by=0.0, far=0.0, per_class=20.0, strays=0.0, grows=1.0)
    told = combined(KINDS, sure, 1000, trials(100, 0.25, 0.05, 0.45))
    assert told.accuracy("scratch")[0] == pytest.approx(0.3, abs=0.05)
    assert told.accuracy("finetune")[0] == pytest.approx(0.7, abs=0.05)


def test_the_steeper_the_curve_the_less_sure():
    flat, steep = (dataclasses.replace(MEASURED, grows=g) for g in (0.9, 0.6))
    answers = trials(100, 0.65, 0.15, 0.05)
    for kinds in ((KINDS, 100), (KINDS, 100, answers)):
        sure, unsure = (combined(kinds[0], m, *kinds[1:]) for m in (flat, steep))
        assert (unsure.covariance.diagonal() > sure.covariance.diagonal()).all()


def test_a_curve_that_does_not_fall_is_as_sure_as_the_flattest_known():
    told = [
        by_evidence(KINDS, dataclasses.replace(MEASURED, grows=g), 100) for g in (1.0, math.exp(-FLATTEST))
    ]
    assert np.array_equal(told[0].covariance, told[1].covariance)
    assert told[0].covariance[0, 0] > SHARED * STEADIER * counting(share(told[0].mean[0]), 100)


def test_more_pictures_than_were_looked_at_widen_every_interval():
    far = Measured(1.0, 1.2, 0.5, -0.4, 20.0, strays=0.3, grows=0.8)
    near, wide = (by(KINDS, m, 1000) for by, m in ((combined, MEASURED), (combined, far)))
    assert wide.covariance - near.covariance == pytest.approx(np.full((2, 2), 0.09))
    assert 0 < wide.accuracy("scratch")[1] < near.accuracy("scratch")[1]
