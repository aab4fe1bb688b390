"""Reads each file named on stdin in a process of its own, forked from one that has only imported the reader.

Prints one JSON object a file: what came of it, its processor seconds and its peak memory in MB. A child that
hangs is ended after 20 s and a crash ends that child alone; both show as another `outcome`.
"""

from __future__ import annotations

import hashlib
import json
import os
import resource
import signal
import sys

from PIL import Image

from sightline.data import read_image
from sightline.errors import UnreadableImage


def read(path: str) -> dict[str, object]:
    try:
        image = read_image(path)
    except UnreadableImage as error:
        return {"outcome": "refused", "reason": error.reason, "message": str(error)}
    digest = hashlib.sha256(image.tobytes()).hexdigest()
    return {
        "outcome": "read",
        "mode": image.mode,
        "size": image.size,
        "flags": image.info["flags"],
        "sha": digest,
    }


def main() -> None:
    Image.init()  # the decoders' modules: imported once here, not once in each child
    for line in sys.stdin:
        path = line.rstrip("\n")
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            signal.alarm(20)
            try:
                os.write(writing, json.dumps(read(path)).encode())
            except BaseException as error:
                os.write(writing, json.dumps({"outcome": repr(error)}).encode())
            os._exit(0)
        os.close(writing)
        with os.fdopen(reading, "rb") as pipe:
            said = pipe.read()
        _, status, usage = os.wait4(child, 0)
        result = json.loads(said) if said else {"outcome": f"ended with status {status}"}
        per_mb = 2**20 if sys.platform == "darwin" else 2**10
        result.update(path=path, seconds=usage.ru_utime + usage.ru_stime, peak_mb=usage.ru_maxrss / per_mb)
        print(json.dumps(result))


if __name__ == "__main__":
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    main()
