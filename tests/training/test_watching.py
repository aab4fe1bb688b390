"""What a run writes while it goes, and how runs are told apart afterwards."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

import sightline
from sightline.errors import SightlineError
from sightline.run import Run
from sightline.runs import differences, find_runs
from sightline.training.event_log import check_log

SETTINGS = {"model": "lenet5", "epochs": 2, "batch_size": 16, "device": "cpu", "quiet": True}


@pytest.fixture(scope="module")
def logged(shapes, tmp_path_factory):
    """A run with event files."""
    return sightline.fit(shapes, out=tmp_path_factory.mktemp("watch") / "a", log="tensorboard", **SETTINGS)


def test_history_has_a_row_a_step_and_a_row_an_epoch(logged):
    # 62 training pictures in batches of 16: four steps an epoch.
    assert len(logged.steps) == 8
    assert [row["step"] for row in logged.steps] == list(range(1, 9))
    assert [row["epoch"] for row in logged.history] == [1, 2]
    recipe = logged.recipe
    assert max(row["lr"] for row in logged.steps) <= recipe.optimizer.lr
    # Batches are of nearly one size: the epoch's loss is about the mean of its steps'.
    mean = sum(row["loss"] for row in logged.steps[:4]) / 4
    assert logged.history[0]["train_loss"] == pytest.approx(mean, rel=0.02)


def test_tensorboard_reads_the_same_figures(logged):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(logged.path / "tensorboard"))
    events.Reload()
    assert [e.step for e in events.Scalars("step/loss")] == list(range(1, 9))
    losses = [e.value for e in events.Scalars("epoch/val_loss")]
    assert losses == pytest.approx([row["val_loss"] for row in logged.history], rel=1e-6)


def test_an_unknown_log_is_said():
    with pytest.raises(SightlineError, match="tensorboard"):
        check_log("tensorbord")


def test_runs_are_listed_with_scores_and_differences(logged, shapes):
    other = sightline.fit(shapes, out=logged.path.parent / "b", **SETTINGS | {"lr": 0.003})
    rows = find_runs(logged.path.parent)
    assert [row.path for row in rows] == [logged.path, other.path]
    assert [row.status for row in rows] == ["complete", "complete"]
    assert rows[1].scores.accuracy.value == other.scores.accuracy.value
    first, second = differences(rows)
    assert set(first) == {"optimizer.lr"}
    assert second == {"optimizer.lr": 0.003}


def test_runs_tells_a_broken_run_and_one_that_can_go_on(logged, tmp_path):
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "run.json").write_text("{")
    going = tmp_path / "stopped"
    (going / "checkpoints" / "step-00000007").mkdir(parents=True)
    (going / "run.json").write_text(json.dumps({"status": "started", "created": "2026"}))
    (going / "recipe.json").write_text((logged.path / "recipe.json").read_text())
    command = [sys.executable, "-m", "sightline", "runs", str(tmp_path), "--json"]
    listed = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)["runs"]
    found = {row["run"].rsplit("/", 1)[1]: (row["status"], row["what"]) for row in listed}
    assert found["broken"][0] == "broken"
    assert found["stopped"] == ("stopped", f"step 7; sightline fit --resume {going}")
    with going.joinpath(".lock").open("w") as file:
        import fcntl

        fcntl.lockf(file, fcntl.LOCK_EX)
        listed = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)[
            "runs"
        ]
        assert [row["status"] for row in listed if row["run"] == str(going)] == ["running"]


def test_a_folder_without_runs_is_said(tmp_path):
    with pytest.raises(SightlineError, match="There are no runs"):
        find_runs(tmp_path)
    with pytest.raises(SightlineError, match="There is no folder"):
        find_runs(tmp_path / "nowhere")


def test_a_history_whose_last_line_was_cut_off_is_read(logged, tmp_path):
    text = (logged.path / "history.jsonl").read_text()
    (tmp_path / "history.jsonl").write_text(text + '{"step": 9, "ep')
    assert len(Run(tmp_path).steps) == 8
