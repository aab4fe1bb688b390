"""`advise`: how to reuse a pretrained network for DATA."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from sightline.cli.data import figure_file
from sightline.cli.options import NETWORKS, AsJson, Data, Settings, Text, option


def advise(
    data: Data,
    model: Annotated[Text, option("NAME", NETWORKS)] = None,
    weights: Annotated[str, option("NAME|FILE", "A published name, a file, a run (auto).")] = "auto",
    minutes: Annotated[float | None, option("N", "Advise nothing that trains for longer.", min=0.01)] = None,
    out: Annotated[Path | None, option("FILE", "The .png or .html to write (advise-NAME.png).")] = None,
    settings: Annotated[Settings, option("KEY=VALUE", "A field of the recipe. Repeatable.", "--set")] = None,
    as_json: AsJson = False,
) -> None:  # fmt: skip
    """Measure how best to reuse a pretrained network for DATA.

    Tells which strategy, from which layer, what it and the others will reach and in which time, with intervals. What
    trains quickly is tried, on parts of the training and validation pictures.
    """
    from sightline import api
    from sightline.advising.figure import advice_page, draw_advice
    from sightline.files import write_beside
    from sightline.training.progress import say, show
    from sightline.training.recipe import parse_settings

    target = figure_file(out, f"advise-{Path(data).name.split('.')[0] or 'data'}")
    given = {"model": model, "minutes": minutes}
    values = {key: value for key, value in given.items() if value is not None} | parse_settings(
        settings or []
    )
    advice = api.advise(data, weights=weights, **values)
    write_beside(target, advice_page(advice) if target.suffix.lower() == ".html" else draw_advice(advice))
    tell = say if as_json else print
    show(advice.to_dict() if as_json else advice)
    named = f"--model {shlex.quote(advice.model)}"
    if advice.advised.kind != "scratch":
        named += f" --weights {shlex.quote(advice.weights)}"
    tell(f"\nFit:       sightline fit {shlex.quote(data)} {named} {advice.advised.options}")
    tell(f"Figure:    {target.resolve()}")
    if advice.evidence.failures:
        raise typer.Exit(1)
