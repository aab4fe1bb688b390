"""Scores as a table for the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sightline.evaluation.intervals import percent
from sightline.evaluation.metrics import ClassScores, Scores

if TYPE_CHECKING:
    from rich.console import RenderableType

ROWS = 20
"""With more classes than this, only the weakest are shown; `scores.json` has them all."""


def scores_table(scores: Scores) -> RenderableType:
    """The headline figures and the classes, to be printed with `rich.console.Console().print`."""
    from rich.console import Group
    from rich.markup import escape
    from rich.table import Table
    from rich.text import Text

    head = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    pictures = "picture" if scores.n == 1 else "pictures"
    head.add_column(f"{escape(scores.split)} split, {scores.n:,} {pictures}", style="bold")
    head.add_column("", justify="right")
    head.add_column("95 % interval", justify="right", style="dim")
    named = [
        ("accuracy", scores.accuracy),
        ("top-5 accuracy", scores.top5_accuracy),
        ("balanced accuracy", scores.balanced_accuracy),
        ("macro-F1", scores.macro_f1),
    ]
    for name, figure in named:
        if figure is not None:
            head.add_row(name, percent(figure.value), _span(figure.low, figure.high))

    shown, note = _shown(scores.classes)
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("class")
    for title in ("precision", "recall", "95 % interval", "F1", "pictures"):
        table.add_column(title, justify="right", style="dim" if "interval" in title else None)
    for one in shown:
        limits = one.recall_interval
        span = "" if limits is None else _span(*limits)
        figures = (_percent(one.precision), _percent(one.recall), span, _percent(one.f1), f"{one.support:,}")
        table.add_row(Text(one.name), *figures)  # Text: a class name is not markup
    parts: list[RenderableType] = [head, "", table]
    return Group(*parts, Text(note, style="dim")) if note else Group(*parts)


def clean_line(scores: Scores, clean: Scores | None) -> str:
    """What is left of `scores` on the pictures that no other split shows the same as, in a sentence.

    `clean` are the scores on these alone; None where there is none of them.
    """
    if clean is None:
        return f"All {scores.n:,} {scores.split} pictures show the same as pictures of other splits."
    figures = (("accuracy", clean.accuracy), ("balanced accuracy", clean.balanced_accuracy))
    said = ", ".join(f"{name} {percent(one.value)} ({_span(one.low, one.high)})" for name, one in figures)
    return (
        f"{scores.n - clean.n:,} of the {scores.n:,} {scores.split} pictures show the same as pictures of other splits;"
        f" on the clean part, the other {clean.n:,}: {said}."
    )


def _shown(classes: tuple[ClassScores, ...]) -> tuple[list[ClassScores], str]:
    if len(classes) <= ROWS:
        return list(classes), ""
    measured = [one for one in classes if one.support]
    weakest = sorted(measured, key=lambda one: one.f1 or 0.0)[:ROWS]
    return weakest, f"The {len(weakest)} weakest of {len(classes)} classes by F1."


def _percent(value: float | None) -> str:
    return "–" if value is None else percent(value)


def _span(low: float, high: float) -> str:
    return f"{percent(low)} – {percent(high)}"
