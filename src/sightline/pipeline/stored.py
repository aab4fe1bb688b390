"""Pictures after the canonical stage, on the disk: decoded once, then mapped into memory by every run that wants them.

For training sets that do not fit into memory. Below `SIGHTLINE_HOME/pictures` there is a folder for each way of storing
(size, fit, interpolation, channels, decoding), in it files of some hundred pictures, found by the content of the
original files: so runs share them, whatever the pictures are called and however they are split. A file is written
beside, renamed when the disk has it, and never changed: two runs may write at once. One that is not whole is removed
and made again. All together take at most `SIGHTLINE_CACHE_GB`; what was used longest ago goes first.
"""

from __future__ import annotations

import hashlib
import math
import os
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sightline.errors import SightlineError, UnreadableImage
from sightline.files import write_beside
from sightline.home import home
from sightline.pipeline.cache import Canonical, Failure, Mode, cores, read_chunks
from sightline.pipeline.content import DIGEST_BYTES, digest

if TYPE_CHECKING:
    from sightline.data.dataset import ImageDataset

LIMIT = "SIGHTLINE_CACHE_GB"
DEFAULT_LIMIT = 20.0
# So much of the disk is left to others.
LEFT_FREE = 2 * 10**9
MAGIC = b"SLPICS01"
# A file begins with the magic, the number of pictures and of channels; then a row a picture, and a digest of all that.
ROW = np.dtype([("digest", "<u8", 2), ("start", "<i8"), ("height", "<i4"), ("width", "<i4")])
HEAD = len(MAGIC) + 16


class Stored(NamedTuple):
    """indices: places in the data set of the pictures that are not known to be unreadable; pictures: these, in order.

    said: why not all of them are on the disk, in a sentence; None where all are.
    """

    indices: NDArray[np.int64]
    pictures: StoredPictures
    failures: list[Failure]
    said: str | None


class StoredPictures:
    """N pictures in mapped files: `find(i)` is a view of picture i, nothing is copied.

    It pickles, for worker processes, as the names of the files.
    """

    def __init__(
        self, paths: list[Path], channels: int, rows: NDArray[Any], files: NDArray[np.int32]
    ) -> None:
        """rows: (N,) of `ROW`; files: (N,) places in `paths`, -1 for a picture that is in none."""
        self.paths, self.channels, self.rows, self.files = paths, channels, rows, files
        self.maps: dict[int, NDArray[np.uint8] | None] = {}

    def __len__(self) -> int:
        return len(self.rows)

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"maps": {}}

    def subset(self, indices: NDArray[np.int64]) -> StoredPictures:
        """Those at `indices`, in that order."""
        return StoredPictures(self.paths, self.channels, self.rows[indices], self.files[indices])

    def find(self, index: int) -> NDArray[np.uint8] | None:
        """Picture `index`, uint8 (H, W) or (H, W, 3); None where it is not, or no longer, on the disk."""
        file = int(self.files[index])
        if file < 0:
            return None
        if file not in self.maps:
            try:
                self.maps[file] = np.memmap(self.paths[file], np.uint8, "r")
            except (OSError, ValueError):  # another run has made room for its own
                self.maps[file] = None
        pixels, row = self.maps[file], self.rows[index]
        if pixels is None:
            return None
        height, width, start = int(row["height"]), int(row["width"]), int(row["start"])
        shape = (height, width) if self.channels == 1 else (height, width, self.channels)
        return np.asarray(pixels[start : start + math.prod(shape)]).reshape(shape)


