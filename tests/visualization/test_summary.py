"""Summaries as a person reads them: text, Markdown, HTML; repeated blocks once; nothing heavy loaded."""

import json
import re
import subprocess
import sys
from xml.etree import ElementTree

import pytest
import torch
from rich.console import Console
from torch import nn

from sightline.errors import SightlineError
from sightline.models import create_model
from sightline.visualization.layers import totals
from sightline.visualization.summary import Summary, summarize

torch.set_num_threads(1)


def printed(table: object, width: int) -> list[str]:
    console = Console(width=width, force_terminal=False)
    with console.capture() as capture:
        console.print(table)
    return [line.rstrip() for line in capture.get().splitlines()]


LECTURE = [
    "lecture_net",
    "layer    kind               output  parameters                     mult-adds",
    "conv1.0  Conv2d 5x5       16x28x28  16 x 1 x 5 x 5 + 16 = 416        313,600",
    "conv1.1  ReLU             16x28x28",
    "conv1.2  MaxPool2d 2x2/2  16x14x14",
    "conv2.0  Conv2d 5x5       32x14x14  32 x 16 x 5 x 5 + 32 = 12,832  2,508,800",
    "conv2.1  ReLU             32x14x14",
    "conv2.2  MaxPool2d 2x2/2    32x7x7",
    "out      Linear                 10  10 x 1,568 + 10 = 15,690          15,680",
    "28,938 parameters, all trainable; 2,838,080 mult-adds on 1x28x28",
    "169,384 bytes of activations a picture, in float32",
]


def test_table_in_eighty_columns() -> None:
    summary = summarize("lecture_net")
    assert printed(summary, 80) == LECTURE
    assert str(summary).splitlines() == LECTURE


def test_a_module_of_any_make() -> None:
    """Frozen parts are said; the module is left as it is."""
    model = create_model("lecture_net")
    model.conv1.requires_grad_(False)
    summary = summarize(model)
    assert (summary.title, summary.input_size) == ("lecture_net", (1, 28, 28))
    assert "28,522 trainable, 416 frozen" in str(summary)
    assert [line.name for line in summary.lines() if line.frozen] == ["conv1.0"]
    assert not model.conv1[0].weight.is_meta
    other = summarize(nn.Sequential(nn.Flatten(), nn.Linear(12, 5)), (3, 2, 2))
    assert (other.title, other.totals.params) == ("Sequential", 65)
    with pytest.raises(SightlineError, match="Say for which input_size"):
        summarize(nn.Linear(3, 3))


def blocks_of(summary: Summary) -> list[tuple[str, str, str]]:
    return [(line.name, line.kind, line.formula) for line in summary.lines() if " x " in line.kind]


def test_like_blocks_are_shown_once() -> None:
    summary = summarize("resnet50")
    # 64-channel bottleneck on 256 channels: 16,384 + 36,864 + 16,384 weights and norms of 64, 64 and 256
    each = 16_384 + 36_864 + 16_384 + 2 * (64 + 64 + 256)
    assert blocks_of(summary)[0] == ("layer1.1-2", "2 x Bottleneck", f"2 x {each:,} = {2 * each:,}")
    assert [name for name, *_ in blocks_of(summary)] == [
        "layer1.1-2",
        "layer2.1-3",
        "layer3.1-5",
        "layer4.1-2",
    ]
    inside = [line.name for line in summary.lines() if line.indent]
    assert inside[:9] == ["conv1", "bn1", "relu1", "conv2", "bn2", "relu2", "conv3", "bn3", "relu3"]
    assert len(inside) == 4 * 9


@pytest.mark.parametrize(
    "name", ["lecture_vit", "resnet50", "resnet34", "resnext50_32x4d", "torchvision/swin_t"]
)
def test_folding_loses_nothing(name: str) -> None:
    """The lines without indent have the mult-adds and the parameters of the whole, at any depth."""
    whole = summarize(name)
    for depth in (None, 1, 2, 3, 9):
        lines = summarize(name, depth=depth).lines()
        assert sum(line.mult_adds for line in lines if not line.indent) == whole.totals.mult_adds
        params = [
            int(line.formula.split(" = ")[-1].replace(",", "") or 0) for line in lines if not line.indent
        ]
        assert sum(params) == whole.totals.params
        assert len(lines) <= len(whole.rows)


