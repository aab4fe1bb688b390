"""The command line: thin, no logic of its own. Results go to stdout, progress and errors to stderr.

Exit codes: 0 done; 1 done, but some pictures could not be read; 2 the request cannot be carried out; 130 interrupted.
Nothing heavy is imported before a command needs it, so that `--help` answers at once.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sightline import __version__
from sightline.errors import SightlineError

if TYPE_CHECKING:
    from sightline.api import Prediction

app = typer.Typer(
    name="sightline",
    help="Object recognition from end to end: a folder of pictures in; a trained, measured classifier out.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


class StrategyName(StrEnum):
    """How pretrained weights are used."""

    scratch = "scratch"
    finetune = "finetune"
    probe = "probe"


Data = Annotated[
    str,
    typer.Argument(
        help="A folder with a folder per class, a CSV manifest, .npz, IDX files, .tar(.gz), or a name: digits, mnist, ..."
    ),
]
RunFolder = Annotated[Path, typer.Argument(help="A run made by `sightline fit`.", metavar="RUN")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


@app.callback(invoke_without_command=True)
def version(
    show: Annotated[bool, typer.Option("--version", help="Print the version.", is_eager=True)] = False,
) -> None:
    if show:
        print(__version__)
        raise typer.Exit


@app.command()
def fit(
    data: Data,
    out: Annotated[Path | None, typer.Option(help="A new folder for the run.", show_default="runs/NAME-TIMESTAMP")] = None,
    model: Annotated[str | None, typer.Option(help="A name of `sightline models`, torchvision/NAME or timm/NAME.", show_default="auto")] = None,
    weights: Annotated[str | None, typer.Option(help="auto, none, a published name, or a file.", show_default="auto")] = None,
    strategy: Annotated[StrategyName | None, typer.Option(help="Train all weights, start from pretrained ones, or train only a new head.", show_default="auto")] = None,
    augment: Annotated[str | None, typer.Option(help="A policy (none, digits, light, photos) or steps: 'crop(4) + hflip'.", show_default="auto")] = None,
    epochs: Annotated[int | None, typer.Option(help="Passes over the training pictures.", show_default="auto")] = None,
    minutes: Annotated[float | None, typer.Option(help="Bound on the run's time.")] = None,
    seed: Annotated[int | None, typer.Option(help="Same seed, same weights.", show_default="0")] = None,
    device: Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1, ...", show_default="auto")] = None,
    settings: Annotated[list[str] | None, typer.Option("--set", help="Any field of the recipe: optimizer.lr=0.1", metavar="KEY=VALUE")] = None,
    recipe: Annotated[Path | None, typer.Option(help="A TOML file of recipe fields, or a run's recipe.json.")] = None,
    find_lr: Annotated[bool, typer.Option("--find-lr", help="Only show the learning-rate curve and propose a rate.")] = False,
) -> None:  # fmt: skip
    """Train a classifier on DATA, measure it and write a report."""
    from sightline.training.recipe import parse_settings

    values: dict[str, Any] = {
        "model": None if model == "auto" else model,
        "weights": weights,
        "strategy": strategy.value if strategy else None,
        "augment": augment,
        "epochs": epochs,
        "minutes": minutes,
        "seed": seed,
        "device": device,
    }
    values |= parse_settings(settings or [])
    if find_lr:
        show_rates(data, recipe, out, values)
        return
    from rich.console import Console

    from sightline import api
    from sightline.evaluation import scores_table

    run = api.fit(data, out=out, recipe=recipe, **values)
    Console().print(scores_table(run.scores))
    print(f"\nReport:    {run.report.resolve()}")
    print(f"Predict:   sightline predict {run.path} PICTURES...")
    print(f"Evaluate:  sightline evaluate {run.path} {data}")


def show_rates(data: str, recipe: Path | None, out: Path | None, values: dict[str, Any]) -> None:
    """The range test of `fit --find-lr`: the curve as a picture, the rate on stdout."""
    from sightline import api

    curve = api.find_lr(data, recipe=recipe, **values)
    path = out or Path("learning-rate.png")
    if path.is_dir() or not path.suffix:
        path.mkdir(parents=True, exist_ok=True)
        path = path / "learning-rate.png"
    curve.figure(path)
    print(f"Proposed:  --set optimizer.lr={curve.proposed:.2g}")
    print(f"Curve:     {path.resolve()}")


@app.command()
def evaluate(
    run: RunFolder,
    data: Data,
    split: Annotated[str, typer.Option(help="train, val or test.")] = "test",
    as_json: AsJson = False,
) -> None:
    """Score a run on DATA: accuracy, balanced accuracy, F1, per class, each with its 95 % interval."""
    from sightline import api

    scores = api.evaluate(run, data, split=split)
    if as_json:
        print(json.dumps(scores.to_dict(), ensure_ascii=False))
        return
    from rich.console import Console

    from sightline.evaluation import scores_table

    Console().print(scores_table(scores))


@app.command()
def predict(
    run: RunFolder,
    pictures: Annotated[list[str], typer.Argument(help="Files, folders, or - for a list of paths on stdin.")],
    as_json: AsJson = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV: picture,label,probability.")] = False,
    top_k: Annotated[int, typer.Option(min=1, help="How many classes a picture.")] = 1,
) -> None:
    """Label PICTURES with a run's classifier."""
    from sightline import api

    if as_json and as_csv:
        raise SightlineError("--json and --csv exclude each other; give one of them.")
    answers = api.predict(run, api.find_pictures(listed(pictures)), top_k=top_k)
    printer = print_json if as_json else print_csv if as_csv else print_lines
    failed = printer(answers)
    if failed:
        raise typer.Exit(1)


