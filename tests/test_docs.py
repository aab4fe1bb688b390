"""The pages stay true: the recipe's table, the links, the examples."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from sightline.training.recipe import field_names

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def test_the_table_of_the_recipe_names_every_field():
    section = (ROOT / "docs" / "training.md").read_text().split("## The recipe")[1].split("## Time")[0]
    assert re.findall(r"^\| `([a-z0-9_.]+)` \|", section, re.MULTILINE) == field_names()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#]+)", page.read_text()):
        if not target.startswith("http"):
            assert (page.parent / target).exists(), target


@pytest.mark.parametrize("script", sorted((ROOT / "examples").glob("*.py")), ids=lambda script: script.name)
def test_examples_run(script, tmp_path):
    done = subprocess.run(
        [sys.executable, str(script), "--quick"], cwd=tmp_path, capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout
