"""A manifest of a million rows: time to open, split and shuffle it, size of the index, peak memory.

Last result in manifest.csv. Run: python benchmarks/manifest.py [--rows 1000000]
"""

from __future__ import annotations

import argparse
import csv
import json
import platform
import subprocess
import sys
import tempfile
from pathlib import Path

LIMITS = {"seconds": 10.0, "index_mb": 200.0, "peak_mb": 400.0}

# In a process of its own, so that the peak is that of opening, splitting and shuffling alone.
MEASURE = """
import json, resource, sys, time
import numpy as np
from sightline.data import make_splits, open_dataset

started = time.perf_counter()
dataset = open_dataset(sys.argv[1])
opened = time.perf_counter()
dataset = make_splits(dataset, seed=0)
split = time.perf_counter()
train = dataset.split("train")
shuffled = train.subset(np.random.default_rng(0).permutation(len(train)))
for index in range(256):  # the first batch
    shuffled.path(index)
done = time.perf_counter()
per_mb = 2**20 if sys.platform == "darwin" else 2**10
print(json.dumps({
    "rows": len(dataset), "open_s": opened - started, "split_s": split - opened, "shuffle_s": done - split,
    "seconds": done - started, "index_mb": dataset.nbytes / 1e6,
    "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / per_mb * 1.048576,
}))
"""


def write_manifest(path: Path, rows: int, classes: int = 1000) -> None:
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "label"])
        for row in range(rows):
            label = f"class_{row * 7919 % classes:04d}"
            writer.writerow([f"pictures/{label}/batch_{row // 10000:04d}/picture_{row:07d}.jpg", label])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    rows = parser.parse_args().rows
    with tempfile.TemporaryDirectory() as folder:
        manifest = Path(folder) / "manifest.csv"
        write_manifest(manifest, rows)
        run = subprocess.run([sys.executable, "-c", MEASURE, manifest], check=True, capture_output=True)
    result = json.loads(run.stdout)
    lines = [(name, round(value, 2), LIMITS.get(name, "")) for name, value in result.items()]
    lines += [("machine", platform.machine(), ""), ("python", platform.python_version(), "")]
    with Path(__file__).with_suffix(".csv").open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["figure", "measured", "limit"])
        writer.writerows(lines)
    for name, measured, limit in [("figure", "measured", "limit"), *lines]:
        print(f"{name:<10} {measured:>12} {limit:>8}")
    return 0 if all(result[name] < limit for name, limit in LIMITS.items()) else 1


if __name__ == "__main__":
    sys.exit(main())
