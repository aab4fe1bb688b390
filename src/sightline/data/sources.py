"""`open_dataset`: one door for data sets, whatever they are kept in."""

from __future__ import annotations

from contextlib import suppress
from os import PathLike
from pathlib import Path

import numpy as np

from sightline.data.archive import ARCHIVE_EXTENSIONS, open_archive
from sightline.data.arrays import is_idx, open_idx, open_npz
from sightline.data.dataset import SPLITS, ImageDataset
from sightline.data.folder import is_picture, open_folder
from sightline.data.manifest import MANIFEST_EXTENSIONS, open_manifest
from sightline.data.named import NAMES, open_named
from sightline.errors import SightlineError, near

_TAKEN = "a folder with a folder per class, a .csv, .tsv or .parquet manifest, an .npz, or a .tar or .tar.gz"


def open_dataset(source: str | PathLike[str]) -> ImageDataset:
    """Opens `source`, which is one of

    - a folder with a folder per class, with or without train, val and test folders above them (`folder`);
    - a manifest: `.csv`, `.tsv` or `.parquet` with the columns path, label and perhaps split (`manifest`);
    - an `.npz` with x_train, y_train, ..., or a folder of MNIST-style IDX files, or one of them (`arrays`);
    - a `.tar`, `.tar.gz` or `.tgz` of class folders, unpacked once (`archive`);
    - a name: `digits`, or one of torchvision's sets such as `cifar10`, downloaded once (`named`).

    What exists as a file or folder is that; else a name is looked for. No picture is read. Raises
    `SightlineError` for what is none of these, for a single class, and for classes in the val or test split
    that the train split does not have.
    """
    path = Path(source)
    try:
        path = path.expanduser()
        exists = bool(str(source)) and path.exists()
    except PermissionError as error:
        raise SightlineError(f"{source} cannot be opened: permission denied.") from error
    except (OSError, ValueError, RuntimeError):  # too long, with a zero byte, or the home of nobody
        exists = False
    name = str(source).lower().replace("_", "-")
    if exists:
        dataset = _open_path(path)
    elif name in NAMES:
        dataset = open_named(name)
    else:
        raise SightlineError(_nothing_there(str(source), path))
    _check_classes(dataset, source)
    return dataset


def _open_path(path: Path) -> ImageDataset:
    name = path.name.lower()
    if path.is_dir():
        if _holds_idx(path):
            return open_idx(path)
        return open_folder(path)
    if name.endswith(ARCHIVE_EXTENSIONS):
        return open_archive(path)
    if name.endswith(MANIFEST_EXTENSIONS):
        return open_manifest(path)
    if name.endswith(".npz"):
        return open_npz(path)
    if is_idx(path.name):
        return open_idx(path.parent)
    what = "is a single picture" if is_picture(name) else "is no data set that can be opened"
    raise SightlineError(f"{path} {what}; a data set is {_TAKEN}.")


def _holds_idx(folder: Path) -> bool:
    try:
        return any(is_idx(entry.name) for entry in folder.iterdir())
    except OSError as error:
        raise SightlineError(f"The folder {folder} cannot be read: {error.strerror}.") from error


def _nothing_there(source: str, path: Path) -> str:
    """What to say of a source that is neither there nor a name, with what is spelled like it."""
    is_path = any(mark in source for mark in "/\\.~")
    suggestions = [] if is_path else near(source.lower(), NAMES)
    with suppress(OSError, ValueError):
        while not path.parent.is_dir() and path != path.parent:
            path = path.parent
        beside = near(path.name, (entry.name for entry in path.parent.iterdir()))
        suggestions += [str(path.parent / name) for name in beside]
    what = f"file or folder {source}" if is_path else f"file, folder or data set called {source!r}"
    hint = (
        f"did you mean {' or '.join(suggestions)}?" if suggestions else f"a data set is {_TAKEN}, or a name."
    )
    return f"There is no {what}; {hint}"


def _check_classes(dataset: ImageDataset, source: str | PathLike[str]) -> None:
    if len(dataset.classes) < 2:
        raise SightlineError(f"{source} has one class only, {dataset.classes[0]!r}; two are needed.")
    of_split = [
        np.bincount(dataset.targets[dataset.splits == code], minlength=len(dataset.classes)) > 0
        for code in range(len(SPLITS))
    ]
    trained = of_split[SPLITS.index("train")]
    if not trained.any():
        return
    for split, present in zip(SPLITS, of_split, strict=True):
        for stranger in np.flatnonzero(present & ~trained)[:1].tolist():
            label = dataset.classes[stranger]
            alike = near(label, [dataset.classes[place] for place in np.flatnonzero(trained)])
            hint = f"; is it {alike[0]!r}?" if alike else "."
            raise SightlineError(
                f"The {split} split of {source} has the class {label!r}, which its train split has not{hint}"
            )
