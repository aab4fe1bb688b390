"""What the tests share: one small trained run, and a home of their own for caches."""

from __future__ import annotations

import os
import urllib.request  # noqa: F401

import numpy as np
import pytest
from PIL import Image

# Two cores shared by several test processes: one thread each.
os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="session", autouse=True)
def sightline_home(tmp_path_factory):
    """Unpacked archives and caches of the tests go where the tests' other files go."""
    home = tmp_path_factory.mktemp("home")
    os.environ["SIGHTLINE_HOME"] = str(home)
    return home


@pytest.fixture(autouse=True)
def fresh_opener(monkeypatch):
    """Python keeps the proxies that it found at its first download; a test with proxies of its own must not last."""
    monkeypatch.setattr("urllib.request._opener", None)


def draw(kind: str, size: int, rng: np.random.Generator) -> Image.Image:
    """A square, a disc or stripes, light on dark, at a random place: three classes that are easy to tell apart."""
    y, x = np.mgrid[:size, :size]
    cy, cx, r = *rng.uniform(0.4, 0.6, 2) * size, rng.uniform(0.2, 0.3) * size
    shape = {
        "square": (abs(y - cy) < r) & (abs(x - cx) < r),
        "disc": (y - cy) ** 2 + (x - cx) ** 2 < r**2,
        "stripes": (x // max(2, size // 8)) % 2 == 0,
    }[kind]
    picture = rng.integers(0, 60, (size, size, 3)) + shape[..., None] * rng.integers(120, 190, 3)
    return Image.fromarray(picture.astype(np.uint8))


@pytest.fixture(scope="session")
def shapes(tmp_path_factory):
    """A folder of 90 drawn pictures of three classes, 24 pixels, no splits. Read only."""
    rng = np.random.default_rng(0)
    root = tmp_path_factory.mktemp("shapes")
    for kind in ("disc", "square", "stripes"):
        (root / kind).mkdir()
        for k in range(30):
            draw(kind, 24, rng).save(root / kind / f"{k:02}.png")
    return root


@pytest.fixture(scope="session")
def trained(shapes, tmp_path_factory):
    """A finished run on `shapes`. Read only."""
    import sightline

    return sightline.fit(
        shapes, out=tmp_path_factory.mktemp("runs") / "run", epochs=15, quiet=True, device="cpu"
    )
