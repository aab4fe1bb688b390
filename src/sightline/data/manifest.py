"""Manifests: a table that names each picture, its label and perhaps its split, as CSV, TSV or Parquet.

The first line names the columns, in any order and any case; others than these are passed over:

- the picture: `path`, `file`, `filename`, `filepath`, `file_path`, `image` or `image_path`; relative to the
  folder of the manifest, or to `root` if there is such a column;
- its class: `label`, `class`, `class_name`, `category` or `target`;
- its split, if at all: `split`, `subset`, `set` or `partition`; train, val (valid, validation, dev) or test.

A row that is there twice counts once; a picture under two labels or in two splits is an error. Whether the
files exist is not looked up here: what cannot be read is set aside by name when it is read.
"""

from __future__ import annotations

import csv
from array import array
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import numpy as np
from numpy.typing import NDArray

from sightline.data.dataset import NO_SPLIT, SPLITS, Files, ImageDataset
from sightline.errors import SightlineError

MANIFEST_EXTENSIONS = (".csv", ".tsv", ".parquet")
PATH_COLUMNS = ("path", "file", "filename", "filepath", "file_path", "image", "image_path")
LABEL_COLUMNS = ("label", "class", "class_name", "category", "target")
SPLIT_COLUMNS = ("split", "subset", "set", "partition")
ROOT_COLUMN = "root"
SPLIT_NAMES = {
    **{name: SPLITS.index("train") for name in ("train", "training")},
    **{name: SPLITS.index("val") for name in ("val", "valid", "validation", "dev")},
    **{name: SPLITS.index("test") for name in ("test", "testing")},
}
"""Lower-case spellings of the splits, and their codes."""


class Row(NamedTuple):
    """What one line of a manifest says; lines count from 1, `split` is a code, `root` may be empty."""

    line: int
    path: str
    label: str
    split: int
    root: str


def open_manifest(path: Path) -> ImageDataset:
    """The data set that the manifest `path` lists, in its order; classes are the sorted labels.

    Raises `SightlineError`, with the line, for a manifest that cannot be understood.
    """
    labels: dict[str, int] = {}
    targets, splits, lines, hashes = array("i"), bytearray(), array("I"), array("q")
    root = next((row.root for row in read_rows(path)), "")

    def names() -> Iterator[str]:
        for row in read_rows(path):
            if row.label not in labels and not _is_text(row.label):
                _fail(path, row.line, f"the label {row.label!r} is not UTF-8 text")
            if row.root != root:
                _fail(path, row.line, f"root is {row.root!r} here and {root!r} above; one folder is needed")
            name = row.path.removeprefix("./")
            targets.append(labels.setdefault(row.label, len(labels)))
            splits.append(row.split)
            lines.append(row.line)
            hashes.append(hash(name))
            yield name

    files = Files(path.parent / root, names())
    if not len(files):
        raise SightlineError(f"{path} names columns but lists no picture.")
    classes = sorted(labels)
    place = {label: index for index, label in enumerate(classes)}
    places = np.array([place[label] for label in labels], dtype=np.int32)
    codes = np.frombuffer(splits, np.uint8)
    dataset = ImageDataset(
        files, places[np.frombuffer(targets, np.int32)], classes, splits=codes, name=path.stem
    )
    repeated = _repeated(path, dataset, np.frombuffer(hashes, np.int64), lines)
    return dataset.without(repeated) if repeated else dataset


def _repeated(
    path: Path, dataset: ImageDataset, hashes: NDArray[np.int64], lines: Sequence[int]
) -> list[int]:
    """Rows that say what a row above said, found by hashes: a set of a million names would take 130 MB."""
    order = np.argsort(hashes, kind="stable")
    repeated = []
    for place in np.flatnonzero(np.diff(hashes[order]) == 0).tolist():
        first, second = int(order[place]), int(order[place + 1])
        if dataset.ref(first) != dataset.ref(second):
            continue
        for what, codes, meanings in (
            ("label", dataset.targets, dataset.classes),
            ("split", dataset.splits, SPLITS),
        ):
            if codes[first] != codes[second]:
                says = " and ".join(f"{meanings[codes[row]]} in line {lines[row]}" for row in (first, second))
                raise SightlineError(f"{path} gives {dataset.ref(first)} two {what}s: {says}.")
        repeated.append(second)
    return repeated


