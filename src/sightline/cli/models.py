"""`models` and `summary`."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import typer

from sightline.cli.options import NETWORKS, AsJson, Settings, Text, option
from sightline.errors import SightlineError, UnknownName


def models(
    pattern: Annotated[Text, typer.Argument(metavar="PATTERN", help="resnet, '*50*', 'timm/*', ...")] = None,
    family: Annotated[Text, option("NAME", "Only of this family: lenet, resnet, vit, ...")] = None,
    year: Annotated[Text, option("YEAR", "Only of a year, or of years: 2015, 2012-2016.")] = None,
    max_params: Annotated[Text, option("N", "Only with at most so many parameters: 25M.")] = None,
    sort: Annotated[Text, option("BY", "By name, year, params, mult-adds or error.")] = None,
    lineage: Annotated[bool, typer.Option("--lineage", help="The history: what came when, and what was new.")] = False,
    figure: Annotated[Path | None, option("FILE", "Draw error against mult-adds into a .png, .svg or .pdf.")] = None,
    as_json: AsJson = False,
) -> None:  # fmt: skip
    """List the networks that can be built."""
    from sightline.models import list_models, model_info
    from sightline.training.progress import show
    from sightline.visualization import lineage as history

    names = list_models(pattern) or list_models(f"{pattern}*")
    if not names:
        raise UnknownName("network", str(pattern), list_models(), "`sightline models` lists them.")
    infos = history.select(map(model_info, names), family=family, year=year, max_params=max_params, sort=sort)
    if figure is not None:
        from sightline.visualization.lineage_figure import draw_lineage

        drawn = draw_lineage(infos, figure)
        show(
            {"figure": str(figure), "networks": drawn} if as_json else f"{drawn} networks drawn into {figure}"
        )
    elif lineage:
        show({"lineage": history.timeline(infos)} if as_json else history.timeline_table(infos))
    else:
        show({"models": [info.to_dict() for info in infos]} if as_json else history.models_table(infos))


def summary(
    model: Annotated[str, typer.Argument(metavar="MODEL", help=NETWORKS)],
    shape: Annotated[Text, option("CxHxW", "Size of a picture, such as 1x28x28.", "--input")] = None,
    classes: Annotated[int | None, option("N", "Classes to tell apart.", min=1)] = None,
    settings: Annotated[Settings, option("KEY=VALUE", "An argument: kernel_size=3. Repeatable.", "--set")] = None,
    depth: Annotated[int | None, option("N", "Show modules down to this depth: 1 is the stages.", min=1)] = None,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print the table in Markdown.")] = False,
    as_json: AsJson = False,
) -> None:  # fmt: skip
    """Show a network's layers: output, parameters, mult-adds.

    Like blocks in a row are shown once.
    """
    from sightline import api
    from sightline.training.progress import show
    from sightline.training.recipe import parse_settings

    arguments = {key.removeprefix("model."): value for key, value in parse_settings(settings or []).items()}
    table = api.summary(
        model, parse_shape(shape) if shape else None, num_classes=classes, arguments=arguments, depth=depth
    )
    if markdown and not as_json:
        print(table.to_markdown(), end="")
    else:
        show(table.to_dict() if as_json else table)


def parse_shape(text: str) -> tuple[int, int, int]:
    """`1x28x28` as (1, 28, 28)."""
    found = re.fullmatch(r"([1-9]\d{0,5})[x,]([1-9]\d{0,5})[x,]([1-9]\d{0,5})", text.lower(), re.ASCII)
    if not found:
        raise SightlineError(f"--input takes CxHxW, such as 1x28x28, not {text!r}.")
    return int(found[1]), int(found[2]), int(found[3])
