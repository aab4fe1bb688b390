"""The part of the report that says why this strategy: accuracy by depth, the quadrants, what was expected of each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sightline.advising import Advice


@dataclass(frozen=True, slots=True)
class Row:
    """A strategy as text."""

    name: str
    accuracy: str
    span: str
    tried: str
    minutes: str
    remark: str


@dataclass(frozen=True, slots=True)
class Advised:
    """The figure, and a row a strategy, the most accurate first."""

    figure: str
    rows: list[Row]


def advised(advice: Advice | None) -> Advised | None:
    """The section's parts; None of a run that was not advised on."""
    if advice is None:
        return None
    from sightline.advising.figure import figure_uri
    from sightline.advising.table import minutes, remark, tried

    return Advised(
        figure_uri(advice),
        [
            Row(
                p.name,
                f"{p.accuracy:.1%}",
                f"{p.low:.1%} to {p.high:.1%}",
                tried(p),
                minutes(p.minutes),
                remark(advice, p),
            )
            for p in sorted(advice.predictions, key=lambda p: -p.accuracy)
        ],
    )
