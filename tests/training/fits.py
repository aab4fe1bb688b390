"""Fits in processes of their own that begin at once: this one imports everything, and forks for each line of stdin.

A line is JSON: `arguments` of sightline.fit, and optionally `trouble`, what is to happen in the middle of it; the
child's process number comes back. An empty line waits for the child; its exit status comes back (-9 for SIGKILL). Until
then the number stays the child's, even when it has ended, so that a signal that is late strikes nobody else.
"""

from __future__ import annotations

import errno
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

# Imported here so that no child has to.
import sightline
import sightline.fitting
import sightline.fitting.contrastive
import sightline.models.lenet
import sightline.models.resnet
import sightline.report
import sightline.training.transfer
from sightline.errors import SightlineError

CHANGES = ("open", "os.mkdir", "os.rename", "os.remove", "os.rmdir")


def make_trouble(at: int, kind: str) -> None:
    """At the `at`-th change of the disk below a folder `checkpoints`: die, or be told that the disk is full.

    A change is what Python's audit events call so, and each fsync; at an fsync half of the file is lost first, as when
    the power goes.
    """
    count = 0

    def strike(path: str, opened: int | None = None) -> None:
        nonlocal count
        if "checkpoints" not in path:
            return
        count += 1
        if count != at:
            return
        if opened is not None:
            os.truncate(opened, os.fstat(opened).st_size // 2)
        if kind == "full":
            raise OSError(errno.ENOSPC, "No space left on device", path)
        os.kill(os.getpid(), signal.SIGKILL)

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event in CHANGES and not (event == "open" and "r" in str(arguments[1])):
            strike(str(arguments[0]))

    fsync = os.fsync

    def torn_fsync(descriptor: int) -> None:
        strike(str(Path(f"/proc/self/fd/{descriptor}").readlink()), descriptor)
        fsync(descriptor)

    os.fsync = torn_fsync
    sys.addaudithook(hook)
    make_trouble.counted = lambda: count  # type: ignore[attr-defined]


def child(job: dict[str, Any]) -> int:
    """One fit; the exit status that the command line would give."""
    trouble = job.get("trouble")
    if trouble:
        make_trouble(trouble["at"], trouble["kind"])
    try:
        sightline.fit(**job["arguments"], quiet=True)
    except SightlineError as error:
        Path(job["said"]).write_text(str(error), encoding="utf-8")
        return 2
    except KeyboardInterrupt as error:
        Path(job["said"]).write_text(str(error), encoding="utf-8")
        return 130
    if trouble:
        Path(job["said"]).write_text(str(make_trouble.counted()), encoding="utf-8")  # type: ignore[attr-defined]
    return 0


def main() -> None:
    number = 0
    for line in sys.stdin:
        if not line.strip():
            _, status = os.waitpid(number, 0)
            print(os.waitstatus_to_exitcode(status), flush=True)
            continue
        number = os.fork()
        if number == 0:
            status = 1
            try:
                os.close(0)
                os.dup2(2, 1)
                status = child(json.loads(line))
            finally:
                os._exit(status)
        print(number, flush=True)


if __name__ == "__main__":
    main()
