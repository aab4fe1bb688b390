"""Where downloads, unpacked archives and caches live."""

from __future__ import annotations

import os
from pathlib import Path


def home() -> Path:
    """`SIGHTLINE_HOME`, or `sightline` in the user's cache folder. Not created here."""
    named = os.environ.get("SIGHTLINE_HOME")
    if named:
        return Path(named).expanduser()
    cache = os.environ.get("XDG_CACHE_HOME")
    return (Path(cache).expanduser() if cache else Path.home() / ".cache") / "sightline"
