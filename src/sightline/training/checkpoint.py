"""Checkpoints: the whole state of a run between two steps, from which it goes on bit for bit.

A checkpoint is a folder `step-00001234` with `state.safetensors` (weights, averaged weights, optimiser, best weights)
and `state.json` (position, sums of the epoch, history, what was best). It is written beside under another name, put
on the disk, and renamed: so it is there whole or not at all, whenever the process or the power goes. The last two
are kept. No random state is in it, for there is none: every draw is keyed by (seed, epoch, step, sample).
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from sightline.errors import SightlineError
from sightline.files import disk_errors, reason, write_file

if TYPE_CHECKING:
    from sightline.training.state import TrainState

FORMAT = 3
TENSORS, FACTS = "state.safetensors", "state.json"
KEPT = 2
# Between two checkpoints lie at least so many seconds, and twenty times what writing one took, but never more than
# LONGEST: with a step on top, less than a minute of work is lost.
SECONDS, LONGEST = 20.0, 50.0


@dataclass(frozen=True)
class Checkpoint:
    """What was read back: tensors by name, and plain data."""

    path: Path
    tensors: dict[str, torch.Tensor]
    facts: dict[str, Any]

    @property
    def step(self) -> int:
        """Steps done."""
        return int(self.facts["step"])

    def restore(self, state: TrainState) -> None:
        """Put all of it into `state`, a run's state before its first step. Raises SightlineError if it does not fit."""
        try:
            state.model.load_state_dict(self.part("model"))
            if state.ema is not None:
                state.ema.load_state_dict(self.part("ema"))
            self.restore_optimizer(state.optimizer)
        except (RuntimeError, KeyError) as error:
            raise SightlineError(
                f"{self.path} does not fit the network and optimiser of the recipe beside it: "
                f"{str(error).splitlines()[0].rstrip(':')}."
            ) from None
        state.restore(self.facts, self.part("best"))

    def part(self, name: str) -> dict[str, torch.Tensor]:
        """The tensors whose names begin with `name` and a point."""
        return {
            key[len(name) + 1 :]: value for key, value in self.tensors.items() if key.startswith(f"{name}.")
        }

    def restore_optimizer(self, optimizer: torch.optim.Optimizer) -> None:
        kept = self.part("optimizer")
        for number, parameter in enumerate(parameters_of(optimizer)):
            own = {key: value for key, value in kept.items() if key.startswith(f"{number}.")}
            for key, value in own.items():
                name = key.split(".", 1)[1]
                if value.shape == parameter.shape and value.ndim:
                    # The fused optimisers walk memory in the parameter's order: the buffer has to lie as it does.
                    value = torch.empty_like(parameter).copy_(value)
                optimizer.state[parameter][name] = value


def parameters_of(optimizer: torch.optim.Optimizer) -> list[torch.nn.Parameter]:
    """The optimiser's parameters in its order."""
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]


def tensors_of(state: TrainState) -> dict[str, torch.Tensor]:
    """All tensors of `state` by name, on the CPU."""
    found = {f"model.{name}": value for name, value in state.model.state_dict().items()}
    if state.ema is not None:
        found |= {f"ema.{name}": value for name, value in state.ema.state_dict().items()}
    for number, parameter in enumerate(parameters_of(state.optimizer)):
        for name, value in state.optimizer.state.get(parameter, {}).items():
            if isinstance(value, torch.Tensor):  # SGD without momentum keeps None
                found[f"optimizer.{number}.{name}"] = value
    if state.best is not None:
        found |= {f"best.{name}": value for name, value in state.best.weights.items()}
    return {name: value.detach().cpu().contiguous() for name, value in found.items()}


class Checkpoints:
    """The checkpoints of one run, in `folder`. `seconds` between two of them; 0 writes one after every step."""

    def __init__(self, folder: Path, seconds: float = SECONDS) -> None:
        self.folder, self.seconds = folder, seconds
        self.last = time.monotonic()
        self.took = 0.0

    def due(self) -> bool:
        """Whether it is time for the next one."""
        wait = min(max(self.seconds, 20 * self.took), max(LONGEST, self.seconds)) if self.seconds else 0.0
        return time.monotonic() - self.last >= wait

    def save(self, state: TrainState) -> None:
        """Write one, and remove all but the last two. Raises SightlineError where the disk refuses."""
        from safetensors.torch import save

        begun = time.monotonic()
        place = self.folder / f"step-{state.step:08}"
        beside = self.folder / f".{place.name}"
        with disk_errors(place):
            shutil.rmtree(beside, ignore_errors=True)
            beside.mkdir(parents=True)
            try:
                data = save(tensors_of(state))
                facts = {"format": FORMAT, "sha256": hashlib.sha256(data).hexdigest(), **state.facts()}
                write_file(beside / TENSORS, data)
                write_file(beside / FACTS, json.dumps(facts, allow_nan=False).encode())
                if place.exists():  # interrupted again at the step that it was resumed from
                    shutil.rmtree(place)
                os.rename(beside, place)  # noqa: PTH104
            except BaseException:
                shutil.rmtree(beside, ignore_errors=True)
                raise
            for old in self.steps()[:-KEPT]:
                shutil.rmtree(self.folder / f"step-{old:08}", ignore_errors=True)
            for left in self.folder.glob(".step-*"):  # half of one, from a process that was killed
                shutil.rmtree(left, ignore_errors=True)
        self.last = time.monotonic()
        self.took = self.last - begun

    def steps(self) -> list[int]:
        """The steps that there are checkpoints of, in order."""
        if not self.folder.is_dir():
            return []
        found = (re.fullmatch(r"step-(\d{8,})", entry.name) for entry in self.folder.iterdir())
        return sorted(int(match[1]) for match in found if match)

    def load(self) -> Checkpoint | None:
        """The last whole one; None where there is none. Raises SightlineError for one of another version."""
        for step in reversed(self.steps()):
            try:
                return read(self.folder / f"step-{step:08}")
            except (OSError, ValueError, KeyError):
                continue  # damaged by the disk: the one before is as good
        return None

    def discard(self) -> None:
        """Remove all of them."""
        shutil.rmtree(self.folder, ignore_errors=True)


def read(path: Path) -> Checkpoint:
    """One checkpoint. Raises ValueError, KeyError or OSError where it is damaged, SightlineError for another format."""
    from safetensors import SafetensorError
    from safetensors.torch import load

    facts = json.loads((path / FACTS).read_text(encoding="utf-8"))
    if facts["format"] != FORMAT:
        raise SightlineError(
            f"{path} has format {facts['format']!r}; this version of sightline reads format {FORMAT}."
        )
    data = (path / TENSORS).read_bytes()
    if hashlib.sha256(data).hexdigest() != facts["sha256"]:
        raise ValueError(f"{path / TENSORS} has changed since it was written")
    try:
        return Checkpoint(path, load(data), facts)
    except SafetensorError as error:
        raise ValueError(reason(error)) from None