def read_rows(path: Path) -> Iterator[Row]:
    """The rows of a manifest, streamed. Raises `SightlineError`, with the line."""
    known = {*PATH_COLUMNS, *LABEL_COLUMNS, *SPLIT_COLUMNS, ROOT_COLUMN}
    table = read_cells(path, known.__contains__)
    _, header = next(table)
    columns = [name.strip().lower() for name in header]
    path_at = _find_column(path, "a picture", PATH_COLUMNS, columns)
    label_at = _find_column(path, "a label", LABEL_COLUMNS, columns)
    split_at = next((columns.index(name) for name in SPLIT_COLUMNS if name in columns), None)
    root_at = columns.index(ROOT_COLUMN) if ROOT_COLUMN in columns else None
    last = max(place for place in (path_at, label_at, split_at, root_at) if place is not None)
    for line, cells in table:
        if len(cells) <= last:
            _fail(path, line, f"it has {len(cells)} of the {len(columns)} columns that the first line names")
        name, label = cells[path_at], cells[label_at].strip()
        if not name or not label:
            _fail(path, line, f"the {header[label_at] if name else header[path_at]} is empty")
        split = NO_SPLIT
        if split_at is not None:
            split = SPLIT_NAMES.get(cells[split_at].strip().lower(), NO_SPLIT)
            if split == NO_SPLIT:
                _fail(path, line, f"the split is {cells[split_at]!r}; train, val or test is needed")
        yield Row(line, name, label, split, "" if root_at is None else cells[root_at])


def read_cells(path: Path, wanted: Callable[[str], bool]) -> Iterator[tuple[int, Sequence[str]]]:
    """Line numbers and cells of a table, the header's first; blank lines are left out.

    Of Parquet only the columns are read whose lower-case names are `wanted`. Raises `SightlineError`.
    """
    if path.suffix.lower() == ".parquet":
        return _parquet_cells(path, wanted)
    return _delimited_cells(path)


def _find_column(path: Path, what: str, names: Sequence[str], columns: Sequence[str]) -> int:
    for name in names:
        if name in columns:
            return columns.index(name)
    found = ", ".join(repr(column) for column in columns)
    raise SightlineError(
        f"{path} has no column for {what}: its first line has to name one of {', '.join(names)}, and it "
        f"names {found}."
    )


def _is_text(label: str) -> bool:
    """Whether a label is free of bytes that are not UTF-8, which only a file name may have."""
    try:
        label.encode()
    except UnicodeEncodeError:
        return False
    return True


def _fail(path: Path, line: int, what: str) -> NoReturn:
    raise SightlineError(f"{path}, line {line}: {what}.")


def _delimited_cells(path: Path) -> Iterator[tuple[int, Sequence[str]]]:
    try:
        with path.open("rb") as file:
            if file.read(2) in (b"\xff\xfe", b"\xfe\xff"):
                raise SightlineError(f"{path} is UTF-16 text; save it as UTF-8.")
        # Names that are not UTF-8 are bytes to the file system, and stay what they are.
        with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
            first = file.readline()
            if not first.strip():
                raise SightlineError(
                    f"{path} is empty, or its first line does not name the columns path,label."
                )
            delimiter = max(",;\t", key=first.count)
            file.seek(0)
            reader = csv.reader(file, delimiter=delimiter, strict=True)
            try:
                for cells in reader:
                    if any(cells):
                        yield reader.line_num, cells
            except csv.Error as error:
                _fail(path, reader.line_num, f"it is not well-formed ({error})")
    except OSError as error:
        raise SightlineError(f"{path} cannot be read: {error.strerror}.") from error


def _parquet_cells(path: Path, known: Callable[[str], bool]) -> Iterator[tuple[int, Sequence[str]]]:
    """Row numbers, the header's 1, and cells of the columns that are `known`, as text."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise SightlineError(
            f"Reading {path} needs pyarrow, which is not installed: pip install sightline[parquet]."
        ) from error
    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            names: list[str] = file.schema_arrow.names
            wanted = [name for name in names if known(name.strip().lower())]
            for name in wanted:
                kind = file.schema_arrow.field(name).type
                if pyarrow.types.is_nested(kind) or pyarrow.types.is_binary(kind):
                    raise SightlineError(f"{path}: the column {name!r} holds {kind}, where text is needed.")
            yield 1, wanted or names
            line = 1
            for batch in file.iter_batches(columns=wanted):
                for cells in zip(*(_texts(column) for column in batch.columns), strict=True):
                    line += 1
                    yield line, cells
    except (pyarrow.ArrowException, OSError) as error:
        reason = " ".join(str(error).split()).rstrip(".")
        raise SightlineError(f"{path} cannot be read as Parquet: {reason}.") from error


def _texts(column: Any) -> list[str]:
    return ["" if value is None else str(value) for value in column.to_pylist()]
