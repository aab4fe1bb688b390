"""What an ablation found: the effects, the policy to use, and how both are shown and written down."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sightline.ablation.paired import Change
from sightline.evaluation.intervals import LEVEL, percent
from sightline.files import write_beside

if TYPE_CHECKING:
    from rich.console import RenderableType

DATA_FILE, FIGURE_FILE = "ablation.json", "ablation.png"
RULE = (
    "The policy joins the augmentations whose whole interval lies above zero, if together they are at least as "
    "accurate as the best of them alone; else it is that one; none where nothing helps."
)


@dataclass(frozen=True, slots=True)
class Effect:
    """What one augmentation does. `accuracy`: with it, mean over the seeds; `change`: against none, 0..1."""

    augment: str
    accuracy: float
    change: Change

    @property
    def verdict(self) -> str:
        """helps, hurts, or unclear: whether the interval leaves zero out."""
        if self.change.low is None or self.change.high is None:
            return "unclear"
        return "helps" if self.change.low > 0 else "hurts" if self.change.high < 0 else "unclear"

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        change = {"change": self.change.value, "low": self.change.low, "high": self.change.high}
        return {"augment": self.augment, "accuracy": self.accuracy, **change, "verdict": self.verdict}


@dataclass(frozen=True, slots=True)
class Ablation:
    """The effects of single augmentations on one small recipe, and the policy that follows.

    - `effects`: in the order in which they were tried, each against training without augmentation
    - `policy`: text for `--augment`; `together`: the helpful ones joined, where that was trained, too
    - `seeds`: with which all conditions were trained; `setup`: recipe and counts, as plain data
    - `complete`: whether all seeds that were planned were trained with; `notes`: sentences for the user
    """

    name: str
    accuracy: float  # without augmentation
    effects: tuple[Effect, ...]
    together: Effect | None
    policy: str
    seeds: tuple[int, ...]
    setup: dict[str, Any]
    complete: bool
    notes: tuple[str, ...]
    interrupted: bool = False

    def to_dict(self) -> dict[str, Any]:
        """Plain data, as in ablation.json."""
        return {
            "data": self.name,
            "policy": self.policy,
            "rule": RULE,
            "level": LEVEL,
            "none": {"accuracy": self.accuracy},
            "effects": [effect.to_dict() for effect in self.effects],
            "together": self.together.to_dict() if self.together else None,
            "seeds": list(self.seeds),
            "setup": self.setup,
            "complete": self.complete,
            "notes": list(self.notes),
        }

    def save(self, folder: Path) -> None:
        """Write ablation.json and ablation.png into the folder."""
        from sightline.ablation.figure import draw_effects

        write_beside(folder / DATA_FILE, json.dumps(self.to_dict(), indent=1) + "\n")
        write_beside(folder / FIGURE_FILE, draw_effects(self))

    @property
    def ranked(self) -> list[Effect]:
        """The effects, the most helpful first."""
        return sorted(self.effects, key=lambda effect: -effect.change.value)

    def __rich__(self) -> RenderableType:
        """The table, the policy, and what was done."""
        from rich.console import Group
        from rich.text import Text

        from sightline.visualization.tables import plain_table

        table = plain_table()
        table.add_column("augmentation", no_wrap=True)
        for heading in ("accuracy", "change", "interval"):
            table.add_column(heading, justify="right", no_wrap=True)
        table.add_column("")
        table.add_row("none", percent(self.accuracy), "", "", "")
        for effect in self.ranked:
            table.add_row(*row_of(effect))
        if self.together:
            table.add_section()
            table.add_row(*row_of(self.together))
        together = [f"The intervals hold all together with {LEVEL:.0%}."] if len(self.seeds) > 1 else []
        lines = [*together, *self.notes, f"Policy:    {self.policy}"]
        return Group(table, *(Text(line) for line in lines))


def row_of(effect: Effect) -> list[str]:
    """Of the table."""
    change = effect.change
    span = (
        "" if change.low is None or change.high is None else f"{points(change.low)} to {points(change.high)}"
    )
    return [effect.augment, percent(effect.accuracy), points(change.value), span, effect.verdict]


def points(change: float) -> str:
    """A difference of shares in percentage points, +1.30; a true minus sign keeps columns even."""
    text = f"{100 * change:+.2f}"
    return "0.00" if text in ("+0.00", "-0.00") else text.replace("-", "\N{MINUS SIGN}")
