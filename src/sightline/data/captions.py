"""`CaptionDataset`: references to pictures with what people wrote about each; and `open_captions`, its door.

What can be opened:

- a manifest (`.csv`, `.tsv`, `.parquet`) with a column for the picture, as in `manifest`, and columns for captions:
  `caption`, `text`, `sentence` or `description`, also numbered (`caption_1`, `caption2`); perhaps `split` and `root`.
  A picture may have several rows, several columns, or both;
- a folder with `captions.csv` (or .tsv, .parquet), which is such a manifest;
- a folder of pictures with a text beside each, `NAME.txt` for `NAME.jpg`: a line a caption. Folders train, val and
  test at its top are splits.
"""

from __future__ import annotations

import re
from array import array
from collections.abc import Iterable, Iterator
from itertools import pairwise
from os import PathLike
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image

from sightline.data.dataset import NO_SPLIT, SPLITS, Files, ImageDataset
from sightline.data.folder import is_picture, walk
from sightline.data.image_io import ImageHeader
from sightline.data.manifest import (
    MANIFEST_EXTENSIONS,
    PATH_COLUMNS,
    ROOT_COLUMN,
    SPLIT_COLUMNS,
    SPLIT_NAMES,
    read_cells,
)
from sightline.errors import SightlineError, near

CAPTION_COLUMN = re.compile(r"(caption|text|sentence|description)s?[_ -]?\d*")
IN_FOLDER = tuple(f"captions{extension}" for extension in MANIFEST_EXTENSIONS)
_TAKEN = "a manifest with the columns path and caption, or a folder with captions.csv or a NAME.txt beside each picture"


class Captions:
    """Texts of pictures 0, 1, ..., packed: those of picture i are texts[first[i]:first[i + 1]]."""

    def __init__(self, texts: Iterable[Iterable[str]]) -> None:
        packed, ends, first = bytearray(), array("Q", [0]), array("Q", [0])
        for own in texts:
            for text in own:
                packed += text.encode("utf-8", "replace")
                ends.append(len(packed))
            first.append(len(ends) - 1)
        self._text = bytes(packed)
        self._ends, self._first = np.frombuffer(ends, np.uint64), np.frombuffer(first, np.uint64)

    def __len__(self) -> int:
        return len(self._first) - 1

    def of(self, row: int) -> tuple[str, ...]:
        """The texts of picture `row`."""
        ends = self._ends[int(self._first[row]) : int(self._first[row + 1]) + 1].tolist()
        return tuple(self._text[a:b].decode("utf-8") for a, b in pairwise(ends))

    @property
    def nbytes(self) -> int:
        return len(self._text) + self._ends.nbytes + self._first.nbytes


class CaptionDataset:
    """N pictures with captions, at least one each, and perhaps a split each.

    `dataset[i]` is the pair of the RGB picture and its captions. `pictures` are the same pictures as an
    `ImageDataset` of a single class. Subsets and splits are by picture and share what they refer to.
    """

    __slots__ = ("_captions", "_rows", "pictures")

    def __init__(self, pictures: ImageDataset, captions: Captions) -> None:
        if len(pictures) != len(captions):
            raise ValueError(f"{len(pictures)} pictures and {len(captions)} lists of captions")
        self.pictures = pictures
        self._captions = captions
        self._rows: NDArray[np.uint32] | None = None  # the pictures in `_captions`; None: all, in order

    @classmethod
    def of(
        cls,
        root: Path,
        names: Iterable[str],
        captions: Iterable[Iterable[str]],
        splits: ArrayLike | None,
        name: str,
    ) -> CaptionDataset:
        """Files below `root`, the captions of each, and codes of splits as in ImageDataset."""
        files = Files(root, names)
        pictures = ImageDataset(files, np.zeros(len(files), np.int32), ("picture",), splits=splits, name=name)
        return cls(pictures, Captions(captions))

    def __len__(self) -> int:
        return len(self.pictures)

    def __repr__(self) -> str:
        parts = [f"{name} {int((self.splits == code).sum()):,}" for code, name in enumerate(SPLITS)]
        return f"CaptionDataset({self.name!r}: {', '.join([f'{len(self):,} pictures', *parts])})"

    def __getitem__(self, index: int) -> tuple[Image.Image, tuple[str, ...]]:
        return self.read(index), self.captions(index)

    def captions(self, index: int) -> tuple[str, ...]:
        """What was written about picture `index`."""
        if not -len(self) <= index < len(self):
            raise IndexError(f"picture {index} of {len(self)}")
        index = int(index) % len(self)
        return self._captions.of(index if self._rows is None else int(self._rows[index]))

    def all_captions(self) -> tuple[list[str], NDArray[np.int64]]:
        """Every caption, picture by picture, and the index of the picture that each belongs to."""
        lists = [self.captions(index) for index in range(len(self))]
        owners = np.repeat(np.arange(len(self)), [len(own) for own in lists])
        return [text for own in lists for text in own], owners

    def read(self, index: int, mode: Literal["RGB", "L"] = "RGB") -> Image.Image:
        """Picture `index` by the rules of `read_image`. Raises `UnreadableImage`, which names it."""
        return self.pictures.read(index, mode)

    def ref(self, index: int) -> str:
        """The name of picture `index`, unique in the data set."""
        return self.pictures.ref(index)

    def refs(self) -> Iterator[str]:
        """The names of all pictures, in order."""
        return self.pictures.refs()

    @property
    def name(self) -> str:
        """What to call the data set."""
        return self.pictures.name

    @property
    def root(self) -> Path | None:
        """The folder that the names of the pictures are relative to."""
        return self.pictures.root

    @property
    def splits(self) -> NDArray[np.uint8]:
        """(N,): codes of splits as in ImageDataset."""
        return self.pictures.splits

    def probe(self, count: int = 64) -> list[ImageHeader]:
        """Size and mode of some pictures, as `ImageDataset.probe` gives them."""
        return self.pictures.probe(count)

    def has_split(self, name: str) -> bool:
        """Whether any picture is in the split 'train', 'val' or 'test'."""
        return self.pictures.has_split(name)

    def split(self, name: str) -> CaptionDataset:
        """The pictures of a split. Raises `SightlineError` where there is none."""
        self.pictures.split(name)
        return self.subset(self.splits == SPLITS.index(name))

    def subset(self, indices: ArrayLike) -> CaptionDataset:
        """The pictures at `indices`, integers or one bool a picture, in that order."""
        chosen = np.asarray(indices)
        if chosen.size == 0:
            chosen = chosen.astype(np.int64)
        rows = np.arange(len(self), dtype=np.uint32) if self._rows is None else self._rows
        return self._sharing(self.pictures.subset(chosen), rows[chosen])

    def with_splits(self, splits: ArrayLike) -> CaptionDataset:
        """The same pictures under other splits: (N,) codes."""
        return self._sharing(self.pictures.with_splits(splits), self._rows)

    def _sharing(self, pictures: ImageDataset, rows: NDArray[np.uint32] | None) -> CaptionDataset:
        other = object.__new__(CaptionDataset)
        other.pictures, other._captions, other._rows = pictures, self._captions, rows
        return other

    @property
    def nbytes(self) -> int:
        """Bytes of the index: references, captions (shared ones too) and splits."""
        rows = 0 if self._rows is None else self._rows.nbytes
        return int(self.pictures.nbytes + self._captions.nbytes + rows)


def open_captions(source: str | PathLike[str]) -> CaptionDataset:
    """Opens the pictures and captions of `source`, see the module. No picture is read. Raises `SightlineError`."""
    path = Path(source).expanduser()
    try:
        if path.is_dir():
            listed = [path / name for name in IN_FOLDER if (path / name).is_file()]
            dataset = _open_manifest(listed[0], path.name) if listed else _open_folder(path)
        elif path.is_file() and path.name.lower().endswith(MANIFEST_EXTENSIONS):
            dataset = _open_manifest(path, path.stem)
        elif path.exists():
            raise SightlineError(f"{path} holds no captions; what can be opened is {_TAKEN}.")
        else:
            close = near(
                path.name, [entry.name for entry in path.parent.iterdir()] if path.parent.is_dir() else []
            )
            hint = f"did you mean {path.parent / close[0]}?" if close else f"give {_TAKEN}."
            raise SightlineError(f"There is no file or folder {path}; {hint}")
    except OSError as error:
        raise SightlineError(f"{path} cannot be read: {error.strerror}.") from error
    if len(dataset) < 3:
        raise SightlineError(
            f"{path} has captions of {len(dataset)} pictures; three are needed to train, to choose and to test on."
        )
    return dataset


