"""Puts the report's parts into its page and writes it in one piece."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import os
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from sightline import __version__
from sightline.errors import SightlineError
from sightline.report.advice import advised
from sightline.report.confusion import confusion
from sightline.report.curves import charts
from sightline.report.data import ReportData
from sightline.report.network import network
from sightline.report.penalties import penalty_chart
from sightline.report.sections import (
    class_rows,
    count_rows,
    counted,
    flattened,
    headline,
    mistakes,
    set_aside,
    split_totals,
    when,
)
from sightline.report.thumbnails import Thumbnails

TEMPLATES = Path(__file__).parent / "templates"


def write_report(path: str | os.PathLike[str], data: ReportData) -> None:
    """Write the report of a run to `path`: one HTML file that asks nothing of the network.

    Pictures that cannot be read have a placeholder, views that the model does not allow a sentence. The file
    is written beside and renamed, so that `path` is never half a report.

    Raises SightlineError where `path` cannot be written.
    """
    target = Path(path)
    beside = target.with_name(f".{target.name}.{os.getpid()}")
    page = render(data)
    try:
        # File names need not be text: what UTF-8 cannot hold is spelled out.
        beside.write_text(page, encoding="utf-8", errors="backslashreplace")
        beside.replace(target)
    except OSError as error:
        with contextlib.suppress(OSError):
            beside.unlink()
        reason = error.strerror or str(error)
        raise SightlineError(f"The report cannot be written to {target}: {reason}.") from error


def render(data: ReportData) -> str:
    """The report as HTML."""
    thumbnails = Thumbnails(data.picture)
    # In the order of their worth, as they share one budget: a mistake tells more than an example.
    worst = mistakes(data, thumbnails)
    counts = count_rows(data, thumbnails)
    matrix = confusion(data, thumbnails)
    rows, ticks = class_rows(data)
    curves = charts(data.history)
    aside, aside_count = set_aside(data)
    script = (TEMPLATES / "report.js").read_text(encoding="utf-8")
    context: dict[str, Any] = {
        "version": __version__,
        "title": data.title,
        "when": when(data.created),
        "dataset": data.dataset,
        "split": data.scores.split,
        "n": data.scores.n,
        "headline": headline(data, sum(p.numel() for p in data.model.parameters())),
        "clean": data.clean,
        "penalties": penalty_chart(data.path),
        "advice": advised(data.advice),
        "reasons": list(data.reasons),
        "counts": counts,
        "split_totals": split_totals(data),
        "aside": aside,
        "aside_count": aside_count,
        "charts": curves,
        "history": data.history,
        "classes": rows,
        "ticks": ticks,
        "confusion": matrix,
        "mistakes": worst,
        # Digits of 28 pixels are shown as pixels; photographs are smoothed.
        "pixelated": thumbnails.largest <= 64,
        "network": network(data),
        "recipe": flattened(data.recipe),
        "environment": flattened(data.environment),
        "page_data": {"cells": matrix.data, "charts": [chart.readout for chart in curves]},
        "style": Markup((TEMPLATES / "report.css").read_text(encoding="utf-8")),
        "script": Markup(script),
        # The page may run this script and no other, load nothing, and send nothing.
        "script_hash": base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii"),
    }
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals["counted"] = counted
    return environment.get_template("report.html.j2").render(context)
