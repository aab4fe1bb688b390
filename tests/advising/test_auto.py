"""`fit --strategy auto`: it follows the advice, tries the runner-up, keeps the better one, and can be resumed."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import torch

import sightline
from sightline.data import make_splits, open_dataset
from sightline.errors import SightlineError
from sightline.fitting import auto
from sightline.fitting.conclude import beats, decide
from sightline.training.choice import Choice
from sightline.training.loop import Trainer
from sightline.training.prepare import Job, Rival
from sightline.training.recipe import Recipe
from sightline.training.state import Best, TrainState

torch.set_num_threads(1)


@pytest.fixture(scope="module")
def digits():
    whole = open_dataset("digits")
    part = whole.subset(np.flatnonzero(whole.targets < 3)[::6])
    return make_splits(part, seed=0)


def settings(trained):
    return {
        "weights": str(trained.path), "strategy": "auto", "device": "cpu", "epochs": 2, "precision": "fp32",
        "batch_size": 16, "quiet": True,
    }  # fmt: skip


@pytest.fixture(scope="module")
def finished(digits, trained, tmp_path_factory):
    return sightline.fit(digits, out=tmp_path_factory.mktemp("auto") / "run", **settings(trained))


def test_the_recipe_says_what_it_became(finished):
    assert finished.recipe.strategy in ("scratch", "probe", "finetune")
    reasons = finished.read_json("run.json")["reasons"]
    tried = next(line for line in reasons if line.startswith("Tried "))
    kept = next(line for line in reasons if line.startswith("Kept: "))
    name = auto.spelled(finished.recipe)
    assert kept.startswith(f"Kept: {name}, ")
    assert any(line.startswith("Advised: ") for line in reasons)
    assert tried.split()[1] in kept


def test_the_better_one_by_validation_is_kept(finished):
    rival = json.loads((finished.path / "rival.json").read_text())
    best = max(row["val_balanced_accuracy"] for row in finished.history)
    assert best >= rival["choice"]["highest"] - 1e-12


def test_the_report_shows_the_advice(finished):
    page = finished.report.read_text()
    section = page.split('<section id="advice">')[1].split("</section>")[0]
    assert "data:image/png;base64," in section
    assert "advised" in section
    assert "probe@layer" in section


def test_the_run_is_one_like_any_other(finished, digits):
    scores = sightline.evaluate(finished, digits, quiet=True)
    assert scores.accuracy == finished.scores.accuracy


class Stop(Exception):
    """Something that happens in the middle."""


def test_an_interrupted_run_goes_on_with_its_rival(digits, trained, tmp_path, monkeypatch):
    monkeypatch.setattr(auto, "order_of", lambda advice, *_: sides(advice))  # whatever a step takes here
    monkeypatch.setattr(auto, "TRYING", 0.0)
    finished = sightline.fit(digits, out=tmp_path / "finished", **settings(trained))
    ended = Trainer.end_epoch

    def end_epoch(self, *arguments):
        ended(self, *arguments)
        raise Stop

    monkeypatch.setattr(Trainer, "end_epoch", end_epoch)
    out = tmp_path / "run"
    with pytest.raises(Stop):
        sightline.fit(digits, out=out, checkpoint_seconds=0, **settings(trained))
    monkeypatch.undo()
    run = sightline.fit(digits, resume=out, quiet=True)
    assert run.recipe == finished.recipe
    assert run.bundle.weights.keys() == finished.bundle.weights.keys()
    assert all(torch.equal(v, finished.bundle.weights[k]) for k, v in run.bundle.weights.items())
    said = [row for row in run.read_json("run.json")["reasons"] if row.startswith("Kept")]
    assert said == [row for row in finished.read_json("run.json")["reasons"] if row.startswith("Kept")]


def test_too_little_time_tries_the_advised_alone(digits, trained, tmp_path):
    run = sightline.fit(digits, out=tmp_path / "run", **settings(trained) | {"minutes": 1e-4})
    advised = json.loads((run.path / "advice.json").read_text())["advised"]
    assert auto.spelled(run.recipe) == advised["name"]
    assert not (run.path / "rival.json").exists()


@pytest.mark.parametrize(
    ("own", "said"),
    [
        (0.8, "Kept: probe, balanced accuracy up to 90.0% on the validation pictures; finetune 80.0%."),
        (0.95, "Kept: finetune, balanced accuracy up to 95.0% on the validation pictures; probe 90.0%."),
    ],
)
def test_validation_decides(own, said):
    rival = Rival("probe", Best(0, 0.9, 0.5, {}), Choice(0.9, 0.5), Recipe(), [], "")
    job = Job(None, Recipe(), [], None, [], rival=rival, name="finetune")
    kept = decide(job, TrainState(None, None, None, choice=Choice(own, 0.4)))
    assert kept is (rival if own < 0.9 else None)
    assert job.reasons == [said]


def test_who_has_beaten_the_rival_once_stays_whatever_epoch_is_kept():
    """Its weights have taken the place of the rival's."""
    rival = Rival("probe", Best(0, 0.9, 0.5, {}), Choice(0.9, 0.5), Recipe(), [], "")
    own = Choice()
    assert own.keeps(0.8, 0.5, 0.1)
    assert not beats(own, rival)
    assert own.keeps(0.95, 0.5, 0.1)
    assert beats(own, rival)
    assert own.keeps(0.86, 0.5, 0.1)
    assert beats(own, rival)


def test_advice_of_another_version_is_a_sentence(finished, tmp_path):
    copy = tmp_path / "run"
    shutil.copytree(finished.path, copy)
    advice = json.loads((copy / "advice.json").read_text())
    del advice["evidence"]["effective"]
    (copy / "advice.json").write_text(json.dumps(advice))
    job = Job(None, finished.recipe, [], None, [])
    with pytest.raises(SightlineError, match=r"Another version of sightline wrote advice\.json"):
        auto.restore(job, sightline.run.Run(copy))
    (copy / "advice.json").write_text((finished.path / "advice.json").read_text())
    auto.restore(job, sightline.run.Run(copy))
    assert json.loads(json.dumps(job.advice.to_dict())) == finished.read_json("advice.json")


def test_a_rival_that_wins_is_what_the_run_is(digits, trained, tmp_path, monkeypatch):
    """Fine-tuning at a rate of nothing cannot beat the head that it starts from: on a tie the rival stays."""
    monkeypatch.setattr(auto, "order_of", lambda advice, *_: sides(advice))
    monkeypatch.setattr(auto, "TRYING", 0.0)
    changes = {"optimizer.lr": 1e-12, "ema": 0.0, "optimizer.layer_decay": 1.0}
    run = sightline.fit(digits, out=tmp_path / "run", **settings(trained) | changes)
    assert (run.recipe.strategy, [row["epoch"] for row in run.history]) == ("probe", [0])
    facts = run.read_json("run.json")
    assert any(line.startswith("Kept: probe") for line in facts["reasons"])
    assert sightline.evaluate(run, digits, quiet=True).accuracy == run.scores.accuracy


def sides(advice):
    """(the probe, fine-tuning) of an advice."""
    by_kind = {p.kind: p for p in advice.predictions}
    return by_kind["probe"], by_kind["finetune"]


@pytest.mark.parametrize("verb", ["find_lr", "ablate"])
def test_auto_is_for_fits(verb, digits, trained):
    from sightline import api

    with pytest.raises(SightlineError, match="measures first"):
        getattr(api, verb)(digits, quiet=True, weights=str(trained.path), strategy="auto")
