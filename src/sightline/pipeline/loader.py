"""Data and transforms to batches: augmented ones for training, plain ones for everything else."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset, Sampler

from sightline.errors import UnreadableImage
from sightline.pipeline.cache import (
    CHUNK,
    WAITING,
    Canonical,
    Failure,
    Prepared,
    as_batch,
    cores,
    read_chunks,
    stack,
)
from sightline.pipeline.order import uniforms
from sightline.pipeline.stored import StoredPictures
from sightline.transforms.augment import Augment
from sightline.transforms.crops import Crop, RandomResizedCrop
from sightline.transforms.preprocess import Preprocess
from sightline.transforms.step import pixels_last

if TYPE_CHECKING:
    from sightline.data.dataset import ImageDataset

Key = tuple[int, int]  # (epoch, position in the training set)
SMALL = 96 * 96
"""Pixels of a picture below which its augmentation takes less time than to hand it to a thread."""


class Batch(NamedTuple):
    """images: uint8 (N, C, H, W); targets: int64 (N,); indices: positions in the data set (N,)."""

    images: torch.Tensor
    targets: torch.Tensor
    indices: np.ndarray
    failures: list[Failure]


class TrainPictures(Dataset[Batch]):
    """Augmented training pictures, served a batch at a time for keys (epoch, position).

    `held` has the pictures after the canonical stage, `stored` those of them that are on the disk; without them they
    are read from `dataset` through `stage`. The bits are the same.
    """

    def __init__(
        self,
        dataset: ImageDataset,
        stage: Canonical,
        augment: Augment,
        preprocess: Preprocess,
        seed: int,
        held: Prepared | None = None,
        stored: StoredPictures | None = None,
    ) -> None:
        self.dataset, self.stage, self.preprocess, self.seed = dataset, stage, preprocess, seed
        self.augment = augment.resized(preprocess.size)
        head, self.tail = self.augment.split()
        # The most usual first step has a faster way of its own; what follows it works on Pillow images.
        self.cut = head.steps[0] if head.steps and isinstance(head.steps[0], RandomResizedCrop) else None
        self.head = replace(head, steps=head.steps[1:]) if self.cut else head
        self.cuts = any(isinstance(step, Crop) for step in self.tail.steps)
        self.whole = self._as_one(held) if held else None
        self.arrays = held.arrays if held and self.whole is None else None
        self.stored = stored
        self.pool: ThreadPoolExecutor | None = None

    def _as_one(self, held: Prepared) -> np.ndarray | None:
        """All held pictures as one array (N, H, W, C), where the whole augmentation can be done by the batch."""
        sizes = {array.shape[:2] for array in held.arrays}
        plain = self.cut is None and not self.head.steps
        return np.stack(held.arrays) if plain and self._stackable(sizes) else None

    def _stackable(self, sizes: set[tuple[int, ...]]) -> bool:
        """Whether pictures of these (height, width) take the tail in one batch, and end at the network's size."""
        return len(sizes) == 1 and (self.cuts or sizes == {self.preprocess.size})

    def __len__(self) -> int:
        return len(self.dataset)

    @property
    def by_the_batch(self) -> bool:
        """Whether whole batches are cut from one array."""
        return self.whole is not None

    def __getitems__(self, keys: list[Key]) -> Batch:
        epoch, indices = keys[0][0], np.array([index for _, index in keys])
        draws = uniforms(self.seed, epoch, indices, self.augment.draws)
        failures: list[Failure] = []
        if self.whole is not None:
            images = self.augment.apply_batch(as_batch(self.whole[indices]), draws)
        else:
            head, tail = np.split(draws, [self.augment.draws - self.tail.draws], axis=1)
            each = self.pool.map if self.pool else map
            done = list(each(self._one, indices.tolist(), head))
            failures = [one for one in done if isinstance(one, Failure)]
            kept = [row for row, one in enumerate(done) if not isinstance(one, Failure)]
            indices = indices[kept]
            images = self._finish([one for one in done if not isinstance(one, Failure)], tail[kept])
        targets = torch.from_numpy(self.dataset.targets[indices].astype(np.int64))
        return Batch(images, targets, indices, failures)

    def use_threads(self, wanted: bool) -> None:
        """Work on the pictures of a batch on all cores: decoders and resizes release the interpreter lock.

        Not on small ones in memory: to hand one over takes longer than to augment it.
        """
        height, width = self.preprocess.size
        small = self.arrays is not None and height * width < SMALL
        self.pool = ThreadPoolExecutor(cores() + WAITING) if wanted and cores() > 1 and not small else None

    def _one(self, index: int, u: np.ndarray) -> np.ndarray | Failure:
        """The picture at `index` as the head of the augmentation leaves it."""
        try:
            pixels = self._pixels(index)
        except UnreadableImage as error:
            return Failure(index, self.dataset.ref(index), error.reason)
        if self.cut:
            pixels, u = self.cut.cut(pixels, u[: self.cut.draws], self.augment.size), u[self.cut.draws :]
        return np.asarray(self.head.apply(Image.fromarray(pixels), u)) if self.head.steps else pixels

    def _pixels(self, index: int) -> np.ndarray:
        """The picture at `index` after the canonical stage."""
        array = self.arrays[index] if self.arrays is not None else None
        if array is None and self.stored is not None:
            array = self.stored.find(index)
        if array is not None:
            return array
        return self.stage(self.dataset.read_pixels(index, self.preprocess.mode, self.stage.at_least))

    def _finish(self, pictures: list[np.ndarray], u: np.ndarray) -> torch.Tensor:
        """The tail of the augmentation, by the batch where the pictures are of one size, and the network's size.

        Alone or in a batch a picture takes the tail as a tensor: it comes out the same.
        """
        if not pictures:
            return torch.empty(0, dtype=torch.uint8)
        if self._stackable({pixels.shape[:2] for pixels in pictures}):
            return self.tail.apply_batch(stack(pictures), u)
        done = [
            pixels_last(self.tail.apply_batch(stack([pixels]), row[None])[0])
            for pixels, row in zip(pictures, u, strict=True)
        ]
        size = self.preprocess.size
        return stack(
            [
                p if p.shape[:2] == size else np.asarray(self.preprocess.image(Image.fromarray(p)))
                for p in done
            ]
        )


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
    """Batches of `pictures`, an epoch at a time, from `workers` processes that start once (0: threads of this one).

    What is cut from one array by the batch is so fast that processes would only cost: there are none then.

    `pinned` batches lie in memory from which a GPU fetches them while it computes.
    """

    def __init__(self, pictures: TrainPictures, workers: int, pinned: bool = False) -> None:
        self.augment = pictures.augment
        if pictures.by_the_batch:
            workers = 0
        pictures.use_threads(not workers and not pictures.by_the_batch)
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
