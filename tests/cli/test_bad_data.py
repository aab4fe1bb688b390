"""A folder, manifest, array file or archive that cannot be trained on is one sentence and exit code 2."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.cli.conftest import Call, Refused, World

Make = Callable[[World], object]
DIGITS = np.zeros((6, 8, 8), np.uint8)


def manifest(text: str) -> Make:
    """A manifest beside the folders a and b."""

    def make(world: World) -> Path:
        world.tree("in", a=2, b=2)
        return world.file("in/list.csv", text)

    return make


def tar(*members: str) -> Make:
    """An archive of a picture under these names."""

    def make(world: World) -> Path:
        data = world.pictures[0].read_bytes()
        with tarfile.open(world.path / "set.tar.gz", "w:gz") as archive:
            for name in members:
                entry = tarfile.TarInfo(name)
                entry.size = len(data)
                archive.addfile(entry, io.BytesIO(data))
        return world.path / "set.tar.gz"

    return make


def npz(**arrays: object) -> Make:
    def make(world: World) -> Path:
        np.savez(world.path / "set.npz", **arrays)  # type: ignore[arg-type]
        return world.path / "set.npz"

    return make


def text_for_pictures(world: World) -> Path:
    for kind in "ab":
        for k in range(6):
            world.file(f"in/{kind}/{k}.png", "no picture")
    return world.path / "in"


def tree(**counts: int) -> Make:
    return lambda world: world.tree("in", **counts)


def text(name: str, content: str | bytes = "text") -> Make:
    return lambda world: world.file(name, content)


DATA: dict[str, tuple[Make, str]] = {
    "missing folder": (
        lambda w: f"{w.tree('photos', a=2, b=2)}s",
        "There is no file or folder | did you mean | photos?",
    ),
    "missing name": (lambda w: "digit", "no file, folder or data set called 'digit' | did you mean digits"),
    "unknown data set": (lambda w: "cifar11", "'cifar11' | did you mean | cifar10"),
    "one class": (tree(ant=3), "one class only | 'ant' | two are needed"),
    "one folder in between": (tree(in__ant=3, in__bee=3), "one folder only | did you mean | in/in?"),
    "empty folder": (lambda w: w.tree("in", ant=0) / "ant", "no picture | holds no files"),
    "an empty class": (tree(ant=3, bee=0), "one class only | 'ant'"),
    "pictures in no class": (lambda w: w.tree("in", ant=3) / "ant", "directly in | one folder per class"),
    "pictures beside splits": (tree(train=3, test=3), "directly in | train/ | folder per class"),
    "no pictures": (lambda w: w.file("in/a/x.txt", "x").parent.parent, "no picture | .txt"),
    "a class of the test split alone": (
        tree(train__ant=3, train__bee=3, test__ant=1, test__bees=1),
        "test split | 'bees' | is it 'bee'?",
    ),
    "a class beside the splits": (tree(train__ant=3, train__bee=3, wasp=3), "train/ | wasp/"),
    "too few pictures": (tree(ant=1, bee=1), "too few pictures | three pictures"),
    "single picture": (lambda w: w.pictures[0], "is a single picture"),
    "another file": (text("set.docx"), "set.docx | no data set that can be opened"),
    "no picture that can be read": (text_for_pictures, "None of the | can be read | .png"),
    "manifest without labels": (manifest("path,colour\na/0.png,red\n"), "no column for a label | 'colour'"),
    "manifest without paths": (manifest("label,name\na,0\n"), "no column for a picture"),
    "unknown split": (
        manifest("path,label,split\na/0.png,a,trian\n"),
        "line 2 | 'trian' | train, val or test",
    ),
    "missing files": (
        manifest("path,label\n" + "".join(f"x/{kind}{k}.png,{kind}\n" for kind in "ab" for k in range(6))),
        "None of the | x/ | no such file",
    ),
    "two labels": (
        manifest("path,label\na/0.png,a\na/0.png,b\nb/0.png,b\n"),
        "a/0.png two labels | line 2 | line 3",
    ),
    "empty manifest": (manifest(""), "list.csv is empty | path,label"),
    "manifest of a header": (manifest("path,label\n"), "lists no picture"),
    "short row": (manifest("path,label\na/0.png\n"), "line 2 | 1 of the 2 columns"),
    "open quote": (manifest('path,label\n"a/0.png,a\n'), "not well-formed"),
    "broken npz": (text("set.npz", b"PK\x03\x04 and no more"), "set.npz | damaged"),
    "npz of other arrays": (npz(a=DIGITS), "x_train | it holds a"),
    "npz of too few labels": (npz(x_train=DIGITS, y_train=np.arange(5)), "6 pictures, but 5 labels"),
    "npz of fractions": (npz(x_train=DIGITS / 2, y_train=np.arange(6)), "float64 | uint8"),
    "npz with code": (
        npz(x_train=DIGITS, y_train=np.array([{}] * 6)),
        "Python objects, which are never loaded",
    ),
    "broken tar": (text("set.tar.gz", b"\x1f\x8b and no more"), "set.tar.gz is damaged"),
    "tar that leaves its folder": (
        tar("a/0.png", "../../b/0.png"),
        "refused | ../../b/0.png | leave the archive",
    ),
    "tar of an absolute name": (tar("a/0.png", "/b/0.png"), "refused | leave the archive"),
    "tar of one class": (tar("a/0.png", "a/1.png"), "set.tar.gz"),
}


@pytest.mark.parametrize(("make", "parts"), DATA.values(), ids=DATA)
def test_wrong_data(make: Make, parts: str, refused: Refused, world: World) -> None:
    data = make(world)
    refused(world.fit(data), parts)


def test_a_data_set_that_cannot_be_fetched(
    sightline: Call, world: World, sightline_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for scheme in ("http", "https"):
        monkeypatch.setenv(f"{scheme}_proxy", "http://127.0.0.1:9")  # where nobody answers
    answer = sightline(*world.fit("usps"))
    assert answer.code == 2
    for part in (
        "usps is not there",
        "could not be downloaded",
        "usps.bz2",
        str(sightline_home / "datasets" / "usps"),
    ):
        assert part in answer.refusal
    assert not world.out.parent.exists()
    assert not (sightline_home / "datasets" / "usps").exists()
