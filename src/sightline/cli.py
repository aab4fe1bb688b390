"""The command line: thin, no logic of its own. Results go to stdout, progress and errors to stderr.

Exit codes: 0 done; 1 done, but some pictures could not be read; 2 the request cannot be carried out, said in one
sentence; 130 interrupted; 141 the reader of the output has gone. Nothing heavy is imported before a command needs it,
so that `--help` answers at once.
"""

from __future__ import annotations

import errno
import io
import json
import os
import re
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sightline import __version__
from sightline.errors import SightlineError, UnknownName, UnreadableImage

if TYPE_CHECKING:
    from rich.console import RenderableType

    from sightline.api import Prediction

app = typer.Typer(
    help="Object recognition from end to end: a folder of pictures in; a trained, measured classifier out.",
    epilog="Each command has a --help of its own. To begin with: sightline fit digits",
    add_completion=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)

Data = Annotated[str, typer.Argument(metavar="DATA", help="A folder with a folder per class, a CSV manifest, .npz, IDX files, .tar(.gz), or a name: digits, cifar10, ...")]  # fmt: skip
RunFolder = Annotated[Path, typer.Argument(metavar="RUN", help="A folder made by `sightline fit`.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


@app.callback(invoke_without_command=True)
def begin(
    context: typer.Context,
    show: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
) -> None:
    if show:
        print(__version__)
        raise typer.Exit
    if context.invoked_subcommand is None:
        print(context.get_help())


@app.command(epilog="What is not given is chosen from the pictures, and said; `auto` stands for just that.")
def fit(
    data: Data,
    out: Annotated[Path | None, typer.Option(metavar="FOLDER", help="A new folder for the run (runs/NAME-TIMESTAMP).")] = None,
    model: Annotated[str | None, typer.Option(metavar="NAME", help="One of `sightline models`, or torchvision/NAME, or timm/NAME.")] = None,
    weights: Annotated[str | None, typer.Option(metavar="auto|none|NAME|FILE", help="What to start from: pretrained weights found on this machine (auto), none, a published name, a file or a run.")] = None,
    strategy: Annotated[str | None, typer.Option(metavar="scratch|finetune|probe", help="Train all weights; all from pretrained ones; or a new head on frozen features.")] = None,
    augment: Annotated[str | None, typer.Option(metavar="TEXT", help="A policy (none, digits, light, photos) or steps such as 'crop(4) + hflip'.")] = None,
    epochs: Annotated[str | None, typer.Option(metavar="N", help="Passes over the training pictures.")] = None,
    minutes: Annotated[str | None, typer.Option(metavar="N", help="Take the best model that comes of so many minutes.")] = None,
    seed: Annotated[str | None, typer.Option(metavar="N", help="Same seed, same weights (0).")] = None,
    device: Annotated[str | None, typer.Option(metavar="NAME", help="cpu, cuda, cuda:1, mps; a GPU if there is one.")] = None,
    settings: Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Any field of the recipe, such as optimizer.lr=0.1; may be given often.")] = None,
    recipe: Annotated[Path | None, typer.Option(metavar="FILE", help="A TOML file of recipe fields, or the recipe.json of a run, to repeat it.")] = None,
    find_lr: Annotated[bool, typer.Option("--find-lr", help="Train nothing: draw the loss over the learning rate, and propose a rate.")] = False,
) -> None:  # fmt: skip
    """Train a classifier on DATA, measure it and write a report."""
    from sightline.training.recipe import parse_settings

    options = {"model": model, "weights": weights, "strategy": strategy, "augment": augment, "epochs": epochs,
               "minutes": minutes, "seed": seed, "device": device}  # fmt: skip
    values: dict[str, Any] = {key: value for key, value in options.items() if value is not None}
    values |= {key: None for key, value in values.items() if value == "auto" and key != "weights"}
    values |= parse_settings(settings or [])
    if find_lr:
        show_rates(data, recipe, out, values)
        return
    from sightline import api
    from sightline.evaluation import scores_table

    run = api.fit(data, out=out, recipe=recipe, **values)
    show(scores_table(run.scores))
    print(f"\nReport:    {run.report.resolve()}")
    print(f"Predict:   {shlex.join(['sightline', 'predict', str(run)])} PICTURES...")
    print(f"Evaluate:  {shlex.join(['sightline', 'evaluate', str(run), data])}")
    if run.read_json("run.json")["set_aside"]:
        raise typer.Exit(1)


def show_rates(data: str, recipe: Path | None, out: Path | None, values: dict[str, Any]) -> None:
    """The range test of `fit --find-lr`: the curve as a picture, the rate on stdout."""
    from sightline import api
    from sightline.training.find_lr import curve_file

    path = curve_file(out)
    curve = api.find_lr(data, recipe=recipe, **values)
    curve.figure(path)
    print(f"Proposed:  --set optimizer.lr={curve.proposed:.2g}")
    print(f"Curve:     {path.resolve()}")


@app.command()
def evaluate(
    run: RunFolder,
    data: Data,
    split: Annotated[
        str, typer.Option(metavar="train|val|test", help="Which pictures of DATA (test).")
    ] = "test",
    as_json: AsJson = False,
) -> None:
    """Score RUN on DATA: accuracy, F1 and each class, with 95 % intervals.

    The split is that of DATA; else the one that RUN wrote down for these pictures; else, of pictures that RUN never
    saw, all are taken.
    """
    from sightline import api

    unreadable: list[UnreadableImage] = []
    scores = api.evaluate(run, data, split=split, unreadable=unreadable)
    if as_json:
        print_object(scores.to_dict())
    else:
        from sightline.evaluation import scores_table

        show(scores_table(scores))
    if unreadable:
        raise typer.Exit(1)


@app.command()
def predict(
    run: RunFolder,
    pictures: Annotated[list[str], typer.Argument(metavar="PICTURES...", help="Files, folders, or - for a list of paths on stdin.")],
    as_json: AsJson = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV: picture,label,probability,rank,error.")] = False,
    top_k: Annotated[int, typer.Option(min=1, metavar="K", help="How many classes a picture (1).", show_default=False)] = 1,
) -> None:  # fmt: skip
    """Label PICTURES with the classifier of RUN, a line a picture."""
    from sightline import api

    if as_json and as_csv:
        raise SightlineError("--json and --csv exclude each other; give one of them.")
    classifier = api.load(run)
    failures: list[Prediction] = []
    answers = naming_failures(
        api.predict(classifier, api.find_pictures(listed(pictures)), top_k=top_k), failures
    )
    printer = print_json if as_json else print_csv if as_csv else print_lines
    printer(answers)
    if failures:
        raise typer.Exit(1)


def listed(pictures: list[str]) -> Iterator[str]:
    """The arguments, with `-` replaced by the lines of stdin."""
    for picture in pictures:
        if picture != "-":
            yield picture
            continue
        if isinstance(sys.stdin, io.TextIOWrapper):
            sys.stdin.reconfigure(errors="surrogateescape")  # names of files need not be text
        yield from (line.rstrip("\r\n") for line in sys.stdin if line.strip())


def naming_failures(answers: Iterator[Prediction], failures: list[Prediction]) -> Iterator[Prediction]:
    """`answers` as they come; those without an answer are named on stderr, and kept in `failures`."""
    for answer in answers:
        if answer.error:
            failures.append(answer)
            say(str(UnreadableImage(answer.picture, answer.error)))
        yield answer


def print_lines(answers: Iterator[Prediction]) -> None:
    from sightline.training.progress import printable

    for answer in answers:
        if not answer.error:
            cells = [answer.picture, *(f"{name} {probability:.1%}" for name, probability in answer.top)]
            print("\t".join(printable(cell).replace("\n", "\\n") for cell in cells), flush=True)


def print_csv(answers: Iterator[Prediction]) -> None:
    import csv

    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(["picture", "label", "probability", "rank", "error"])
    for answer in answers:
        if answer.error:
            writer.writerow([answer.picture, "", "", "", answer.error])
        for rank, (name, probability) in enumerate(answer.top, 1):
            writer.writerow([answer.picture, name, f"{probability:.6f}", rank, ""])


def print_json(answers: Iterator[Prediction]) -> None:
    done, unreadable = [], []
    for answer in answers:
        if answer.error:
            unreadable.append({"picture": answer.picture, "reason": answer.error})
            continue
        top = [{"label": name, "probability": probability} for name, probability in answer.top]
        done.append({"picture": answer.picture, **top[0], "top": top})
    print_object({"predictions": done, "unreadable": unreadable})


@app.command()
def models(
    pattern: Annotated[str | None, typer.Argument(metavar="PATTERN", help="Such as resnet, 'resnet*' or 'torchvision/*'.")] = None,
    as_json: AsJson = False,
) -> None:  # fmt: skip
    """List the networks that can be built."""
    from sightline.models import list_models, model_info
    from sightline.visualization.summary import models_table

    names = list_models(pattern) or list_models(f"{pattern}*")
    if not names:
        raise UnknownName("network", str(pattern), list_models(), "`sightline models` lists them.")
    if as_json:
        print_object({"models": [model_info(name).to_dict() for name in names]})
    else:
        show(models_table(names))


@app.command()
def summary(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="One of `sightline models`, or torchvision/NAME, or timm/NAME.")],
    shape: Annotated[str | None, typer.Option("--input", metavar="CxHxW", help="Size of the pictures, such as 1x28x28 (the network's own).")] = None,
    classes: Annotated[int | None, typer.Option(min=1, metavar="N", help="Classes to tell apart (the network's own).")] = None,
    settings: Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="An argument of the network, such as kernel_size=3; may be given often.")] = None,
    as_json: AsJson = False,
) -> None:  # fmt: skip
    """Show a network layer by layer: output, parameters and how they come about, mult-adds."""
    from sightline import api
    from sightline.training.recipe import parse_settings
    from sightline.visualization.summary import format_table, totals

    arguments = {key.removeprefix("model."): value for key, value in parse_settings(settings or []).items()}
    rows, size = api.summary(model, parse_shape(shape) if shape else None, classes, arguments)
    if as_json:
        layers = [row.to_dict() for row in rows]
        print_object({"model": model, "input": size, "layers": layers, **totals(rows).to_dict()})
    else:
        show(format_table(rows, model, size))


