"""Data and transforms to batches: augmented ones for training, plain ones for everything else."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset, Sampler

from sightline.errors import UnreadableImage
from sightline.pipeline.cache import CHUNK, Failure, Prepared, Stage, read_chunks, stack
from sightline.pipeline.order import uniforms
from sightline.transforms.augment import Augment, Crop
from sightline.transforms.preprocess import Preprocess

if TYPE_CHECKING:
    from sightline.data.dataset import ImageDataset

Key = tuple[int, int]  # (epoch, position in the training set)


class Batch(NamedTuple):
    """images: uint8 (N, C, H, W); targets: int64 (N,); indices: positions in the data set (N,)."""

    images: torch.Tensor
    targets: torch.Tensor
    indices: np.ndarray
    failures: list[Failure]


class TrainPictures(Dataset[Batch]):
    """Augmented training pictures, served a batch at a time for keys (epoch, position).

    `held` has the pictures after the canonical stage; without it they are read from `dataset` through `stage`.
    """

    def __init__(
        self,
        dataset: ImageDataset,
        stage: Stage,
        augment: Augment,
        preprocess: Preprocess,
        seed: int,
        held: Prepared | None = None,
    ) -> None:
        self.dataset, self.stage, self.preprocess, self.seed = dataset, stage, preprocess, seed
        self.augment = augment.resized(preprocess.size)
        self.tensor = self._as_tensor(held) if held else None
        self.arrays = held.arrays if held and self.tensor is None else None

    def _as_tensor(self, held: Prepared) -> torch.Tensor | None:
        """All held pictures as one tensor, where the whole augmentation can be done by the batch."""
        sizes = {array.shape for array in held.arrays}
        cuts = any(isinstance(step, Crop) for step in self.augment.steps)
        if not self.augment.batchable or len(sizes) != 1:
            return None
        return held.stacked() if cuts or next(iter(sizes))[:2] == self.preprocess.size else None

    def __len__(self) -> int:
        return len(self.dataset)

    @property
    def by_the_batch(self) -> bool:
        """Whether whole batches are cut from one tensor: so fast that worker processes would only cost."""
        return self.tensor is not None

    def __getitems__(self, keys: list[Key]) -> Batch:
        epoch, indices = keys[0][0], np.array([index for _, index in keys])
        draws = uniforms(self.seed, epoch, indices, self.augment.draws)
        failures: list[Failure] = []
        if self.tensor is not None:
            images = self.augment.apply_batch(self.tensor[torch.from_numpy(indices)], draws)
        else:
            arrays, kept = [], []
            for row, (index, u) in enumerate(zip(indices.tolist(), draws, strict=True)):
                try:
                    arrays.append(self._one(index, u))
                    kept.append(row)
                except UnreadableImage as error:
                    failures.append(Failure(index, self.dataset.ref(index), error.reason))
            indices = indices[kept]
            images = stack(arrays) if arrays else torch.empty(0, dtype=torch.uint8)
        targets = torch.from_numpy(self.dataset.targets[indices].astype(np.int64))
        return Batch(images, targets, indices, failures)

    def _one(self, index: int, u: np.ndarray) -> np.ndarray:
        if self.arrays is not None:
            picture = Image.fromarray(self.arrays[index])
        else:
            picture = self.stage(self.dataset.read(index, mode=self.preprocess.mode))
        return np.asarray(self.preprocess.image(self.augment.apply(picture, u)))


class StepSampler(Sampler[list[Key]]):
    """The batches of one epoch at a time; `begin` says which epoch, in which order, from which batch on."""

    def __init__(self, batch_size: int) -> None:
        self.batch_size = batch_size
        self.batches: list[list[Key]] = []

    def begin(self, epoch: int, order: np.ndarray, first: int = 0) -> None:
        """Take `order` in batches; a last short batch is left out unless it is the only one."""
        count = max(1, len(order) // self.batch_size)
        parts = [order[i * self.batch_size : (i + 1) * self.batch_size] for i in range(first, count)]
        self.batches = [[(epoch, int(i)) for i in part] for part in parts]

    def __iter__(self) -> Iterator[list[Key]]:
        return iter(self.batches)

    def __len__(self) -> int:
        return len(self.batches)


def unchanged(batch: Any) -> Any:
    """The pictures come in whole batches already: nothing to collate."""
    return batch


class TrainLoader:
    """Batches of `pictures`, an epoch at a time, from `workers` processes that start once (0: in this one)."""

    def __init__(self, pictures: TrainPictures, batch_size: int, workers: int) -> None:
        self.sampler = StepSampler(batch_size)
        self.loader: DataLoader[Any] = DataLoader(
            pictures,
            batch_sampler=self.sampler,
            num_workers=workers,
            collate_fn=unchanged,
            persistent_workers=workers > 0,
        )

    def epoch(self, epoch: int, order: np.ndarray, first: int = 0) -> Iterator[Batch]:
        """The batches of `epoch` over positions `order`, from batch `first` on."""
        self.sampler.begin(epoch, order, first)
        return iter(self.loader)


class PlainPictures:
    """Pictures through a Preprocess, in order, in batches. Held in memory where `held` is given."""

    def __init__(self, dataset: ImageDataset, preprocess: Preprocess, held: Prepared | None = None) -> None:
        self.dataset, self.preprocess, self.held = dataset, preprocess, held

    def batches(self, size: int = CHUNK) -> Iterator[Batch]:
        """Every readable picture once, `size` at a time."""
        targets = self.dataset.targets
        if self.held is not None:
            for start in range(0, len(self.held.arrays), size):
                indices = self.held.indices[start : start + size]
                yield Batch(
                    stack(self.held.arrays[start : start + size]), as_targets(targets, indices), indices, []
                )
            return
        for chunk in read_chunks(self.dataset, self.preprocess.image, self.preprocess.mode, size):
            images = chunk.stacked() if chunk.arrays else torch.empty(0, dtype=torch.uint8)
            yield Batch(images, as_targets(targets, chunk.indices), chunk.indices, chunk.failures)


def as_targets(targets: np.ndarray, indices: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(targets[indices].astype(np.int64))
