"""Many runs side by side: what became of each, its scores, and in what their recipes differ."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sightline.errors import SightlineError
from sightline.evaluation import Scores
from sightline.evaluation.intervals import Estimate, percent
from sightline.run import FACTS, RECIPE, SCORES, Run

if TYPE_CHECKING:
    from rich.console import RenderableType

# What a recipe says of the machine and not of the training.
OF_THE_MACHINE = ("device", "workers", "accumulate")


@dataclass(frozen=True, slots=True)
class RunRow:
    """One run. status: complete, running, stopped (it can be resumed), or broken; `what` says more of the last two.

    recipe: dotted keys. scores: on the test split; None before there are any. recall: at 1, captions for pictures, of a
    run that learned from captions.
    """

    path: Path
    created: str
    source: str
    status: str
    what: str
    seconds: float | None
    recipe: dict[str, Any]
    scores: Scores | None
    recall: Estimate | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {
            "run": str(self.path),
            "created": self.created,
            "source": self.source,
            "status": self.status,
            "what": self.what,
            "seconds": self.seconds,
            "recipe": self.recipe,
            "scores": self.scores.to_dict() if self.scores else None,
            "recall": self.recall.to_dict() if self.recall else None,
        }


def find_runs(folder: str | Path = "runs") -> list[RunRow]:
    """The runs below `folder` (or the one that it is), the oldest first. Raises SightlineError where there is none."""
    folder = Path(folder).expanduser()
    if not folder.is_dir():
        raise SightlineError(f"There is no folder {folder}; give the one that the runs are in.")
    paths = [folder] if (folder / FACTS).exists() else sorted(p.parent for p in folder.glob(f"**/{FACTS}"))
    if not paths:
        raise SightlineError(f"There are no runs in {folder}; `sightline fit` makes them.")
    return sorted((describe(Run(path)) for path in paths), key=lambda row: (row.created, str(row.path)))


def describe(run: Run) -> RunRow:
    """What there is to say of one run; a broken one is described, too."""
    facts: dict[str, Any] = {}
    recipe: dict[str, Any] = {}
    scores, recall = None, None
    try:
        facts = run.read_json(FACTS)
        if (run.path / RECIPE).exists():
            recipe = flat(run.read_json(RECIPE))
        if (run.path / SCORES).exists() and recipe.get("objective") == "contrastive":
            recall = run.retrieval.image_to_text.recall[1]
        elif (run.path / SCORES).exists():
            scores = run.scores
        status, what = state_of(run, facts)
    except SightlineError as error:
        status, what = "broken", str(error)
    return RunRow(
        run.path,
        str(facts.get("created", "")),
        str(facts.get("source") or ""),
        status,
        what,
        facts.get("seconds"),
        recipe,
        scores,
        recall,
    )


def state_of(run: Run, facts: dict[str, Any]) -> tuple[str, str]:
    """(status, what there is to say of it)."""
    if facts.get("status") == "complete":
        return "complete", ""
    steps = sorted(int(path.name.removeprefix("step-")) for path in run.checkpoints.glob("step-*"))
    reached = f"step {steps[-1]:,}" if steps else "no checkpoint"
    if run.in_use():
        return "running", reached
    if not (run.path / RECIPE).exists():
        return "broken", "ended before its training began"
    return "stopped", f"{reached}; sightline fit --resume {run}"


def flat(data: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested plain data with dotted keys."""
    out: dict[str, Any] = {}
    for key, value in data.items():
        out |= flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return out


def differences(rows: list[RunRow]) -> list[dict[str, Any]]:
    """For each run the fields of its recipe in which the runs are not all alike."""
    there = [row.recipe for row in rows if row.recipe]
    keys = list(dict.fromkeys(key for recipe in there for key in recipe if key not in OF_THE_MACHINE))
    unlike = [key for key in keys if any(recipe.get(key) != there[0].get(key) for recipe in there)]
    return [{key: row.recipe[key] for key in unlike if key in row.recipe} for row in rows]


def runs_table(rows: list[RunRow]) -> RenderableType:
    """The runs as a table, to be printed with rich."""
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for name in ("run", "data", "status", "accuracy", "95 % interval", "time"):
        table.add_column(name, justify="right" if name in ("accuracy", "time") else "left", no_wrap=True)
    table.add_column("where the recipes differ", overflow="fold")
    for row, unlike in zip(rows, differences(rows), strict=True):
        accuracy = row.scores.accuracy if row.scores else row.recall
        span = f"{percent(accuracy.low)} – {percent(accuracy.high)}, n {accuracy.n:,}" if accuracy else ""
        said = "  ".join(f"{key}={value}" for key, value in unlike.items())
        table.add_row(
            escape(str(row.path)),
            escape(Path(row.source).name),
            row.status,
            percent(accuracy.value) + (" (recall@1)" if row.recall else "") if accuracy else "",
            span,
            f"{row.seconds:,.0f} s" if row.seconds else "",
            escape("  ".join(filter(None, (said, row.what)))),
        )
    return table
