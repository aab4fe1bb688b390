"""A small CLIP from scratch, over seeds: the drawn world, and a thousand photographs with five captions each.

    SIGHTLINE_DATA=... python benchmarks/clip.py [--only drawn|flickr1k] [--seeds 3] [--work FOLDER] [--quick]

Each row is one `sightline fit --objective contrastive` with its defaults. Drawn world (examples/drawn_world.py, drawn
anew by the seed): how often pictures of held-out pairs are named among 64 (chance 1/64), with the nearest training
caption beside it, and the rank of the true one of 768 sentences of a form that was never trained on. flickr1k: trained
on 800 pictures, recall on 200. Rows are written to clip.csv beside this file as they are done, and are not done again;
a run that was interrupted goes on where it was (its folder is in `--work`). `seconds` is the training and measuring of
a run alone. Last results: clip.csv.
"""

from __future__ import annotations

import argparse
import csv
import os
import statistics
import sys
from pathlib import Path

import torch

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "examples"))
from clip_from_scratch import figure, understanding  # noqa: E402
from drawn_world import write_world  # noqa: E402

import sightline  # noqa: E402
from sightline.evaluation import Estimate  # noqa: E402
from sightline.run import FACTS, Run  # noqa: E402

FIELDS = ("set", "seed", "figure", "value", "low", "high", "n", "chance", "epochs", "seconds", "threads")
QUICK = {"epochs": 1, "model": "clip_small", "model.vision_width": 8}


def fitted(source: Path, out: Path, seed: int, quick: bool) -> Run:
    """The finished run in `out`; begun or gone on with as need be."""
    if (out / FACTS).exists() and (out / "recipe.json").exists():
        return sightline.fit(resume=out)
    return sightline.fit(source, out=out, objective="contrastive", seed=seed, **QUICK if quick else {})


def drawn(work: Path, seed: int, quick: bool) -> tuple[Run, list[tuple[str, Estimate, float]]]:
    """One seed of the drawn world: figures with their chance."""
    world = work / f"world-{seed}"
    if not (world / "things.csv").exists():
        print(f"drawing the world of seed {seed}", file=sys.stderr, flush=True)
        write_world(world, 200 if quick else 6000, seed)
    run = fitted(world, work / f"drawn-{seed}", seed, quick)
    rows = []
    for part, name in (("heldout", "held-out"), ("test", "seen")):
        found = understanding(run.path, world, part)
        rows += [
            (f"{name} pair named", found.pair, 1 / 64),
            (f"{name} colour named", found.colour, 1 / 8),
            (f"{name} shape named", found.shape, 1 / 8),
            (f"{name} pair, nearest caption", found.nearest_pair, 1 / 64),
            (f"{name} unseen form at 1", found.unseen_at_1, 1 / 768),
            (f"{name} unseen form at 5", found.unseen_at_5, 5 / 768),
        ]
    return run, rows


def flickr(work: Path, seed: int, quick: bool) -> tuple[Run, list[tuple[str, Estimate, float]]]:
    """One seed of flickr1k: recall with its chance."""
    run = fitted(Path(os.environ["SIGHTLINE_DATA"]) / "flickr1k", work / f"flickr1k-{seed}", seed, quick)
    ways = {"captions": run.retrieval.image_to_text, "pictures": run.retrieval.text_to_image}
    return run, [
        (f"recall@{k}, {name}", way.recall[k], way.chance[k])
        for name, way in ways.items()
        for k in way.recall
    ]


SETS = {"drawn": drawn, "flickr1k": flickr}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", choices=SETS)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument(
        "--work", type=Path, default=Path("clip-work"), help="worlds and runs; may be removed after"
    )
    parser.add_argument("--quick", action="store_true", help="one seed, an epoch: does it run?")
    parser.add_argument("--figure", type=Path, help="draw what seed 0 finds for some sentences, as a PNG")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".csv"))
    chosen = parser.parse_args()
    out = chosen.work / "quick.csv" if chosen.quick else chosen.out
    chosen.work.mkdir(parents=True, exist_ok=True)
    rows = list(csv.DictReader(out.open(newline=""))) if out.exists() else []
    for name, measure in SETS.items():
        for seed in range(1 if chosen.quick else chosen.seeds):
            done = any(row["set"] == name and row["seed"] == str(seed) for row in rows)
            if done or chosen.only not in (None, name):
                continue
            print(f"{name}, seed {seed}", file=sys.stderr, flush=True)
            run, figures = measure(chosen.work, seed, chosen.quick)
            common = {
                "set": name, "seed": str(seed), "epochs": str(len(run.history)),
                "seconds": str(round(run.read_json(FACTS)["seconds"])), "threads": str(torch.get_num_threads()),
            }  # fmt: skip
            for what, estimate, chance in figures:
                numbers = {key: f"{getattr(estimate, key):.4f}" for key in ("value", "low", "high")}
                rows.append(
                    common | {"figure": what, "n": str(estimate.n), "chance": f"{chance:.4f}"} | numbers
                )
            with out.open("w", newline="") as file:
                writer = csv.DictWriter(file, FIELDS, lineterminator="\n")
                writer.writeheader()
                writer.writerows(rows)
    if chosen.figure:
        figure(chosen.work / "world-0", chosen.work / "drawn-0", chosen.figure)
    for name, what in dict.fromkeys((row["set"], row["figure"]) for row in rows):
        found = [row for row in rows if (row["set"], row["figure"]) == (name, what)]
        values = [float(row["value"]) for row in found]
        each = ", ".join(f"{v:.1%}" for v in values)
        print(
            f"{name:9} {what:28} {statistics.mean(values):6.1%}   ({each}; chance {float(found[0]['chance']):.1%})"
        )


if __name__ == "__main__":
    main()
