"""Pictures in arrays: `.npz` files, and the IDX files that MNIST came in.

An `.npz` holds `x_train`, `y_train` and perhaps `x_val`, `y_val`, `x_test`, `y_test`; or `x`, `y`, to be
split. `train_images`, `train_labels` and so on are understood too. Pictures are (N, H, W) or (N, H, W, C) with
C of 1, 3 or 4, of type uint8, uint16 or bool; labels are (N,) or (N, 1), integers or text. No pickle is loaded.
"""

from __future__ import annotations

import gzip
import math
import re
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sightline.data.dataset import NO_SPLIT, SPLITS, Arrays, ImageDataset
from sightline.errors import SightlineError

Part = tuple[str, int, NDArray[Any], NDArray[Any]]
"""A name such as 'x_train', a split code, the pictures and their labels."""

_IDX_NAME = re.compile(r"(train|t10k)-(images|labels)[-.]idx\d-ubyte(\.gz)?")
_MAX_DEFLATE = 1100  # deflate packs at most 1032 to 1


def from_arrays(
    parts: Sequence[Part], *, name: str, where: str, classes: Sequence[str] | None = None
) -> ImageDataset:
    """A data set over arrays, which are checked and kept as they are. Raises `SightlineError`.

    The classes are the distinct labels over all parts, sorted, as text; or, where `classes` is given and the
    labels are places in it, those of them that have a picture. `where` is what the errors name.
    """
    labels = [_check(where, part, pictures, given) for part, _, pictures, given in parts]
    distinct, targets = np.unique(np.concatenate(labels), return_inverse=True)
    return ImageDataset(
        Arrays([(part, pictures) for part, _, pictures, _ in parts]),
        targets,
        [str(label) if classes is None else classes[label] for label in distinct.tolist()],
        splits=np.repeat([code for _, code, _, _ in parts], [len(part) for part in labels]),
        name=name,
    )


def _check(where: str, name: str, pictures: NDArray[Any], labels: NDArray[Any]) -> NDArray[Any]:
    """The labels as (N,), when they and the pictures are what they should be."""
    shape = pictures.shape
    if pictures.dtype not in (np.uint8, np.uint16, np.bool_):
        raise SightlineError(
            f"{where}: {name} is of type {pictures.dtype}; pictures are uint8 (0 to 255), uint16 or bool."
        )
    if pictures.ndim != 3 and not (pictures.ndim == 4 and shape[3] in (1, 3, 4)):
        hint = "; put its channels last" if pictures.ndim == 4 and shape[1] in (1, 3, 4) else ""
        raise SightlineError(
            f"{where}: {name} has the shape {shape}, not (N, H, W) or (N, H, W, C) with C of 1, 3 or 4{hint}."
        )
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.ndim != 1 or labels.dtype.kind not in "biuU":
        raise SightlineError(
            f"{where}: the labels of {name} are {labels.dtype} of shape {labels.shape}; one integer or text "
            f"for each picture is needed."
        )
    if len(pictures) != len(labels):
        raise SightlineError(f"{where}: {name} has {len(pictures)} pictures, but {len(labels)} labels.")
    if pictures.size == 0:
        raise SightlineError(f"{where}: {name} has no pictures.")
    return labels


def open_npz(path: Path) -> ImageDataset:
    """The data set in an `.npz` file. Raises `SightlineError`."""
    spellings = [("x", "y", NO_SPLIT), ("images", "labels", NO_SPLIT)]
    for code, split in enumerate(SPLITS):
        spellings += [(f"x_{split}", f"y_{split}", code), (f"{split}_images", f"{split}_labels", code)]
    try:
        if not zipfile.is_zipfile(path):
            raise SightlineError(f"{path} is not an .npz file, or it is damaged.")
        with np.load(path, allow_pickle=False) as file:
            parts: list[Part] = [
                (pictures, code, _load(path, file, pictures), _load(path, file, labels))
                for pictures, labels, code in spellings
                if pictures in file and labels in file
            ]
            held = ", ".join(file.files) or "nothing"
    except (OSError, zipfile.BadZipFile) as error:
        raise SightlineError(f"{path} cannot be read: {error}.") from error
    if not parts:
        raise SightlineError(f"{path} needs the arrays x_train and y_train, or x and y; it holds {held}.")
    if len({code == NO_SPLIT for _, code, _, _ in parts}) > 1:
        raise SightlineError(f"{path} holds pictures both with a split and without: {held}.")
    return from_arrays(parts, name=path.stem, where=str(path))


def _load(path: Path, file: Mapping[str, NDArray[Any]], key: str) -> NDArray[Any]:
    try:
        return file[key]
    except Exception as error:  # damaged bytes raise nearly everything: zlib.error, ValueError, EOFError, ...
        reason = str(error) or type(error).__name__
        if "allow_pickle" in reason:
            reason = "it holds Python objects, which are never loaded; save integers or text instead"
        raise SightlineError(f"{path}: the array {key} cannot be read: {reason}.") from error


def is_idx(name: str) -> bool:
    """Whether a file of this name is one of MNIST's, such as train-images-idx3-ubyte.gz."""
    return _IDX_NAME.fullmatch(name) is not None


def open_idx(folder: Path) -> ImageDataset:
    """The data set in `folder` of MNIST-style IDX files, plain or gzipped. Raises `SightlineError`."""
    files: dict[tuple[str, str], Path] = {}
    for path in sorted(folder.iterdir(), reverse=True):  # the plain file, where both are there, comes last
        if match := _IDX_NAME.fullmatch(path.name):
            files[match[1], match[2]] = path
    parts: list[Part] = []
    for stem, split in (("train", "train"), ("t10k", "test")):
        pictures, labels = files.get((stem, "images")), files.get((stem, "labels"))
        if pictures and labels:
            parts.append((split, SPLITS.index(split), _read_idx(pictures), _read_idx(labels)))
        elif pictures or labels:
            missing = f"{stem}-images-idx3-ubyte" if labels else f"{stem}-labels-idx1-ubyte"
            raise SightlineError(f"{folder} lacks {missing} (or {missing}.gz).")
    return from_arrays(parts, name=folder.resolve().name, where=str(folder))


def _read_idx(path: Path) -> NDArray[np.uint8]:
    """An array of bytes; as MNIST's page has it, after 0, 0, 8, the number of sizes and the sizes."""
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            start = file.read(4)
            if start[:3] != b"\0\0\x08" or start[3] not in (1, 2, 3, 4):
                raise ValueError("it does not begin as an IDX file of bytes does")
            shape = np.frombuffer(file.read(4 * start[3]), dtype=">u4").tolist()
            size = math.prod(shape)
            if size > path.stat().st_size * _MAX_DEFLATE:
                raise ValueError("it is too small for what it announces")
            data = file.read(size + 1)
        if len(data) != size or len(shape) != start[3]:
            raise ValueError(
                f"it announces {size} values and has {len(data) if len(data) < size else 'more'}"
            )
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise SightlineError(f"{path} cannot be read: {error}.") from error
    return np.frombuffer(data, dtype=np.uint8).reshape(shape)
