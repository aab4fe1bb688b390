"""What docs/data.md shows is run."""

from __future__ import annotations

import doctest
import tarfile
from pathlib import Path

import pytest
from PIL import Image

PAGE = Path(__file__).parents[2] / "docs" / "data.md"


def test_the_page_on_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for label in ("cat", "dog"):
        folder = tmp_path / "pets" / label
        folder.mkdir(parents=True)
        for i in range(20):
            Image.new("RGB", (48, 32), (i, i, i)).save(folder / f"{i:02d}.png")
    with tarfile.open("pets.tar.gz", "w:gz") as archive:
        archive.add("pets")
    Path("pets/notes.txt").write_text("Two cats.")
    Path("some.csv").write_text(
        "path,label,split\npets/cat/00.png,cat,train\npets/cat/01.png,cat,test\npets/dog/00.png,dog,train\n"
    )
    Path("wrong.csv").write_text("path,label\na.png,cat\nb.png,dog\na.png,dog\n")
    result = doctest.testfile(str(PAGE), module_relative=False, optionflags=doctest.ELLIPSIS)
    assert result.attempted > 20
    assert result.failed == 0
