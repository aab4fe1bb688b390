"""`ImageDataset`: references to pictures, integer targets and class names; never pixels of files.

A reference is a row of a *store*: `Files` packs all paths into a bytes buffer and an array of offsets, which
subsets, splits and worker processes share; `Arrays` holds the arrays that the pictures came in, as they are.
The index of a data set of files takes as many bytes as the paths have letters, and 9 more a picture.
"""

from __future__ import annotations

import os
from array import array
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image

from sightline.data.image_io import ImageHeader, ImageSource, read_header, read_image, read_pixels
from sightline.errors import SightlineError, UnknownName, UnreadableImage

SPLITS = ("train", "val", "test")
"""The names of the splits; their places here are the codes in `ImageDataset.splits`."""
NO_SPLIT = 255


class Store(Protocol):
    """Where the pictures are: rows 0, 1, ... of references."""

    def __len__(self) -> int: ...
    def ref(self, row: int) -> str: ...
    def path(self, row: int) -> Path | None: ...
    def source(self, row: int) -> ImageSource: ...

    @property
    def nbytes(self) -> int: ...


class Files:
    """Paths below (or, if absolute, beside) `root`, packed."""

    def __init__(self, root: Path, names: Iterable[str]) -> None:
        """`names` are relative to `root` or absolute, with forward slashes; a stream will do."""
        text, ends = bytearray(), array("Q", [0])
        for name in names:
            text += os.fsencode(name)
            ends.append(len(text))
        self.root = root
        self._text = bytes(text)  # row i is text[ends[i]:ends[i + 1]]
        self._ends = np.frombuffer(ends, np.uint64).astype(np.uint32 if len(text) < 2**32 else np.uint64)

    def __len__(self) -> int:
        return len(self._ends) - 1

    def ref(self, row: int) -> str:
        return os.fsdecode(self._text[self._ends[row] : self._ends[row + 1]])

    def path(self, row: int) -> Path:
        return self.root / self.ref(row)

    def source(self, row: int) -> ImageSource:
        return self.path(row)

    @property
    def nbytes(self) -> int:
        return len(self._text) + int(self._ends.nbytes)


class Arrays:
    """Pictures in arrays of shape (N, H, W) or (N, H, W, C), each array under a name such as 'x_train'."""

    def __init__(self, parts: Sequence[tuple[str, NDArray[Any]]]) -> None:
        self._parts = tuple(parts)
        self._starts = np.cumsum([0, *(len(pictures) for _, pictures in self._parts)])

    def _find(self, row: int) -> tuple[str, NDArray[Any], int]:
        part = int(np.searchsorted(self._starts, row, side="right")) - 1
        name, pictures = self._parts[part]
        return name, pictures, row - int(self._starts[part])

    def __len__(self) -> int:
        return int(self._starts[-1])

    def ref(self, row: int) -> str:
        name, _, place = self._find(row)
        return f"{name}[{place}]"

    def path(self, row: int) -> None:
        del row  # none of them is a file

    def source(self, row: int) -> ImageSource:
        _, pictures, place = self._find(row)
        picture: NDArray[Any] = pictures[place]
        return picture

    @property
    def nbytes(self) -> int:
        return int(self._starts.nbytes)  # the pictures are the caller's


