"""Exact search over a million embeddings on disk: how long, cold and warm, and whether it finds what float32 finds.

    python benchmarks/clip_search.py [--quick] [--rows 1000000] [--queries 200] [--threads 2] [--out clip_search.csv]

Unit vectors of 512 numbers, drawn at random around 1,000 centres, in float16 in a file that is mapped into memory.
`cold` is one query with the file's pages dropped from memory, `warm` the median of all queries with them there; numpy
in float32, block by block, is beside it. Two shares of queries whose ten nearest are the same: against float32
arithmetic on the stored numbers, and against float32 on the numbers before they were rounded to float16.
Wanted on two cores: warm under 150 ms, and 99 % or more. Last result: clip_search.csv.
"""

from __future__ import annotations

import argparse
import csv
import os
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parent))
from training import processor

LENGTH, CENTRES, K, BLOCK = 512, 1000, 10, 20_000
FIELDS = (
    "rows", "length", "queries", "threads", "processor", "cold_ms", "warm_ms", "warm_p95_ms", "float32_ms",
    "same_as_float32", "same_as_unrounded",
)  # fmt: skip


def unit(numbers: np.ndarray) -> np.ndarray:
    return numbers / np.linalg.norm(numbers, axis=1, keepdims=True)


def rows_of(start: int, count: int, centres: np.ndarray) -> np.ndarray:
    """Rows `start` and on, float32; the same however they are cut into blocks of BLOCK."""
    rng = np.random.default_rng((1, start))
    near = centres[rng.integers(0, len(centres), count)]
    return unit(near + 1.5 * unit(rng.standard_normal((count, LENGTH), np.float32))).astype(np.float32)


def drop(path: Path) -> None:
    """Have the system forget the file's pages."""
    handle = os.open(path, os.O_RDONLY)
    os.fsync(handle)
    os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(handle)


def main() -> None:
    from sightline.search import nearest

    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="20,000 rows; says nothing")
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--queries", type=int, default=200)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--folder", type=Path, help="where the file goes; by default a temporary folder")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".csv"))
    options = parser.parse_args()
    rows, queries = (20_000, 20) if options.quick else (options.rows, options.queries)
    torch.set_num_threads(options.threads)
    centres = unit(np.random.default_rng(0).standard_normal((CENTRES, LENGTH), np.float32))
    rng = np.random.default_rng(2)
    asked = unit(
        centres[rng.integers(0, CENTRES, queries)] + 1.5 * unit(rng.standard_normal((queries, LENGTH)))
    )
    asked = asked.astype(np.float32)

    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        path = Path(folder) / "vectors.f16"
        stored = Best(asked), Best(asked)
        with path.open("wb") as file:
            for start in range(0, rows, BLOCK):
                block = rows_of(start, min(BLOCK, rows - start), centres)
                half = block.astype(np.float16)
                file.write(half.tobytes())
                stored[0].add(half.astype(np.float32), start)
                stored[1].add(block, start)
        drop(path)
        vectors = np.memmap(path, np.float16, "c", shape=(rows, LENGTH))
        began = time.perf_counter()
        nearest(vectors, asked[0], K)
        cold = time.perf_counter() - began
        nearest(vectors, asked[0], K)
        times, found = [], []
        for query in asked:
            began = time.perf_counter()
            found.append(nearest(vectors, query, K)[0])
            times.append(time.perf_counter() - began)
        began = time.perf_counter()
        for start in range(0, rows, BLOCK):
            vectors[start : start + BLOCK].astype(np.float32) @ asked[0]
        plain = time.perf_counter() - began
        del vectors
    shares = [
        float(np.mean([set(a.tolist()) == set(b.tolist()) for a, b in zip(found, each.rows, strict=True)]))
        for each in stored
    ]
    values = (rows, LENGTH, queries, options.threads, processor(), round(1e3 * cold, 1), round(1e3 * median(times), 1),
              round(1e3 * float(np.percentile(times, 95)), 1), round(1e3 * plain, 1), *shares)  # fmt: skip
    row = dict(zip(FIELDS, values, strict=True))
    for key, value in row.items():
        print(f"{key:18} {value}")
    if not options.quick:
        with options.out.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, FIELDS, lineterminator="\n")
            writer.writeheader()
            writer.writerow(row)


class Best:
    """The K nearest rows of each query, kept while blocks of rows go by, in float32."""

    def __init__(self, queries: np.ndarray) -> None:
        self.queries = queries
        self.rows = np.zeros((len(queries), K), np.int64)
        self.scores = np.full((len(queries), K), -np.inf, np.float32)

    def add(self, block: np.ndarray, start: int) -> None:
        near = self.queries @ block.T
        scores = np.concatenate([self.scores, near], axis=1)
        rows = np.concatenate(
            [self.rows, np.tile(np.arange(start, start + len(block)), (len(near), 1))], axis=1
        )
        order = top(scores)
        self.scores = np.take_along_axis(scores, order, axis=1)
        self.rows = np.take_along_axis(rows, order, axis=1)


def top(scores: np.ndarray) -> np.ndarray:
    """The places of the K largest in each row, the largest first."""
    some = np.argpartition(-scores, K, axis=1)[:, :K]
    order = np.argsort(-np.take_along_axis(scores, some, axis=1), axis=1, kind="stable")
    return np.take_along_axis(some, order, axis=1)


if __name__ == "__main__":
    main()
