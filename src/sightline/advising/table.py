"""Advice as a table for the terminal: the strategies, the depths, and why."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sightline.advising.evidence import LEVEL
from sightline.visualization.tables import plain_table

if TYPE_CHECKING:
    from rich.console import RenderableType

    from sightline.advising.advice import Advice
    from sightline.advising.prediction import Prediction


def advice_table(advice: Advice) -> RenderableType:
    """The strategies with what each is expected to reach, the accuracy by depth, and the reasons."""
    from rich.console import Group
    from rich.text import Text

    strategies = plain_table()
    strategies.add_column("strategy", no_wrap=True)
    for title in ("balanced\naccuracy", f"{LEVEL:.0%} interval", "tried", "minutes", f"{LEVEL:.0%} interval"):
        strategies.add_column(title, justify="right", no_wrap=True)
    strategies.add_column("")
    for p in sorted(advice.predictions, key=lambda p: -p.accuracy):
        strategies.add_row(
            p.name,
            f"{p.accuracy:.1%}",
            f"{p.low:.1%} to {p.high:.1%}",
            tried(p),
            minutes(p.minutes),
            f"{minutes(p.minutes_low)} to {minutes(p.minutes_high)}",
            remark(advice, p),
        )
    depths = plain_table()
    depths.add_column("depth", no_wrap=True)
    for title in ("balanced\naccuracy", f"{LEVEL:.0%} interval", "random weights", "LogME"):
        depths.add_column(title, justify="right", no_wrap=True)
    for d in advice.evidence.depths:
        depths.add_row(
            d.layer or "classifier",
            f"{d.accuracy:.1%}",
            f"{d.low:.1%} to {d.high:.1%}",
            f"{d.random:.1%}",
            f"{d.logme:.3f}",
        )
    depths.add_row("hand-crafted", f"{advice.evidence.handcrafted:.1%}", "", "", "")
    head = Text(f"{advice.name}, {advice.model} with {advice.weights}", style="bold")
    looked = Text(f"Leave-one-out, on {advice.evidence.pictures:,} pictures:", style="dim")
    return Group(head, "", strategies, "", looked, depths, "", *(Text(line) for line in advice.reasons))


def remark(advice: Advice, p: Prediction) -> str:
    """What to say behind a strategy."""
    if p.name == advice.advised.name:
        return "advised"
    if advice.minutes is not None and p.minutes > advice.minutes:
        return "takes too long"
    return "runner-up" if advice.runner_up and p.name == advice.runner_up.name else ""


def tried(p: Prediction) -> str:
    """The pictures that a trial was tested on."""
    return f"{p.tried:,}" if p.tried else "no"


def minutes(value: float) -> str:
    """In as many digits as matter."""
    return f"{value:.0f}" if value >= 10 else f"{value:.1f}" if value >= 1 else f"{value:.2f}"
