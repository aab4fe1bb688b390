"""What docs/evaluation.md shows is what happens."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from sightline.evaluation.intervals import wilson

PAGE = Path(__file__).parents[2] / "docs" / "evaluation.md"


def test_the_example_prints_what_is_printed_there(capsys: pytest.CaptureFixture[str]) -> None:
    text = PAGE.read_text(encoding="utf-8")
    (code,), (printed,) = (
        re.findall(r"```python\n(.*?)```", text, re.S),
        re.findall(r"```text\n(.*?)```", text, re.S),
    )
    exec(code, {})
    assert capsys.readouterr().out == printed


def test_the_interval_quoted_is_wilsons() -> None:
    assert "90.4 % to 100 %" in PAGE.read_text(encoding="utf-8")
    assert f"{float(wilson(36, 36)[0]):.1%}" == "90.4%"
