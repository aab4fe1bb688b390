"""360 real files of every kind of badness: each is a picture by the rules, or refused, soon and in little memory."""

from __future__ import annotations

import csv
import hashlib
import json
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageOps

from tests.support import data_root

SECONDS = 2.0
PEAK_MB = 500.0
OPAQUE = ("1", "L", "P", "RGB", "CMYK", "YCbCr", "LAB", "HSV")


@pytest.fixture(scope="module")
def results() -> dict[str, dict[str, Any]]:
    files = sorted((data_root("badinput_A") / "files").iterdir())
    script = Path(__file__).with_name("read_each.py")
    names = "\n".join(map(str, files))
    run = subprocess.run([sys.executable, script], input=names, capture_output=True, text=True, check=True)
    assert run.stderr == ""
    lines = [json.loads(line) for line in run.stdout.splitlines()]
    assert len(lines) == len(files) == 360
    return {Path(line["path"]).name: line for line in lines}


def test_each_is_read_or_refused(results: dict[str, dict[str, Any]]) -> None:
    assert {result["outcome"] for result in results.values()} == {"read", "refused"}
    for name, result in results.items():
        if result["outcome"] == "refused":
            assert result["message"] == f"{result['path']} cannot be read: {result['reason']}."
            assert "\n" not in result["reason"], name


def test_soon_and_in_little_memory(results: dict[str, dict[str, Any]]) -> None:
    assert max(result["seconds"] for result in results.values()) < SECONDS
    assert max(result["peak_mb"] for result in results.values()) < PEAK_MB


def by_pillow(path: str) -> Image.Image | None:
    """The picture as Pillow's exif_transpose and convert make it here; None where Pillow raises."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            with Image.open(path) as image:
                image.load()
                transparent = "transparency" in image.info
                upright = ImageOps.exif_transpose(image)
                if image.mode in OPAQUE and not transparent:
                    return upright.convert("RGB")
                return upright
        except Exception:
            return None


def test_they_agree_with_pillow(results: dict[str, dict[str, Any]]) -> None:
    """What Pillow decodes is a picture of the same size, and the same picture where 8-bit and opaque.

    The manifest was made with another build of Pillow 13, whose zlib delivers what pixels it has of a broken
    PNG stream; so a PNG that Pillow refuses here is refused.
    """
    manifest = csv.DictReader((data_root("badinput_A") / "manifest.csv").open(newline=""))
    outcomes = {row["file"]: row for row in manifest}
    compared = 0
    for name, result in results.items():
        oracle = by_pillow(result["path"])
        if outcomes[name]["pillow13"] == "ok" and result["outcome"] == "refused":
            assert (outcomes[name]["format"], oracle) == ("PNG", None), name
            assert "damaged" in result["reason"]
        if result["outcome"] == "read":
            assert oracle is not None
            assert result["mode"] == "RGB"
            assert tuple(result["size"]) == oracle.size, name
            if oracle.mode == "RGB" and outcomes[name]["mode"] in OPAQUE and not result["flags"]:
                assert result["sha"] == hashlib.sha256(oracle.tobytes()).hexdigest(), name
                compared += 1
        elif oracle is not None:
            pytest.fail(f"{name} is a picture to Pillow: {result['reason']}")
    assert compared > 100