def parse_shape(text: str) -> tuple[int, int, int]:
    """`1x28x28` as (1, 28, 28)."""
    found = re.fullmatch(r"([1-9]\d{0,5})[x,]([1-9]\d{0,5})[x,]([1-9]\d{0,5})", text.lower(), re.ASCII)
    if not found:
        raise SightlineError(f"--input takes CxHxW, such as 1x28x28, not {text!r}.")
    return int(found[1]), int(found[2]), int(found[3])


def print_object(data: dict[str, Any]) -> None:
    """One JSON object on one line, in letters that stdout can hold."""
    print(json.dumps(data, ensure_ascii=sys.stdout.encoding.lower() != "utf-8"))


def show(table: RenderableType) -> None:
    """Print a table as wide as the terminal, or as wide as it likes for other programs and files."""
    from rich.console import Console

    console = Console(width=None if sys.stdout.isatty() or "COLUMNS" in os.environ else 200)
    with console.capture() as text:
        console.print(table)
    print(text.get(), end="")


def main() -> None:
    """Run the command line and exit; a request that cannot be carried out is one sentence and exit code 2."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # names of files need not be text
    try:
        code = run_command(sys.argv[1:])
        sys.stdout.flush()
    except OSError as error:
        if error.errno not in (errno.EPIPE, errno.ENOSPC, errno.EDQUOT):
            raise
        code = 141 if error.errno == errno.EPIPE else 2
        if code == 2:
            say(f"The disk is full: {error.filename or 'the output'} could not be written.")
        # What is still to be written has no place to go to; Python must not complain of it while it closes.
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.dup2(nowhere, sys.stderr.fileno())
    sys.exit(code)


def run_command(arguments: list[str]) -> int:
    """The exit code of a command; what goes wrong is said."""
    command = typer.main.get_command(app)
    try:
        with command.make_context("sightline", arguments) as context:
            command.invoke(context)
    except typer.Exit as end:
        return end.exit_code
    except typer.TyperException as error:
        say(f"sightline: {usage_sentence(error)}")
        return 2
    except SightlineError as error:
        say(f"sightline: {error}")
        return 2
    except KeyboardInterrupt as error:
        say(f"sightline: {str(error) or 'Interrupted.'}")
        return 130
    return 0


def usage_sentence(error: typer.TyperException) -> str:
    """What is wrong with a command line, in our words, and where to look."""
    text = error.format_message().rstrip(".")
    text = re.sub(r"^No such (command|option):? '?([^' ]+)'?", r"There is no \1 \2", text)
    text = re.sub(r"\.? ?\(?(Did you mean|Possible options:) '?([^')]+)[')?]*", r"; did you mean \2?", text)
    context = getattr(error, "ctx", None)
    asked = context.command_path if context else "sightline"
    return text if text.endswith("?") else f"{text}; see `{asked} --help`."


def say(text: str) -> None:
    """A line on stderr."""
    from sightline.training.progress import printable

    print(printable(text), file=sys.stderr)


if __name__ == "__main__":
    main()
