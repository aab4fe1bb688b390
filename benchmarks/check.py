"""`sightline check` on 10,000 photographs: its time as a multiple of decoding them once, and its memory.

Draws JPEGs of 500x375 (clouds of all sizes behind a shape), or takes --data. Decoding and checking take turns, each in
a process of its own, both on all cores. Memory is flat when a quarter of the pictures takes nearly as much.
Last result in check.csv. Run: python benchmarks/check.py [--pictures 10000] [--rounds 3] [--data DATA]
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import platform
import subprocess
import sys
import tempfile
from multiprocessing import get_context
from pathlib import Path
from statistics import median

import numpy as np
from PIL import Image

LIMIT = 3.0  # times decoding

MEASURE = """
import json, os, resource, sys, time
from concurrent.futures import ThreadPoolExecutor
from sightline.audit import check
from sightline.data import open_dataset

what, source, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
dataset = open_dataset(source)
dataset = dataset.subset(range(0, len(dataset), max(1, len(dataset) // count)))
started = time.perf_counter()
found = 0
if what == "decode":
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for first in range(0, len(dataset), 256):
            for size in pool.map(lambda i: dataset.read(i).size, range(first, min(len(dataset), first + 256))):
                pass
else:
    found = len(check(dataset))
seconds = time.perf_counter() - started
per_mb = 2**20 if sys.platform == "darwin" else 2**10
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / per_mb * 1.048576
print(json.dumps({"n": len(dataset), "seconds": seconds, "peak_mb": peak, "found": found}))
"""


def draw(root: Path, count: int) -> None:
    """`count` pictures of two classes: rolled and mixed clouds, so that no two have a part in common for long."""
    rng = np.random.default_rng(0)
    height, width = 375, 500
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.fftfreq(width)[None])
    frequency[0, 0] = np.inf
    waves = np.fft.fft2(rng.standard_normal((40, height, width))) / frequency
    clouds = np.fft.ifft2(waves).real.astype(np.float32)
    clouds *= 40 / clouds.std((1, 2), keepdims=True)
    y, x = np.mgrid[:height, :width]
    for label in ("disc", "bar"):
        (root / label).mkdir(parents=True)
    for number in range(count):
        chosen, shares = rng.permutation(len(clouds))[:4], rng.dirichlet(np.ones(4))
        mixed = sum(
            share * np.roll(clouds[one], rng.integers(0, height, 2), (0, 1))
            for one, share in zip(chosen, shares, strict=True)
        )
        cx, cy, r = rng.integers(100, 400), rng.integers(100, 275), rng.integers(30, 90)
        label = ("disc", "bar")[number % 2]
        inside = (
            np.hypot(x - cx, y - cy) < r if label == "disc" else (abs(x - cx) < r / 2) & (abs(y - cy) < r)
        )
        tint = rng.uniform(0.5, 1.5, 3)
        picture = 120 + mixed[..., None] * tint + rng.normal(0, 4, (height, width, 1))
        picture[inside] += rng.uniform(-60, 60, 3)
        image = Image.fromarray(picture.clip(0, 255).astype(np.uint8))
        image.save(root / label / f"{number:05}.jpg", quality=85)


def measure(what: str, source: Path, count: int) -> dict[str, float]:
    run = subprocess.run(
        [sys.executable, "-c", MEASURE, what, str(source), str(count)],
        check=True,
        capture_output=True,
        env={**os.environ, "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", str(os.cpu_count()))},
    )
    result: dict[str, float] = json.loads(run.stdout)
    return result


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pictures", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--data", type=Path, help="a data set in place of drawn pictures")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        source = arguments.data or Path(folder) / "drawn"
        if not arguments.data:  # by a process of its own: a child's peak begins at its parent's
            drawing = get_context("spawn").Process(target=draw, args=(source, arguments.pictures))
            drawing.start()
            drawing.join()
        measure("decode", source, arguments.pictures)  # from now on the files are in the system's memory
        rounds = [
            {what: measure(what, source, arguments.pictures) for what in ("decode", "check")}
            for _ in range(arguments.rounds)
        ]
        quarter = measure("check", source, arguments.pictures // 4)
    decode = median(one["decode"]["seconds"] for one in rounds)
    check = median(one["check"]["seconds"] for one in rounds)
    ratio = median(one["check"]["seconds"] / one["decode"]["seconds"] for one in rounds)
    last = rounds[-1]["check"]
    lines: list[tuple[str, object, object]] = [
        ("data", arguments.data.name if arguments.data else "drawn, 500x375", ""),
        ("pictures", last["n"], ""),
        ("decode_s", round(decode, 2), ""),
        ("check_s", round(check, 2), ""),
        ("check_by_decode", round(ratio, 2), LIMIT),
        ("findings", last["found"], ""),
        ("peak_mb", round(last["peak_mb"]), ""),
        ("peak_mb_of_a_quarter", round(quarter["peak_mb"]), ""),
        ("machine", f"{platform.machine()}, {os.cpu_count()} cores", ""),
        ("python", platform.python_version(), ""),
    ]
    with Path(__file__).with_suffix(".csv").open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["figure", "measured", "limit"])
        writer.writerows(lines)
    for name, measured, limit in [("figure", "measured", "limit"), *lines]:
        print(f"{name:<22} {measured!s:>18} {limit!s:>8}")
    return 0 if ratio <= LIMIT else 1


if __name__ == "__main__":
    sys.exit(main())
