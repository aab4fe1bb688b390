"""What docs/models.md shows is what happens."""

import doctest
import re
import shlex
import sys
from pathlib import Path

import pytest
import torch

PAGE = Path(__file__).parents[2] / "docs" / "models.md"


def test_the_examples(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.set_num_threads(1)
    result = doctest.testfile(str(PAGE), module_relative=False)
    assert result.attempted > 25
    assert result.failed == 0


@pytest.mark.parametrize(
    "block", re.findall(r"```console\n\$ (.*?)```", PAGE.read_text(encoding="utf-8"), re.S)
)
def test_the_commands(
    block: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from sightline.cli import main

    command, _, expected = block.partition("\n")
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr(sys, "argv", shlex.split(command))
    with pytest.raises(SystemExit) as ended:
        main()
    assert not ended.value.code
    printed = capsys.readouterr().out
    assert [line.rstrip() for line in printed.splitlines()] == expected.splitlines()
