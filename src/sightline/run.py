"""A folder with what happened: recipe, splits, history, scores, the Bundle and the report."""

from __future__ import annotations

import json
import platform
import re
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sightline.bundle import DESCRIPTION_FILE, WEIGHTS_FILE, Bundle, Classifier
from sightline.errors import SightlineError
from sightline.files import append_line, disk_errors, write_beside

if TYPE_CHECKING:
    from sightline.data.dataset import ImageDataset
    from sightline.evaluation import Scores
    from sightline.training.recipe import Recipe

RECIPE, SPLITS, HISTORY, SCORES, REPORT, FACTS = (
    "recipe.json",
    "splits.csv",
    "history.jsonl",
    "scores.json",
    "report.html",
    "run.json",
)
FILES = (RECIPE, SPLITS, HISTORY, SCORES, REPORT, FACTS, WEIGHTS_FILE, DESCRIPTION_FILE)


@dataclass(frozen=True)
class Run:
    """A run on disk. What it holds is read when it is asked for; SightlineError says what is missing."""

    path: Path

    def __str__(self) -> str:
        return str(self.path)

    @classmethod
    def create(cls, out: str | Path | None, name: str) -> Run:
        """Make the folder: `out`, or runs/NAME-TIMESTAMP. Refuses one that holds anything already."""
        stamp = datetime.now().strftime("%Y%m%d-%H%M%S")
        slug = re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-.") or "run"
        path = Path(out) if out is not None else Path("runs") / f"{slug}-{stamp}"
        if path.exists() and not path.is_dir():
            raise SightlineError(f"{path} is a file; give a new folder with --out.")
        with disk_errors(path):
            if path.is_dir() and any(path.iterdir()):
                raise SightlineError(
                    f"{path} is not empty; give a new folder with --out, so that nothing is lost."
                )
            path.mkdir(parents=True, exist_ok=True)
        # Found out now rather than after the training: may this folder be written to?
        run = cls(path)
        run.write_json(FACTS, {"status": "started", "created": datetime.now().astimezone().isoformat()})
        return run

    @classmethod
    def open(cls, path: str | Path) -> Run:
        """A run made earlier. Raises SightlineError where `path` is not one."""
        path = Path(path)
        if not path.exists():
            raise SightlineError(f"There is no run {path}{near_runs(path)}.")
        if not path.is_dir() or not any((path / file).exists() for file in FILES):
            raise SightlineError(f"{path} is not a run; give a folder made by `sightline fit`.")
        return cls(path)

    # What is inside.

    @cached_property
    def recipe(self) -> Recipe:
        """The complete recipe of the run."""
        from sightline.training.recipe import read_recipe

        return read_recipe(self.read_json(RECIPE))

    @cached_property
    def history(self) -> list[dict[str, Any]]:
        """A dictionary per epoch."""
        path = self.path / HISTORY
        if not path.exists():
            return []
        return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]

    @cached_property
    def scores(self) -> Scores:
        """Scores on the test split."""
        from sightline.evaluation import Scores

        return Scores.from_dict(self.read_json(SCORES))

    @cached_property
    def bundle(self) -> Bundle:
        """What is served."""
        return Bundle.load(self.path)

    @cached_property
    def classifier(self) -> Classifier:
        """The Bundle in memory, ready to predict."""
        return Classifier(self.bundle)

    @property
    def report(self) -> Path:
        """The HTML report."""
        return self.path / REPORT

    @property
    def splits(self) -> Path:
        """The manifest of what was trained, validated and tested on."""
        return self.path / SPLITS

    # Writing.

    def write_json(self, name: str, data: Any) -> None:
        """Write plain data, beside and renamed."""
        text = json.dumps(data, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
        write_beside(self.path / name, text)

    def read_json(self, name: str) -> dict[str, Any]:
        """Plain data of the run. Raises SightlineError where it is missing or broken."""
        path = self.path / name
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise SightlineError(f"{self.path} has no {name}; the run did not get that far.") from None
        except (OSError, ValueError) as error:
            raise SightlineError(f"{path} cannot be read: {error}.") from None
        if not isinstance(data, dict):
            raise SightlineError(f"{path} cannot be read: it is not a JSON object.")
        return data

    def write_splits(self, dataset: ImageDataset) -> None:
        """Which picture was in which split, as a manifest that `fit` takes again."""
        from sightline.data.split import write_splits

        with disk_errors(self.splits):
            write_splits(dataset, self.splits)

    def add_epoch(self, row: dict[str, Any]) -> None:
        """Append an epoch to history.jsonl."""
        append_line(self.path / HISTORY, json.dumps(row, allow_nan=False))

    def finish(self, **facts: Any) -> None:
        """Mark the run complete and add what is known of it."""
        self.write_json(FACTS, self.read_json(FACTS) | {"status": "complete"} | facts)


def near_runs(path: Path) -> str:
    """A hint at a run with a name like that, if there is one beside it."""
    from sightline.errors import near

    if not path.parent.is_dir():
        return ""
    close = near(path.name, [entry.name for entry in path.parent.iterdir() if entry.is_dir()])
    return f"; did you mean {path.parent / close[0]}?" if close else ""


def environment() -> dict[str, Any]:
    """Versions and machine, for run.json and the report."""
    import torch

    def installed(package: str) -> str:
        try:
            return version(package)
        except PackageNotFoundError:
            return "not installed"

    packages = ("sightline", "torch", "torchvision", "timm", "numpy", "pillow", "scikit-learn")
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "threads": torch.get_num_threads(),
        **{package: installed(package) for package in packages},
    }
