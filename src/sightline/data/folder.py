"""A folder per class, with or without train, val and test folders above them.

A class is a folder with at least one picture anywhere in it, by extension; what is in a picture is not looked
at here, so that a broken file is a member like any other and is set aside by name when it is read. Hidden
files and folders (`.ipynb_checkpoints`, `._photo.jpg`), `__MACOSX` and empty folders are passed over. Links
to folders are followed, but never in a circle.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from sightline.data.dataset import NO_SPLIT, Files, ImageDataset
from sightline.data.image_io import IMAGE_EXTENSIONS
from sightline.data.manifest import SPLIT_NAMES
from sightline.errors import SightlineError

_IGNORED = frozenset(("__MACOSX", "@eaDir", "$RECYCLE.BIN", "lost+found"))

Group = tuple[int, str, str, list[str]]
"""Split code, class, folder below the root, and the sorted paths of the pictures in that folder."""


def is_hidden(name: str) -> bool:
    """Whether a file or folder of this name is the system's or an editor's, not the user's."""
    return name.startswith(".") or name in _IGNORED


def is_picture(name: str) -> bool:
    """Whether a file of this name counts as a picture, by its extension in any case."""
    return _extension(name) in IMAGE_EXTENSIONS


def _extension(name: str) -> str:
    return name[name.rfind(".") :].lower() if "." in name else ""


def open_folder(root: Path, *, name: str | None = None) -> ImageDataset:
    """The pictures of `root`, ordered by split, class and path. Raises `SightlineError`.

    Folders called train, val and test (also training, valid, validation, ...; in any case) are splits if they
    hold folders of pictures. A folder "train" of pictures, beside others called car and ship, is a class.
    """
    found = {folder: sorted(filter(is_picture, walk(root / folder))) for folder in _folders(root)}
    found = {folder: paths for folder, paths in found.items() if paths}
    if not found:
        raise SightlineError(_why_none(root))
    like_splits = [folder for folder in found if folder.lower() in SPLIT_NAMES]
    splits = [folder for folder in like_splits if any("/" in path for path in found[folder])]
    if splits:
        groups = _split_groups(
            root, found, splits, loose=[name for name in like_splits if name not in splits]
        )
    elif len(like_splits) == len(found):
        raise SightlineError(
            f"The pictures of {root} lie directly in {_listed(found)}; a folder per class is needed in there."
        )
    else:
        groups = [(NO_SPLIT, folder, folder, paths) for folder, paths in found.items()]
    if len(found) == 1 and not splits and any("/" in path for path in groups[0][3]):
        inside = root / groups[0][1]
        raise SightlineError(f"{root} holds one folder only, so one class; did you mean {inside}?")
    return _assemble(root, groups, name or root.resolve().name)


def _split_groups(
    root: Path, found: dict[str, list[str]], splits: list[str], loose: list[str]
) -> list[Group]:
    if others := [folder for folder in found if folder not in splits and folder not in loose]:
        raise SightlineError(
            f"{root} holds {_listed(splits)} with classes inside, but also {_listed(others)}; "
            f"take the one or the other elsewhere."
        )
    if loose:
        raise SightlineError(
            f"The pictures in {root / loose[0]} are in no class folder; sort them, or take them away."
        )
    codes = [SPLIT_NAMES[folder.lower()] for folder in splits]
    if len(set(codes)) < len(codes):
        raise SightlineError(f"{root} has several folders for one split: {_listed(splits)}.")
    groups: list[Group] = []
    for code, folder in sorted(zip(codes, splits, strict=True)):
        classes: dict[str, list[str]] = {}
        for path in found[folder]:
            label, slash, rest = path.partition("/")
            if slash:  # a picture beside the class folders has no class
                classes.setdefault(label, []).append(rest)
        groups += [(code, label, f"{folder}/{label}", paths) for label, paths in sorted(classes.items())]
    return groups


def _assemble(root: Path, groups: list[Group], name: str) -> ImageDataset:
    classes = sorted({label for _, label, _, _ in groups})
    place = {label: index for index, label in enumerate(classes)}
    counts = [len(paths) for _, _, _, paths in groups]
    return ImageDataset(
        Files(root, (f"{folder}/{path}" for _, _, folder, paths in groups for path in paths)),
        np.repeat([place[label] for _, label, _, _ in groups], counts),
        classes,
        splits=np.repeat([code for code, _, _, _ in groups], counts),
        name=name,
    )


def _folders(root: Path) -> list[str]:
    """The names of the visible folders in `root`, sorted."""
    return sorted(entry.name for entry in _entries(root) if _is_folder(entry))


def _entries(folder: Path | str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return [entry for entry in entries if not is_hidden(entry.name)]
    except OSError as error:
        raise SightlineError(f"The folder {folder} cannot be read: {error.strerror}.") from error


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def walk(top: Path) -> Iterator[str]:
    """The visible files anywhere below `top`, as relative paths with forward slashes."""
    # Each folder carries the identities of those above it: a link that leads back to one of them is a circle.
    pending: list[tuple[str, str, frozenset[tuple[int, int]]]] = [(str(top), "", frozenset())]
    while pending:
        folder, prefix, above = pending.pop()
        status = Path(folder).stat()
        identity = (status.st_dev, status.st_ino)
        if identity in above:
            continue
        for entry in _entries(folder):
            if _is_folder(entry):
                pending.append((entry.path, f"{prefix}{entry.name}/", above | {identity}))
            else:
                yield prefix + entry.name


def _listed(folders: Iterable[str]) -> str:
    names = [f"{folder}/" for folder in folders]
    shown = names if len(names) <= 4 else [*names[:3], f"{len(names) - 3} others"]
    return " and ".join((", ".join(shown[:-1]), shown[-1])) if len(shown) > 1 else shown[0]


def _why_none(root: Path) -> str:
    if any(is_picture(entry.name) for entry in _entries(root)):
        return (
            f"The pictures lie directly in {root}; put them into one folder per class, or list them in a CSV "
            f"manifest with the columns path and label."
        )
    extensions = Counter(_extension(path) or "no extension" for path in walk(root))
    if not extensions:
        return f"There is no picture in {root}: it holds no files."
    most, count = extensions.most_common(1)[0]
    return f"There is no picture in {root}: most of its files ({count}) have {most}, which is not read."
