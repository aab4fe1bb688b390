"""Prepared pictures held in memory, and the threads that prepare them.

Every picture takes the same canonical stage (full decode, antialiased resize, uint8) whether it is held here, stored on
the disk (`pipeline.stored`) or read again each epoch, so the cache changes no bit of what is trained on.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np
import torch
from PIL import Image

from sightline.errors import UnreadableImage
from sightline.transforms.functional import resized
from sightline.transforms.preprocess import stored_size

if TYPE_CHECKING:
    from sightline.data.dataset import ImageDataset

Mode = Literal["RGB", "L"]


@dataclass(frozen=True, slots=True)
class Canonical:
    """The canonical stage: the short side (`crop`) or both sides (`squash`) of a training picture at `size` pixels.

    scaled: JPEGs may be decoded at half, a quarter or an eighth of their size, where their short side then still has
    `size` pixels. Faster, and other pixels: not the default.
    """

    size: int
    fit: str
    interpolation: str = "bilinear"
    scaled: bool = False

    def __call__(self, pixels: np.ndarray) -> np.ndarray:
        """A picture, read as `at_least` allows, as it is kept: uint8 (H, W) or (H, W, 3)."""
        width, height = stored_size((pixels.shape[1], pixels.shape[0]), self.size, self.fit)
        return resized(pixels, (height, width), self.interpolation)

    @property
    def at_least(self) -> int | None:
        """For `ImageDataset.read`: how small a picture may be decoded."""
        return self.size if self.scaled else None


Stage = Canonical | Callable[[Image.Image], Image.Image]

# Pictures that take less than this share of the free memory are held.
MEMORY_SHARE = 0.3
CHUNK = 256
# So many threads more than cores read: at any time some wait for the disk or for the interpreter lock.
WAITING = 2


@dataclass(frozen=True, slots=True)
class Failure:
    """A picture that could not be read: its index in the data set, its name, and why."""

    index: int
    ref: str
    reason: str


class Prepared(NamedTuple):
    """Pictures after a stage: `arrays[i]` is uint8 (H, W) or (H, W, 3) of data-set index `indices[i]`."""

    indices: np.ndarray
    arrays: list[np.ndarray]
    failures: list[Failure]

    def stacked(self) -> torch.Tensor:
        """All pictures, which must be of one size, as uint8 (N, C, H, W)."""
        return stack(self.arrays)


def stack(arrays: Sequence[np.ndarray]) -> torch.Tensor:
    """uint8 arrays (H, W) or (H, W, 3) of one size as one tensor (N, C, H, W)."""
    return as_batch(np.stack(arrays))


def as_batch(batch: np.ndarray) -> torch.Tensor:
    """uint8 (N, H, W) or (N, H, W, 3) as a tensor (N, C, H, W) that shares its memory.

    Colours stay last there, as they come and as convolutions like them: torch calls that channels-last.
    """
    return torch.from_numpy(batch[:, None] if batch.ndim == 3 else batch.transpose(0, 3, 1, 2))


def cores() -> int:
    """The processors that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def read_chunks(
    dataset: ImageDataset, stage: Stage, mode: Mode, size: int = CHUNK, threads: int | None = None
) -> Iterator[Prepared]:
    """Read `dataset` in order, `size` pictures at a time, each through `stage`; unreadable ones are reported.

    The decoders release the interpreter lock, so plain threads keep all cores busy. One chunk is read ahead.
    """

    def one(index: int) -> np.ndarray | Failure:
        try:
            if isinstance(stage, Canonical):
                return stage(dataset.read_pixels(index, mode, stage.at_least))
            return np.asarray(stage(dataset.read(index, mode)))
        except UnreadableImage as error:
            return Failure(index, dataset.ref(index), error.reason)

    with ThreadPoolExecutor(threads or cores() + WAITING) as pool:
        starts = range(0, len(dataset), size)
        ahead = [pool.submit(one, i) for i in range(min(size, len(dataset)))]
        for start in starts:
            current = ahead
            following = range(start + size, min(start + 2 * size, len(dataset)))
            ahead = [pool.submit(one, i) for i in following]
            results = [future.result() for future in current]
            good = [(start + k, r) for k, r in enumerate(results) if not isinstance(r, Failure)]
            yield Prepared(
                np.array([i for i, _ in good], dtype=np.int64),
                [array for _, array in good],
                [r for r in results if isinstance(r, Failure)],
            )


def read_all(
    dataset: ImageDataset, stage: Stage, mode: Mode, progress: Callable[[int], None] | None = None
) -> Prepared:
    """The whole of `dataset` through `stage`; `progress` is told the number of pictures read so far."""
    indices, arrays, failures = [], [], []
    for chunk in read_chunks(dataset, stage, mode):
        indices.append(chunk.indices)
        arrays += chunk.arrays
        failures += chunk.failures
        if progress:
            progress(len(arrays) + len(failures))
    return Prepared(np.concatenate(indices or [np.array([], dtype=np.int64)]), arrays, failures)


def free_memory() -> int:
    """Bytes of memory that can be had now, within the limit of a container."""
    pages = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    available = pages
    try:
        with open("/proc/meminfo", encoding="ascii") as file:  # noqa: PTH123
            available = next(int(line.split()[1]) * 1024 for line in file if line.startswith("MemAvailable"))
    except (OSError, StopIteration):
        pass
    try:
        with open("/sys/fs/cgroup/memory.max", encoding="ascii") as file:  # noqa: PTH123
            limit = file.read().strip()
        with open("/sys/fs/cgroup/memory.current", encoding="ascii") as file:  # noqa: PTH123
            used = int(file.read())
        if limit != "max":
            available = min(available, max(0, int(limit) - used))
    except OSError:
        pass
    return available


def fits(count: int, bytes_each: int) -> bool:
    """Whether `count` pictures of about `bytes_each` are worth holding in memory."""
    return count * bytes_each <= MEMORY_SHARE * free_memory()
