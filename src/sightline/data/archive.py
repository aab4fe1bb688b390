"""Tar archives of class folders, unpacked once under `SIGHTLINE_HOME`.

Only pictures are unpacked, as plain files. A member whose name would lead out of the archive is an error; links
and devices are passed over, so that nothing that is written can lead elsewhere either.
"""

from __future__ import annotations

import hashlib
import shutil
import tarfile
import time
import uuid
import zlib
from contextlib import AbstractContextManager
from pathlib import Path, PurePosixPath
from typing import BinaryIO, Literal

from sightline.data.dataset import ImageDataset
from sightline.data.folder import is_hidden, is_picture, open_folder
from sightline.data.manifest import SPLIT_NAMES
from sightline.errors import SightlineError
from sightline.home import home

ARCHIVE_EXTENSIONS = (".tar", ".tar.gz", ".tgz")

# An archive may unpack to 200 times its size (1-bit drawings do), and a small one to this many bytes.
_MAX_RATIO = 200
_ALWAYS_ALLOWED = 2**30
_HEADER = 512  # what a member takes at least, so that a thousand million empty ones are a bomb as well


def open_archive(path: Path) -> ImageDataset:
    """The data set in a `.tar`, `.tar.gz` or `.tgz` of class folders. Raises `SightlineError`.

    It is unpacked the first time, and again when the file has changed; a single folder at the top is entered.
    """
    name = stem(path)
    try:
        status = path.stat()
        key = hashlib.sha256(f"{path.resolve()}\0{status.st_size}\0{status.st_mtime_ns}".encode())
        target = home() / "archives" / f"{name}-{key.hexdigest()[:16]}"
        if not target.is_dir():
            _unpack(path, target)
        folder = _enter(target)
    except OSError as error:
        raise SightlineError(
            f"{path} cannot be unpacked into {home() / 'archives'}: {error.strerror or error}."
        ) from error
    try:
        return open_folder(folder, name=name)
    except SightlineError as error:
        raise SightlineError(f"{path} was unpacked, but: {error}") from error


def stem(path: Path) -> str:
    """The file's name without what makes it an archive."""
    name = path.name
    for extension in ARCHIVE_EXTENSIONS:
        if name.lower().endswith(extension):
            return name[: -len(extension)]
    return name


class _StrictTarInfo(tarfile.TarInfo):
    """Python's reader takes a damaged or missing header for the end of the archive; the end is a zero block."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> _StrictTarInfo:
        try:
            return super().frombuf(buf, encoding, errors)
        except tarfile.HeaderError as error:
            if buf and not any(buf):
                raise
            raise tarfile.ReadError(str(error)) from error


def _unpack(path: Path, target: Path) -> None:
    """Beside `target` first, then renamed: a folder of that name is always complete."""
    target.parent.mkdir(parents=True, exist_ok=True)
    for left in target.parent.glob(".part-*"):  # by a process that was killed
        if left.stat().st_mtime < time.time() - 24 * 3600:
            shutil.rmtree(left, ignore_errors=True)
    part = target.parent / f".part-{uuid.uuid4().hex}"
    part.mkdir()
    try:
        with path.open("rb") as file:
            mode: Literal["r:gz", "r:"] = "r:gz" if file.read(2) == b"\x1f\x8b" else "r:"
        with _watched(path) as stream, tarfile.open(fileobj=stream, mode=mode, tarinfo=_StrictTarInfo) as tar:
            _extract(path, tar, part)
        try:
            part.rename(target)
        except OSError:
            if not target.is_dir():  # else another process was faster, with the same
                raise
    except (tarfile.TarError, EOFError, zlib.error, ValueError) as error:
        raise SightlineError(f"{path} is damaged, or no tar archive: {error}.") from error
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _watched(path: Path) -> AbstractContextManager[BinaryIO]:
    """The file opened, with a progress bar on a terminal."""
    from rich import progress
    from rich.console import Console

    console = Console(stderr=True)
    return progress.open(
        path,
        "rb",
        description=f"Unpacking {path.name}",
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )


def _extract(path: Path, tar: tarfile.TarFile, folder: Path) -> None:
    allowed = max(_ALWAYS_ALLOWED, _MAX_RATIO * path.stat().st_size)
    free = shutil.disk_usage(folder).free
    made = {folder}
    size = 0
    for member in tar:
        parts = PurePosixPath(member.name).parts
        file = folder.joinpath(*parts)
        if ".." in parts or not file.is_relative_to(folder):  # an absolute name replaces the folder
            raise SightlineError(f"{path} is refused: its member {member.name!r} would leave the archive.")
        size += _HEADER + member.size
        if size > allowed:
            raise SightlineError(
                f"{path} is refused: it unpacks to more than {_MAX_RATIO} times its size, and than 1 GiB."
            )
        if not member.isreg() or not is_picture(file.name) or any(map(is_hidden, parts)):
            continue
        if size > free:
            raise SightlineError(
                f"{path} does not fit on the disk of {folder.parent}; free some space there."
            )
        if file.parent not in made:
            file.parent.mkdir(parents=True, exist_ok=True)
            made.add(file.parent)
        source = tar.extractfile(member)
        assert source is not None  # it is a regular file
        with source, file.open("wb") as out:
            shutil.copyfileobj(source, out)


def _enter(folder: Path) -> Path:
    """The folder with the class or split folders: below any that is alone and is not itself a split."""
    while True:
        inside = list(folder.iterdir())
        if len(inside) != 1 or not inside[0].is_dir() or inside[0].name.lower() in SPLIT_NAMES:
            return folder
        folder = inside[0]
