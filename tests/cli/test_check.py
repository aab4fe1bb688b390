"""`sightline check`: what it prints, what it writes, how it ends."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from sightline.data import open_dataset
from tests.audit.drawn import folder_of
from tests.cli.conftest import Call


@pytest.fixture
def doubled(tmp_path: Path) -> Path:
    """Two classes; a picture is there twice, and once more in the test split."""
    counts = {"train/disc": 20, "train/ring": 20, "test/disc": 5, "test/ring": 5}
    root = folder_of(tmp_path / "set", counts, np.random.default_rng(0))
    content = (root / "train" / "disc" / "003.jpg").read_bytes()
    for name in ("train/disc/again.jpg", "test/disc/leak.jpg"):
        (root / name).write_bytes(content)
    return root


def test_json(sightline: Call, doubled: Path) -> None:
    answer = sightline("check", doubled, "--json")
    assert answer.code == 0
    findings = json.loads(answer.out)["findings"]
    assert {one["kind"] for one in findings} == {"exact_duplicate", "split_leak"}
    expected = ["train/disc/003.jpg", "train/disc/again.jpg", "test/disc/leak.jpg"]
    assert all(one["pictures"] == expected for one in findings)


def test_words(sightline: Call, doubled: Path) -> None:
    answer = sightline("check", doubled)
    assert answer.code == 0
    assert "same picture in several splits" in answer.out
    assert "set: 52 pictures; 1 error, 1 warning found." in answer.out
    answer = sightline("check", doubled / "train", "--labels", "--minutes", 1)
    assert answer.code == 0
    assert "Labels: all 41 pictures" in answer.out


def test_page_and_manifest(sightline: Call, doubled: Path, tmp_path: Path) -> None:
    page, manifest = tmp_path / "page.html", tmp_path / "mended.csv"
    answer = sightline("check", doubled, "--out", page, "--fix", manifest)
    assert answer.code == 0
    assert "2 left out that are copies" in answer.out
    assert page.read_text(encoding="utf-8").startswith("<!doctype html>")
    again = open_dataset(manifest)
    assert len(again) == 50
    answer = sightline("check", manifest, "--json")
    assert json.loads(answer.out)["findings"] == []


def test_the_manifest_can_be_fitted(sightline: Call, doubled: Path, tmp_path: Path) -> None:
    assert sightline("check", doubled, "--fix", tmp_path / "mended.csv").code == 0
    fit = ["--out", tmp_path / "run", "--device", "cpu", "--epochs", 1, "--set", "input.size=16"]
    assert sightline("fit", tmp_path / "mended.csv", *fit).code == 0


def test_unreadable_pictures_give_one(sightline: Call, doubled: Path) -> None:
    (doubled / "train" / "ring" / "bad.jpg").write_bytes(b"none")
    answer = sightline("check", doubled, "--json")
    assert answer.code == 1
    assert json.loads(answer.out)["findings"][0]["kind"] == "unreadable"


def test_refusals(sightline: Call, doubled: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.csv").write_text("path,label\n")
    before = sorted(tmp_path.rglob("*"))
    for arguments, words in (
        (["nowhere"], "There is no"),
        ([doubled, "--out", tmp_path / "x.png"], "--out takes a file that ends in .html"),
        ([doubled, "--out", tmp_path / "none" / "x.html"], "There is no folder"),
        ([doubled, "--fix", tmp_path / "x.txt"], "--fix takes a file that ends in .csv"),
        ([doubled, "--fix", tmp_path / "mine.csv"], "exists already"),
        ([doubled, "--minutes", "0"], "--minutes"),
    ):
        answer = sightline("check", *arguments)
        assert answer.code == 2
        assert words in answer.refusal
        assert answer.out == ""
    assert sorted(tmp_path.rglob("*")) == before