def _open_manifest(path: Path, name: str) -> CaptionDataset:
    def wanted(column: str) -> bool:
        known = {*PATH_COLUMNS, *SPLIT_COLUMNS, ROOT_COLUMN}
        return column in known or bool(CAPTION_COLUMN.fullmatch(column))

    table = read_cells(path, wanted)
    _, header = next(table)
    columns = [column.strip().lower() for column in header]
    path_at = next((columns.index(column) for column in PATH_COLUMNS if column in columns), None)
    captions_at = [place for place, column in enumerate(columns) if CAPTION_COLUMN.fullmatch(column)]
    if path_at is None or not captions_at:
        what = "a picture (path, file, image, ...)" if path_at is None else "captions (caption, text, ...)"
        raise SightlineError(f"{path} has no column for {what}; its first line names {', '.join(header)}.")
    split_at = next((columns.index(column) for column in SPLIT_COLUMNS if column in columns), None)
    root_at = columns.index(ROOT_COLUMN) if ROOT_COLUMN in columns else None

    found: dict[str, dict[str, None]] = {}  # the captions of each picture, each once, in their order
    splits: dict[str, int] = {}
    roots: set[str] = set()
    for line, cells in table:

        def fail(what: str, line: int = line) -> SightlineError:
            return SightlineError(f"{path}, line {line}: {what}.")

        if len(cells) < len(columns):
            raise fail(f"it has {len(cells)} of the {len(columns)} columns that the first line names")
        picture = cells[path_at].removeprefix("./")
        texts = [text for place in captions_at if (text := " ".join(cells[place].split()))]
        if not picture or not texts:
            raise fail("the caption is empty" if picture else f"the {header[path_at]} is empty")
        split = NO_SPLIT
        if split_at is not None:
            split = SPLIT_NAMES.get(cells[split_at].strip().lower(), NO_SPLIT)
            if split == NO_SPLIT:
                raise fail(f"the split is {cells[split_at]!r}; train, val or test is needed")
        if splits.setdefault(picture, split) != split:
            raise fail(f"{picture} is in another split above")
        if root_at is not None:
            roots.add(cells[root_at])
            if len(roots) > 1:
                raise fail(f"root is {cells[root_at]!r} here and another above; one folder is needed")
        found.setdefault(picture, {}).update(dict.fromkeys(texts))
    root = path.parent / next(iter(roots), "")
    return CaptionDataset.of(root, found, found.values(), list(splits.values()), name)


def _open_folder(root: Path) -> CaptionDataset:
    names, captions, splits = [], [], []
    for name in sorted(filter(is_picture, walk(root))):
        text = (root / name).with_suffix(".txt")
        if not text.is_file():
            continue
        lines = [" ".join(line.split()) for line in text.read_text("utf-8-sig", "replace").splitlines()]
        if any(lines):
            names.append(name)
            captions.append(list(dict.fromkeys(line for line in lines if line)))
            splits.append(SPLIT_NAMES.get(name.split("/")[0].lower(), NO_SPLIT) if "/" in name else NO_SPLIT)
    if not names:
        raise SightlineError(f"The folder {root} holds no pictures with captions; give {_TAKEN}.")
    if NO_SPLIT in splits:  # some lie outside of train, val and test: then these are no splits
        splits = [NO_SPLIT] * len(names)
    return CaptionDataset.of(root, names, captions, splits, root.resolve().name)


def write_captions(dataset: CaptionDataset, path: Path) -> None:
    """Writes path,caption,split,root, a row a caption: itself a manifest that `open_captions` takes."""
    import csv
    import io

    from sightline.files import write_beside

    root = [] if dataset.root is None else [str(dataset.root.resolve())]
    text = io.StringIO()
    rows: Any = csv.writer(text, lineterminator="\n")
    rows.writerow(["path", "caption", "split", *(["root"] if root else [])])
    for index, (ref, code) in enumerate(zip(dataset.refs(), dataset.splits.tolist(), strict=True)):
        for caption in dataset.captions(index):
            rows.writerow([ref, caption, SPLITS[code], *root])
    write_beside(path, text.getvalue().encode("utf-8", "surrogateescape"))


def recorded_splits(dataset: CaptionDataset, path: Path) -> CaptionDataset:
    """The pictures of `dataset` that the file of `write_captions` names, in the splits that it gives them.

    Raises `SightlineError` if it lacks a picture that the file names.
    """
    written = _open_manifest(path, path.stem)
    known = dict(zip(written.refs(), written.splits.tolist(), strict=True))
    codes = np.array([known.pop(ref, NO_SPLIT) for ref in dataset.refs()], np.uint8)
    if known:
        others = f" (and {len(known) - 1} more)" if len(known) > 1 else ""
        raise SightlineError(f"{path} names {next(iter(known))}{others}, which {dataset.name} does not have.")
    return dataset.with_splits(codes).subset(codes != NO_SPLIT)
