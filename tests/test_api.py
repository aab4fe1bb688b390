"""The verbs from Python, on real files, against each other."""

import csv
import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image

import sightline
from sightline.api import find_lr
from sightline.data import open_dataset
from sightline.errors import SightlineError, UnreadableImage
from sightline.run import ADVICE, FILES, RIVAL, Run


def test_a_folder_becomes_a_classifier_that_knows_its_classes(trained, shapes):
    assert trained.scores.accuracy.value >= 0.8  # chance is a third
    assert trained.scores.n == 15  # five of each class: 15 % of thirty, rounded up
    path = shapes / "disc" / "00.png"
    assert trained.classifier.predict(path) in ("disc", "square", "stripes")
    assert trained.classifier.classes == ("disc", "square", "stripes")


def test_the_run_folder_is_complete(trained):
    assert {p.name for p in trained.path.iterdir()} == {*FILES} - {ADVICE, RIVAL}
    assert trained.read_json("run.json")["status"] == "complete"
    assert len(trained.history) == 15
    recipe = trained.recipe.to_dict()
    open_fields = {"minutes", "steps", "clip_grad", "patience", "val_share", "test_share"}
    # Of runs that do not start from scratch.
    others = {"features", "head", "penalty", "train_from", "last_stage", "views"}
    assert {k for k, v in recipe.items() if v is None} <= open_fields | others
    assert "<html" in trained.report.read_text()[:500].lower()


def test_the_splits_are_written_and_can_be_fitted_again(trained, shapes):
    with trained.splits.open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 90
    assert {row["split"] for row in rows} == {"train", "val", "test"}
    again = open_dataset(trained.splits)
    assert [again.has_split(name) for name in ("train", "val", "test")] == [True] * 3
    assert again.read(0).size == (24, 24)


def test_evaluate_agrees_with_the_scores_of_the_run(trained, shapes):
    scores = sightline.evaluate(trained, shapes, quiet=True)
    assert scores.to_dict() == trained.scores.to_dict()


def test_predictions_agree_with_the_scores(trained, shapes):
    dataset = open_dataset(trained.splits).split("test")
    paths = [dataset.path(i) for i in range(len(dataset))]
    labels = trained.classifier.predict(paths)
    right = np.mean([label == dataset.classes[t] for label, t in zip(labels, dataset.targets, strict=True)])
    assert right == pytest.approx(trained.scores.accuracy.value)
    answers = list(sightline.predict(trained.path, paths, top_k=2))
    assert [answer.label for answer in answers] == labels
    assert all(len(answer.top) == 2 for answer in answers)


def test_new_pictures_are_evaluated_whole_and_called_so(trained, shapes, tmp_path):
    for kind in ("disc", "square"):
        (tmp_path / kind).mkdir()
        for k in range(3):
            Image.open(shapes / kind / f"{k:02}.png").save(tmp_path / kind / f"new{k}.png")
    scores = sightline.evaluate(trained, tmp_path, quiet=True)
    assert scores.split == "all"
    assert scores.n == 6


def test_the_same_seed_gives_the_same_run(trained, shapes, tmp_path):
    again = sightline.fit(shapes, out=tmp_path / "again", epochs=15, quiet=True, device="cpu")
    for name, value in again.bundle.weights.items():
        assert torch.equal(value, trained.bundle.weights[name])
    assert again.splits.read_text() == trained.splits.read_text()


def test_a_runs_recipe_repeats_it(trained, shapes, tmp_path):
    again = sightline.fit(shapes, out=tmp_path / "again", recipe=trained.path / "recipe.json", quiet=True)
    for name, value in again.bundle.weights.items():
        assert torch.equal(value, trained.bundle.weights[name])


def test_minutes_fix_the_steps_and_are_written_down(shapes, tmp_path):
    run = sightline.fit(shapes, out=tmp_path / "run", minutes=0.1, epochs=10_000, quiet=True, device="cpu")
    recipe = run.read_json("recipe.json")
    assert 0 < recipe["steps"] < 10_000
    assert run.history[-1]["step"] == recipe["steps"]
    assert run.read_json("run.json")["seconds"] < 60


def test_bad_pictures_are_set_aside_by_name(shapes, tmp_path):
    for kind in ("disc", "square", "stripes"):
        (tmp_path / "in" / kind).mkdir(parents=True)
        for k in range(12):
            Image.open(shapes / kind / f"{k:02}.png").save(tmp_path / "in" / kind / f"{k:02}.png")
    (tmp_path / "in" / "disc" / "empty.png").write_bytes(b"")
    (tmp_path / "in" / "disc" / "text.jpg").write_text("hello")
    cut = tmp_path / "in" / "square" / "03.png"
    cut.write_bytes(cut.read_bytes()[:-200])
    run = sightline.fit(tmp_path / "in", out=tmp_path / "run", epochs=1, quiet=True, device="cpu")
    aside = {row["ref"].split("in/")[-1] for row in run.read_json("run.json")["set_aside"]}
    assert aside == {"disc/empty.png", "disc/text.jpg", "square/03.png"}


