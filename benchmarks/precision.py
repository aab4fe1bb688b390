"""What bf16 costs in accuracy: the same runs in bf16 and in float32, seed by seed, on CIFAR-10.

    SIGHTLINE_DATA=... python benchmarks/precision.py [--seeds 3] [--epochs 6] [--model resnet20] [--out precision.csv]

Each pair has the same seed, so the same start, order and augmentation; the test pictures are the 10,000 of the archive.
The rows go to `precision.csv` beside this file as they come, and pairs that stand there are not run again; the mean of
the paired differences, in points, with its 95 % interval (Student's t) goes to stdout.
"""

from __future__ import annotations

import argparse
import csv
import os
import tempfile
from pathlib import Path

import numpy as np
from scipy import stats

from training import processor

FIELDS = ("model", "epochs", "seed", "threads", "processor", "test", "fp32", "bf16", "difference")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--model", default="resnet20")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".csv"))
    chosen = parser.parse_args()
    import torch

    from sightline import fit

    source = Path(os.environ["SIGHTLINE_DATA"]) / "cifar10" / "cifar10.tar.gz"
    rows: list[dict[str, object]] = list(csv.DictReader(chosen.out.open())) if chosen.out.exists() else []
    done = {(row["model"], str(row["epochs"]), str(row["seed"])) for row in rows}
    for seed in range(chosen.seeds):
        if (chosen.model, str(chosen.epochs), str(seed)) in done:
            continue
        found = {}
        for precision in ("fp32", "bf16"):
            with tempfile.TemporaryDirectory() as folder:
                settings = {
                    "model": chosen.model,
                    "epochs": chosen.epochs,
                    "seed": seed,
                    "precision": precision,
                }
                scores = fit(source, out=Path(folder) / "run", quiet=True, **settings).scores
            found[precision] = scores.accuracy.value
        difference = round(100 * (found["bf16"] - found["fp32"]), 2)
        head = [chosen.model, chosen.epochs, seed, torch.get_num_threads(), processor(), scores.n]
        rows.append(dict(zip(FIELDS, [*head, found["fp32"], found["bf16"], difference], strict=True)))
        print(f"seed {seed}   float32 {found['fp32']:.4f}   bf16 {found['bf16']:.4f}", flush=True)
        with chosen.out.open("w", newline="") as file:  # after each pair: nothing is lost
            writer = csv.DictWriter(file, FIELDS, lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
    differences = [
        float(str(row["difference"]))
        for row in rows
        if (row["model"], str(row["epochs"])) == (chosen.model, str(chosen.epochs))
    ]
    mean = float(np.mean(differences))
    half = (
        float(stats.sem(differences) * stats.t.ppf(0.975, len(differences) - 1))
        if len(differences) > 1
        else np.nan
    )
    print(f"bf16 minus float32: {mean:+.2f} points [{mean - half:+.2f}, {mean + half:+.2f}]")


if __name__ == "__main__":
    main()
