"""The Python of docs/looking.md runs from top to bottom, as a reader would paste it."""

import re
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[2] / "docs" / "looking.md"


def test_the_page_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    for block in re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.S):
        exec(compile(block, str(PAGE), "exec"), names)
    assert {path.name for path in tmp_path.glob("*.png")} >= {
        "filters.png",
        "strip.png",
        "projection.png",
        "top.png",
    }
