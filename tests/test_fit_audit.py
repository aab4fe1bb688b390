"""The first tier of the check in every fit: copies stay on one side of made splits; given ones that leak are said."""

import importlib
import json

import numpy as np
import pytest

import sightline
from sightline.ablation import bench
from sightline.audit import alike, leaking
from sightline.data import ImageDataset, make_splits, open_dataset
from sightline.data.dataset import SPLITS, Arrays
from sightline.evaluation import clean_line
from sightline.fitting import audit
from sightline.fitting.folder import Keeper
from sightline.training.progress import Quiet
from sightline.training.recipe import read_recipe
from tests.audit.drawn import CHANGES, changed, folder_of, scene

SMALL = {"model": "lecture_net", "epochs": 2, "device": "cpu", "augment": "none"}


@pytest.fixture(scope="module")
def leaky(tmp_path_factory):
    """40 pictures to train on and 20 to test, of two classes; of six of the latter a changed copy is in training."""
    rng = np.random.default_rng(1)
    root = tmp_path_factory.mktemp("leaky") / "set"
    folder_of(root, {"train/disc": 20, "train/bar": 20, "test/disc": 10, "test/bar": 10}, rng)
    planted = []
    for number in range(6):
        kind = number % 2
        name = ("disc", "bar")[kind]
        picture = scene(kind, rng)
        picture.save(root / f"train/{name}/seen{number}.png")
        changed(picture, CHANGES[number % 4], rng).save(root / f"test/{name}/seen{number}.png")
        planted.append(f"test/{name}/seen{number}.png")
    return root, set(planted)


def test_given_splits_that_leak_are_told_of_and_scores_stand_twice(leaky, tmp_path, capsys):
    root, planted = leaky
    run = sightline.fit(root, out=tmp_path / "run", **SMALL)
    told = [line for line in capsys.readouterr().err.splitlines() if "show the same" in line]
    assert len(told) == 1
    assert "6 of the 26 test pictures" in told[0]
    assert f"sightline check {root}" in told[0]

    facts = json.loads((run.path / "run.json").read_text())
    assert set(facts["seen"]) == planted
    dataset = open_dataset(root)
    test = dataset.split("test")
    called = run.classifier.predict([test.path(i) for i in range(len(test))])
    right = {ref: said == ref.split("/")[1] for ref, said in zip(test.refs(), called, strict=True)}
    clean = [hit for ref, hit in right.items() if ref not in planted]
    scores = json.loads((run.path / "scores.json").read_text())
    assert scores["n"] == 26
    assert scores["accuracy"]["value"] == pytest.approx(np.mean(list(right.values())))
    assert scores["clean"]["n"] == 20
    assert scores["clean"]["accuracy"]["value"] == pytest.approx(np.mean(clean))
    assert run.scores.n == 26
    assert run.clean_scores.n == 20
    page = run.report.read_text()
    assert "6 of the 26 test pictures show the same as pictures of other splits" in page
    assert "on the clean part, the other 20" in page


def test_the_command_ends_with_both_scores(leaky, tmp_path, monkeypatch, capsys):
    from sightline import cli

    run = tmp_path / "run"
    command = [
        "fit",
        str(leaky[0]),
        "--out",
        str(run),
        "--model",
        "lecture_net",
        "--epochs",
        "1",
        "--device",
        "cpu",
    ]
    monkeypatch.setattr("sys.argv", ["sightline", *command])
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert end.value.code == 0
    done = sightline.run.Run(run)
    said = capsys.readouterr().out
    assert clean_line(done.scores, done.clean_scores) in said
    assert "test split, 26 pictures" in said


def test_a_resumed_run_keeps_its_splits_and_what_was_seen(leaky, tmp_path, monkeypatch):
    whole = sightline.fit(leaky[0], out=tmp_path / "whole", quiet=True, **SMALL)
    epoch = Keeper.epoch

    def interrupted(self, row):
        epoch(self, row)
        raise KeyboardInterrupt

    out = tmp_path / "parts"
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(Keeper, "epoch", interrupted)
        sightline.fit(leaky[0], out=out, quiet=True, checkpoint_seconds=0, **SMALL)

    def again(*_):
        raise AssertionError("looked for copies again")

    monkeypatch.setattr(audit, "alike", again)
    parts = sightline.fit(resume=out, quiet=True)
    assert (out / "scores.json").read_text() == (tmp_path / "whole/scores.json").read_text()
    assert parts.clean_scores.n == whole.clean_scores.n == 20


