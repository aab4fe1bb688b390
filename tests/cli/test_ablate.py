"""`sightline ablate`: the table, the files, what it refuses, and an interruption."""

from __future__ import annotations

import json

import pytest
from PIL import Image

SHORT = [
    "--set",
    "steps=4",
    "--set",
    "device=cpu",
    "--seeds",
    2,
    "--augment",
    "hflip(0.5)",
    "--augment",
    "rotate(15)",
]


def test_a_table_a_figure_and_all_numbers(sightline, shapes, tmp_path):
    out = tmp_path / "found"
    answer = sightline("ablate", shapes, "--out", out, *SHORT)
    assert answer.code == 0
    lines = answer.out.splitlines()
    assert lines[0].split()[:3] == ["augmentation", "accuracy", "change"]
    assert sorted(line.split()[0] for line in lines[1:4]) == ["hflip(0.5)", "none", "rotate(15)"]
    assert lines[-2].startswith("Policy:")
    assert lines[-1] == f"Written to {out}"
    assert "each 4 steps" in answer.err
    data = json.loads((out / "ablation.json").read_text())
    assert [effect["augment"] for effect in data["effects"]] == ["hflip(0.5)", "rotate(15)"]
    assert all(effect["low"] < effect["change"] < effect["high"] for effect in data["effects"])
    assert data["setup"]["steps"] == 4
    with Image.open(out / "ablation.png") as figure:
        assert figure.size[0] > 600


def test_json_is_one_object_and_the_folder_has_a_name(sightline, shapes, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    answer = sightline("ablate", shapes, "--json", *SHORT)
    assert answer.code == 0
    (folder,) = (tmp_path / "ablations").iterdir()
    assert folder.name.startswith(f"{shapes.name}-")
    assert json.loads(answer.out) == json.loads((folder / "ablation.json").read_text())


@pytest.mark.parametrize(
    ("options", "parts"),
    [
        (["--augment", "hflip + rotat"], "character 9 | rotate"),
        (["--seeds", 1], "seeds | 2"),
        (["--minutes", 0], "minutes"),
        (["--set", "augment=hflip"], "augment | open"),
        (["--set", "stepz=4"], "steps"),
        (["--set", "device=abacus"], "abacus"),
        (["--out", "{full}"], "not an empty folder | --out"),
        (["--minutes", 0.1, "--seeds", 500], "too few to learn from | --minutes"),
    ],
)
def test_what_cannot_be_done_is_a_sentence(sightline, shapes, tmp_path, monkeypatch, options, parts):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "note.txt").touch()
    answer = sightline("ablate", shapes, *[tmp_path / "full" if o == "{full}" else o for o in options])
    assert answer.code == 2
    assert answer.out == ""
    for part in parts.split(" | "):
        assert part in answer.refusal
    assert [path.name for path in tmp_path.iterdir()] == ["full"]


def test_an_interruption_shows_what_is_known(sightline, shapes, tmp_path, monkeypatch):
    from sightline.ablation.experiment import RunsLine

    begin = RunsLine.begin

    def interrupting(line, what, done, runs):
        if done == 5:
            raise KeyboardInterrupt
        begin(line, what, done, runs)

    monkeypatch.setattr(RunsLine, "begin", interrupting)
    out = tmp_path / "found"
    answer = sightline("ablate", shapes, "--out", out, *SHORT)
    assert answer.code == 130
    assert "1 of 2 seeds" in answer.refusal
    assert "hflip(0.5)" in answer.out
    assert json.loads((out / "ablation.json").read_text())["complete"] is False
