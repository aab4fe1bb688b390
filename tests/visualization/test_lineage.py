"""The lineage's tables and its picture."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from sightline.errors import SightlineError, UnknownName
from sightline.models import ErrorRate, ModelInfo, list_models, model_info
from sightline.visualization.lineage import (
    MILESTONES,
    ORDERS,
    models_table,
    published_error,
    select,
    timeline,
    timeline_table,
)
from sightline.visualization.lineage_figure import draw_lineage
from sightline.visualization.tables import short

INFOS = [model_info(name) for name in list_models()]


def printed(table: object, width: int) -> list[str]:
    console = Console(width=width, force_terminal=False)
    with console.capture() as capture:
        console.print(table)
    return [line.rstrip() for line in capture.get().splitlines()]


def names(**options: str) -> list[str]:
    return [info.name for info in select(INFOS, **options)]  # type: ignore[arg-type]


def test_choosing() -> None:
    assert names() == list_models()
    assert "resnet18" in names(family="resnet") and "lenet5" not in names(family="resnet")
    assert set(names(year="2016")) == {"wide_resnet50_2", "wide_resnet101_2"}
    assert set(names(year="2016-2017", family="resnet")) == {
        "wide_resnet50_2", "wide_resnet101_2", "resnext50_32x4d", "resnext101_32x4d", "resnext101_64x4d",
    }  # fmt: skip
    assert "lecture_net" not in names(year="1900-2100")  # of no year
    small = names(max_params="25.6M", family="resnet")
    assert "resnet50" in small and "resnet101" not in small
    assert names(max_params="60k") == ["lecture_net", "lenet5_1998"]  # 60,000 is at most 60k


@pytest.mark.parametrize("order", ORDERS)
def test_sorting(order: str) -> None:
    infos = select(INFOS, sort=order)
    values = [ORDERS[order](info) for info in infos]
    known = [value for value in values if value is not None]
    assert known == sorted(known)
    assert values[: len(known)] == known  # what is not known comes last
    assert len(infos) == len(INFOS)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"family": "rsnet"}, "did you mean resnet"),
        ({"year": "15"}, "2012-2016, not '15'"),
        ({"year": "2016-2012"}, "not '2016-2012'"),
        ({"year": "1812"}, "No network"),
        ({"max_params": "25Q"}, "written as 25M"),
        ({"max_params": "-3"}, "written as 25M"),
        ({"sort": "param"}, "did you mean params"),
    ],
)
def test_mistakes_are_one_sentence(options: dict[str, str], words: str) -> None:
    with pytest.raises(SightlineError, match=words.replace("?", r"\?")) as caught:
        names(**options)
    assert "\n" not in str(caught.value)
    assert isinstance(caught.value, UnknownName) == ("did you mean" in words)


def test_table_of_the_lineage_fits_eighty_columns() -> None:
    lines = printed(models_table([info for info in INFOS if info.family in ("lenet", "resnet")]), 80)
    row = next(line for line in lines if line.startswith("resnet50_2015 "))
    assert row.split() == ["resnet50_2015", "2015", "3x224x224", "25.6", "M", "3.86", "G", "22.85/6.71a"]
    assert "a  10-crop" in lines
    row = next(line for line in lines if line.startswith("resnet50 "))
    assert row.endswith("24.01/7.02")  # one crop
    assert "…" not in "\n".join(lines)


def test_no_name_is_cut_at_eighty_columns() -> None:
    text = "\n".join(printed(models_table(INFOS), 80))
    assert "…" not in text
    assert all(name in text for name in list_models())


def test_table_of_others_networks() -> None:
    """Where no paper's error is known, that of the published weights."""
    lines = printed(models_table([model_info("torchvision/alexnet"), model_info("timm/resnet18")]), 80)
    assert lines[1].split() == ["torchvision/alexnet", "3x224x224", "61.1", "M", "43.48/20.93"]
    assert lines[2].split() == ["timm/resnet18", "3x224x224"]


def test_every_milestone_is_in_the_lineage() -> None:
    assert set(MILESTONES) <= set(list_models())
    rows = timeline(INFOS)
    assert [row["network"] for row in rows] == list(MILESTONES)
    years = [row["year"] for row in rows]
    assert years == sorted(years) and years[0] == 1998
    assert json.loads(json.dumps(rows)) == rows


def test_timeline_in_eighty_columns() -> None:
    lines = printed(timeline_table(INFOS), 80)
    (resnet,) = (line for line in lines if "resnet152_2015" in line)
    assert resnet.split()[0] == "2015"
    assert [w.rstrip("abcdefgh") for w in resnet.split()[-3:]] == ["21.43/5.71", "60.2", "M"]
    assert "…" not in "\n".join(lines)


def known(count: int) -> list[ModelInfo]:
    with_error = [i for i in INFOS if i.year and i.mult_adds and published_error(i)[0] is not None]
    return with_error[:count]


@pytest.mark.parametrize("ending", ["png", "svg", "pdf"])
def test_the_picture(ending: str, tmp_path: Path) -> None:
    path = tmp_path / f"lineage.{ending}"
    assert draw_lineage(known(3), path) == 3
    data = path.read_bytes()
    assert data.startswith({"png": b"\x89PNG", "svg": b"<?xml", "pdf": b"%PDF"}[ending])
    if ending == "png":
        with Image.open(path) as image:
            assert np.asarray(image.convert("L")).std() > 5


def test_the_picture_tells_names_and_protocols(tmp_path: Path) -> None:
    """In SVG without glyphs as paths the labels can be read back."""
    import matplotlib

    with matplotlib.rc_context({"svg.fonttype": "none"}):
        draw_lineage(INFOS, tmp_path / "x.svg")
    text = (tmp_path / "x.svg").read_text()
    for name in ("resnet18", "resnet50_2015", "resnext50_32x4d", "wide_resnet50_2", "efficientnet_b7"):
        assert f">{name}<" in text
    assert ">tf_efficientnet_b7<" not in text  # at the same place
    assert ">vgg16_bn<" not in text  # of no paper, hence of no year


def test_what_cannot_be_drawn(tmp_path: Path) -> None:
    with pytest.raises(SightlineError, match=r"should end in \.png, \.svg, \.pdf"):
        draw_lineage(INFOS, tmp_path / "x.gif")
    with pytest.raises(SightlineError, match="fewer than two"):
        draw_lineage([model_info("lenet5"), model_info("resnet18")], tmp_path / "x.png")


def test_a_missing_top_five_is_a_dash() -> None:
    info = model_info("resnet18")
    odd = ModelInfo(
        info.name, "x", "", "", 2015, info.input, 1000, 1, 1, errors=(ErrorRate(22.2, None, "1 crop", ""),)
    )
    assert "22.20/-" in printed(models_table([odd]), 80)[1]


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (None, ""),
        (325, "325"),
        (41_000, "41,000"),
        (2_838_080, "2.84 M"),
        (97_174_144, "97.2 M"),
        (125_485_696, "125 M"),
        (1_814_073_344, "1.81 G"),
        (11_398_021_120, "11.4 G"),
    ],
)
def test_short_counts(count: int | None, text: str) -> None:
    assert short(count) == text