class ImageDataset:
    """N pictures with a class each, and perhaps a split each.

    - `name`: what to call it; `classes`: the class names, C of them
    - `targets`: int32 (N,), places in `classes`
    - `splits`: uint8 (N,), places in `SPLITS`, or `NO_SPLIT`

    `dataset[i]` is the pair of the RGB picture and its target. It pickles, for the workers of a loader, and
    knows nothing of PyTorch. Its arrays are shared between data sets: do not write to them.
    """

    __slots__ = ("_rows", "_store", "classes", "name", "splits", "targets")

    def __init__(
        self,
        store: Store,
        targets: ArrayLike,
        classes: Sequence[str],
        *,
        splits: ArrayLike | None = None,
        name: str,
    ) -> None:
        self.name = name
        self.classes = tuple(classes)
        self.targets: NDArray[np.int32] = np.asarray(targets, dtype=np.int32)
        if splits is None:
            splits = np.full(len(self.targets), NO_SPLIT)
        self.splits: NDArray[np.uint8] = np.asarray(splits, dtype=np.uint8)
        self._store = store
        self._rows: NDArray[np.uint32] | None = None  # the rows of the store; None: all of them, in order
        if not len(store) == len(self.targets) == len(self.splits):
            counts = f"{len(store)} references, {len(self.targets)} targets and {len(self.splits)} splits"
            raise ValueError(f"{counts} do not belong together")

    def __len__(self) -> int:
        return len(self.targets)

    def __repr__(self) -> str:
        parts = [f"{name} {count:,}" for name in SPLITS if (count := self._count(name))]
        pictures = ", ".join([f"{len(self):,} pictures", *parts])
        return f"ImageDataset({self.name!r}: {pictures}; {len(self.classes)} classes)"

    def __getitem__(self, index: int) -> tuple[Image.Image, int]:
        return self.read(index), int(self.targets[index])

    def read(self, index: int, mode: Literal["RGB", "L"] = "RGB") -> Image.Image:
        """Picture `index` by the rules of `read_image`. Raises `UnreadableImage`, which names it."""
        source = self._store.source(self._row(index))
        try:
            return read_image(source, mode)
        except UnreadableImage as error:
            raise UnreadableImage(error.path or self.ref(index), error.reason) from error

    def read_pixels(
        self, index: int, mode: Literal["RGB", "L"] = "RGB", at_least: int | None = None
    ) -> NDArray[np.uint8]:
        """What `read` gives, as uint8 (H, W) or (H, W, 3), by the fastest decoder; see `image_io.read_pixels`."""
        source = self._store.source(self._row(index))
        try:
            return read_pixels(source, mode, at_least)
        except UnreadableImage as error:
            raise UnreadableImage(error.path or self.ref(index), error.reason) from error

    def ref(self, index: int) -> str:
        """The name of picture `index`, unique in the data set: a relative path, or such as 'x_train[12]'."""
        return self._store.ref(self._row(index))

    def refs(self) -> Iterator[str]:
        """The names of all pictures, in order."""
        return map(self._store.ref, range(len(self)) if self._rows is None else self._rows.tolist())

    def path(self, index: int) -> Path | None:
        """The file of picture `index`, if it is one."""
        return self._store.path(self._row(index))

    @property
    def root(self) -> Path | None:
        """The folder that the names of the pictures are relative to, if they are files."""
        return self._store.root if isinstance(self._store, Files) else None

    def _row(self, index: int) -> int:
        if not -len(self) <= index < len(self):
            raise IndexError(f"picture {index} of {len(self)}")
        index = int(index) % len(self)
        return index if self._rows is None else int(self._rows[index])

    def subset(self, indices: ArrayLike) -> ImageDataset:
        """The pictures at `indices`, integers or one bool a picture, in that order; references are shared."""
        chosen = np.asarray(indices)
        if chosen.size == 0:
            chosen = chosen.astype(np.int64)
        rows = np.arange(len(self), dtype=np.uint32) if self._rows is None else self._rows
        return self._sharing(rows[chosen], self.targets[chosen], self.splits[chosen])

    def without(self, indices: ArrayLike) -> ImageDataset:
        """All but the pictures at `indices`: how unreadable ones are set aside."""
        kept = np.ones(len(self), dtype=bool)
        kept[np.asarray(indices, dtype=np.int64)] = False
        return self.subset(kept)

    def with_splits(self, splits: ArrayLike) -> ImageDataset:
        """The same pictures under other splits: (N,) codes as in `splits`."""
        codes = np.asarray(splits, dtype=np.uint8)
        if codes.shape != self.splits.shape:
            raise ValueError(f"splits of shape {codes.shape} for {len(self)} pictures")
        return self._sharing(self._rows, self.targets, codes)

    def _sharing(
        self, rows: NDArray[np.uint32] | None, targets: NDArray[np.int32], splits: NDArray[np.uint8]
    ) -> ImageDataset:
        other = object.__new__(ImageDataset)
        other.name, other.classes, other._store = self.name, self.classes, self._store
        other._rows, other.targets, other.splits = rows, targets, splits
        return other

    def split(self, name: str) -> ImageDataset:
        """The pictures of the split 'train', 'val' or 'test'. Raises `SightlineError` where there is none."""
        if not self.has_split(name):
            has = " and ".join(split for split in SPLITS if self.has_split(split))
            raise SightlineError(f"{self.name} has no {name} split; it has {has or 'no splits at all'}.")
        return self.subset(self.splits == SPLITS.index(name))

    def has_split(self, name: str) -> bool:
        """Whether any picture is in the split 'train', 'val' or 'test'."""
        if name not in SPLITS:
            raise UnknownName("split", name, SPLITS)
        return self._count(name) > 0

    def _count(self, split: str) -> int:
        return int(np.count_nonzero(self.splits == SPLITS.index(split)))

    def class_counts(self) -> NDArray[np.int64]:
        """(C,): how many pictures each class has."""
        return np.bincount(self.targets, minlength=len(self.classes)).astype(np.int64)

    def probe(self, count: int = 64) -> list[ImageHeader]:
        """Size and mode of up to `count` evenly spaced pictures, from their headers, for planning.

        Unreadable ones are passed over. Raises `SightlineError` if all of them are: then the data set as a
        whole is amiss, such as a manifest whose paths start from another folder.
        """
        headers: list[ImageHeader] = []
        last: UnreadableImage | None = None
        places = np.unique(np.linspace(0, len(self) - 1, min(count, len(self))).astype(int)).tolist()
        for index in places:
            try:
                headers.append(read_header(self._store.source(self._row(index))))
            except UnreadableImage as error:
                last = error
        if last is not None and not headers:
            raise SightlineError(
                f"None of the {len(places)} pictures of {self.name} that were tried can be read; the last "
                f"one was {last.path or self.ref(places[-1])}: {last.reason}."
            )
        return headers

    @property
    def nbytes(self) -> int:
        """Bytes of the index: references (shared ones too), targets and splits; not the caller's arrays."""
        rows = 0 if self._rows is None else self._rows.nbytes
        return int(self._store.nbytes + self.targets.nbytes + self.splits.nbytes + rows)
