"""What docs/augmentation.md shows is what there is, and what happens."""

from __future__ import annotations

import doctest
import re
import shlex
import sys
from dataclasses import fields
from pathlib import Path

import pytest
from PIL import Image

from sightline import cli
from sightline.transforms.augment import MIXINGS, STEPS, Augment
from sightline.transforms.policies import POLICIES

PAGE = Path(__file__).parents[2] / "docs" / "augmentation.md"
TEXT = PAGE.read_text(encoding="utf-8")


def test_the_examples():
    result = doctest.testfile(str(PAGE), module_relative=False, optionflags=doctest.ELLIPSIS)
    assert result.attempted > 15
    assert result.failed == 0


@pytest.mark.parametrize("command", re.findall(r"^\$ sightline (.*)$", TEXT, re.MULTILINE))
def test_the_commands(command, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Image.effect_mandelbrot((60, 40), (-2, -1, 1, 1), 9).convert("RGB").save("flower.png")
    monkeypatch.setattr(sys, "argv", ["sightline", *shlex.split(command)])
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert end.value.code == 0
    written = capsys.readouterr().out.strip().rsplit("Written to ", 1)[1]
    assert Path(written).is_file()


def test_every_step_stands_there_with_its_defaults():
    rows = {row.split("(")[0]: row for row in re.findall(r"^\| `(\w+\(.*\))` \|", TEXT, re.MULTILINE)}
    known = {**STEPS, **MIXINGS}
    assert list(rows) and sorted(rows) == sorted(known)
    for name, row in rows.items():
        told = dict(re.findall(r"(\w+)=([^,)]+)", row))
        assert list(told) == [field.name for field in fields(known[name])]
        for field in fields(known[name]):
            value = eval(told[field.name], {"__builtins__": {}})
            assert (
                value == pytest.approx(field.default) if isinstance(value, float) else value == field.default
            )


def test_every_policy_stands_there_with_what_it_assumes():
    rows = re.findall(r"^\| `(\w+)` \|(?: `(.+?)`)? \| (.+?) \|$", TEXT, re.MULTILINE)
    assert [(name, steps, assumes) for name, steps, assumes in rows] == [
        (name, policy.steps, policy.assumes) for name, policy in POLICIES.items()
    ]


def test_the_pictures_are_small():
    pictures = re.findall(r"!\[.+?\]\((.+?)\)", TEXT)
    assert len(pictures) == 8
    assert all((PAGE.parent / name).stat().st_size < 150_000 for name in pictures)


def test_the_papers_scales_are_the_fractions_that_are_shown():
    step = Augment.parse("scale_jitter").steps[0]
    assert (step.minimum, step.maximum) == (8 / 7, 16 / 7)
