"""`advise` as it is used: what it prints and writes, and what it refuses."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Call, World


def test_a_table_a_figure_and_what_to_do_next(
    sightline: Call, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = world.tree("my photos", disc=14, square=14)
    monkeypatch.chdir(world.path)
    answer = sightline("advise", data, "--weights", world.run, "--set", "epochs=2")
    assert answer.code == 0
    lines = answer.out.splitlines()
    assert lines[0].startswith("my photos, ")
    assert sum("advised" in line.split() for line in lines) == 1
    assert "\x1b" not in answer.out
    fit, figure = lines[-2:]
    assert shlex.split(fit)[1:4] == ["sightline", "fit", str(data)]
    assert shlex.split(fit)[-2] in ("--strategy", "--set", "--train-from")
    assert Path(figure.split(maxsplit=1)[1]).read_bytes().startswith(b"\x89PNG")
    assert figure.endswith("advise-my-photos.png")


def test_json_and_a_page(sightline: Call, world: World) -> None:
    data = world.tree("in", disc=14, square=14)
    page = world.path / "a.html"
    answer = sightline("advise", data, "--weights", world.run, "--json", "--out", page, "--set", "epochs=2")
    told: dict[str, Any] = json.loads(answer.out)
    assert told["advised"]["name"] in {row["name"] for row in told["predictions"]}
    assert told["quadrant"]["size"] == "small"
    assert page.read_text().startswith("<!doctype html>")


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--model", "resnet81"], "did you mean resnet1"),
        (["--weights", "nothing.pth"], "nothing.pth"),
        (["--out", "x.txt"], "--out takes a file that ends in .png or .html"),
        (["--set", "nonsense=1"], "there is no such field"),
        (["--minutes", "0"], "--minutes"),
    ],
)
def test_requests_that_cannot_be_carried_out(
    sightline: Call, world: World, options: list[str], sentence: str
) -> None:
    data = world.tree("in", disc=8, square=8)
    answer = sightline("advise", data, *options)
    assert answer.code == 2
    assert sentence in answer.refusal


def test_folders_that_there_is_nothing_to_say_of(sightline: Call, world: World) -> None:
    answer = sightline("advise", world.path / "nowhere", "--weights", world.run)
    assert answer.code == 2
    assert "nowhere" in answer.refusal
    data = world.tree("one", disc=10)
    answer = sightline("advise", data, "--weights", world.run, "--set", "epochs=2")
    assert answer.code == 2
    assert "class" in answer.refusal


def test_a_picture_that_cannot_be_read_is_exit_code_1(sightline: Call, world: World) -> None:
    data = world.tree("in", disc=14, square=14)
    for k in range(6):
        world.file(f"in/disc/bad{k}.png", "no picture")
    answer = sightline(
        "advise", data, "--weights", world.run, "--out", world.path / "a.png", "--set", "epochs=2"
    )
    assert answer.code == 1
    assert "advised" in answer.out
