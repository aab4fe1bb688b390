"""A frozen first part of a network computes the same for the same picture: so it computes once.

What enters the first module that learns is kept for a number of augmented views of each training picture, and for
each validation picture; the rest of the network trains on those. View v of a picture is what the augmentation makes of
it in epoch v; epoch e takes view e mod views. A view is computed as a whole, in the order of the pictures, so a run
that was resumed has the same bits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from sightline.pipeline.cache import CHUNK, Failure
from sightline.pipeline.loader import Batch, PlainPictures, TrainLoader
from sightline.training.transfer_order import plain

# Pictures whose activations are computed together.
TOGETHER = 64
# The rest of a network, from activations on, may differ by this share from the whole: rounding.
ROUNDING = 1e-3


class Reached(Exception):
    """The frozen part has run: no error, it ends the pass."""


@dataclass(frozen=True)
class FrozenPart:
    """All that runs before `module`, the first one that learns. shape: of an uint8 picture (C, H, W).

    run: what a network answers to uint8 pictures, normalised, in the run's precision.
    """

    module: str
    shape: tuple[int, int, int]
    run: Callable[[Callable[..., Any], Tensor], Any]

    @torch.no_grad()
    def activations(self, model: nn.Module, images: Tensor) -> Tensor:
        """What enters `module`, for uint8 `images` (N, C, H, W)."""
        found: list[Tensor] = []

        def take(_module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            found.append(inputs[0].detach().clone())
            raise Reached

        handle = model.get_submodule(self.module).register_forward_pre_hook(take)
        modes = [(module, module.training) for module in model.modules()]
        try:
            model.eval()
            self.run(model, images)
        except Reached:
            pass
        finally:
            handle.remove()
            for module, training in modes:
                module.training = training
        return found[0]

    def rest(self, network: Callable[..., Any], activations: Tensor) -> Any:
        """What `network` (perhaps wrapped for training) answers where `activations` enter `module`.

        The pass begins with a single empty picture, and goes on with the activations in its place.
        """
        if activations.ndim == 4:
            activations = activations.contiguous(memory_format=torch.channels_last)

        def give(_module: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
            return (activations, *inputs[1:])

        handle = plain(network).get_submodule(self.module).register_forward_pre_hook(give)
        try:
            empty = torch.zeros(1, *self.shape, dtype=torch.uint8, device=activations.device)
            return self.run(network, empty)
        finally:
            handle.remove()

    @torch.no_grad()
    def holds(self, model: nn.Module) -> tuple[bool, int]:
        """Whether the rest of `model` can go on from activations alone, and how many bytes those of a picture take.

        It cannot where a shortcut leads around `module`, or where what comes later counts the pictures.
        """
        generator = torch.Generator().manual_seed(0)
        images = torch.randint(0, 256, (3, *self.shape), generator=generator, dtype=torch.uint8)
        images = images.to(next(model.parameters()).device)
        modes = [(module, module.training) for module in model.modules()]
        try:
            model.eval()
            whole = self.run(model, images)
            kept = self.activations(model, images)
            told = self.rest(model, kept)
        except (RuntimeError, TypeError, IndexError, ValueError):
            return False, 0
        finally:
            for module, training in modes:
                module.training = training
        same = told.shape == whole.shape and bool((told - whole).norm() <= ROUNDING * whole.norm())
        return same, kept[0].numel() * kept.element_size()


@dataclass
class Table:
    """Activations of one view. there: (N,), which pictures could be read."""

    values: Tensor
    there: np.ndarray
    failures: list[Failure]


@dataclass
class Views:
    """The activations of `views` augmented views of the training pictures, each computed when it is first needed."""

    part: FrozenPart
    model: nn.Module
    loader: TrainLoader
    targets: np.ndarray
    views: int
    tables: dict[int, Table] = field(default_factory=dict)

    def table(self, epoch: int) -> Table:
        """The view of `epoch`."""
        view = epoch % self.views
        if view not in self.tables:
            self.tables[view] = self.computed(view)
        return self.tables[view]

    def computed(self, view: int) -> Table:
        count = len(self.targets)
        parts = [np.arange(start, min(start + TOGETHER, count)) for start in range(0, count, TOGETHER)]
        values: Tensor | None = None
        there, failures = np.zeros(count, dtype=bool), []
        for batch in self.loader.epoch(view, parts):
            failures += batch.failures
            if not len(batch.indices):
                continue
            found = self.part.activations(self.model, batch.images).cpu()
            if values is None:
                values = found.new_zeros(count, *found.shape[1:])
            values[torch.from_numpy(batch.indices)] = found
            there[batch.indices] = True
        return Table(torch.zeros(count, 0) if values is None else values, there, failures)

    def batch(self, epoch: int, positions: np.ndarray) -> Batch:
        """The pictures at `positions` as `epoch` has them, by their activations."""
        table = self.table(epoch)
        good = positions[table.there[positions]]
        targets = torch.from_numpy(self.targets[good].astype(np.int64))
        missing = set(positions[~table.there[positions]].tolist())
        return Batch(
            table.values[torch.from_numpy(good)],
            targets,
            good,
            [failure for failure in table.failures if failure.index in missing],
        )


class KeptPictures(PlainPictures):
    """Validation pictures by their activations, computed once."""

    def __init__(self, pictures: PlainPictures, part: FrozenPart, model: nn.Module) -> None:
        super().__init__(pictures.dataset, pictures.preprocess, pictures.held)
        self.part, self.model = part, model
        self.kept: dict[tuple[int, int], list[Batch]] = {}

    def batches(self, size: int = CHUNK, part: tuple[int, int] = (0, 1)) -> Iterator[Batch]:
        if part not in self.kept:
            self.kept[part] = [
                batch._replace(images=self.part.activations(self.model, batch.images).cpu())
                if len(batch.indices)
                else batch
                for batch in super().batches(size, part)
            ]
        yield from self.kept[part]
