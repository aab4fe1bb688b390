"""`fit`, `evaluate`, `predict` and `runs`."""

from __future__ import annotations

import csv
import os
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sightline.cli.options import NETWORKS, SOURCES, AsJson, Data, RunFolder, Settings, Text, option
from sightline.errors import SightlineError, UnreadableImage

if TYPE_CHECKING:
    from sightline.api import Prediction
    from sightline.run import Run


def fit(
    data: Annotated[Text, typer.Argument(metavar="DATA", help=SOURCES)] = None,
    out: Annotated[Path | None, option("FOLDER", "A new folder for the run (runs/NAME-TIMESTAMP).")] = None,
    model: Annotated[Text, option("NAME", NETWORKS)] = None,
    weights: Annotated[Text, option("NAME|FILE", "Start from a published name, a file, a run; or none.")] = None,
    objective: Annotated[Text, option("NAME", "classes, or contrastive: DATA has captions.")] = None,
    strategy: Annotated[Text, option("NAME", "scratch, probe (a new head), finetune (all), or auto: measure.")] = None,
    train_from: Annotated[Text, option("STAGE", "Fine-tune from here on, such as layer3; freeze the rest.")] = None,
    features: Annotated[Text, option("TEXT", "No network but hog+color, sift, ... with a linear head.")] = None,
    head: Annotated[Text, option("NAME", "The linear head on features: ridge, softmax or svm.")] = None,
    augment: Annotated[Text, option("TEXT", "digits, light, gentle, photos, none, or 'crop(4) + hflip'.")] = None,
    epochs: Annotated[Text, option("N", "Passes over the training pictures.")] = None,
    minutes: Annotated[Text, option("N", "Take the best model that so many minutes can give.")] = None,
    seed: Annotated[Text, option("N", "Same seed, same weights (0).")] = None,
    device: Annotated[Text, option("NAME", "cpu, cuda, cuda:1, mps.")] = None,
    settings: Annotated[Settings, option("KEY=VALUE", "Any field: optimizer.lr=0.1. Repeatable.", "--set")] = None,
    recipe: Annotated[Path | None, option("FILE", "A TOML file of fields, or a run's recipe.json.")] = None,
    resume: Annotated[Path | None, option("RUN", "Go on with an interrupted run; DATA is not needed.")] = None,
    checkpoint_seconds: Annotated[float | None, option("N", "Time between two checkpoints (20).", min=0)] = None,
    log: Annotated[Text, option("tensorboard", "Write the figures for TensorBoard, too.")] = None,
    find_lr: Annotated[bool, typer.Option("--find-lr", help="Train nothing; propose a learning rate.")] = False,
) -> None:  # fmt: skip
    """Train a classifier on DATA, measure it and write a report."""
    from sightline import api
    from sightline.evaluation import clean_line, scores_table
    from sightline.training.progress import show
    from sightline.training.recipe import parse_settings

    options = {
        "objective": objective, "model": model, "weights": weights, "strategy": strategy, "train_from": train_from,
        "features": features, "head": head, "augment": augment,
        "epochs": epochs, "minutes": minutes, "seed": seed, "device": device,
    }  # fmt: skip
    values: dict[str, Any] = {key: value for key, value in options.items() if value is not None}
    values |= {
        key: None for key, value in values.items() if value == "auto" and key not in ("weights", "strategy")
    }
    values |= parse_settings(settings or [])
    if find_lr:
        if data is None:
            raise SightlineError("--find-lr needs DATA, the pictures to try learning rates on.")
        from sightline.training.find_lr import curve_file

        path = curve_file(out)
        curve = api.find_lr(data, recipe=recipe, **values)
        curve.figure(path)
        print(f"Proposed:  --set optimizer.lr={curve.proposed:.2g}\nCurve:     {path.resolve()}")
        return
    run = api.fit(
        data, out=out, recipe=recipe, resume=resume, log=log, checkpoint_seconds=checkpoint_seconds, **values
    )
    if not is_main_process():
        return
    if run.contrastive:
        show_retrieval(run)
        return
    show(scores_table(run.scores))
    if run.leaking:
        print(f"\n{clean_line(run.scores, run.clean_scores)}")
    print(f"\nReport:    {run.report.resolve()}")
    print(f"Predict:   sightline predict {shlex.quote(str(run))} PICTURES...")
    facts = run.read_json("run.json")
    print(
        f"Evaluate:  sightline evaluate {shlex.quote(str(run))} {shlex.quote(data or facts['source'] or 'DATA')}"
    )
    if facts["set_aside"]:
        raise typer.Exit(1)


