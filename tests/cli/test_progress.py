"""What is told while a run is under way: plain lines in a pipe, a live line on a terminal."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from sightline.training import progress


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time in seconds, for the test to set."""
    now = [1000.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


ROW = {
    "epoch": 3, "train_loss": 0.5, "train_accuracy": 0.75, "val_loss": 0.25, "val_balanced_accuracy": 1.0,
    "best": True, "images_per_second": 1234.5,
}  # fmt: skip


def test_plain_lines_tell_the_share_and_the_time_left(
    clock: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    lines = progress.PlainLines()
    lines.step(1, 1, 100, 1.0, 0.5, 800)
    clock[0] += 10.0
    lines.step(1, 21, 100, 1.0, 0.5, 800)  # 20 steps more in 10 seconds: 79 are left, and take 0.5 s each
    lines.epoch(ROW)
    assert capsys.readouterr().err == (
        "epoch   3  train loss 0.500  accuracy  75.0%   validation loss 0.250  balanced accuracy 100.0% *   "
        "1,234 pictures/s    21%, 0:38 left\n"
    )


def test_plain_lines_are_few(clock: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    lines = progress.PlainLines()
    for step in range(1, 101):
        clock[0] += 0.5
        lines.step(step, step, 100, 1.0, 0.5, 800)
        lines.epoch(ROW)
    told = capsys.readouterr().err.splitlines()
    assert len(told) == 26  # in 50 seconds: the first, one in two seconds, and the last
    assert told[-1].endswith("100%")


def test_plain_lines_tell_of_long_epochs_and_long_reading(
    clock: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    lines = progress.PlainLines()
    for done in range(100, 6100, 100):
        clock[0] += 1.0
        lines.reading(done, 6000, "training pictures")
    told = capsys.readouterr().err.splitlines()
    assert told[0] == "reading training pictures: 1,300 of 6,000"
    assert len(told) == 4
    for step in range(1, 61):
        clock[0] += 1.0
        lines.step(1, step, 600, 1.5, 0.25, 32)
    told = capsys.readouterr().err.splitlines()
    assert re.fullmatch(
        r"epoch   1  train loss 1\.500  accuracy  25\.0%   32 pictures/s     2%, 9:\d\d left", told[0]
    )
    assert len(told) == 4


def test_an_epoch_without_a_step_is_told(clock: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    progress.PlainLines().epoch(ROW)
    assert capsys.readouterr().err.startswith("epoch   3")


def test_what_a_terminal_would_obey_is_spelled_out(capsys: pytest.CaptureFixture[str]) -> None:
    progress.PlainLines().message("a\x1b[31mred\x07\tb\x9b.png")
    assert capsys.readouterr().err == r"a\x1b[31mred\x07\x09b\x9b.png" + "\n"


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0:00"), (59.6, "1:00"), (754, "12:34"), (3723, "1:02:03")]
)
def test_the_clock(seconds: float, text: str) -> None:
    assert progress.clock(seconds) == text


def test_a_live_line_on_a_terminal(shapes: Path, tmp_path: Path) -> None:
    pty = pytest.importorskip("pty")
    outer, inner = pty.openpty()
    command = [sys.executable, "-m", "sightline", "fit", str(shapes), "--out", str(tmp_path / "run")]
    command += ["--epochs", "2", "--device", "cpu", "--model", "lecture_net"]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "COLUMNS": "120", "TERM": "xterm"}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=inner, env=environment)
    os.close(inner)
    shown = b""
    while True:
        try:
            part = os.read(outer, 65536)
        except OSError:  # the terminal's other end is closed
            break
        if not part:
            break
        shown += part
    out, _ = process.communicate(timeout=60)
    os.close(outer)
    assert process.returncode == 0, shown
    text = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", shown.decode())
    assert re.search(r"epoch +\d +.*validation loss .* balanced accuracy", text)
    assert re.search(r"loss \d\.\d+ +accuracy +\d", text)
    assert b"Report:" in out