@pytest.mark.parametrize(
    "model", ["lecture_net", "lecture_vit", "lenet5", "resnet20", "timm/resnet10t.c3_in1k"]
)
def test_models_of_every_kind_train_and_serve(model, tmp_path):
    run = sightline.fit(
        "digits", out=tmp_path / "run", model=model, weights="none", epochs=1, quiet=True, device="cpu"
    )
    assert run.classifier.predict_proba(np.zeros((8, 8), dtype=np.uint8)).shape == (10,)
    assert run.classifier.embed(np.zeros((8, 8), dtype=np.uint8)).ndim == 1


def test_the_1998_network_learns_digits(tmp_path):
    run = sightline.fit(
        "digits", out=tmp_path / "run", model="lenet5_1998", epochs=3, quiet=True, device="cpu"
    )
    assert run.scores.accuracy.value > 0.3  # chance is 0.1


@pytest.mark.parametrize("strategy", ["finetune", "probe"])
def test_pretrained_weights_are_reused_and_said(strategy, trained, shapes, tmp_path):
    run = sightline.fit(
        shapes,
        out=tmp_path / "run",
        model="resnet10_small",
        weights=str(trained.path / "model.safetensors"),
        strategy=strategy,
        epochs=1,
        quiet=True,
        device="cpu",
        **{"input.size": 24, "input.channels": 3},
    )
    assert run.history[0]["epoch"] == 0  # the fitted head alone
    assert any("weights" in reason.lower() for reason in run.read_json("run.json")["reasons"])
    before, after = trained.bundle.weights, run.bundle.weights
    body = [name for name in before if not name.startswith("fc.") and before[name].is_floating_point()]
    unchanged = [torch.equal(before[name], after[name]) for name in body]
    assert all(unchanged) if strategy == "probe" else not any(unchanged[:1])


def test_unbalanced_classes_are_noticed_and_said(shapes, tmp_path):
    for kind, count in (("disc", 30), ("square", 10)):
        (tmp_path / "in" / kind).mkdir(parents=True)
        for k in range(count):
            Image.open(shapes / kind / f"{k:02}.png").save(tmp_path / "in" / kind / f"{k:02}.png")
    run = sightline.fit(tmp_path / "in", out=tmp_path / "run", epochs=1, quiet=True, device="cpu")
    assert run.recipe.balance == "loss"
    assert any("3.0 times" in reason or "3." in reason for reason in run.read_json("run.json")["reasons"])


def test_find_lr_proposes_a_rate(shapes):
    curve = find_lr(shapes, quiet=True, device="cpu", **{"batch_size": 16})
    assert 1e-5 < curve.proposed < 10


def test_an_interrupted_run_keeps_its_best_model(shapes, tmp_path):
    """A real process, a real SIGINT once the first best model is written."""
    import signal
    import time

    out = tmp_path / "run"
    process = subprocess.Popen(
        [sys.executable, "-m", "sightline", "fit", str(shapes), "--out", str(out), "--epochs", "100000"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 120
    while not (out / "model.json").exists() and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert "Traceback" not in errors
    assert "best model" in errors
    assert sightline.load(out).predict(shapes / "disc" / "00.png") in ("disc", "square", "stripes")


def test_errors_are_sentences(trained, shapes, tmp_path):
    with pytest.raises(SightlineError, match="not empty"):
        sightline.fit(shapes, out=trained.path, quiet=True)
    with pytest.raises(SightlineError, match="There is no run"):
        sightline.evaluate(tmp_path / "nothing", shapes)
    with pytest.raises(UnreadableImage):
        trained.classifier.predict(tmp_path / "nothing.jpg")
    with pytest.raises(SightlineError, match="split"):
        sightline.evaluate(trained, shapes, split="tset")


def test_classes_travel_by_name(trained, shapes, tmp_path):
    for kind, name in (("disc", "disc"), ("square", "triangle")):
        (tmp_path / name).mkdir()
        Image.open(shapes / kind / "00.png").save(tmp_path / name / "x.png")
    with pytest.raises(SightlineError, match="triangle"):
        sightline.evaluate(trained, tmp_path, quiet=True)


def test_a_run_without_scores_says_so(trained, tmp_path):
    (tmp_path / "recipe.json").write_text(json.dumps(trained.recipe.to_dict()))
    with pytest.raises(SightlineError, match=r"no scores\.json"):
        _ = Run.open(tmp_path).scores


def test_importing_sightline_imports_nothing_heavy():
    code = (
        "import sys, sightline; print(any(m in sys.modules for m in ('torch', 'numpy', 'PIL', 'pydantic')))"
    )
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "False"
