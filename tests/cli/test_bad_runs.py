"""A place to write to, or a run to use, that will not do is one sentence and exit code 2; nothing is touched."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.conftest import Call, Refused, World

Make = Callable[[World], object]


def damaged(**changes: object) -> Make:
    return lambda world: world.damaged(**changes)


def broken(name: str, content: bytes) -> Make:
    """A copy of the finished run in which a file is another."""

    def make(world: World) -> Path:
        folder = world.damaged()
        (folder / name).write_bytes(content)
        return folder

    return make


OUT: dict[str, tuple[Make, str, str]] = {
    "not empty": (lambda w: w.tree("full", a=1), "", "full is not empty | --out"),
    "a file": (lambda w: w.file("file", "x"), "", "file is a file | --out"),
    "below a file": (
        lambda w: w.file("file", "x") / "run",
        "",
        "file/run could not be written: not a directory",
    ),
    "a curve below a file": (lambda w: w.file("file", "x") / "run", "--find-lr", "could not be written"),
    "a name too long": (lambda w: w.path / ("x" * 300), "", "could not be written: file name too long"),
}

RUNS: dict[str, tuple[Make, str]] = {
    "no run": (lambda w: w.tree("in", a=1), "no trained model | `sightline fit`"),
    "a file": (lambda w: w.file("run", "x"), "is not a folder"),
    "no model.json": (damaged(without="model.json"), "no trained model"),
    "no weights": (damaged(without="model.safetensors"), "has no model.safetensors"),
    "broken model.json": (broken("model.json", b"{"), "model.json cannot be read"),
    "list for a model.json": (broken("model.json", b"[]"), "model.json | format"),
    "model.json of the future": (damaged(format=99), "format 99 | reads format 1"),
    "unknown network": (damaged(architecture="resnte18"), "no network | resnet18"),
    "unknown argument": (damaged(arguments={"widht": 3}), "resnet10_small | no argument 'widht'"),
    "argument of none": (damaged(arguments={"num_classes": 3}), "model.json | num_classes"),
    "no preprocess": (damaged(preprocess=None), "model.json is not a model description"),
    "other preprocess": (
        damaged(preprocess={"size": [0, 0]}),
        "model.json is not a model description | size",
    ),
    "no classes": (damaged(classes=[]), "model.json is not a model description | classes"),
    "classes of one name": (damaged(classes=["a", "a", "b"]), "not a model description | classes | one name"),
    "no temperature": (damaged(temperature=0), "not a model description | temperature"),
    "another network": (damaged(architecture="resnet20"), "model.safetensors do not fit resnet20"),
    "classes that disagree": (damaged(classes=["a", "b"]), "do not fit | 2 classes | model.json"),
    "broken weights": (broken("model.safetensors", b"\0" * 50), "cannot be read as safetensors"),
    "weights cut short": (
        broken("model.safetensors", b"\x10\0\0\0\0\0\0\0{"),
        "cannot be read as safetensors",
    ),
}


@pytest.mark.parametrize(("make", "options", "parts"), OUT.values(), ids=OUT)
def test_wrong_places_for_a_run(make: Make, options: str, parts: str, refused: Refused, world: World) -> None:
    refused(["fit", "digits", "--out", make(world), *options.split()], parts)


@pytest.mark.parametrize(("make", "parts"), RUNS.values(), ids=RUNS)
def test_wrong_runs_to_predict_with(make: Make, parts: str, refused: Refused, world: World) -> None:
    refused(["predict", make(world), world.pictures[0]], parts)


@pytest.mark.parametrize("kind", ["no model.json", "no weights", "unknown network", "broken weights"])
def test_wrong_runs_to_evaluate(kind: str, refused: Refused, world: World, shapes: Path) -> None:
    make, parts = RUNS[kind]
    refused(["evaluate", make(world), shapes], parts)


def test_missing_runs_are_told_what_is_near(refused: Refused, world: World) -> None:
    near = world.damaged()
    refused(["predict", f"{near}d", world.pictures[0]], "There is no folder | did you mean | damaged?")
    refused(["evaluate", f"{near}d", "digits"], "There is no run | did you mean | damaged?")
    refused(["evaluate", world.path / "zzz", "digits"], "There is no run | `sightline fit`")


def test_what_is_no_run_cannot_be_evaluated(refused: Refused, world: World) -> None:
    refused(["evaluate", world.tree("in", a=1), "digits"], "in is not a run | `sightline fit`")
    refused(["evaluate", world.file("file", "x"), "digits"], "file is not a run")


def test_what_cannot_be_evaluated(refused: Refused, world: World, shapes: Path) -> None:
    refused(["evaluate", world.run, shapes, "--split", "tset"], "train, val or test | 'tset'")
    refused(["evaluate", world.run, world.path / "zzz"], "There is no file or folder")
    refused(["evaluate", world.run, world.tree("in", disc=2, triangle=2)], "triangle | the model knows disc")
    refused(["evaluate", world.run, world.tree("new", disc=2, square=2), "--split", "val"], "has a val split")


def test_a_folder_without_pictures_is_refused_before_anything_is_answered(
    refused: Refused, world: World
) -> None:
    empty = world.tree("in", a=0)
    refused(["predict", world.run, world.pictures[0], empty], "no pictures in the folder")


def test_a_split_file_that_is_broken_is_named(refused: Refused, world: World, shapes: Path) -> None:
    folder = broken("splits.csv", b"path,label\n")(world)
    folder.joinpath("splits.csv").write_text("path,label,split\na.png,a,soon\n")
    refused(["evaluate", folder, shapes], "splits.csv, line 2 | 'soon'")


def test_a_failed_start_removes_only_what_it_made(sightline: Call, world: World) -> None:
    own = world.tree("own", a=0).joinpath("a")
    data = world.tree("in", ant=6, bee=6)
    answer = sightline("fit", data, "--out", own, "--device", "cpu", "--model", "lenet5_1998")
    assert answer.code == 2
    assert list(own.iterdir()) == []  # it was there before, and empty
    answer = sightline(
        "fit", data, "--out", world.path / "x" / "y" / "z", "--device", "cpu", "--model", "lenet5_1998"
    )
    assert answer.code == 2
    assert not (world.path / "x").exists()
