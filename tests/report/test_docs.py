"""What docs/report.md shows is what happens."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[2] / "docs" / "report.md"


def test_the_example_prints_what_is_printed_there(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    text = PAGE.read_text(encoding="utf-8")
    (code,), (printed,) = (
        re.findall(r"```python\n(.*?)```", text, re.S),
        re.findall(r"```text\n(.*?)```", text, re.S),
    )
    exec(code, {})
    assert capsys.readouterr().out == printed
    assert {path.name for path in tmp_path.iterdir()} == {"filters.png", "maps.png"}
