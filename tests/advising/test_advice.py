"""Advice on real runs: a network that learned drawn shapes, for the same shapes and for handwritten digits."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from sklearn.linear_model import RidgeClassifier
from sklearn.metrics import balanced_accuracy_score
from sklearn.model_selection import LeaveOneOut, cross_val_predict
from sklearn.preprocessing import StandardScaler

import sightline
from sightline.advising import Advice
from sightline.advising import advice as module
from sightline.advising import evidence as evidence_module
from sightline.advising.advice import advise, changes_of, stages_of
from sightline.advising.combined import by_evidence
from sightline.advising.evidence import looked_at, measure, random_twin
from sightline.advising.figure import advice_page, draw_advice
from sightline.advising.prediction import Measured, quadrant, share
from sightline.api import compose
from sightline.bundle import Classifier
from sightline.data import ImageDataset, make_splits, open_dataset
from sightline.data.dataset import SPLITS
from sightline.errors import SightlineError, UnknownName
from sightline.features import Embedding, RidgeHead
from sightline.features.embedding_network import open_network
from sightline.fitting.conclude import make_bundle
from sightline.training.prepare import prepare
from sightline.training.progress import Quiet

torch.set_num_threads(1)
CHEAP = {"device": "cpu", "precision": "fp32"}
SHORT = CHEAP | {"epochs": 3}


@pytest.fixture(scope="module")
def digits() -> ImageDataset:
    """160 training pictures of handwritten digits, and the rest."""
    whole = open_dataset("digits")
    return make_splits(whole.subset(np.arange(0, len(whole), 8)), seed=0, val=0.15, test=0.15)


@pytest.fixture(scope="module")
def far(digits, trained) -> Advice:
    return advise(digits, compose(None, SHORT | {"weights": str(trained.path)}))


def test_each_depth_is_measured_by_leaving_one_out(far, digits, trained):
    known = digits.subset(digits.splits != SPLITS.index("test"))
    features = Embedding(str(trained.path), layer="layer2", precision="fp32").fit_transform(known)
    scaled = StandardScaler().fit_transform(features)
    penalty = RidgeHead().fit(features, known.targets).penalty_
    said = cross_val_predict(RidgeClassifier(alpha=penalty), scaled, known.targets, cv=LeaveOneOut())
    depth = next(d for d in far.evidence.depths if d.layer == "layer2")
    assert depth.accuracy == pytest.approx(balanced_accuracy_score(known.targets, said), abs=1.5 / len(known))
    assert depth.low < depth.accuracy < depth.high
    assert [d.layer for d in far.evidence.depths] == ["relu", "layer1", "layer2", "layer3", "layer4", None]


def test_what_a_network_learned_from_shapes_is_far_from_digits(far):
    assert (far.size, far.nearness) == ("small", "far")
    assert far.evidence.handcrafted > far.evidence.last.accuracy
    assert any("Hand-crafted features" in line for line in far.reasons)


def test_the_same_shapes_are_near(shapes, trained):
    whole = make_splits(open_dataset(shapes), seed=0)
    advice = advise(whole, compose(None, CHEAP | {"weights": str(trained.path)}), trying=0.0)
    assert (advice.size, advice.nearness) == ("small", "near")
    assert advice.evidence.last.accuracy > advice.evidence.last.random


def test_in_uneven_classes_every_class_counts_as_much(digits, trained):
    """Of the class 0 all pictures, of every other one four."""
    train = digits.split("train")
    places = [np.flatnonzero(train.targets == target)[: None if target == 0 else 4] for target in range(10)]
    few = train.subset(np.concatenate(places))
    seen = measure(few, open_network(trained.path, precision="fp32"))
    sizes = [len(own) for own in places]
    assert seen.effective == pytest.approx(100 / sum(1 / size for size in sizes))
    assert seen.effective < len(few)
    assert seen.chance == 0.1
    features = Embedding(str(trained.path), precision="fp32").fit_transform(few)
    head = RidgeHead().fit(features, few.targets)
    said = head.classes_[head.held_out_.argmax(1)]
    assert seen.last.accuracy == pytest.approx(balanced_accuracy_score(few.targets, said))


def test_validation_pictures_are_looked_at_where_training_has_few(digits, monkeypatch):
    train, val = (digits.split(name) for name in ("train", "val"))
    assert sorted(looked_at(digits, 0).refs()) == sorted([*train.refs(), *val.refs()])
    monkeypatch.setattr(evidence_module, "MOST", len(train) + 10)
    assert len(looked_at(digits, 0)) == len(train) + 10
    assert set(looked_at(digits, 0).refs()) > set(train.refs())
    monkeypatch.setattr(evidence_module, "MOST", 50)
    looked = looked_at(digits, 0)
    assert len(looked) == 50
    assert set(looked.refs()) < set(train.refs())
    # Each class in its share, to the picture.
    wanted = 50 * train.class_counts() / len(train)
    assert np.abs(looked.class_counts() - wanted).max() <= 1
    assert looked_at(digits, 1).refs() != looked.refs()


def test_errors_are_brought_to_the_number_of_training_pictures(far):
    """The evidence rests on more pictures than will be trained on."""
    seen, known = far.evidence, Measured.of(far.evidence)
    assert sum(seen.counts) < seen.pictures
    more = seen.curve.error(sum(seen.counts))[0] / seen.curve.error(seen.pictures)[0]
    assert more > 1
    assert 1 - share(known.last) == pytest.approx(more * (1 - seen.smoothed.last))
    half = seen.curve.error(seen.pictures / 2)[0]
    assert known.grows == pytest.approx(seen.curve.error(sum(seen.counts))[0] / half)


def test_labels_drawn_by_lot_are_no_better_than_chance(digits, trained):
    train = digits.split("train").subset(np.arange(100))
    train.targets = np.random.default_rng(0).integers(0, 2, 100).astype(np.int32)
    train.classes = ("heads", "tails")
    seen = measure(train, open_network(trained.path))
    assert 0.3 < seen.last.accuracy < 0.7
    assert seen.curve.error(100)[0] == pytest.approx(0.5, abs=0.15)


def test_every_strategy_is_predicted_and_the_best_advised(far):
    assert [p.kind for p in far.predictions] == ["scratch", "probe", "probe@", "finetune", "finetune@"]
    for p in far.predictions:
        assert 0 < p.low < p.accuracy < p.high < 1
        assert 0 < p.minutes_low < p.minutes < p.minutes_high
    assert far.advised.accuracy == max(p.accuracy for p in far.predictions)
    assert far.runner_up is not None
    assert far.runner_up.name != far.advised.name


def test_what_was_tried_says_on_how_many_pictures(far):
    assert far.trials is not None
    assert far.trials.kinds == tuple(p.kind for p in far.predictions)
    assert tuple(p.tried for p in far.predictions) == far.trials.tested
    assert max(far.trials.tested) == far.evidence.pictures
    assert any(line.startswith(f"Tried on {far.evidence.pictures} pictures") for line in far.reasons)


def test_what_cannot_be_afforded_is_predicted_by_evidence_alone(digits, trained):
    recipe = compose(None, CHEAP | {"weights": str(trained.path)})
    advice = advise(digits, recipe, trying=0.0)
    assert advice.trials is None
    assert all(p.tried == 0 for p in advice.predictions)
    assert {p.kind: p.minutes for p in advice.predictions}["probe"] < advice.predictions[0].minutes
    told = by_evidence(
        tuple(p.kind for p in advice.predictions), Measured.of(advice.evidence), advice.evidence.effective
    )
    assert [p.accuracy for p in advice.predictions] == pytest.approx([share(z) for z in told.mean])
    assert any(line.startswith("Not tried") and "finetune" in line for line in advice.reasons)
    assert Advice.from_dict(advice.to_dict()).to_dict() == advice.to_dict()


def test_few_pictures_are_divided_as_often_as_there_is_time(digits, trained, monkeypatch):
    few = digits.split("train").subset(np.arange(40))
    rounds = []
    # Five strategies, two folds, ten seconds each: 100 seconds a round, and the reading.
    monkeypatch.setattr(module, "seconds_of", lambda *_: 10.0)
    monkeypatch.setattr(module, "run_trials", lambda *arguments: rounds.append(arguments[-1]))
    for trying in (150.0, 250.0, 1000.0):
        advise(few, compose(None, CHEAP | {"weights": str(trained.path)}), trying=trying)
    assert rounds == [1, 2, 3]


def test_what_takes_too_long_is_not_advised(digits, trained):
    recipe = compose(None, CHEAP | {"weights": str(trained.path), "minutes": 1e-4})
    advice = advise(digits, recipe)
    assert advice.advised.kind in ("probe", "probe@")
    assert any("the quickest is advised" in line for line in advice.reasons)
    assert advice.trials is None  # what cannot be advised is not tried


def test_a_probe_reaches_what_was_predicted(far, digits, trained):
    settings = CHEAP | {"weights": str(trained.path), "strategy": "probe"}
    job = prepare(digits, compose(None, settings), Quiet())
    state = job.trainer.run(Quiet())
    probe = next(p for p in far.predictions if p.kind == "probe")
    test = job.dataset.split("test")
    found, answers, _ = Classifier(make_bundle(job, state.best.weights)).probabilities_of(test)
    reached = balanced_accuracy_score(test.targets[found], answers.argmax(1))
    assert probe.low - 0.1 < reached < probe.high + 0.1


def test_advice_comes_back_from_its_file(far):
    text = json.dumps(far.to_dict())
    back = Advice.from_dict(json.loads(text))
    assert json.dumps(back.to_dict()) == text
    assert back.advised.name == far.advised.name


def test_the_figure_and_the_page(far):
    from io import BytesIO

    from PIL import Image

    image = Image.open(BytesIO(draw_advice(far)))
    assert image.size[0] > 2 * image.size[1]
    colours = {colour for _, colour in image.convert("RGB").getcolors(10**6)}
    assert (0x00, 0x9E, 0x73) in colours  # the point in its quadrant
    page = advice_page(far)
    assert f"<code>sightline fit DATA {far.advised.options}</code>" in page
    assert "http" not in page


def test_quadrants():
    assert quadrant(1.0, 20, 100) == ("small", "near")
    assert quadrant(-1.0, 500, 100) == ("large", "far")


def test_the_twin_is_random_and_the_network_stays(trained):
    module = open_network(trained.path).module
    before = {k: v.clone() for k, v in module.state_dict().items()}
    one, two = random_twin(module), random_twin(module)
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))
    assert not torch.equal(one.layer1[0].conv1.weight, module.layer1[0].conv1.weight)
    assert torch.equal(one.bn1.running_mean, torch.zeros_like(one.bn1.running_mean))
    assert all(torch.equal(before[k], v) for k, v in module.state_dict().items())


# What cannot be advised on.


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"model": "resnet81"}, "did you mean resnet1"),
        (
            {"model": "resnet18", "weights": "auto"},
            "There is nothing to reuse: no pretrained weights of resnet18",
        ),
        ({"weights": "none", "strategy": "auto"}, "auto starts from weights"),
        ({"strategy": "auto", "train_from": "layer3"}, "strategy = 'auto' chooses it"),
    ],
)
def test_what_there_is_nothing_to_reuse_for(digits, settings, sentence, monkeypatch, tmp_path):
    monkeypatch.setenv("SIGHTLINE_HOME", str(tmp_path))
    with pytest.raises(SightlineError) as error:
        advise(digits, compose(None, settings))
    assert sentence in str(error.value)


def test_one_class_alone(digits, trained):
    train = digits.split("train")
    with pytest.raises(SightlineError, match=r"of one class alone \(3\)"):
        advise(train.subset(train.targets == 3), compose(None, {"weights": str(trained.path)}))


# A network that ends earlier.


def test_a_probe_of_an_earlier_stage_is_one_plain_network(digits, trained, tmp_path):
    settings = CHEAP | {"weights": str(trained.path), "strategy": "probe", "last_stage": "layer2"}
    run = sightline.fit(digits, out=tmp_path / "run", quiet=True, **settings)
    network = run.classifier.network
    assert network.stages == ["layer1", "layer2"]
    assert tuple(run.bundle.arguments["widths"]) == (32, 64)
    own, theirs = network.state_dict(), trained.bundle.weights
    body = [name for name in own if not name.startswith("fc.")]
    assert all(torch.equal(own[name], theirs[name]) for name in body)
    pictures = [digits.read(i) for i in range(6)]
    whole = Embedding(str(trained.path), layer="layer2", precision="fp32").fit_transform(pictures)
    assert Classifier(run.bundle, precision="fp32").embed(pictures) == pytest.approx(whole, abs=1e-4)


@pytest.mark.parametrize(
    ("model", "stage", "kind", "sentence"),
    [
        ("resnet10_small", "layer7", UnknownName, "layer3"),
        ("resnet10_small", "layer4", UnknownName, "layer3"),  # it ends there already
        ("lecture_net", "layer1", SightlineError, "cannot end in an earlier stage"),
    ],
)
def test_stages_to_end_in(model, stage, kind, sentence):
    from sightline.models.shortened import shortened

    with pytest.raises(kind, match=sentence):
        shortened(model, {}, stage)


def test_from_scratch_nothing_of_the_weights_is_left_but_their_network(trained):
    recipe = compose(None, {"weights": str(trained.path), "head": "ridge"})
    changed = recipe.updated(changes_of(recipe, {"strategy": "scratch"}))
    assert (changed.model.name, changed.model.weights, changed.head) == ("resnet10_small", "none", None)


def test_what_comes_behind_the_best_stage_is_trained(far, trained):
    stages = ["layer1", "layer2", "layer3", "layer4"]
    own = {d.layer: d.accuracy for d in far.evidence.depths}
    best = max(stages, key=lambda stage: own[stage])
    probed, start = stages_of(far.evidence, trained.classifier.network, stages[:-1])
    assert start == stages[min(stages.index(best) + 1, 3)]
    assert probed == max(stages[:-1], key=lambda stage: own[stage])
