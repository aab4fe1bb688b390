"""Data and transforms to batches: augmented ones for training, plain ones for everything else."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset, Sampler

from sightline.errors import UnreadableImage
from sightline.pipeline.cache import CHUNK, Failure, Prepared, Stage, read_chunks, stack
from sightline.pipeline.order import uniforms
from sightline.transforms.augment import Augment
from sightline.transforms.crops import Crop
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
        self.head, self.tail = self.augment.split()
        self.cuts = any(isinstance(step, Crop) for step in self.tail.steps)
        self.tensor = self._as_tensor(held) if held else None
        self.arrays = held.arrays if held and self.tensor is None else None

    def _as_tensor(self, held: Prepared) -> torch.Tensor | None:
        """All held pictures as one tensor, where the whole augmentation can be done by the batch."""
        sizes = {array.shape[:2] for array in held.arrays}
        return held.stacked() if not self.head.steps and self._stackable(sizes) else None

    def _stackable(self, sizes: set[tuple[int, ...]]) -> bool:
        """Whether pictures of these (height, width) take the tail in one batch, and end at the network's size."""
        return len(sizes) == 1 and (self.cuts or sizes == {self.preprocess.size})

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
            pictures, kept = [], []
            head, tail = np.split(draws, [self.head.draws], axis=1)
            for row, (index, u) in enumerate(zip(indices.tolist(), head, strict=True)):
                try:
                    pictures.append(self.head.apply(self._picture(index), u))
                    kept.append(row)
                except UnreadableImage as error:
                    failures.append(Failure(index, self.dataset.ref(index), error.reason))
            indices = indices[kept]
            images = self._finish(pictures, tail[kept])
        targets = torch.from_numpy(self.dataset.targets[indices].astype(np.int64))
        return Batch(images, targets, indices, failures)

    def _picture(self, index: int) -> Image.Image:
        if self.arrays is not None:
            return Image.fromarray(self.arrays[index])
        return self.stage(self.dataset.read(index, mode=self.preprocess.mode))

    def _finish(self, pictures: list[Image.Image], u: np.ndarray) -> torch.Tensor:
        """The tail of the augmentation, by the batch where the pictures are of one size, and the network's size."""
        if not pictures:
            return torch.empty(0, dtype=torch.uint8)
        if self._stackable({(p.height, p.width) for p in pictures}):
            return self.tail.apply_batch(stack([np.asarray(p) for p in pictures]), u)
        done = [self.tail.apply(p, row) for p, row in zip(pictures, u, strict=True)]
        size = self.preprocess.size[::-1]
        return stack([np.asarray(p if p.size == size else self.preprocess.image(p)) for p in done])


class StepSampler(Sampler[list[Key]]):
    """The batches of one epoch at a time; `begin` says which."""

    def __init__(self) -> None:
        self.batches: list[list[Key]] = []

    def begin(self, epoch: int, parts: Sequence[np.ndarray]) -> None:
        """Take `parts`, the positions of each batch, in `epoch`."""
        self.batches = [[(epoch, index) for index in part.tolist()] for part in parts]

    def __iter__(self) -> Iterator[list[Key]]:
        return iter(self.batches)

    def __len__(self) -> int:
        return len(self.batches)


def unchanged(batch: Any) -> Any:
    """The pictures come in whole batches already: nothing to collate."""
    return batch


class TrainLoader:
    """Batches of `pictures`, an epoch at a time, from `workers` processes that start once (0: in this one).

    `pinned` batches lie in memory from which a GPU fetches them while it computes.
    """

    def __init__(self, pictures: TrainPictures, workers: int, pinned: bool = False) -> None:
        self.augment = pictures.augment
        self.sampler = StepSampler()
        self.loader: DataLoader[Any] = DataLoader(
            pictures,
            batch_sampler=self.sampler,
            num_workers=workers,
            collate_fn=unchanged,
            persistent_workers=workers > 0,
            pin_memory=pinned,
        )

    def epoch(self, epoch: int, parts: Sequence[np.ndarray]) -> Iterator[Batch]:
        """A batch for each of `parts`, positions in the training set, as they are augmented in `epoch`."""
        self.sampler.begin(epoch, parts)
        return iter(self.loader)


class PlainPictures:
    """Pictures through a Preprocess, in order, in batches. Held in memory where `held` is given."""

    def __init__(self, dataset: ImageDataset, preprocess: Preprocess, held: Prepared | None = None) -> None:
        self.dataset, self.preprocess, self.held = dataset, preprocess, held

    def batches(self, size: int = CHUNK, part: tuple[int, int] = (0, 1)) -> Iterator[Batch]:
        """Every readable picture once, `size` at a time; of part (k, n) every n-th from the k-th on."""
        targets = self.dataset.targets
        if self.held is not None:
            mine = range(part[0], len(self.held.arrays), part[1])
            for start in range(0, len(mine), size):
                chosen = mine[start : start + size]
                indices = self.held.indices[chosen.start : chosen.stop : chosen.step]
                images = stack(self.held.arrays[chosen.start : chosen.stop : chosen.step])
                yield Batch(images, as_targets(targets, indices), indices, [])
            return
        own = np.arange(part[0], len(self.dataset), part[1])
        dataset = self.dataset.subset(own)
        for chunk in read_chunks(dataset, self.preprocess.image, self.preprocess.mode, size):
            images = chunk.stacked() if chunk.arrays else torch.empty(0, dtype=torch.uint8)
            indices = own[chunk.indices]
            yield Batch(images, as_targets(targets, indices), indices, chunk.failures)


def as_targets(targets: np.ndarray, indices: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(targets[indices].astype(np.int64))
