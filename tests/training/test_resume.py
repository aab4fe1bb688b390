"""An interrupted run that is resumed ends where an uninterrupted one ends, to the bit."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from sightline import fit
from sightline.data import open_dataset
from sightline.errors import SightlineError
from sightline.run import Run
from sightline.training.checkpoint import FACTS, TENSORS, Checkpoints
from sightline.transforms.augment import MIXINGS, STEPS
from tests.conftest import draw

SMALL = {
    "model": "resnet20",
    "epochs": 3,
    "batch_size": 16,
    "augment": "rotate(20) + crop(2) + hflip + noise(0.05)",
    "ema": 0.9,
    "checkpoint_seconds": 0,
    "device": "cpu",
}
CLOCK = ("seconds", "images_per_second")


class Fits:
    """Real processes that fit, killed or not."""

    def __init__(self, log: Path) -> None:
        self.said = log
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.training.fits"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
        )

    def start(self, trouble=None, **arguments) -> int:
        """Begin a fit; its process number."""
        job = {"arguments": {k: str(v) if isinstance(v, Path) else v for k, v in arguments.items()}}
        self.said.unlink(missing_ok=True)
        self.process.stdin.write(json.dumps(job | {"trouble": trouble, "said": str(self.said)}) + "\n")
        self.process.stdin.flush()
        return int(self.process.stdout.readline())

    def end(self) -> int:
        """Wait for it; its exit status."""
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return int(self.process.stdout.readline())

    def __call__(self, **arguments) -> int:
        self.start(**arguments)
        return self.end()


@pytest.fixture(scope="module")
def fits(tmp_path_factory):
    fits = Fits(tmp_path_factory.mktemp("said") / "said.txt")
    yield fits
    fits.process.stdin.close()
    fits.process.wait(30)


@pytest.fixture(scope="module")
def straight(fits, shapes, tmp_path_factory):
    """The run that nothing happens to."""
    out = tmp_path_factory.mktemp("straight") / "run"
    assert fits(source=shapes, out=out, **SMALL) == 0
    return out


def content(run: Path) -> dict[str, object]:
    """All that a run leaves, but for what a clock says."""
    history = [json.loads(line) for line in (run / "history.jsonl").read_text().splitlines()]
    rows = [{k: v for k, v in row.items() if k not in CLOCK} for row in history]
    files = ("model.safetensors", "model.json", "scores.json", "splits.csv")
    recipe = {k: v for k, v in json.loads((run / "recipe.json").read_text()).items() if k != "workers"}
    return {name: (run / name).read_bytes() for name in files} | {"recipe": recipe, "history": rows}


def assert_same(run: Path, expected: Path) -> None:
    left, right = content(run), content(expected)
    assert [name for name in right if left[name] != right[name]] == []
    assert not (run / "checkpoints").exists()


def killed_and_resumed(fits: Fits, source: Path, out: Path, seconds: float, most: int, settings: dict) -> int:
    """Fit, with kills at random moments until `most` of them or the end of the run; how many struck before it ended."""
    rng, kills = random.Random(), 0
    while True:
        begun = (out / "recipe.json").exists() and (out / "splits.csv").exists()
        if not begun:  # killed before its training began
            shutil.rmtree(out, ignore_errors=True)
        again = {"resume": out, "checkpoint_seconds": 0}
        number = fits.start(**again if begun else {"source": source, "out": out, **settings})
        if kills < most:
            time.sleep(rng.uniform(0, seconds))
            os.kill(number, signal.SIGKILL)
        status = fits.end()
        if status == 0:
            return kills
        assert status == -signal.SIGKILL, fits.said.read_text() if fits.said.exists() else status
        kills += 1


@pytest.mark.parametrize("workers", [0, 2])
def test_kills_at_random_moments_change_no_bit(fits, shapes, straight, tmp_path, workers):
    begun = time.monotonic()
    assert fits(source=shapes, out=tmp_path / "timed", **SMALL | {"workers": workers}) == 0
    seconds = time.monotonic() - begun
    assert_same(tmp_path / "timed", straight)
    kills = 0
    for number in range(20):  # a kill may come too late: then there is another run
        out = tmp_path / f"run{number}"
        kills += killed_and_resumed(fits, shapes, out, seconds, 2, SMALL | {"workers": workers})
        assert_same(out, straight)
        if kills >= 2:
            break
    assert kills >= 2


EVERY = [*STEPS, *MIXINGS]
OPTIMISERS = [
    {"optimizer.name": "sgd", "optimizer.lr": 0.02},
    {"optimizer.name": "adamw", "optimizer.lr": 0.002, "clip_grad": 1.0},
]


@pytest.mark.parametrize(
    "settings",
    [
        {"strategy": "finetune"},
        {"strategy": "finetune", "train_from": "layer3", "views": 2, "l2_sp": 0.01},
    ],
    ids=["head first", "frozen activations"],
)
def test_transfer_that_was_killed_ends_with_the_same_bits(fits, shapes, trained, tmp_path, settings):
    """The head and the activations are computed again, and are the same."""
    settings = {"weights": trained.path, "device": "cpu", "epochs": 4, "batch_size": 16, **settings}
    settings |= {"checkpoint_seconds": 0, "augment": "crop(2) + hflip", "ema": 0.9}
    expected = tmp_path / "expected"
    begun = time.monotonic()
    assert fits(source=shapes, out=expected, **settings) == 0
    seconds = time.monotonic() - begun
    assert [row["epoch"] for row in content(expected)["history"] if "val_loss" in row] == [0, 1, 2, 3, 4]
    kills = 0
    for number in range(20):
        out = tmp_path / f"run{number}"
        kills += killed_and_resumed(fits, shapes, out, seconds, 2, settings)
        assert_same(out, expected)
        if kills >= 2:
            break
    assert kills >= 2


def test_a_head_measured_before_the_first_checkpoint_is_written_down_once(fits, shapes, trained, tmp_path):
    settings = {
        "weights": trained.path,
        "device": "cpu",
        "epochs": 4,
        "batch_size": 16,
        "strategy": "finetune",
    }
    history, limit = tmp_path / "run" / "history.jsonl", time.monotonic() + 120
    number = fits.start(source=shapes, out=tmp_path / "run", checkpoint_seconds=3600, **settings)
    while not history.exists() and time.monotonic() < limit:
        time.sleep(0.01)
    os.kill(number, signal.SIGKILL)
    assert fits.end() == -signal.SIGKILL
    assert not list((tmp_path / "run" / "checkpoints").rglob("state.json"))
    assert fits(resume=tmp_path / "run", checkpoint_seconds=3600) == 0
    rows = content(tmp_path / "run")["history"]
    assert [row["epoch"] for row in rows if "val_loss" in row] == [0, 1, 2, 3, 4]


@pytest.mark.full
def test_two_hundred_kills_change_no_bit(fits, shapes, tmp_path):
    """Over both optimisers, with and without EMA, every augmentation, both precisions, and runs by the clock."""
    kills = 0
    for number in range(10_000):
        out = tmp_path / f"run{number}"
        settings = SMALL | OPTIMISERS[number % 2] | {
            "augment": " + ".join(sorted({"crop", EVERY[number % len(EVERY)]}, key=EVERY.index)),
            "ema": (0.9, 0.0)[number // 2 % 2],
            "precision": ("fp32", "bf16")[number // 4 % 2],
            "workers": (0, 2)[number // 8 % 2],
            "seed": number,
        }  # fmt: skip
        if number % 5 == 4:
            settings |= {"minutes": 0.03, "epochs": 100}
        kills += killed_and_resumed(fits, shapes, out, 2.0, 4, settings)
        expected = tmp_path / "expected"
        assert fits(source=shapes, out=expected, recipe=out / "recipe.json") == 0
        assert_same(out, expected)
        shutil.rmtree(out)
        shutil.rmtree(expected)
        if kills >= 200:
            break
    assert kills >= 200


def test_a_kill_at_every_single_change_of_the_disk_loses_nothing(fits, shapes, tmp_path):
    """Two checkpoints are written, and the writing of the second is disturbed at each of its changes in turn."""
    settings = SMALL | {"steps": 3}
    expected = tmp_path / "expected"
    assert fits(source=shapes, out=expected, trouble={"at": 0, "kind": "count"}, **settings) == 0
    changes = int(fits.said.read_text())
    assert changes > 12
    for at in range(1, changes + 1):
        for kind in ("kill", "full") if at % 5 == 0 else ("kill",):
            out = tmp_path / f"{kind}{at}"
            status = fits(source=shapes, out=out, trouble={"at": at, "kind": kind}, **settings)
            if status == 0:  # cleaning up may fail; that is no loss
                assert kind == "full"
            elif kind == "full":
                assert status == 2
                assert "disk is full" in fits.said.read_text()
            else:
                assert status == -signal.SIGKILL
            if not out.exists():  # full before anything was there to keep
                continue
            assert fits(resume=out, checkpoint_seconds=0) == 0, fits.said.read_text()
            assert_same(out, expected)
            shutil.rmtree(out)


@pytest.mark.parametrize("signal_number", [signal.SIGINT, signal.SIGTERM])
def test_a_polite_stop_says_how_to_go_on(fits, shapes, straight, tmp_path, signal_number):
    out = tmp_path / "run"
    number = fits.start(source=shapes, out=out, **SMALL | {"checkpoint_seconds": 1000})
    while not (out / "history.jsonl").exists():  # the first epoch has ended
        time.sleep(0.01)
    os.kill(number, signal_number)
    assert fits.end() == 130
    assert f"sightline fit --resume {out}" in fits.said.read_text()
    assert len(Checkpoints(out / "checkpoints").steps()) == 1
    assert fits(resume=out) == 0
    assert_same(out, straight)


# What a run's folder may be.


def stopped(fits: Fits, shapes: Path, out: Path) -> Path:
    """A run that was killed after its first epoch."""
    number = fits.start(source=shapes, out=out, **SMALL)
    while not (out / "model.json").exists():
        time.sleep(0.01)
    os.kill(number, signal.SIGKILL)
    assert fits.end() == -signal.SIGKILL
    return out


def test_a_complete_run_is_given_back(straight, capfd):
    before = content(straight)
    assert fit(resume=straight).path == straight
    assert "complete" in capfd.readouterr().err
    assert content(straight) == before


def test_a_run_in_use_is_left_alone(fits, shapes, tmp_path):
    out = tmp_path / "run"
    number = fits.start(source=shapes, out=out, **SMALL | {"epochs": 1000})
    while not (out / "model.json").exists():
        time.sleep(0.01)
    with pytest.raises(SightlineError, match=f"in use by another process .{number}"):
        fit(resume=out, quiet=True)
    os.kill(number, signal.SIGKILL)
    fits.end()


def test_a_run_of_another_version_is_said(fits, shapes, tmp_path):
    out = stopped(fits, shapes, tmp_path / "run")
    for path in (out / "checkpoints").glob("step-*/" + FACTS):
        path.write_text(json.dumps(json.loads(path.read_text()) | {"format": 99}))
    with pytest.raises(SightlineError, match="format 99; this version of sightline reads format 3"):
        fit(resume=out, quiet=True)


def test_a_damaged_checkpoint_gives_way_to_the_one_before(fits, shapes, straight, tmp_path):
    out = stopped(fits, shapes, tmp_path / "run")
    last = max((out / "checkpoints").glob("step-*"))
    data = bytearray((last / TENSORS).read_bytes())
    data[len(data) // 2] ^= 1
    (last / TENSORS).write_bytes(bytes(data))
    assert fits(resume=out) == 0
    assert_same(out, straight)


def test_a_run_that_never_began_and_a_folder_that_is_none(fits, shapes, tmp_path):
    out = stopped(fits, shapes, tmp_path / "run")
    (out / "recipe.json").unlink()
    with pytest.raises(SightlineError, match="ended before its training began"):
        fit(resume=out, quiet=True)
    with pytest.raises(SightlineError, match="There is no run"):
        fit(resume=tmp_path / "nowhere", quiet=True)
    with pytest.raises(SightlineError, match="leave out epochs"):
        fit(resume=out, epochs=3, quiet=True)


def test_pictures_that_came_later_are_not_trained_on_and_missing_ones_are_said(
    fits, shapes, straight, tmp_path
):
    source = tmp_path / "pictures"
    shutil.copytree(shapes, source)
    out = stopped(fits, source, tmp_path / "run")
    draw("disc", 24, np.random.default_rng(5)).save(source / "disc" / "new.png")
    copy = tmp_path / "copy"
    shutil.copytree(out, copy)
    assert fits(resume=out) == 0
    assert_scores_same(out, straight)
    for picture in (source / "disc").glob("0*.png"):
        picture.unlink()
    with pytest.raises(SightlineError, match="which pictures does not have"):
        fit(resume=copy, quiet=True)


def assert_scores_same(run: Path, expected: Path) -> None:
    """As assert_same, where the pictures lie in another folder."""
    left, right = content(run), content(expected)
    assert {name for name in right if left[name] != right[name]} <= {"splits.csv"}


def test_a_resume_that_is_refused_removes_nothing(fits, shapes, tmp_path):
    out = stopped(fits, shapes, tmp_path / "run")
    for name in ("model.json", "model.safetensors"):
        (out / name).unlink()
    shutil.rmtree(out / "checkpoints")
    before = sorted(path.name for path in out.iterdir() if path.name != ".lock")
    (tmp_path / "other").mkdir()
    shutil.copytree(shapes / "disc", tmp_path / "other" / "disc")
    shutil.copytree(shapes / "square", tmp_path / "other" / "square")
    with pytest.raises(SightlineError):
        fit(tmp_path / "other", resume=out, quiet=True)
    assert sorted(path.name for path in out.iterdir()) == before


def test_a_data_set_made_in_python_is_given_again(fits, shapes, straight, tmp_path):
    out = stopped(fits, shapes, tmp_path / "run")
    facts = json.loads((out / "run.json").read_text())
    (out / "run.json").write_text(
        json.dumps(facts | {"source": None})
    )  # as a fit on an ImageDataset writes it
    with pytest.raises(SightlineError, match="data set made in Python"):
        fit(resume=out, quiet=True)
    fit(open_dataset(shapes), resume=out, quiet=True)
    assert_same(out, straight)


def test_what_has_a_recipe_can_be_resumed(shapes, tmp_path, monkeypatch):
    """The recipe is written last, so a kill between two files leaves a run that is begun anew, not a broken one."""
    write = Run.write_json

    def dies_at_the_recipe(self, name, data):
        if name == "recipe.json":
            facts = self.read_json("run.json")
            assert (facts["source"], self.splits.exists()) == (str(shapes), True)
            raise Reached
        write(self, name, data)

    monkeypatch.setattr(Run, "write_json", dies_at_the_recipe)
    with pytest.raises(Reached):
        fit(shapes, out=tmp_path / "run", quiet=True, **SMALL)


class Reached(Exception):
    """The test got where it wanted to go."""
