"""A folder with what happened: recipe, splits, history, scores, the Bundle and the report."""

from __future__ import annotations

import json
import os
import platform
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from importlib.metadata import PackageNotFoundError, version
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sightline.bundle import DESCRIPTION_FILE, WEIGHTS_FILE, Bundle, Classifier, near_folders
from sightline.errors import SightlineError
from sightline.files import append_line, disk_errors, reason, write_beside

if TYPE_CHECKING:
    from sightline.data.dataset import ImageDataset
    from sightline.evaluation import Scores
    from sightline.evaluation.retrieval import RetrievalScores
    from sightline.training.recipe import Recipe

RECIPE, SPLITS, HISTORY, SCORES, REPORT, FACTS = (
    "recipe.json",
    "splits.csv",
    "history.jsonl",
    "scores.json",
    "report.html",
    "run.json",
)
CHECKPOINTS, LOCK = "checkpoints", ".lock"
ADVICE, RIVAL = "advice.json", "rival.json"  # of a strategy chosen by advice
FILES = (RECIPE, SPLITS, HISTORY, SCORES, REPORT, FACTS, ADVICE, RIVAL, WEIGHTS_FILE, DESCRIPTION_FILE)


@dataclass(frozen=True)
class Run:
    """A run on disk. What it holds is read when it is asked for; SightlineError says what is missing."""

    path: Path
    # The folders that were made for it, the innermost first.
    made: tuple[Path, ...] = field(default=(), repr=False, compare=False)

    def __str__(self) -> str:
        return str(self.path)

    @classmethod
    def create(cls, out: str | Path | None, name: str) -> Run:
        """Make the folder: `out`, or runs/NAME-TIMESTAMP. Refuses one that holds anything already."""
        path = Path(out).expanduser() if out is not None else new_name(name)
        with disk_errors(path):
            if path.exists() and not path.is_dir():
                raise SightlineError(f"{path} is a file; give a new folder with --out.")
            if path.is_dir() and any(path.iterdir()):
                raise SightlineError(
                    f"{path} is not empty; give a new folder with --out, so that nothing is lost."
                )
            run = cls(path, tuple(folder for folder in (path, *path.parents) if not folder.exists()))
            path.mkdir(parents=True, exist_ok=True)
        try:  # found out now rather than after the training: may this folder be written to?
            run.write_json(FACTS, {"status": "started", "created": datetime.now().astimezone().isoformat()})
        except SightlineError:
            run.discard()
            raise
        return run

    def discard(self) -> None:
        """Remove a run that came to nothing: its own files, and the folders that were made for it."""
        with suppress(OSError):  # a disk that may only be read, or someone has put something there meanwhile
            for name in (*FILES, LOCK):
                (self.path / name).unlink(missing_ok=True)
            for folder in self.made:
                folder.rmdir()

    @classmethod
    def open(cls, path: str | Path) -> Run:
        """A run made earlier. Raises SightlineError where `path` is not one."""
        path = Path(path).expanduser()
        try:
            if not path.exists():
                raise SightlineError(f"There is no run {path}; {near_folders(path)}")
            if not path.is_dir() or not any((path / file).exists() for file in FILES):
                raise SightlineError(f"{path} is not a run; give a folder made by `sightline fit`.")
        except OSError as error:
            raise SightlineError(f"{path} cannot be opened: {reason(error)}.") from None
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
        return [row for row in self.history_rows() if "val_loss" in row]

    @cached_property
    def steps(self) -> list[dict[str, Any]]:
        """A dictionary per step: step, epoch, lr, loss."""
        return [row for row in self.history_rows() if "val_loss" not in row]

    def history_rows(self) -> list[dict[str, Any]]:
        """All that history.jsonl holds, in order; a last line that a killed process left unfinished is no row."""
        path = self.path / HISTORY
        if not path.exists():
            return []
        try:
            *whole, _ = path.read_text(encoding="utf-8").split("\n")
            return [json.loads(line) for line in whole if line.strip()]
        except (OSError, ValueError) as error:
            raise SightlineError(f"{path} cannot be read: {reason(error)}.") from None

    @cached_property
    def scores(self) -> Scores:
        """Scores on the test split."""
        from sightline.evaluation import Scores

        data = self.read_json(SCORES)
        if data.get("objective") == "contrastive":
            raise SightlineError(f"{self} learned from captions, and has recalls; see Run.retrieval.")
        return Scores.from_dict(data)

    @property
    def leaking(self) -> bool:
        """Whether test pictures show the same as pictures of other splits."""
        return "clean" in self.read_json(SCORES)

    @cached_property
    def clean_scores(self) -> Scores | None:
        """Scores on the test pictures that no other split shows the same as; None where these are all, or none."""
        from sightline.evaluation import Scores

        clean = self.read_json(SCORES).get("clean")
        return Scores.from_dict(clean) if clean else None

    @property
    def contrastive(self) -> bool:
        """Whether this run learned from captions: it has recalls, and no classes."""
        return self.read_json(RECIPE).get("objective") == "contrastive"

    @cached_property
    def retrieval(self) -> RetrievalScores:
        """Recall on the test split, of a run that learned from captions."""
        from sightline.evaluation.retrieval import RetrievalScores

        data = self.read_json(SCORES)
        if data.get("objective") != "contrastive":
            raise SightlineError(f"{self} learned classes, and has no recalls; its scores are in {SCORES}.")
        return RetrievalScores.from_dict(data)

    @cached_property
    def bundle(self) -> Bundle:
        """What is served."""
        return Bundle.load(self.path)

    @cached_property
    def classifier(self) -> Classifier:
        """The Bundle in memory, ready to predict."""
        return Classifier(self.bundle)

    @property
    def has_model(self) -> bool:
        """Whether a model has been kept already."""
        return (self.path / DESCRIPTION_FILE).exists()

    @property
    def report(self) -> Path:
        """The HTML report."""
        return self.path / REPORT

    @property
    def splits(self) -> Path:
        """The manifest of what was trained, validated and tested on."""
        return self.path / SPLITS

    def part(self, dataset: ImageDataset, split: str) -> tuple[ImageDataset, str]:
        """The pictures of `dataset` to measure on, and what to call them.

        The split is the data set's own; else the one that this run wrote down for these pictures; else, where it
        knows none of them, all of them, called `all`.
        """
        from sightline.data.dataset import NO_SPLIT, SPLITS
        from sightline.data.manifest import read_rows

        if split not in SPLITS:
            raise SightlineError(f"A split is train, val or test, not {split!r}.")
        if dataset.has_split(split):
            return dataset.split(split), split
        written = {row.path: row.split for row in read_rows(self.splits)} if self.splits.exists() else {}
        found = np.array([written.get(ref, NO_SPLIT) for ref in dataset.refs()], dtype=np.uint8)
        chosen = np.flatnonzero(found == SPLITS.index(split))
        if len(chosen):
            return dataset.subset(chosen), split
        if (found != NO_SPLIT).any() or split != "test":
            raise SightlineError(
                f"Neither {dataset.name} nor the run {self} has a {split} split of these pictures."
            )
        return dataset, "all"

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
            raise SightlineError(f"{path} cannot be read: {reason(error)}.") from None
        if not isinstance(data, dict):
            raise SightlineError(f"{path} cannot be read: it is not a JSON object.")
        return data

    def write_splits(self, dataset: ImageDataset) -> None:
        """Which picture was in which split, as a manifest that `fit` takes again."""
        from sightline.data.split import write_splits

        with disk_errors(self.splits):
            write_splits(dataset, self.splits)

    def add_history(self, rows: list[dict[str, Any]]) -> None:
        """Append rows to history.jsonl."""
        if rows:
            append_line(self.path / HISTORY, "\n".join(json.dumps(row, allow_nan=False) for row in rows))

    def cut_history(self, step: int, epoch: int) -> None:
        """Leave out what came after `step` steps and `epoch` epochs: it is about to happen again."""
        rows = self.history_rows()
        kept = [
            row for row in rows if row["step"] <= step and ("val_loss" not in row or row["epoch"] <= epoch)
        ]
        if (self.path / HISTORY).exists():
            write_beside(
                self.path / HISTORY, "".join(json.dumps(row, allow_nan=False) + "\n" for row in kept)
            )

    def add_facts(self, **facts: Any) -> None:
        """Add what is known of the run to run.json."""
        self.write_json(FACTS, self.read_json(FACTS) | facts)

    @property
    def checkpoints(self) -> Path:
        """The folder of the checkpoints, there while the run is under way."""
        return self.path / CHECKPOINTS

    def in_use(self) -> bool:
        """Whether another process works on this run."""
        import fcntl

        with suppress(OSError), (self.path / LOCK).open("r+", encoding="utf-8") as file:
            try:
                fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
        return False

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Within, no other process works on this run. Raises SightlineError where one does already.

        The lock is the system's, and goes with the process however that ends.
        """
        import fcntl

        place = self.path / LOCK
        with disk_errors(place), place.open("a+", encoding="utf-8") as file:
            try:
                fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                file.seek(0)
                raise SightlineError(
                    f"{self} is in use by another process ({file.read().strip()}); wait for it to end."
                ) from None
            file.truncate(0)
            file.write(str(os.getpid()))
            file.flush()
            try:
                yield
            finally:
                place.unlink(missing_ok=True)


def new_name(name: str) -> Path:
    """runs/NAME-TIMESTAMP, with a number where two begin in one second."""
    slug = re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-.") or "run"
    first = path = Path("runs") / f"{slug}-{datetime.now():%Y%m%d-%H%M%S}"
    for number in count(2):
        if not path.exists():
            break
        path = first.with_name(f"{first.name}-{number}")
    return path


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
