"""Twenty pictures a class: a probe, and a probe and then fine-tuning, against training from scratch.

    SIGHTLINE_DATA=... python benchmarks/transfer_cifar.py [--pretrained FOLDER] [--draws N] [--out transfer_cifar.csv]

The network of transfer.py, which learned the first five classes of CIFAR-10 (trained anew unless FOLDER holds its run),
is transferred to the other five classes with 20 pictures of each, in several draws; every strategy gets the same
pictures, the same network and the same augmentation. From scratch there are at least 2,000 steps, at the learning rate
that does best on a draw of its own, tested on the test pictures (which favours it). All test pictures of the five
classes are tested on. The table goes to stdout, every run to the CSV beside this file; below the table stand the paired
differences with their 95 % intervals (Student's t over the draws).
"""

from __future__ import annotations

import argparse
import csv
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from transfer import FIRST, WIDTHS, pretrained

import sightline
from sightline.data import ImageDataset
from sightline.data.dataset import NO_SPLIT, SPLITS

FIELDS = ("strategy", "draw", "lr", "steps", "seconds", "accuracy")
PER_CLASS, STEPS, TUNING_DRAW = 20, 2000, 1000
RATES = (0.0005, 0.001, 0.002, 0.004)
AUGMENT = "light"


def five(dataset: ImageDataset, classes: range, name: str) -> ImageDataset:
    """The pictures of `classes`, named and numbered anew."""
    part = dataset.subset(np.isin(dataset.targets, classes))
    chosen = part.subset(np.arange(len(part)))
    chosen.targets, chosen.classes, chosen.name = (
        chosen.targets - classes.start,
        part.classes[classes.start : classes.stop],
        name,
    )
    return chosen


def drawn(dataset: ImageDataset, seed: int) -> ImageDataset:
    """PER_CLASS training pictures of each class, and all test pictures."""
    rng = np.random.default_rng(seed)
    train = dataset.splits == SPLITS.index("train")
    codes = np.where(dataset.splits == SPLITS.index("test"), dataset.splits, NO_SPLIT)
    for target in range(len(dataset.classes)):
        codes[rng.choice(np.flatnonzero(train & (dataset.targets == target)), PER_CLASS, replace=False)] = 0
    return dataset.with_splits(codes).subset(codes != NO_SPLIT)


def measure(dataset: ImageDataset, **settings: Any) -> tuple[float, float, int]:
    """(accuracy on the test pictures, seconds, steps) of one fit."""
    with tempfile.TemporaryDirectory() as folder:
        begun = time.perf_counter()
        run = sightline.fit(dataset, out=Path(folder) / "run", device="cpu", quiet=True, **settings)
        steps = run.recipe.steps or 0
        return run.scores.accuracy.value, time.perf_counter() - begun, steps


def difference(better: list[float], worse: list[float]) -> tuple[float, float, float]:
    """(mean, low, high) of the paired differences, 95 % by Student's t."""
    from scipy.stats import t

    differences = np.subtract(better, worse)
    mean, count = float(differences.mean()), len(differences)
    half = (
        float(t.ppf(0.975, count - 1) * differences.std(ddof=1) / count**0.5) if count > 1 else float("nan")
    )
    return mean, mean - half, mean + half


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pretrained", type=Path, default=Path("runs"), help="folder of transfer.py's runs")
    parser.add_argument("--steps", type=int, default=STEPS, help="from scratch")
    parser.add_argument("--draws", type=int, default=5)
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".csv"))
    chosen = parser.parse_args()
    data = os.environ.get("SIGHTLINE_DATA")
    if not data:
        sys.exit("SIGHTLINE_DATA is not set; it names the folder with cifar10/cifar10.tar.gz")
    whole = sightline.open_dataset(Path(data) / "cifar10" / "cifar10.tar.gz")
    weights = pretrained(Path(data), FIRST, chosen.pretrained / "pretrained_first")
    target = five(whole, range(5, 10), "cifar10-last")
    network = {"model": "resnet10_small", "model.widths": WIDTHS}
    common = network | {"augment": AUGMENT}
    scratch = common | {"strategy": "scratch", "weights": "none", "steps": chosen.steps}
    tuned = {
        rate: measure(drawn(target, TUNING_DRAW), **scratch, **{"optimizer.lr": rate})[0] for rate in RATES
    }
    rate = max(tuned, key=lambda r: tuned[r])
    print("from scratch, accuracy by learning rate:", {r: round(a, 3) for r, a in tuned.items()}, flush=True)
    ways: dict[str, dict[str, Any]] = {
        "scratch": scratch | {"optimizer.lr": rate},
        "probe": network | {"weights": str(weights), "strategy": "probe"},
        "probe, then fine-tune": common | {"weights": str(weights), "strategy": "finetune"},
    }
    rows: list[dict[str, object]] = []
    reached: dict[str, list[float]] = {name: [] for name in ways}
    for draw in range(chosen.draws):
        pictures = drawn(target, draw)
        for name, settings in ways.items():
            accuracy, seconds, steps = measure(pictures, seed=draw, **settings)
            reached[name].append(accuracy)
            rows.append(
                {
                    "strategy": name, "draw": draw, "lr": settings.get("optimizer.lr", ""), "steps": steps,
                    "seconds": round(seconds, 1), "accuracy": round(accuracy, 4),
                }
            )  # fmt: skip
            print(rows[-1], flush=True)
            with chosen.out.open("w", newline="") as file:  # after each run: nothing is lost
                writer = csv.DictWriter(file, FIELDS, lineterminator="\n")
                writer.writeheader()
                writer.writerows(rows)
    for name in ("probe", "probe, then fine-tune"):
        mean, low, high = difference(reached[name], reached["scratch"])
        print(
            f"{name:22} {np.mean(reached[name]):.3f}   scratch {np.mean(reached['scratch']):.3f}   "
            f"difference {100 * mean:+.1f} points [{100 * low:+.1f}, {100 * high:+.1f}]"
        )


if __name__ == "__main__":
    main()
