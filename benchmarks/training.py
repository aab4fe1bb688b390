"""What `sightline fit` reaches from scratch with its defaults, on real sets, and how long it takes.

    SIGHTLINE_DATA=... python benchmarks/training.py [--only NAME] [--seeds 0 1 2] [--out training.csv]

Each row is one run of the command line in a process of its own, with nothing set but the seed (and the model where
the row names one). `seconds` is the whole run: reading, training, testing, report; they count where nothing else runs
and `threads` are the machine's. The table of means, over all seeds in the CSV, goes to stdout, every run to
`training.csv` beside this file, in place of an earlier one of its set and seed. Last results: see that file; what the
processor can do stands in its rows.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

FIELDS = (
    "set", "model", "seed", "threads", "processor", "train", "test", "epochs", "steps", "seconds",
    "accuracy", "balanced_accuracy", "best_epoch",
)  # fmt: skip

# Name, source below SIGHTLINE_DATA (or a name), model (None: the default), seeds.
ROWS: list[tuple[str, str, str | None, int]] = [
    ("digits", "digits", None, 5),
    ("mnist", "mnist/mnist.npz", None, 3),
    ("mnist lecture_net", "mnist/mnist.npz", "lecture_net", 3),
    ("magtile", "magtile", None, 3),
    ("hymenoptera", "hymenoptera", None, 3),
    ("flowers5", "flowers5", None, 3),
    ("cifar10", "cifar10/cifar10.tar.gz", None, 3),
]


def measure(name: str, source: str, model: str | None, seed: int) -> dict[str, object]:
    """One run of `sightline fit`; its figures as a row."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "run"
        command = [sys.executable, "-m", "sightline", "fit", source, "--seed", str(seed), "--out", str(out)]
        subprocess.run(command + (["--model", model] if model else []), check=True, stdout=subprocess.DEVNULL)
        return row_of(name, out)


def row_of(name: str, out: Path) -> dict[str, object]:
    """The figures of the run in the folder `out`."""
    scores, facts, recipe = (
        json.loads((out / file).read_text()) for file in ("scores.json", "run.json", "recipe.json")
    )
    last = json.loads((out / "history.jsonl").read_text().splitlines()[-1])
    with (out / "splits.csv").open(newline="") as file:
        splits = [row["split"] for row in csv.DictReader(file)]
    return {
        "set": name,
        "model": recipe["model"]["name"],
        "seed": recipe["seed"],
        "threads": facts["environment"]["threads"],
        "processor": processor(),
        "train": splits.count("train"),
        "test": scores["n"],
        "epochs": last["epoch"],
        "steps": last["step"],
        "seconds": facts["seconds"],
        "accuracy": round(scores["accuracy"]["value"], 4),
        "balanced_accuracy": round(scores["balanced_accuracy"]["value"], 4),
        "best_epoch": facts["best_epoch"],
    }


def processor() -> str:
    """The processor's name and what of it matters for training."""
    import torch

    able = torch.cpu.get_capabilities()
    return " ".join([platform.machine(), *(k for k in ("avx512_bf16", "amx_bf16") if able.get(k))])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", help="run only the rows of this name")
    parser.add_argument("--seeds", type=int, nargs="+", help="these seeds, not all of the table's")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".csv"))
    chosen = parser.parse_args()
    data = os.environ.get("SIGHTLINE_DATA")
    runs: dict[tuple[str, str], dict[str, object]] = {}
    if chosen.out.exists():
        with chosen.out.open(newline="") as file:
            runs = {(row["set"], row["seed"]): dict(row) for row in csv.DictReader(file)}
    for name, source, model, seeds in ROWS:
        if chosen.only not in (None, name):
            continue
        if source != "digits":
            if not data:
                print(f"{name}: left out, SIGHTLINE_DATA is not set", file=sys.stderr)
                continue
            source = str(Path(data) / source)
        for seed in chosen.seeds or range(seeds):
            runs[name, str(seed)] = measure(name, source, model, seed)
            with chosen.out.open("w", newline="") as file:  # after each run: nothing is lost
                writer = csv.DictWriter(file, FIELDS, lineterminator="\n")
                writer.writeheader()
                writer.writerows(runs[key] for key in sorted(runs, key=place))
        mine = [run for (set_name, _), run in runs.items() if set_name == name]
        figures = ("seconds", "accuracy", "balanced_accuracy")
        means = {key: statistics.mean(float(str(run[key])) for run in mine) for key in figures}
        print(
            f"{name:20} {len(mine)} runs   accuracy {means['accuracy']:.4f}   "
            f"balanced {means['balanced_accuracy']:.4f}   {means['seconds']:.0f} s",
            flush=True,
        )


def place(key: tuple[str, str]) -> tuple[int, int]:
    """Where the run of (set, seed) stands in the CSV."""
    return [row[0] for row in ROWS].index(key[0]), int(key[1])


if __name__ == "__main__":
    main()
