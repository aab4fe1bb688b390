"""Reproduced tables: what agrees, what differs, and that a wrong network would be told."""

import functools
import json
import math
import re

import pytest
from rich.console import Console

from sightline.errors import UnknownName
from sightline.reproduce import TABLES, Reproduction, Row
from sightline.reproduce import reproduce as compute
from sightline.reproduce.record import exact, rounded

reproduce = functools.cache(compute)
# The figures that are known to differ from the networks; everything else agrees.
DIFFERENT = {
    "lecture-slides": {
        "VGG-16: convolutions": ("16", "13"),
        "VGG-19: convolutions": ("19", "16"),
        "GoogLeNet: parameters": ("4 M", "6,998,552"),
        "GoogLeNet (2014): batch normalisation": ("yes", "no"),
    },
    "blocks": {
        "ResNet, 256 -> 64 -> 256": ("70,144", "69,632"),
        "ResNeXt, 256 -> 32 x 4 -> 256": ("69,632", "70,144"),
        "ResNeXt, first of conv4": ("614,400", "860,160"),
    },
    "efficientnet": {
        "B1: FLOPs": ("0.70 G", "686,802,832"),
        "B4: FLOPs": ("4.2 G", "4,393,771,024"),
        "B5: FLOPs": ("9.9 G", "10,266,384,752"),
    },
}


@pytest.fixture(params=TABLES, scope="module")
def table(request: pytest.FixtureRequest) -> Reproduction:
    return reproduce(str(request.param))


def test_only_what_is_known_to_differ_does(table: Reproduction) -> None:
    differing = {row.what: (row.published, row.ours) for row in table.rows if not row.agrees}
    assert differing == DIFFERENT.get(table.name, {})
    assert len({row.what for row in table.rows}) == len(table.rows) >= 6


def test_sums_in_notes_are_true(table: Reproduction) -> None:
    for row in table.rows:
        for text in re.findall(r"[\d,]+(?: \+ [\d,]+)+$", row.note):
            assert sum(int(part.replace(",", "")) for part in text.split(" + ")) == int(
                row.ours.replace(",", "")
            )


def test_plain_data_and_text(table: Reproduction) -> None:
    data = json.loads(json.dumps(table.to_dict()))
    assert data["name"] == table.name and data["title"] == TABLES[table.name][0] and data["source"]
    assert data["rows"][0].keys() == {"what", "published", "ours", "agrees", "note"}
    console = Console(width=100, force_terminal=False)
    with console.capture() as capture:
        console.print(table)
    lines = capture.get().splitlines()
    assert sum(line.startswith("!") for line in lines) == len(DIFFERENT.get(table.name, {}))
    assert "…" not in capture.get() and max(map(len, lines)) <= 100
    said = " ".join(capture.get().split())
    assert all(" ".join(remark.split()) in said for remark in table.remarks)


def figures(name: str) -> dict[str, Row]:
    return {row.what: row for row in reproduce(name).rows}


def test_blocks_are_the_sums_of_the_papers() -> None:
    rows = figures("blocks")
    resnet, resnext = 256 * 64 + 64 * 9 * 64 + 64 * 256, 32 * (256 * 4 + 4 * 9 * 4 + 4 * 256)
    assert rows["ResNet, 256 -> 64 -> 256"].ours == f"{resnet:,}" == "69,632"
    assert rows["ResNeXt, 256 -> 32 x 4 -> 256"].ours == f"{resnext:,}" == "70,144"
    # the first block of conv4 has 512 channels in, 1024 out, and 512 in 32 paths between
    assert rows["ResNeXt, first of conv4"].ours == f"{512 * 512 + 512 * 9 * 16 + 512 * 1024:,}"
    assert (
        "swaps" in rows["ResNet, 256 -> 64 -> 256"].note
        and "512 x 32" in rows["ResNeXt, first of conv4"].note
    )


def test_the_lectures_net() -> None:
    rows = figures("lecture-net")
    assert [row.ours for what, row in rows.items() if "parameters" in what] == [
        "416", "12,832", "15,690", "28,938", "28,938",
    ]  # fmt: skip
    assert rows["max pooling 2: output"].ours == "32x7x7"


def test_compound_scaling_as_the_remark_says() -> None:
    """phi of B7's coefficients, by its three bases."""
    found = [round(math.log(value, base), 1) for value, base in ((2.0, 1.1), (3.1, 1.2), (600 / 224, 1.15))]
    assert found == [7.3, 6.2, 7.0]
    assert round(1.1**2 * 1.2 * 1.15**2, 2) == 1.92
    assert "phi = 7.3 by width, 6.2 by depth and 7.0 by resolution" in reproduce("efficientnet").remarks[0]


@pytest.mark.parametrize(
    ("published", "ours", "agrees"),
    [
        ("3.8 G", 3_857_973_248, True),  # cut off
        ("3.6 G", 3_663_761_408, True),
        ("25.5 M", 25_557_032, True),
        ("12 M", 12_233_232, True),
        ("3.8 G", 4_089_184_256, False),
        ("3.8 G", 3_699_000_000, False),
        ("0.70 G", 686_802_832, False),
        ("0.70 G", 690_000_001, True),
    ],
)
def test_rounded_figures(published: str, ours: int, agrees: bool) -> None:
    assert rounded("x", published, ours).agrees == agrees


def test_exact_figures() -> None:
    assert exact("x", 1000, 1000) == Row("x", "1,000", "1,000", True)
    assert not exact("x", 1000, 1001).agrees
    assert not exact("x", "7x7", "7x8").agrees


def test_an_unknown_table() -> None:
    with pytest.raises(UnknownName, match="did you mean resnet or resnext"):
        reproduce("resnte")