def listed(pictures: list[str]) -> Iterator[str]:
    """The arguments, with `-` replaced by the lines of stdin."""
    for picture in pictures:
        if picture == "-":
            yield from (line.rstrip("\r\n") for line in sys.stdin if line.strip())
        else:
            yield picture


def print_lines(answers: Iterator[Prediction]) -> int:
    failed = 0
    for answer in answers:
        if answer.error:
            failed += 1
            print(f"{answer.picture} cannot be read: {answer.error}.", file=sys.stderr)
        else:
            best = "   ".join(f"{name} {probability:.1%}" for name, probability in answer.top)
            print(f"{answer.picture}\t{best}", flush=True)
    return failed


def print_csv(answers: Iterator[Prediction]) -> int:
    import csv

    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(["picture", "label", "probability", "rank", "error"])
    failed = 0
    for answer in answers:
        if answer.error:
            failed += 1
            writer.writerow([answer.picture, "", "", "", answer.error])
        for rank, (name, probability) in enumerate(answer.top, 1):
            writer.writerow([answer.picture, name, f"{probability:.6f}", rank, ""])
    return failed


def print_json(answers: Iterator[Prediction]) -> int:
    done, unreadable = [], []
    for answer in answers:
        if answer.error:
            unreadable.append({"picture": answer.picture, "reason": answer.error})
            continue
        top = [{"label": name, "probability": probability} for name, probability in answer.top]
        done.append({"picture": answer.picture, **top[0], "top": top})
    print(json.dumps({"predictions": done, "unreadable": unreadable}, ensure_ascii=False))
    return len(unreadable)


@app.command()
def models(
    pattern: Annotated[str | None, typer.Argument(help="Such as 'resnet*' or 'torchvision/*'.")] = None,
    as_json: AsJson = False,
) -> None:
    """List the networks that can be built."""
    from sightline.models import list_models, model_info
    from sightline.visualization.summary import models_table

    names = list_models(pattern)
    if not names:
        raise SightlineError(f"No network is called {pattern}; `sightline models` lists them all.")
    if as_json:
        print(json.dumps({"models": [model_info(name).to_dict() for name in names]}, ensure_ascii=False))
        return
    from rich.console import Console

    Console().print(models_table(names))


@app.command()
def summary(
    model: Annotated[str, typer.Argument(help="A name of `sightline models`.")],
    shape: Annotated[str | None, typer.Option("--input", help="CxHxW, such as 1x28x28.", show_default="the model's own")] = None,
    classes: Annotated[int | None, typer.Option(min=1, help="Classes of the head.", show_default="the model's own")] = None,
    settings: Annotated[list[str] | None, typer.Option("--set", help="An argument of the network: kernel_size=3", metavar="KEY=VALUE")] = None,
    as_json: AsJson = False,
) -> None:  # fmt: skip
    """A network's layer table: output shape, parameters and how they come about, mult-adds."""
    from sightline import api
    from sightline.training.recipe import parse_settings
    from sightline.visualization.summary import format_table, totals

    arguments = {key.removeprefix("model."): value for key, value in parse_settings(settings or []).items()}
    rows, size = api.summary(model, parse_shape(shape) if shape else None, num_classes=classes, **arguments)
    if as_json:
        layers = [row.to_dict() for row in rows]
        print(json.dumps({"model": model, "input": size, "layers": layers, **totals(rows).to_dict()}))
        return
    from rich.console import Console

    Console().print(format_table(rows, model, size))


def parse_shape(text: str) -> tuple[int, int, int]:
    """`1x28x28` as (1, 28, 28)."""
    parts = text.lower().replace(",", "x").split("x")
    if len(parts) != 3 or not all(part.strip().isdigit() and int(part) > 0 for part in parts):
        raise SightlineError(f"--input takes CxHxW, such as 1x28x28, not {text!r}.")
    channels, height, width = map(int, parts)
    return channels, height, width


def main() -> None:
    """Run the command line; a request that cannot be carried out is one sentence and exit code 2."""
    try:
        app()
    except SightlineError as error:
        fail(str(error))
    except BrokenPipeError:
        # The reader of our output has gone; Python must not complain again while it closes stdout.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)


def fail(sentence: str) -> None:
    """Say why, and end with exit code 2."""
    print(f"sightline: {sentence}", file=sys.stderr)
    sys.exit(2)


if __name__ == "__main__":
    main()
