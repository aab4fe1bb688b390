"""The command line called within this process, and a place for what it is called on."""

from __future__ import annotations

import io
import json
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from sightline import cli


@dataclass(frozen=True)
class Answer:
    """What a command left: its exit code, and what it wrote."""

    code: int
    out: str
    err: str

    @property
    def refusal(self) -> str:
        """The sentence that a command was refused with: it stands alone, after what was told of the progress."""
        *before, sentence = self.err.rstrip("\n").split("sightline: ", 1)
        assert "Traceback" not in self.err
        assert all("\n" not in part or part.endswith("\n") for part in before)
        return sentence


Call = Callable[..., Answer]


@pytest.fixture
def sightline(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Call:
    """`sightline("fit", folder, stdin=b"...")` runs the command line as a shell would, with no terminal."""

    def call(*arguments: object, stdin: bytes = b"") -> Answer:
        monkeypatch.setattr(sys, "argv", ["sightline", *map(str, arguments)])
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        capsys.readouterr()
        with pytest.raises(SystemExit) as end:
            cli.main()
        assert isinstance(end.value.code, int)
        return Answer(end.value.code, *capsys.readouterr())

    return call


@dataclass(frozen=True)
class World:
    """A folder of the test's own, pictures to fill it with, and a finished run to copy."""

    path: Path
    pictures: tuple[Path, ...]
    run: Path

    @property
    def out(self) -> Path:
        """Where a fit is told to write; not there yet."""
        return self.path / "out" / "run"

    def tree(self, name: str, **counts: int) -> Path:
        """A folder of pictures: `tree("in", ant=3, train__bee=2)` has in/ant and in/train/bee."""
        source = iter(self.pictures * 3)
        for folder, count in counts.items():
            place = self.path / name / folder.replace("__", "/")
            place.mkdir(parents=True)
            for k in range(count):
                shutil.copy(next(source), place / f"{k}.png")
        return self.path / name

    def file(self, name: str, content: str | bytes) -> Path:
        """A file with that content."""
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    def damaged(self, without: str | None = None, **description: Any) -> Path:
        """A copy of the finished run, without one of its files, or with another model.json."""
        copy = shutil.copytree(self.run, self.path / "damaged")
        if without:
            (copy / without).unlink()
        model = json.loads((self.run / "model.json").read_text())
        if description:
            (copy / "model.json").write_text(json.dumps(model | description))
        return copy

    def fit(self, data: object, *options: object) -> list[object]:
        """The arguments of a fit on one thread of the processor."""
        return ["fit", data, "--out", self.out, "--device", "cpu", "--epochs", 1, *options]

    def contents(self) -> dict[str, int]:
        """All files and folders, with their times: what a command may not touch."""
        return {str(path): path.stat().st_mtime_ns for path in self.path.rglob("*")}


@pytest.fixture
def world(tmp_path: Path, shapes: Path, trained: Any) -> World:
    return World(tmp_path, tuple(sorted(shapes.rglob("*.png"))), trained.path)


Refused = Callable[[list[object], str], None]


@pytest.fixture
def refused(sightline: Call, world: World) -> Refused:
    """Checks that arguments are refused in one sentence with these parts, and that nothing is touched by it."""

    def check(arguments: list[object], parts: str) -> None:
        before = world.contents()
        answer = sightline(*arguments)
        assert answer.code == 2, answer
        assert answer.out == ""
        for part in parts.split(" | "):
            assert part in answer.refusal
        sentence, *drawing = answer.refusal.split("\n")
        assert sentence[-1] in ".?"
        assert not drawing or "augment" in sentence  # which shows the place of the mistake
        assert world.contents() == before

    return check
