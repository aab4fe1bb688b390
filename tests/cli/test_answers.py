"""What `predict` and `evaluate` answer, for people and for programs."""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import sightline as library
from tests.cli.conftest import Call, World


def rows(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def test_evaluate_prints_the_scores_of_the_run(sightline: Call, trained: Any, shapes: Path) -> None:
    answer = sightline("evaluate", trained.path, shapes, "--json")
    assert answer.code == 0
    assert answer.out.count("\n") == 1
    assert json.loads(answer.out) == json.loads((trained.path / "scores.json").read_text())


def test_evaluate_prints_a_table(sightline: Call, trained: Any, shapes: Path) -> None:
    answer = sightline("evaluate", trained.path, shapes, "--split", "val")
    assert answer.code == 0
    assert answer.err == ""
    assert answer.out.startswith("val split, 15 pictures")
    for word in ("accuracy", "balanced accuracy", "95 % interval", "disc", "square", "stripes"):
        assert word in answer.out


def test_evaluate_names_pictures_that_cannot_be_read(sightline: Call, world: World) -> None:
    data = world.tree("in", disc=3, square=3)
    world.file("in/disc/bad.png", "no picture")
    answer = sightline("evaluate", world.run, data, "--json")
    assert answer.code == 1
    assert answer.err.startswith("disc/bad.png cannot be read: ")
    assert json.loads(answer.out)["n"] == 6


def test_a_line_a_picture(sightline: Call, trained: Any, shapes: Path) -> None:
    pictures = sorted(shapes.rglob("0*.png"))
    answer = sightline("predict", trained.path, *pictures)
    assert answer.code == 0
    assert answer.err == ""
    lines = [line.split("\t") for line in answer.out.splitlines()]
    labels = trained.classifier.predict(pictures)
    assert [(line[0], line[1].split()[0]) for line in lines] == [
        (str(picture), label) for picture, label in zip(pictures, labels, strict=True)
    ]


def test_the_formats_agree(sightline: Call, trained: Any, shapes: Path) -> None:
    picture = shapes / "disc" / "00.png"
    probabilities = dict(
        zip(trained.classifier.classes, trained.classifier.predict_proba(picture), strict=True)
    )
    best = sorted(probabilities, key=lambda name: -probabilities[name])
    (found,) = json.loads(sightline("predict", trained.path, picture, "--json", "--top-k", 2).out)[
        "predictions"
    ]
    assert found["picture"] == str(picture)
    assert [(one["label"], one["probability"]) for one in found["top"]] == [
        (name, pytest.approx(probabilities[name], abs=1e-6)) for name in best[:2]
    ]
    assert (found["label"], found["probability"]) == tuple(found["top"][0].values())
    table = rows(sightline("predict", trained.path, picture, "--csv", "--top-k", 9).out)
    assert [(row["label"], row["rank"]) for row in table] == [
        (name, str(k + 1)) for k, name in enumerate(best)
    ]
    assert [float(row["probability"]) for row in table] == pytest.approx(
        [probabilities[n] for n in best], abs=1e-6
    )
    line = sightline("predict", trained.path, picture, "--top-k", 3).out.rstrip("\n").split("\t")
    assert line == [str(picture), *(f"{name} {probabilities[name]:.1%}" for name in best)]


def test_folders_and_lists(sightline: Call, trained: Any, world: World) -> None:
    folder = world.tree("in", one=2, two__deep=1)
    world.file("in/one/notes.txt", "no picture")
    world.file("in/.hidden.png", "no picture")
    single = world.pictures[5]
    answer = sightline(
        "predict",
        trained.path,
        single,
        folder,
        "-",
        "--csv",
        stdin=b"\n" + bytes(world.pictures[7]) + b"\r\n",
    )
    expected = [
        single,
        folder / "one/0.png",
        folder / "one/1.png",
        folder / "two/deep/0.png",
        world.pictures[7],
    ]
    assert [row["picture"] for row in rows(answer.out)] == [str(path) for path in expected]
    assert answer.code == 0


@pytest.mark.parametrize("form", ["", "--csv", "--json"])
def test_pictures_that_cannot_be_read_are_named_and_the_rest_is_answered(
    form: str, sightline: Call, world: World
) -> None:
    good, bad, missing = world.pictures[0], world.file("bad.png", b"\x89PNG"), world.path / "missing.png"
    answer = sightline("predict", world.run, bad, good, missing, *form.split())
    assert answer.code == 1
    assert [line.split(" cannot be read: ")[0] for line in answer.err.splitlines()] == [
        str(bad),
        str(missing),
    ]
    if form == "--json":
        data = json.loads(answer.out)
        assert [one["picture"] for one in data["predictions"]] == [str(good)]
        assert [one["picture"] for one in data["unreadable"]] == [str(bad), str(missing)]
        assert all(one["reason"] in answer.err for one in data["unreadable"])
    elif form == "--csv":
        table = rows(answer.out)
        assert [(row["picture"], bool(row["label"]), bool(row["error"])) for row in table] == [
            (str(bad), False, True), (str(good), True, False), (str(missing), False, True)
        ]  # fmt: skip
    else:
        assert [line.split("\t")[0] for line in answer.out.splitlines()] == [str(good)]


def test_names_that_no_file_can_have_are_unreadable(sightline: Call, world: World) -> None:
    answer = sightline("predict", world.run, "-", stdin=b"x" * 5000 + b"\nnul\0.png\n")
    assert answer.code == 1
    assert answer.err.count("cannot be read") == 2


STRANGE = ("comma, and 'quotes\"", "[red]markup", "tab\there", "Möwe 鸥", "=1+1")


def test_strange_names_come_out_as_they_are(sightline: Call, world: World) -> None:
    """Names of classes and files: nothing in them is obeyed, and what is made for programs can be read back."""
    data = world.tree("in", **dict.fromkeys(STRANGE, 8))
    answer = sightline(*world.fit(data), "--model", "lecture_net")
    assert answer.code == 0, answer.err
    assert all(name in answer.out for name in STRANGE if "\t" not in name)
    files = [data / name / "0.png" for name in STRANGE]
    found = json.loads(sightline("predict", world.out, *files, "--json", "--top-k", 5).out)["predictions"]
    assert [one["picture"] for one in found] == [str(file) for file in files]
    assert {one["label"] for one in found[0]["top"]} == set(STRANGE)
    table = rows(sightline("predict", world.out, *files, "--csv", "--top-k", 5).out)
    assert [row["picture"] for row in table[::5]] == [str(file) for file in files]
    assert {row["label"] for row in table} == set(STRANGE)
    lines = sightline("predict", world.out, *files, "--top-k", 5).out.splitlines()
    assert len(lines) == len(files)
    assert [len(line.split("\t")) for line in lines] == [6] * 5  # a tab in a name is spelled out
    assert r"tab\x09here" in lines[2].split("\t")[0]
    scores = json.loads(sightline("evaluate", world.out, data, "--json").out)
    assert [one["name"] for one in scores["classes"]] == sorted(STRANGE)


def test_names_of_files_need_not_be_text(sightline: Call, world: World) -> None:
    data = world.tree("in", ant=6, bee=6)
    raw = os.fsencode(data) + b"/ant/\xff\x1b.png"
    broken = os.fsencode(data) + b"/bee/\xfe.png"
    try:
        Path(os.fsdecode(raw)).write_bytes(world.pictures[0].read_bytes())
        Path(os.fsdecode(broken)).write_bytes(b"no picture")
    except OSError:
        pytest.skip("names that are not UTF-8: not on this file system")
    answer = sightline(*world.fit(data), "--model", "lecture_net")
    assert answer.code == 1  # one picture cannot be read, and its name is kept
    assert r"Set aside: bee/\udcfe.png" in answer.err
    (aside,) = json.loads((world.out / "run.json").read_text())["set_aside"]
    assert os.fsencode(aside["ref"]) == b"bee/\xfe.png"
    found = json.loads(sightline("predict", world.out, "-", "--json", stdin=raw + b"\n").out)["predictions"]
    assert os.fsencode(found[0]["picture"]) == raw
    assert sightline("predict", world.out, os.fsdecode(raw)).out.startswith(
        rf"{data}/ant/\udcff\x1b.png" + "\t"
    )
    assert json.loads(sightline("evaluate", world.out, data, "--json").out)["split"] == "test"
    command = [sys.executable, "-m", "sightline", "predict", str(world.out), os.fsdecode(raw)]
    done = subprocess.run(command, capture_output=True, env=os.environ | {"PYTHONIOENCODING": "ascii"})
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(os.fsencode(data) + rb"/ant/\udcff\x1b.png" + b"\t")


def test_json_for_a_stream_that_cannot_hold_all_letters(trained: Any, world: World) -> None:
    name = world.path / "Möwe.png"
    name.write_bytes(world.pictures[0].read_bytes())
    command = [sys.executable, "-m", "sightline", "predict", str(trained.path), str(name), "--json"]
    done = subprocess.run(command, capture_output=True, env=os.environ | {"PYTHONIOENCODING": "latin-1"})
    assert json.loads(done.stdout.decode("ascii"))["predictions"][0]["picture"] == str(name)


def test_the_version(sightline: Call) -> None:
    assert sightline("--version").out == f"{library.__version__}\n"
