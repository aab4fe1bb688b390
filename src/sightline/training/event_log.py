"""The run's figures for TensorBoard, as it goes. Needs the extra: pip install 'sightline[tensorboard]'."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Any

from sightline.errors import SightlineError, UnknownName

LOGS = ("tensorboard",)


class EventLog:
    """Writes event files into `folder`/tensorboard: loss and rate by the step, the epoch's figures by the epoch."""

    def __init__(self, folder: Path, kind: str) -> None:
        check_log(kind)
        from torch.utils.tensorboard import SummaryWriter

        self.writer: Any = SummaryWriter(str(folder / kind))

    def step(self, row: dict[str, Any]) -> None:
        """A row of one step."""
        for key in ("loss", "lr"):
            self.writer.add_scalar(f"step/{key}", row[key], row["step"])

    def epoch(self, row: dict[str, Any]) -> None:
        """A row of one epoch."""
        for key in row:
            if key.startswith(("train_", "val_")):
                self.writer.add_scalar(f"epoch/{key}", row[key], row["step"])

    def __enter__(self) -> EventLog:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.writer.close()


def check_log(kind: str) -> None:
    """Raises SightlineError for a log that there is not, or whose package is not installed."""
    if kind not in LOGS:
        raise UnknownName("log", kind, LOGS)
    if find_spec("tensorboard") is None:
        raise SightlineError(
            "--log tensorboard needs the package tensorboard: pip install 'sightline[tensorboard]'."
        )
