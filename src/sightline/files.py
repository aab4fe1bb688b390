"""Writing so that nothing is lost: beside, then renamed; and one sentence when the disk says no."""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sightline.errors import SightlineError


def write_beside(path: Path, content: bytes | str) -> None:
    """Write `content` to `path`: either the whole new file is there or the old one is. Raises SightlineError.

    Text is UTF-8. The name of a file need not be text: what is none of it is spelled out, as JSON does.
    """
    data = content.encode("utf-8", "backslashreplace") if isinstance(content, str) else content
    with disk_errors(path):
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        beside = Path(name)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            beside.chmod(0o666 & ~current_umask())  # mkstemp's files are private
            beside.replace(path)
        except BaseException:
            beside.unlink(missing_ok=True)
            raise


def write_file(path: Path, data: bytes) -> None:
    """Write `data` to the new file `path` and wait until the disk has it. Raises OSError."""
    with path.open("xb", buffering=0) as file:
        view = memoryview(data)
        while view:
            view = view[file.write(view) :]
        os.fsync(file.fileno())


def append_line(path: Path, line: str) -> None:
    """Add one line to `path`, the whole of it or nothing. Raises SightlineError."""
    data = (line + "\n").encode("utf-8")
    with disk_errors(path), path.open("ab", buffering=0) as file:
        size = file.tell()
        if file.write(data) != len(data):  # a disk that is nearly full takes a part
            file.truncate(size)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turn what a disk refuses within into one sentence."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise SightlineError(
                f"The disk is full: {path} could not be written; free some space, or give another --out."
            ) from None
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise SightlineError(
                f"{path.parent} may not be written to; give a folder of your own with --out."
            ) from None
        raise SightlineError(f"{path} could not be written: {reason(error)}.") from None


def reason(error: Exception) -> str:
    """Why a file could not be used, in a few words without number or name."""
    strerror = error.strerror if isinstance(error, OSError) else None
    return strerror.lower() if strerror else str(error)


def current_umask() -> int:
    """The umask of this process; it can only be read by setting it."""
    mask = os.umask(0)
    os.umask(mask)
    return mask
