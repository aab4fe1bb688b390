"""What docs/lineage.md shows is what happens, and names what there is."""

import re
import shlex
import sys
from pathlib import Path

import pytest

from sightline.models import list_models
from sightline.visualization.lineage import MILESTONES

PAGE = Path(__file__).parents[2] / "docs" / "lineage.md"
TEXT = PAGE.read_text(encoding="utf-8")


@pytest.mark.parametrize("block", re.findall(r"```console\n\$ (.*?)```", TEXT, re.S))
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


def test_what_is_named_in_a_file_is_there() -> None:
    """Each class, function and table that a section names stands in one of the files that it links to."""
    for section in TEXT.split("\n## ")[1:]:
        prose = re.sub(r"```.*?```", "", section, flags=re.S)
        files = [(PAGE.parent / target).resolve() for target in re.findall(r"\]\((\.\./src/[^)]+)\)", prose)]
        code = "".join(file.read_text(encoding="utf-8") for file in files)
        for name in re.findall(r"`([A-Za-z_]\w*)`", prose):
            if name not in list_models():
                assert re.search(rf"^\s*(class |def )?{name}\b", code, re.M), (section.splitlines()[0], name)


def test_every_milestone_has_its_place() -> None:
    assert all(name in TEXT for name in MILESTONES)
    assert (PAGE.parent / "lineage.png").stat().st_size < 150_000
