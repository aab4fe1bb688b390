"""Pictures to features, each computed once: what `Embedding`, transfer learning and advice share, as plain functions.

A picture is known by its content: the bytes of its file, or the pixels of its array. Files are hashed first; those
whose features are kept are not even decoded. What is computed is computed from the very bytes that were hashed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from os import PathLike, fspath
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sightline.data.image_io import ImageSource, read_image
from sightline.errors import UnreadableImage
from sightline.features.embedding_cache import KEY, FeatureCache, Row
from sightline.pipeline.cache import Failure, cores, stack

if TYPE_CHECKING:
    from sightline.data.dataset import ImageDataset
    from sightline.features.embedding_network import Taps
    from sightline.transforms.preprocess import Preprocess

# Pictures whose features go into one file: what an interrupted run computed before is kept.
TOGETHER = 1024
Mode = Literal["RGB", "L"]


@dataclass(frozen=True, slots=True, eq=False)
class Features:
    """Of the readable pictures. values: for each layer float32 (N, F); indices (N,): which pictures they are."""

    values: list[NDArray[np.float32]]
    indices: NDArray[np.int64]
    failures: list[Failure]


class Read(NamedTuple):
    """A picture as the network takes it, uint8 (H, W) or (H, W, 3), and the hash of what it was read from."""

    number: int
    key: bytes
    image: NDArray[np.uint8]


def features_of(
    taps: Taps,
    pictures: ImageDataset | Iterable[ImageSource],
    *,
    batch_size: int = 64,
    kept: bool = True,
    progress: Callable[[int], None] | None = None,
) -> Features:
    """The features of `pictures` in each layer of `taps`, from the cache where they are there.

    pictures: whatever `read_image` takes, or a data set. kept: use and fill the cache on disk.
    progress: is told the number of pictures done. Unreadable ones are reported, not raised.
    """
    given = Listed(pictures)
    preprocess = taps.network.preprocess
    caches = [FeatureCache(key) for key in taps.keys] if kept else []
    rows: dict[int, list[Row]] = {}
    failures: list[Failure] = []
    with ThreadPoolExecutor(cores()) as pool:
        for start in range(0, len(given), TOGETHER):
            missing: Sequence[int] = range(start, min(start + TOGETHER, len(given)))
            if kept:
                hashed = zip(missing, pool.map(lambda i: given.key(i, preprocess.mode), missing), strict=True)
                keys = {i: key for i, key in hashed if key}
                known = [cache.find(list(keys.values())) for cache in caches]
                rows |= {
                    i: [found[key] for found in known]
                    for i, key in keys.items()
                    if all(key in found for found in known)
                }
                missing = [i for i in missing if i not in rows]
            fresh: dict[bytes, list[Row]] = {}
            for part in read_ahead(pool, given, missing, preprocess, batch_size):
                failures += [each for each in part if isinstance(each, Failure)]
                good = [each for each in part if isinstance(each, Read)]
                if good:
                    values = taps(stack([each.image for each in good]))
                    for each, *row in zip(good, *values, strict=True):
                        rows[each.number] = fresh[each.key] = row
                if progress:
                    progress(len(rows) + len(failures))
            for place, cache in enumerate(caches):
                cache.keep({key: row[place] for key, row in fresh.items()})
            if progress:
                progress(len(rows) + len(failures))
    indices = np.array(sorted(rows), dtype=np.int64)
    lengths = taps.lengths if not len(indices) else []
    stacked = [
        np.stack([rows[i][place] for i in indices.tolist()]) for place in range(len(taps.layers)) if rows
    ]
    return Features(stacked or [np.empty((0, n), np.float32) for n in lengths], indices, failures)


class Listed:
    """Pictures by number: what each is read from, what it is called, and its content's hash."""

    def __init__(self, pictures: ImageDataset | Iterable[ImageSource]) -> None:
        from sightline.data.dataset import ImageDataset

        self.dataset = pictures if isinstance(pictures, ImageDataset) else None
        self.sources = [] if isinstance(pictures, ImageDataset) else list(pictures)

    def __len__(self) -> int:
        return len(self.sources if self.dataset is None else self.dataset)

    def content(self, index: int, mode: Mode) -> tuple[bytes, ImageSource]:
        """(hash, what `read_image` takes) of picture `index`; of a file its bytes. Raises UnreadableImage."""
        source: ImageSource
        if self.dataset is not None:
            source = self.dataset.path(index) or self.dataset.read(index, mode)
        else:
            source = self.sources[index]
        if isinstance(source, str | PathLike):
            try:
                source = Path(source).expanduser().read_bytes()
            except OSError:
                return b"", read_image(source, mode)  # the one door says why, in its own words
        if isinstance(source, Image.Image):  # its palette, orientation and transparency count as well
            source = read_image(source, mode)
        return content_key(source), source

    def name(self, index: int) -> str:
        if self.dataset is not None:
            return self.dataset.ref(index)
        source = self.sources[index]
        return str(fspath(source)) if isinstance(source, str | PathLike) else f"picture {index}"

    def key(self, index: int, mode: Mode) -> bytes | None:
        """The hash of its content; None where it cannot be read."""
        try:
            return self.content(index, mode)[0] or None
        except UnreadableImage:
            return None

    def read(self, index: int, preprocess: Preprocess) -> Read | Failure:
        """Picture `index` through `preprocess`."""
        try:
            key, source = self.content(index, preprocess.mode)
            return Read(index, key, np.asarray(preprocess.image(read_image(source, preprocess.mode))))
        except UnreadableImage as error:
            return Failure(index, self.name(index), error.reason)


def content_key(source: ImageSource) -> bytes:
    """The hash of a file's bytes, or of the numbers in an array or a Pillow image."""
    digest = hashlib.blake2b(digest_size=KEY)
    if isinstance(source, bytes):
        digest.update(source)
    else:
        array = np.ascontiguousarray(np.asarray(source))
        digest.update(f"array {array.dtype} {array.shape} ".encode())
        digest.update(array.data)
    return digest.digest()


def read_ahead(
    pool: ThreadPoolExecutor, given: Listed, indices: Sequence[int], preprocess: Preprocess, size: int
) -> Iterator[list[Read | Failure]]:
    """The pictures at `indices`, `size` at a time; the next ones are read while these are used."""
    parts = [indices[start : start + size] for start in range(0, len(indices), size)]
    ahead = [[pool.submit(given.read, i, preprocess) for i in part] for part in parts[:1]]
    for number in range(len(parts)):
        current = ahead.pop()
        if number + 1 < len(parts):
            ahead.append([pool.submit(given.read, i, preprocess) for i in parts[number + 1]])
        yield [future.result() for future in current]
