"""How much faster two processes train than one, a thread each, on a machine with two cores.

    SIGHTLINE_DATA=... python benchmarks/processes.py [--rounds 5] [--steps 150] [--batch 128] [--out processes.csv]

`sightline fit` of resnet10_small on CIFAR-10 at 32 pixels in float32, alone and by `torchrun --nproc-per-node 2`, in
turn. The rate is the run's own of its training steps (the loop's clock): reading, testing and reporting are left out.
Printed: medians and the median over rounds of the ratio; each round goes to `processes.csv` beside this file.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from training import processor

FIELDS = ("batch", "steps", "round", "processor", "one", "two", "ratio")


def rate(source: Path, processes: int, batch: int, steps: int) -> float:
    """Training pictures a second of one fit, over all of its processes."""
    begin = [sys.executable, "-m"]
    if processes > 1:
        begin += ["torch.distributed.run", "--standalone", "--nproc-per-node", str(processes), "-m"]
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "run"
        settings = [
            "precision=fp32",
            f"batch_size={batch}",
            f"steps={steps}",
            "workers=0",
            "model.name=resnet10_small",
        ]
        command = [*begin, "sightline", "fit", str(source), "--out", str(out)]
        for setting in settings:
            command += ["--set", setting]
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        subprocess.run(
            command, check=True, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        rows = [json.loads(line) for line in (out / "history.jsonl").read_text().splitlines()]
    return float(next(row["images_per_second"] for row in reversed(rows) if "images_per_second" in row))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".csv"))
    chosen = parser.parse_args()
    source = Path(os.environ["SIGHTLINE_DATA"]) / "cifar10" / "cifar10.tar.gz"
    rows: list[dict[str, object]] = []
    for number in range(chosen.rounds):
        one, two = (rate(source, count, chosen.batch, chosen.steps) for count in (1, 2))
        figures = [
            chosen.batch,
            chosen.steps,
            number,
            processor(),
            round(one, 1),
            round(two, 1),
            round(two / one, 3),
        ]
        rows.append(dict(zip(FIELDS, figures, strict=True)))
        print(f"one process {one:7.1f} pictures/s   two {two:7.1f}   {two / one:.2f}x", flush=True)
        with chosen.out.open("w", newline="") as file:  # after each round: nothing is lost
            writer = csv.DictWriter(file, FIELDS, lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
    ratios = [float(str(row["ratio"])) for row in rows]
    print(f"median {statistics.median(ratios):.2f}x over {len(ratios)} rounds")


if __name__ == "__main__":
    main()
