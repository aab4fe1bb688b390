"""Every way of reusing a pretrained network in all four quadrants, and whether `advise` knows the best beforehand.

    SIGHTLINE_DATA=... python benchmarks/transfer.py [--pretrained FOLDER] [--draws N] [--out transfer.csv]

A resnet10_small of half its widths (308,000 parameters) is trained on the first five classes of CIFAR-10 (14 epochs of
10,715 pictures, `fit` with its defaults; 3 minutes on one core) unless FOLDER, of an earlier time, holds its run. It is
transferred to the CASES of transfer_cases.py: few or many pictures, of other classes of the same data set or of another
domain. In each case five strategies get the same pictures in 5 draws:

    scratch          300 steps of 32 pictures from a random start, the recipe of `fit`
    probe            a linear head on what enters the classifier
    probe@STAGE      a linear head on the earlier stage that tells the training pictures apart best, leave-one-out
    finetune         the head first, then everything, 200 steps at most
    finetune@STAGE   the head first, then what comes behind the stage that tells them apart best (or the last one)

Pictures are 32x32 pixels in colour. Of each case 1,000 test pictures at most are tested on, the same for all, by
balanced accuracy: each class counts as much as any other. What `advise` measures of a draw and how its trials end, on
the training pictures alone, is written beside it; all that it says follows from that. Every row goes to the CSV at
once; rows that are there already are not run again. The summary compares what was advised with what was best, its
regret with that of every constant strategy, and the intervals with the truth. Where all strategies reach about the same
(spread) there is little to advise.

    python benchmarks/transfer.py --development     the cases that the constants of `advise` were set from
    python benchmarks/transfer_constants.py         prints those constants
    python benchmarks/transfer.py --further         twelve more cases, run when the form was all but settled

The development cases start from a network that learned the last five classes.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.metrics import balanced_accuracy_score
from transfer_cases import CASES, DEVELOPMENT, FILES, FIRST, FURTHER, LAST, Case, drawn, of_classes, opened

import sightline
from sightline.data import ImageDataset
from sightline.data.dataset import SPLITS

WIDTHS = [16, 32, 64, 128]
EPOCHS, SIDE = 14, 32
SCRATCH_STEPS, FINETUNE_STEPS, BATCH = 300, 200, 32
STRATEGIES = ("scratch", "probe", "probe@", "finetune", "finetune@")


def settings_of(strategy: str, weights: Path, dataset: ImageDataset, draw: int) -> dict[str, Any]:
    """The recipe of a strategy on a draw; `probe@` and `finetune@` are given their stage."""
    name, _, stage = strategy.partition("@")
    known = {
        "model": "resnet10_small", "model.widths": WIDTHS, "strategy": name, "seed": draw, "device": "cpu",
        "input.size": SIDE, "input.channels": 3, "batch_size": BATCH, "weights": str(weights),
    }  # fmt: skip
    if name == "scratch":
        return known | {"weights": "none", "steps": SCRATCH_STEPS}
    if name == "probe":
        return known | ({"last_stage": stage} if stage else {})
    count = int(np.count_nonzero(dataset.splits == SPLITS.index("train")) * 0.85)
    epochs = int(np.clip(round(10_000 / count), 10, 50))
    steps = min(FINETUNE_STEPS, epochs * -(-count // BATCH))
    return known | {"epochs": epochs, "steps": steps} | ({"train_from": stage} if stage else {})


def trained(dataset: ImageDataset, settings: dict[str, Any]) -> tuple[float, float, float, float]:
    """(accuracy on the test pictures; balanced accuracy on them, and on the validation pictures; seconds of the
    processor) of one training.
    """
    from sightline.api import compose
    from sightline.bundle import Classifier
    from sightline.fitting.conclude import make_bundle
    from sightline.training.prepare import prepare
    from sightline.training.progress import Quiet

    begun = time.process_time()
    job = prepare(dataset, compose(None, settings), Quiet())
    state = job.trainer.run(Quiet())
    seconds = time.process_time() - begun
    assert state.best is not None
    test = job.dataset.split("test")
    found, answers, _ = Classifier(make_bundle(job, state.best.weights)).probabilities_of(test)
    right, targets = answers.argmax(1) == test.targets[found], test.targets[found]
    balanced = balanced_accuracy_score(targets, answers.argmax(1))
    return float(right.mean()), float(balanced), state.best.merit, seconds


def measured(whole: ImageDataset, weights: Path, draw: int) -> dict[str, Any]:
    """What `advise` measures of a draw, as a row; `probe@` and `finetune@` hold their stage."""
    from sightline.advising.advice import stages_of
    from sightline.advising.evidence import measure
    from sightline.advising.prediction import Measured
    from sightline.features.embedding_network import open_network

    begun = time.process_time()
    network = open_network(weights)
    found = measure(whole, network, draw)
    probed, start = stages_of(found, network.module, ["layer1", "layer2", "layer3"])
    assert probed is not None and start is not None
    by_stage = {depth.layer: depth for depth in found.depths}
    total = sum(found.counts)
    known = Measured.of(found)
    row: dict[str, Any] = {
        "classes": sum(count > 0 for count in found.counts),
        "total": total,
        "pictures": found.pictures,
        "effective": found.effective,
        "last": found.last.accuracy,
        "best": found.best.accuracy,
        "probed": by_stage[probed].accuracy,
        "hand": found.handcrafted,
        "random": found.random,
        "falls": found.curve.error(total)[0] / found.curve.error(found.pictures)[0],
        "strays": known.strays,
        "logme": found.last.logme,
        "depth": found.best.layer or "classifier",
    }
    row |= {depth.layer or "classifier": depth.accuracy for depth in found.depths}
    row |= {f"smoothed {name}": value for name, value in asdict(found.smoothed).items()}
    row |= {"probe@": probed, "finetune@": start, "grows": known.grows}
    row |= {"measuring_seconds": round(time.process_time() - begun, 2)}
    return {key: round(v, 4) if isinstance(v, float) else v for key, v in row.items()}


def tried_out(
    dataset: ImageDataset, whole: ImageDataset, weights: Path, draw: int, stages: dict[str, str]
) -> dict[str, Any]:
    """How the trials of a draw end, as the rest of its row."""
    from sightline.advising.evidence import looked_at
    from sightline.advising.trials import rounds_for, run_trials, tried_recipe
    from sightline.api import compose
    from sightline.training.plan import Planner, gather_facts

    train = whole.split("train")
    facts, recipes = gather_facts(train), {}
    for kind in STRATEGIES:
        recipe = compose(None, settings_of(kind + stages.get(kind, ""), weights, dataset, draw))
        recipes[kind] = tried_recipe(Planner(recipe, facts, "cpu").plan()[0], len(train))
    begun = time.process_time()
    looked = looked_at(whole, draw)
    trials = run_trials(looked, recipes, draw, rounds=rounds_for(len(looked)))
    return {"trying_seconds": round(time.process_time() - begun, 2), "trials": trials_as_text(trials)}


def trials_as_text(trials: Any) -> str:
    """For a cell of the CSV."""
    plain = asdict(trials) | {"seconds": 0.0}
    plain["accuracies"] = [round(p, 5) for p in trials.accuracies]
    plain["covariance"] = [[float(f"{v:.4g}") for v in one] for one in trials.covariance]
    return json.dumps(plain)


def pretrained(root: Path, classes: Sequence[int], folder: Path) -> Path:
    """The run in `folder`, trained on these classes of CIFAR-10 if it is not there yet."""
    if not (folder / "model.json").exists():
        part = of_classes(sightline.open_dataset(root / FILES["cifar10"]), classes)
        settings: dict[str, Any] = {"model": "resnet10_small", "model.widths": WIDTHS, "epochs": EPOCHS}
        run = sightline.fit(part, out=folder, device="cpu", **settings)
        print(f"pretrained: {run.path}, accuracy {run.scores.accuracy}", flush=True)
    return folder


FIELDS = ("case", "draw", "strategy", "stage", "accuracy", "balanced", "validation", "seconds")


def known_rows(path: Path) -> list[dict[str, str]]:
    """What an earlier time wrote."""
    if not path.exists():
        return []
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def add_row(path: Path, row: dict[str, Any]) -> None:
    """Append `row`, with a head where the file is new."""
    fresh = not path.exists()
    with path.open("a", newline="") as file:
        writer = csv.DictWriter(file, list(row), lineterminator="\n")
        if fresh:
            writer.writeheader()
        writer.writerow(row)


def stages_in(row: dict[str, Any]) -> dict[str, str]:
    """The stage of each strategy that has one."""
    return {kind: row[kind] for kind in ("probe@", "finetune@")}


def evidence_file(out: Path) -> Path:
    """Beside the results: what was measured before."""
    return out.with_name(f"{out.stem}_evidence.csv")


def run_grid(cases: Sequence[Case], draws: int, weights: Path, root: Path, out: Path) -> None:
    """Measure every draw of every case, and train every strategy on it, as far as `out` does not have that yet."""
    done = {(row["case"], row["draw"], row["strategy"]) for row in known_rows(out)}
    seen = {(row["case"], row["draw"]): row for row in known_rows(evidence_file(out))}
    sets: dict[str, ImageDataset] = {}
    for draw in range(draws):
        for case in cases:
            left = [s for s in STRATEGIES if (case.name, str(draw), s) not in done]
            if not left and (case.name, str(draw)) in seen:
                continue
            if case.data not in sets:
                sets[case.data] = opened(case.data, root)
            dataset = drawn(sets[case.data], case, draw)
            row: dict[str, Any] | None = seen.get((case.name, str(draw)))
            if row is None:
                whole = sightline.make_splits(dataset, seed=draw)
                row = {"case": case.name, "draw": draw} | measured(whole, weights, draw)
                row |= tried_out(dataset, whole, weights, draw, stages_in(row))
                add_row(evidence_file(out), row)
            stages = stages_in(row)
            for strategy in left:
                stage = stages.get(strategy, "")
                settings = settings_of(strategy + stage, weights, dataset, draw)
                *shares, seconds = trained(dataset, settings)
                figures = *(round(p, 4) for p in shares), round(seconds, 2)
                add_row(out, dict(zip(FIELDS, (case.name, draw, strategy, stage, *figures), strict=True)))
                print(case.name, draw, strategy, stage, *figures, flush=True)


# ------------------------------------------------------------------------------------------------ what was found
def predicted(row: dict[str, str]) -> tuple[dict[str, tuple[float, float, float]], str]:
    """What `advise` says of a draw, from what was measured: (expected, low, high) by strategy, and the advised one."""
    from sightline.advising.combined import combined
    from sightline.advising.prediction import Prediction, chosen

    known = combined(STRATEGIES, scaled(row), float(row["effective"]), tried(row))
    told = {kind: known.accuracy(kind) for kind in STRATEGIES}
    # In the order of the time they take: the probes, the later part, everything.
    minutes = {"probe": 1.0, "probe@": 1.1, "finetune@": 2.0, "finetune": 3.0, "scratch": 4.0}
    rows = [Prediction(k, None, *told[k], minutes[k], minutes[k], minutes[k], {}) for k in STRATEGIES]
    return told, chosen(rows).kind


def scaled(row: dict[str, str]) -> Any:
    """A row of the evidence on the scale of logits."""
    from sightline.advising.prediction import Measured
    from sightline.advising.smoothed import Smoothed

    accuracies = {field.name: float(row[f"smoothed {field.name}"]) for field in fields(Smoothed)}
    return Measured.from_accuracies(
        Smoothed(**accuracies),
        pictures=float(row["effective"]),
        per_class=int(row["total"]) / int(row["classes"]),
        falls=float(row["falls"]),
        strays=float(row["strays"]),
        grows=float(row["grows"]),
    )


def tried(row: dict[str, str]) -> Any:
    """The trials of a row of the evidence."""
    from sightline.advising.trials import Trials

    return Trials.from_dict(json.loads(row["trials"]))


def summarize(out: Path, cases: Sequence[Case]) -> None:
    """Print what was advised against what was best, the regret, and how the intervals did."""
    reached = {(r["case"], r["draw"], r["strategy"]): float(r["balanced"]) for r in known_rows(out)}
    evidence = {(r["case"], r["draw"]): r for r in known_rows(evidence_file(out))}
    found: list[dict[str, Any]] = []  # a row of figures a case
    print("balanced accuracy in percent, the mean of the draws\n")
    print(
        f"{'case':38} {'quadrant':11} "
        + " ".join(f"{s:>9}" for s in STRATEGIES)
        + "  spread  best       advised (mean)"
    )
    for case in cases:
        draws = [d for c, d in evidence if c == case.name and all((c, d, s) in reached for s in STRATEGIES)]
        if not draws:
            continue
        mean = {s: float(np.mean([reached[case.name, d, s] for d in draws])) for s in STRATEGIES}
        best = max(mean, key=lambda s: mean[s])
        inside, widths, got, choices, seconds = [], [], [], [], []
        for d in draws:
            row = evidence[case.name, d]
            told, choice = predicted(row)
            choices.append(choice)
            got.append(reached[case.name, d, choice])
            seconds.append(float(row["measuring_seconds"]) + float(row["trying_seconds"]))
            for s in STRATEGIES:
                inside.append(told[s][1] <= reached[case.name, d, s] <= told[s][2])
                widths.append(told[s][2] - told[s][1])
        between = mean[best] - min(mean.values())
        regret = {"advised": mean[best] - float(np.mean(got))} | {s: mean[best] - mean[s] for s in STRATEGIES}
        found.append(
            {"between": between, "regret": regret, "inside": inside, "widths": widths, "seconds": seconds}
        )
        often = max(set(choices), key=choices.count)
        print(
            f"{case.name:38} {case.quadrant:11} "
            + " ".join(f"{100 * mean[s]:9.1f}" for s in STRATEGIES)
            + f"  {100 * between:6.1f}  {best:9}  {often} ({100 * np.mean(got):.1f})"
        )
    report("all cases", found)
    report(
        "cases with 5 points or more between best and worst", [one for one in found if one["between"] >= 0.05]
    )
    seconds = [s for one in found for s in one["seconds"]]
    print(
        f"\nmeasuring and trying took {np.mean(seconds):.0f} seconds of the processor in the mean, "
        f"{max(seconds):.0f} at most"
    )


def report(name: str, found: list[dict[str, Any]]) -> None:
    """Print what some of the cases say of the advice."""
    regret = {who: [one["regret"][who] for one in found] for who in ("advised", *STRATEGIES)}
    inside = np.concatenate([one["inside"] for one in found])
    widths = np.concatenate([one["widths"] for one in found])
    right = sum(value <= 0.02 for value in regret["advised"])
    print(f"\n{name}: the advised strategy is within 2 points of the best in {right} of {len(found)}")
    for who, values in sorted(regret.items(), key=lambda item: np.mean(item[1])):
        print(f"mean regret  {who:10} {100 * np.mean(values):5.2f} points, at most {100 * max(values):.1f}")
    print(
        f"90 % intervals hold {np.mean(inside):.1%} of {len(inside)} figures, {100 * np.mean(widths):.1f} points wide "
        "in the mean"
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--pretrained", type=Path, default=Path("runs"), help="folder of the pretraining's runs"
    )
    parser.add_argument(
        "--development", action="store_true", help="the cases that the constants were set from"
    )
    parser.add_argument(
        "--further", action="store_true", help="twelve more cases, fixed when the form was all but settled"
    )
    parser.add_argument("--summary", action="store_true", help="train nothing; print what was found")
    parser.add_argument("--draws", type=int, help="5, and 2 of the development cases")
    parser.add_argument("--out", type=Path)
    chosen = parser.parse_args()
    cases, source, name, kind = CASES, FIRST, "pretrained_first", "transfer.csv"
    if chosen.further:
        cases, kind = FURTHER, "transfer_further.csv"
    if chosen.development:
        cases, source, name, kind = DEVELOPMENT, LAST, "pretrained_last", "transfer_development.csv"
    out = chosen.out or Path(__file__).with_name(kind)
    if not chosen.summary:
        data = os.environ.get("SIGHTLINE_DATA")
        if not data:
            sys.exit(
                "SIGHTLINE_DATA is not set; it names the folder with cifar10, mnist, magtile, omniglot, ..."
            )
        weights = pretrained(Path(data), source, chosen.pretrained / name)
        run_grid(cases, chosen.draws or (2 if chosen.development else 5), weights, Path(data), out)
    summarize(out, cases)


if __name__ == "__main__":
    main()