def store(
    dataset: ImageDataset, stage: Canonical, mode: Mode, progress: Callable[[int], None] | None = None
) -> Stored | None:
    """`dataset` through `stage`, on the disk: what is there is found, the rest is decoded and written.

    None where `SIGHTLINE_CACHE_GB` is 0. `progress` is told how many pictures are there so far. A disk that is full, or
    refuses, ends the writing and no more. Raises SightlineError for a limit that is no number.
    """
    if not limit():
        return None
    channels = 1 if mode == "L" else 3
    folder = home() / "pictures" / name_of(stage, mode)
    digests, failures = digests_of(dataset)
    paths, known = stored_in(folder, channels)
    rows, files = matched(digests, known)
    used = {paths[file] for file in np.unique(files).tolist() if file >= 0}
    for path in used:
        with suppress(OSError):
            os.utime(path)
    unreadable = {failure.index for failure in failures}
    missing = np.array([i for i in np.flatnonzero(files < 0).tolist() if i not in unreadable], np.int64)
    _, firsts = np.unique(digests[missing], return_index=True, axis=0)  # of equal ones, one is decoded
    wanted = missing[np.sort(firsts)]
    done = len(dataset) - len(missing)
    said = None
    for chunk in read_chunks(dataset.subset(wanted), stage, mode) if len(wanted) else ():
        places = wanted[chunk.indices]
        failures += [Failure(int(wanted[f.index]), f.ref, f.reason) for f in chunk.failures]
        try:
            path, written = write(folder, digests[places], chunk.arrays, channels, used)
        except SightlineError as error:
            said = f"{error} Pictures that are not stored are decoded anew in every epoch."
            break
        used.add(path)
        paths.append(path)
        rows[places], files[places] = written, len(paths) - 1
        done += len(chunk.arrays) + len(chunk.failures)
        if progress:
            progress(done)
    copies = missing[files[missing] < 0]
    if len(copies):
        own = np.flatnonzero(files >= 0)
        rows[copies], files[copies] = like(digests[copies], digests[own], rows[own], files[own])
    failed = {failure.index for failure in failures}
    indices = np.array([i for i in range(len(dataset)) if i not in failed], np.int64)
    pictures = StoredPictures(paths, channels, rows, files).subset(indices)
    return Stored(indices, pictures, sorted(failures, key=lambda one: one.index), said)


def limit() -> float:
    """How many bytes all stored pictures may take. Raises SightlineError for what is no number."""
    text = os.environ.get(LIMIT, "") or str(DEFAULT_LIMIT)
    try:
        size = float(text) * 1e9
        if not 0 <= size < math.inf:
            raise ValueError
    except ValueError:
        raise SightlineError(f"{LIMIT} is a number of gigabytes, 0 for no cache, not {text!r}.") from None
    return size


def name_of(stage: Canonical, mode: Mode) -> str:
    """The folder's name: all that decides the pixels beside the picture itself."""
    from PIL import __version__ as pillow

    return hashlib.blake2b(repr((MAGIC, pillow, stage, mode)).encode(), digest_size=8).hexdigest()


def digests_of(dataset: ImageDataset) -> tuple[NDArray[np.uint64], list[Failure]]:
    """(N, 2) what tells the contents of the pictures from each other, and those whose files cannot be read."""

    def one(index: int) -> bytes | Failure:
        try:
            return digest(dataset, index)
        except UnreadableImage as error:
            return Failure(index, dataset.ref(index), error.reason)

    with ThreadPoolExecutor(cores()) as pool:
        found = list(pool.map(one, range(len(dataset))))
    failures = [one for one in found if isinstance(one, Failure)]
    content = b"".join(bytes(DIGEST_BYTES) if isinstance(one, Failure) else one for one in found)
    return np.frombuffer(content, "<u8").reshape(-1, 2), failures


def stored_in(folder: Path, channels: int) -> tuple[list[Path], list[NDArray[Any]]]:
    """The files of `folder`, and their rows, (n,) of `ROW` each. A file that is not whole is removed."""
    paths, rows = [], []
    for path in sorted(folder.glob("*.pictures")) if folder.is_dir() else ():
        with suppress(OSError):
            table = read_rows(path, channels)
            if table is None:
                path.unlink(missing_ok=True)
                continue
            paths.append(path)
            rows.append(table)
    return paths, rows


