"""Features that were computed once, kept on disk: bounded, never stale, safe with several writers.

Below `SIGHTLINE_HOME/features` lies a folder for each (network, weights, Preprocess, layer, pooling), named by a hash
of all of these, and in it files of rows: the hash of a picture's content, and its features in float32. Nothing in it
is ever changed, so nothing in it can be out of date: another content has another name. A file is named by the hash of
its own bytes, written beside and renamed: one that is torn does not bear its own name, and is removed. Two processes
that write at once write two files, or the same one twice. What was not asked for longest goes first when all of it
takes more than the bound.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sightline.errors import SightlineError
from sightline.files import write_beside
from sightline.home import home

LIMIT = 2 * 2**30
"""Bytes that all features together may take."""
KEY = 16
"""Bytes of the hash of a picture's content."""
SUFFIX = ".rows"
Row = NDArray[np.float32]


class FeatureCache:
    """The features of pictures in one layer of one network. `key`: a hash of network and layer.

    A disk that cannot be written to costs the keeping, nothing else.
    """

    def __init__(self, key: str, root: Path | None = None, limit: int = LIMIT) -> None:
        self.root = root or home() / "features"
        self.folder, self.limit = self.root / key, limit

    def find(self, keys: Sequence[bytes]) -> dict[bytes, Row]:
        """The rows (F,) that are kept, by the hash of the picture's content."""
        wanted, found = set(keys), dict[bytes, Row]()
        for path in files_in(self.folder):
            if len(found) == len(wanted):
                break
            rows = read(path)
            hit = wanted & rows.keys()
            if hit:
                found |= {key: rows[key] for key in hit}
                with suppress(OSError):  # removed by another process meanwhile
                    os.utime(path)
        return found

    def keep(self, rows: Mapping[bytes, Row]) -> None:
        """Add `rows`, each (F,), and remove the oldest files where all take more than the bound."""
        if not rows:
            return
        keys = np.frombuffer(b"".join(rows), np.uint8).reshape(-1, KEY)
        features = np.ascontiguousarray(np.stack(list(rows.values())), dtype=np.float32)
        data = packed(keys, features)
        if len(data) > self.limit:
            return
        with suppress(SightlineError, OSError):
            self.folder.mkdir(parents=True, exist_ok=True)
            write_beside(self.folder / f"{digest(data)}{SUFFIX}", data)
        self.prune()

    def prune(self) -> None:
        """Remove the files that were used longest ago, until the rest is within the bound."""
        sizes: list[tuple[float, int, Path]] = []
        for path in self.root.glob(f"*/*{SUFFIX}"):
            with suppress(OSError):
                known = path.stat()
                sizes.append((known.st_mtime, known.st_size, path))
        total = sum(size for _, size, _ in sizes)
        for _, size, path in sorted(sizes, key=lambda row: row[0]):
            if total <= self.limit:
                break
            path.unlink(missing_ok=True)
            with suppress(OSError):  # not empty, or gone already
                path.parent.rmdir()
            total -= size


def files_in(folder: Path) -> list[Path]:
    """The files of rows in `folder`, the last used first."""
    dated: list[tuple[float, Path]] = []
    for path in folder.glob(f"*{SUFFIX}"):
        with suppress(OSError):
            dated.append((path.stat().st_mtime, path))
    return [path for _, path in sorted(dated, reverse=True)]


def digest(data: bytes) -> str:
    return hashlib.blake2b(data, digest_size=KEY).hexdigest()


def packed(keys: NDArray[np.uint8], features: NDArray[np.float32]) -> bytes:
    """keys (N, 16) and features (N, F) as one file's bytes, safetensors'."""
    from safetensors.numpy import save

    return save({"keys": keys, "features": features})


def read(path: Path) -> dict[bytes, Row]:
    """The rows of one file; none of one that is torn, which is removed, or that another process has removed."""
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        data = path.read_bytes()
        if digest(data) != path.stem:
            raise ValueError
        parts: dict[str, NDArray[Any]] = load(data)
        keys, features = parts["keys"], parts["features"]
    except OSError:
        return {}
    except (ValueError, KeyError, SafetensorError):
        with suppress(OSError):
            path.unlink()
        return {}
    return {key.tobytes(): row for key, row in zip(keys, features, strict=True)}
