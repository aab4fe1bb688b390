"""What several tests share: the real data sets, found in one place."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


def data_root(name: str) -> Path:
    """The folder (or file) `name` of the real data sets; skips the test by that name where it is absent."""
    root = os.environ.get("SIGHTLINE_DATA")
    if not root:
        pytest.skip(f"{name}: SIGHTLINE_DATA is not set")
    path = Path(root).resolve() / name
    if not path.exists():
        pytest.skip(f"{name}: not found under SIGHTLINE_DATA")
    return path