def show_retrieval(run: Run) -> None:
    """Print what a run that learned from captions is worth, and what to do with it."""
    from sightline.evaluation.retrieval import retrieval_table
    from sightline.training.progress import show

    show(retrieval_table(run.retrieval))
    name = shlex.quote(str(run))
    print(f"\nReport:    {run.report.resolve()}")
    print(f'Name:      sightline zero-shot PICTURES --labels "cat, dog" --model {name}')
    print(f'Search:    sightline search FOLDER "two dogs in the snow" --model {name}')
    if run.read_json("run.json")["set_aside"]:
        raise typer.Exit(1)


def is_main_process() -> bool:
    """Whether this is the one of torchrun's processes that speaks."""
    return os.environ.get("RANK", "0") == "0"


def evaluate(
    run: RunFolder,
    data: Data,
    split: Annotated[str, option("train|val|test", "Which pictures of DATA.")] = "test",
    as_json: AsJson = False,
) -> None:
    """Score RUN on DATA: overall and per class, with intervals.

    The split is that of DATA; else the one that RUN wrote down for these pictures; else, where RUN never saw them,
    all of them are taken.
    """
    from sightline import api
    from sightline.evaluation import scores_table
    from sightline.training.progress import show

    unreadable: list[UnreadableImage] = []
    scores = api.evaluate(run, data, split=split, unreadable=unreadable)
    show(scores.to_dict() if as_json else scores_table(scores))
    if unreadable:
        raise typer.Exit(1)


def predict(
    run: RunFolder,
    pictures: Annotated[list[str], typer.Argument(metavar="PICTURES", help="Files, folders, - for a list on stdin.")],
    as_json: AsJson = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV: picture,label,probability,rank,error.")] = False,
    top_k: Annotated[int, option("K", "How many classes a picture.", min=1)] = 1,
) -> None:  # fmt: skip
    """Label PICTURES with the classifier of RUN, a line a picture."""
    from sightline import api
    from sightline.training.progress import say, show

    if as_json and as_csv:
        raise SightlineError("--json and --csv exclude each other; give one of them.")
    classifier = api.load(run)
    failures: list[Prediction] = []

    def naming_failures() -> Iterator[Prediction]:
        for answer in api.predict(classifier, api.find_pictures(listed(pictures)), top_k=top_k):
            if answer.error:
                failures.append(answer)
                say(str(UnreadableImage(answer.picture, answer.error)))
            yield answer

    if as_json:
        done = [answer.to_dict() for answer in naming_failures() if not answer.error]
        show({"predictions": done, "unreadable": [answer.to_dict() for answer in failures]})
    else:
        print_answers(naming_failures(), as_csv)
    if failures:
        raise typer.Exit(1)


def listed(pictures: list[str]) -> Iterator[str]:
    """The arguments, with `-` replaced by the lines of stdin."""
    for picture in pictures:
        if picture == "-":
            yield from (line.rstrip("\r\n") for line in sys.stdin if line.strip())
        else:
            yield picture


def print_answers(answers: Iterator[Prediction], as_csv: bool) -> None:
    """A line a picture, its cells parted by tabs; or CSV, a row a class."""
    from sightline.training.progress import printable

    writer = csv.writer(sys.stdout, lineterminator="\n")
    if as_csv:
        writer.writerow(["picture", "label", "probability", "rank", "error"])
    for answer in answers:
        if as_csv:
            rows = [[name, f"{p:.6f}", str(rank), ""] for rank, (name, p) in enumerate(answer.top, 1)]
            writer.writerows([answer.picture, *row] for row in rows or [["", "", "", answer.error or ""]])
        elif answer.top:
            cells = [answer.picture, *(f"{name} {p:.1%}" for name, p in answer.top)]
            print("\t".join(printable(cell).replace("\n", r"\x0a") for cell in cells), flush=True)


def runs(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Where the runs are.")] = Path("runs"),
    as_json: AsJson = False,
) -> None:
    """List runs: state, scores, and in what their recipes differ."""
    from sightline.runs import differences, find_runs, runs_table
    from sightline.training.progress import show

    rows = find_runs(folder)
    unlike = differences(rows)
    data = {"runs": [row.to_dict() | {"differences": d} for row, d in zip(rows, unlike, strict=True)]}
    show(data if as_json else runs_table(rows))
