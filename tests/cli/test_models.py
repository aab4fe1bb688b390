"""`models`, `summary` and `reproduce` as a person calls them."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.conftest import Call


def names(answer: str) -> list[str]:
    return [row["name"] for row in json.loads(answer)["models"]]


def test_models_chosen_and_sorted(sightline: Call) -> None:
    options = [
        "--family",
        "resnet",
        "--year",
        "2016-2017",
        "--max-params",
        "70M",
        "--sort",
        "params",
        "--json",
    ]
    assert names(sightline("models", *options).out) == [
        "resnext50_32x4d",
        "resnext101_32x4d",
        "wide_resnet50_2",
    ]
    text = sightline("models", "resnet*", "--year", "2015", "--sort", "error").out
    assert text.splitlines()[1].startswith("resnet152_2015")


def test_the_lineage_is_a_timeline(sightline: Call) -> None:
    rows = json.loads(sightline("models", "--lineage", "--json").out)["lineage"]
    assert rows[0]["network"] == "lenet5_1998" and rows[0]["year"] == 1998
    assert all(row["new"] and row["params"] for row in rows)
    text = sightline("models", "--lineage").out
    assert "1998" in text and "F(x) + x" in text


def test_the_figure_is_written(sightline: Call, tmp_path: Path) -> None:
    answer = sightline("models", "resnet*", "--figure", tmp_path / "x.png")
    assert answer.out.strip().endswith("x.png") and "networks drawn into" in " ".join(answer.out.split())
    assert (tmp_path / "x.png").read_bytes().startswith(b"\x89PNG")
    answer = sightline("models", "resnet*", "--figure", tmp_path / "y.svg", "--json")
    assert json.loads(answer.out)["networks"] >= 8


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("models --family rsnet", "did you mean resnet"),
        ("models --year 15", "2012-2016, not '15'"),
        ("models --year 1700", "No network"),
        ("models --max-params many", "25M, 600k or 1.5G, not 'many'"),
        ("models --sort size", "no order called 'size'"),
        ("models --figure x.gif", "should end in .png"),
        ("models lenet5 --figure x.png", "fewer than two"),
        ("summary lenet5 --depth 0", "--depth"),
        ("reproduce resnte", "did you mean resnet"),
    ],
)
def test_mistakes(line: str, words: str, sightline: Call) -> None:
    answer = sightline(*line.split())
    assert answer.code == 2 and answer.out == ""
    assert words in answer.err and answer.err.count("\n") == 1


def test_summary_shown_in_other_ways(sightline: Call) -> None:
    markdown = sightline("summary", "lecture_net", "--markdown").out
    assert "| conv1.0 | Conv2d 5x5 | 16x28x28 | 16 x 1 x 5 x 5 + 16 = 416 | 313,600 |" in markdown
    assert "169,384 bytes of activations" in markdown
    stages = sightline("summary", "resnet18", "--depth", 1).out
    assert "layer1.0" not in stages and "147,968" in stages
    assert "layer1.0-1" in sightline("summary", "resnet18", "--depth", 2).out
    data = json.loads(sightline("summary", "resnet18", "--depth", 1, "--markdown", "--json").out)
    assert len(data["layers"]) == 4 + 8 * 6 + 3 * 2 + 2 and data["activation_bytes"] > 0


def test_tables_are_listed_and_reproduced(sightline: Call) -> None:
    listed = json.loads(sightline("reproduce", "--json").out)["tables"]
    text = sightline("reproduce").out
    assert "resnet" in listed and all(name in text for name in listed)
    data = json.loads(sightline("reproduce", "blocks", "--json").out)
    assert [row["ours"] for row in data["rows"] if not row["agrees"]] == ["69,632", "70,144", "860,160"]
    assert "the slide swaps" in " ".join(sightline("reproduce", "blocks").out.split())


def test_nothing_that_is_not_needed_is_imported() -> None:
    """Choosing among networks needs no torch; summaries and tables need neither torchvision nor timm."""
    lines = [
        ("models --year 2015", "torch"),
        ("models --lineage", "torch"),
        ("reproduce", "torch"),
        ("summary vit_large_patch16_224 --depth 1", "timm"),
        ("reproduce blocks", "torchvision"),
    ]
    code = (
        f"import sys\nfrom sightline.cli import main\nfor line, heavy in {lines}:\n"
        "    sys.argv = ['sightline', *line.split()]\n"
        "    try: main()\n    except SystemExit as end: assert end.code == 0\n"
        "    assert heavy not in sys.modules, line\n"
    )
    subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