def test_vit_blocks() -> None:
    """The lecture's toy: four blocks alike, their attention with its products."""
    (blocks,) = blocks_of(summarize("lecture_vit"))
    assert blocks == ("blocks.0-3", "4 x Block", "4 x 49,984 = 199,936")


def test_depth() -> None:
    lines = summarize("resnet18", depth=1).lines()
    assert [line.name for line in lines] == [
        "conv1", "bn1", "relu", "maxpool", "layer1", "layer2", "layer3", "layer4", "avgpool", "fc",
    ]  # fmt: skip
    assert (lines[5].kind, lines[5].output, lines[5].formula) == ("Stage", (128, 28, 28), "525,568")
    deeper = summarize("resnet18", depth=2).lines()
    # 2 x (2 x 9 x 64 x 64 + 2 x 2 x 64)
    assert ("layer1.0-1", "2 x 73,984 = 147,968") in [(line.name, line.formula) for line in deeper]
    with pytest.raises(SightlineError, match="at least 1"):
        summarize("resnet18", depth=0)


class Shared(nn.Module):
    """Numbered layers alike, of which one is used again, and a product of the whole's own."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(3, 3) for _ in range(3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for layer in self.layers:
            x = layer(x)
        return self.layers[0](x) @ x.transpose(1, 2)


def test_single_layers_alike() -> None:
    lines = summarize(nn.Sequential(nn.Flatten(2), Shared()), (4, 1, 3)).lines()
    assert [(line.name, line.kind, line.formula, line.mult_adds) for line in lines[1:]] == [
        ("1.layers.0-2", "3 x Linear", "3 x (3 x 3 + 3) = 36", 3 * 36),
        ("1.layers.0", "Linear", "", 36),
        ("1", "Shared products", "", 4 * 4 * 3),
    ]


def test_markdown_is_a_table_of_the_same_cells() -> None:
    summary = summarize("lecture_vit")
    title, table, caption = summary.to_markdown().rstrip().split("\n\n")
    head, rule, *body = [line.strip("|").split("|") for line in table.splitlines()]
    assert title == "**lecture_vit**" and caption.startswith("205,066 parameters")
    assert [cell.strip() for cell in head] == ["layer", "kind", "output", "parameters", "mult-adds"]
    assert all(re.fullmatch(r" -+:? ", cell) for cell in rule)
    for cells, line in zip(body, summary.lines(), strict=True):
        assert [cell.replace("&emsp;", "").strip() for cell in cells] == [
            cell.strip() for cell in line.cells()
        ]
    assert [cells[0].count("&emsp;") for cells in body] == [line.indent for line in summary.lines()]


def test_html_is_well_formed_and_escaped() -> None:
    summary = summarize(nn.Sequential(nn.Flatten(), nn.Linear(12, 5)), (3, 2, 2))
    odd = Summary("<b>&", summary.input_size, summary.rows, summary.blocks)
    root = ElementTree.fromstring(f"<div>{odd._repr_html_().replace('<br>', '<br/>')}</div>")
    assert root.findtext("table/caption") == "<b>&"
    cells = [[cell.text or "" for cell in row] for row in root.iterfind("table/tbody/tr")]
    assert cells == [["0", "Flatten", "12", "", ""], ["1", "Linear", "5", "5 x 12 + 5 = 65", "60"]]
    assert summarize("lecture_net")._repr_html_().count("<tr>") == 8


def test_plain_data_has_every_row() -> None:
    summary = summarize("resnet18", depth=1)
    data = json.loads(json.dumps(summary.to_dict()))
    assert (
        len(data["layers"]) == len(summary.rows) == 4 + 8 * 6 + 3 * 2 + 2
    )  # stem, blocks, projections, head
    assert (data["model"], data["params"]) == ("resnet18", 11_689_512)
    assert totals(summary.rows) == summary.totals


@pytest.mark.parametrize(("name", "loaded"), [("resnet18", "0 0"), ("torchvision/resnet18", "0 1")])
def test_only_what_is_asked_for_is_imported(name: str, loaded: str) -> None:
    code = (
        f"import sys; from sightline.api import summary; str(summary({name!r})); "
        "print(*(int(any(m.split('.')[0] == lib for m in sys.modules)) for lib in ('timm', 'torchvision')))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == loaded
