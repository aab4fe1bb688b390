"""What docs/checking.md shows is run, and its table holds every kind."""

from __future__ import annotations

import doctest
import re
from pathlib import Path

import numpy as np
import pytest

from sightline.audit.findings import KINDS
from tests.audit.drawn import folder_of

PAGE = Path(__file__).parents[2] / "docs" / "checking.md"


def test_the_example(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    counts = {"train/cat": 12, "train/dog": 12, "test/cat": 4, "test/dog": 4}
    root = folder_of(tmp_path / "pets", counts, np.random.default_rng(0))
    for name in ("train/cat/copy.jpg", "test/cat/copy.jpg"):
        (root / name).write_bytes((root / "train/cat/000.jpg").read_bytes())
    result = doctest.testfile(str(PAGE), module_relative=False)
    assert result.attempted == 4
    assert result.failed == 0


def test_the_table_names_every_kind() -> None:
    assert re.findall(r"^\| `([a-z_]+)` \|", PAGE.read_text(), re.MULTILINE) == list(KINDS)