@pytest.fixture(scope="module")
def doubled(tmp_path_factory):
    """Forty scenes of four classes without splits, twelve of them a second time, changed; and which are which."""
    rng = np.random.default_rng(2)
    root = tmp_path_factory.mktemp("doubled") / "set"
    pairs = []
    for kind, name in enumerate(("disc", "bar", "cross", "ring")):
        (root / name).mkdir(parents=True)
        for number in range(10):
            picture = scene(kind, rng)
            picture.save(root / name / f"{number}.png")
            if number < 3:
                changed(picture, CHANGES[(kind + number) % 4], rng).save(root / name / f"copy{number}.png")
                pairs.append((f"{name}/{number}.png", f"{name}/copy{number}.png"))
    return root, pairs


def splits_of(dataset):
    return dict(zip(dataset.refs(), dataset.splits.tolist(), strict=True))


def test_made_splits_never_part_copies(doubled):
    root, pairs = doubled
    dataset = open_dataset(root)
    groups = alike(dataset).groups
    parted = 0
    for seed in range(30):
        kept = make_splits(dataset, seed=seed, groups=groups)
        there = splits_of(kept)
        assert [there[one] for one, _ in pairs] == [there[other] for _, other in pairs]
        assert len(leaking(kept, groups)) == 0
        without = splits_of(make_splits(dataset, seed=seed))
        parted += sum(without[one] != without[other] for one, other in pairs)
    assert parted > 100  # without groups nearly half of them would be: the seeds do try


@pytest.mark.parametrize("seed", [0, 1])
def test_fit_and_ablate_split_by_the_same_rule(doubled, tmp_path, seed, capsys, monkeypatch):
    root, pairs = doubled
    run = sightline.fit(root, out=tmp_path / "run", seed=seed, **(SMALL | {"epochs": 1}))
    assert "show the same" not in capsys.readouterr().err
    assert not run.leaking
    assert run.clean_scores is None
    there = splits_of(open_dataset(run.splits))
    assert all(there[one] == there[other] for one, other in pairs)

    monkeypatch.setattr(bench, "FEWEST", 10)
    made = bench.set_up(open_dataset(root), read_recipe({"seed": seed, "device": "cpu"}), 60.0, Quiet())
    trained = set(made.dataset.refs())
    assert not trained & {ref for ref, code in there.items() if code == SPLITS.index("test")}
    assert all((one in trained) == (other in trained) for one, other in pairs)


def test_a_class_that_is_alike_by_nature_is_split_like_any_other():
    """Thirty times the same stripes in other colours: no copies, and without them there would be nothing to test."""
    rng = np.random.default_rng(0)
    stripes = (np.arange(24) // 3 % 2)[None, :, None] * rng.integers(120, 190, (30, 1, 1, 3))
    stripes = stripes + rng.integers(0, 60, (30, 24, 24, 3))
    noise = rng.integers(0, 256, (30, 24, 24, 3))
    stripes[7] = stripes[3]  # but this is one
    pictures = np.concatenate([stripes, noise]).astype(np.uint8)
    dataset = ImageDataset(
        Arrays([("x", pictures)]), np.repeat([0, 1], 30), ["stripes", "noise"], name="drawn"
    )
    found = alike(dataset)
    assert "30 of the 30 of stripes" in found.said
    assert np.unique(found.groups).size == 59
    assert found.groups[7] == found.groups[3]
    split = make_splits(dataset, seed=0, groups=found.groups)
    assert split.split("test").class_counts().tolist() == [5, 5]


def test_of_very_many_pictures_only_identical_files_are_kept_together(doubled, monkeypatch):
    root, pairs = doubled
    monkeypatch.setattr(importlib.import_module("sightline.audit.alike"), "MOST", 10)
    one, other = (root / name for name in pairs[0])
    content = other.read_bytes()
    try:
        other.write_bytes(one.read_bytes())
        dataset = open_dataset(root)
        found = alike(dataset)
    finally:
        other.write_bytes(content)
    assert "sightline check" in found.said
    place = {ref: i for i, ref in enumerate(dataset.refs())}
    assert np.unique(found.groups).size == len(dataset) - 1
    assert found.groups[place[pairs[0][0]]] == found.groups[place[pairs[0][1]]]
