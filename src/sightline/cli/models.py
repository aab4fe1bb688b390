"""`models` and `summary`."""

from __future__ import annotations

import re
from typing import Annotated

import typer

from sightline.cli.options import NETWORKS, AsJson, Settings, Text, option
from sightline.errors import SightlineError, UnknownName


def models(
    pattern: Annotated[Text, typer.Argument(metavar="PATTERN", help="resnet, '*50*', 'timm/*', ...")] = None,
    as_json: AsJson = False,
) -> None:
    """List the networks that can be built."""
    from sightline.models import list_models, model_info
    from sightline.training.progress import show
    from sightline.visualization.summary import models_table

    names = list_models(pattern) or list_models(f"{pattern}*")
    if not names:
        raise UnknownName("network", str(pattern), list_models(), "`sightline models` lists them.")
    show({"models": [model_info(name).to_dict() for name in names]} if as_json else models_table(names))


def summary(
    model: Annotated[str, typer.Argument(metavar="MODEL", help=NETWORKS)],
    shape: Annotated[Text, option("CxHxW", "Size of a picture, such as 1x28x28.", "--input")] = None,
    classes: Annotated[int | None, option("N", "Classes to tell apart.", min=1)] = None,
    settings: Annotated[Settings, option("KEY=VALUE", "An argument: kernel_size=3. Repeatable.", "--set")] = None,
    as_json: AsJson = False,
) -> None:  # fmt: skip
    """Show a network's layers: output, parameters, mult-adds."""
    from sightline import api
    from sightline.training.progress import show
    from sightline.training.recipe import parse_settings
    from sightline.visualization.summary import format_table, totals

    arguments = {key.removeprefix("model."): value for key, value in parse_settings(settings or []).items()}
    rows, size = api.summary(model, parse_shape(shape) if shape else None, classes, arguments)
    layers = [row.to_dict() for row in rows]
    data = {"model": model, "input": size, "layers": layers, **totals(rows).to_dict()}
    show(data if as_json else format_table(rows, model, size))


def parse_shape(text: str) -> tuple[int, int, int]:
    """`1x28x28` as (1, 28, 28)."""
    found = re.fullmatch(r"([1-9]\d{0,5})[x,]([1-9]\d{0,5})[x,]([1-9]\d{0,5})", text.lower(), re.ASCII)
    if not found:
        raise SightlineError(f"--input takes CxHxW, such as 1x28x28, not {text!r}.")
    return int(found[1]), int(found[2]), int(found[3])