def read_rows(path: Path, channels: int) -> NDArray[Any] | None:
    """The rows of the file `path`; None where it is not whole."""
    with path.open("rb") as file:
        head = file.read(HEAD)
        if len(head) < HEAD or head[: len(MAGIC)] != MAGIC:
            return None
        count, of_each = np.frombuffer(head[len(MAGIC) :], "<u8").tolist()
        size = os.fstat(file.fileno()).st_size
        if of_each != channels or count * ROW.itemsize > size:
            return None
        table, check = file.read(count * ROW.itemsize), file.read(DIGEST_BYTES)
    if hashlib.blake2b(head + table, digest_size=DIGEST_BYTES).digest() != check:
        return None
    rows = np.frombuffer(table, ROW)
    end = HEAD + len(table) + DIGEST_BYTES + pixels_of(rows, channels)
    return rows if end == size else None


def pixels_of(rows: NDArray[Any], channels: int) -> int:
    return int((rows["height"].astype(np.int64) * rows["width"]).sum()) * channels


def matched(digests: NDArray[np.uint64], known: list[NDArray[Any]]) -> tuple[NDArray[Any], NDArray[np.int32]]:
    """The row of each of `digests`, (N,) of `ROW`, and the file of it, (N,), -1 where there is none."""
    if not known:
        return np.zeros(len(digests), ROW), np.full(len(digests), -1, np.int32)
    rows = np.concatenate(known)
    files = np.repeat(np.arange(len(known), dtype=np.int32), [len(part) for part in known])
    return like(digests, rows["digest"], rows, files)


def like(
    digests: NDArray[np.uint64], others: NDArray[np.uint64], rows: NDArray[Any], files: NDArray[np.int32]
) -> tuple[NDArray[Any], NDArray[np.int32]]:
    """For each of `digests` the row and the file of the one of `others` that is equal; file -1 where none is."""
    found_rows, found_files = np.zeros(len(digests), ROW), np.full(len(digests), -1, np.int32)
    if len(others) and len(digests):
        order = np.argsort(others[:, 0], kind="stable")
        place = order[np.searchsorted(others[:, 0], digests[:, 0], sorter=order).clip(max=len(order) - 1)]
        same = (others[place] == digests).all(1)
        found_rows[same], found_files[same] = rows[place[same]], files[place[same]]
    return found_rows, found_files


def write(
    folder: Path, digests: NDArray[np.uint64], arrays: list[NDArray[np.uint8]], channels: int, used: set[Path]
) -> tuple[Path, NDArray[Any]]:
    """One more file of `folder` with these pictures; its rows. Raises SightlineError where there is no room for it."""
    rows = np.zeros(len(arrays), ROW)
    rows["digest"] = digests
    rows["height"], rows["width"] = [a.shape[0] for a in arrays], [a.shape[1] for a in arrays]
    begin = HEAD + len(arrays) * ROW.itemsize + DIGEST_BYTES
    rows["start"] = begin + np.cumsum([0, *(a.size for a in arrays)])[:-1]
    head = MAGIC + np.array([len(arrays), channels], "<u8").tobytes() + rows.tobytes()
    check = hashlib.blake2b(head, digest_size=DIGEST_BYTES).digest()
    content = b"".join([head, check, *(np.ascontiguousarray(array).data for array in arrays)])
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SightlineError(f"Pictures cannot be stored in {folder}: {error.strerror}.") from None
    make_room(folder.parent, len(content), used)
    path = folder / f"{check.hex()}.pictures"
    write_beside(path, content)
    return path, rows


def make_room(root: Path, size: int, used: set[Path]) -> None:
    """Remove what was used longest ago until `size` bytes have room. Raises SightlineError where they have none."""
    files = []
    for path in root.rglob("*"):
        with suppress(OSError):  # gone meanwhile
            if path.is_file():
                status = path.stat()
                files.append((status.st_mtime_ns, status.st_size, path))
    files.sort()
    total, room = sum(one[1] for one in files), limit()
    for _, length, path in files:
        if total + size <= room and shutil.disk_usage(root).free >= size + LEFT_FREE:
            return
        if path not in used:
            path.unlink(missing_ok=True)
            total -= length
    if total + size > room:
        raise SightlineError(
            f"The cache of decoded pictures is full at {room / 1e9:g} GB; set {LIMIT} for more."
        )
    if shutil.disk_usage(root).free < size + LEFT_FREE:
        raise SightlineError(f"The disk of {root} is nearly full, so no more decoded pictures are stored.")
