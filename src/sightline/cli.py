"""The command line: thin, no logic of its own. Results go to stdout, progress and errors to stderr.

Exit codes: 0 done; 1 done, but some pictures could not be read; 2 the request cannot be carried out, said in one
sentence; 130 interrupted; 141 nobody reads the output. Nothing heavy is imported before a command needs it.
"""

from __future__ import annotations

import csv
import errno
import io
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
    from sightline.api import Prediction

app = typer.Typer(
    help="Object recognition from end to end: a folder of pictures in; a trained, measured classifier out.",
    epilog="Each command has a --help of its own. To begin with: sightline fit digits",
    add_completion=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)


def option(metavar: str, text: str, *names: str, **more: Any) -> Any:
    """An option that takes a value."""
    return typer.Option(*names, metavar=metavar, help=text, **more)


Text = str | None
Settings = list[str] | None
SOURCES = "A folder with a folder per class, a .csv, .npz or .tar.gz, or a name: digits, cifar10, ..."
NETWORKS = "One of `sightline models`, or torchvision/NAME, or timm/NAME."
Data = Annotated[str, typer.Argument(metavar="DATA", help=SOURCES)]
RunFolder = Annotated[Path, typer.Argument(metavar="RUN", help="A folder made by `sightline fit`.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


@app.callback(invoke_without_command=True)
def begin(
    context: typer.Context,
    show_version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
) -> None:
    if show_version:
        print(__version__)
        raise typer.Exit
    if context.invoked_subcommand is None:
        print(context.get_help())


@app.command(epilog="What is not given is chosen from the pictures, and said; `auto` stands for just that.")
def fit(
    data: Data,
    out: Annotated[Path | None, option("FOLDER", "A new folder for the run (runs/NAME-TIMESTAMP).")] = None,
    model: Annotated[Text, option("NAME", NETWORKS)] = None,
    weights: Annotated[Text, option("NAME|FILE", "Start from a published name, a file, a run; or none.")] = None,
    strategy: Annotated[Text, option("NAME", "scratch, finetune (all weights), or probe (a new head).")] = None,
    augment: Annotated[Text, option("TEXT", "digits, light, gentle, photos, none, or 'crop(4) + hflip'.")] = None,
    epochs: Annotated[Text, option("N", "Passes over the training pictures.")] = None,
    minutes: Annotated[Text, option("N", "Take the best model that so many minutes can give.")] = None,
    seed: Annotated[Text, option("N", "Same seed, same weights (0).")] = None,
    device: Annotated[Text, option("NAME", "cpu, cuda, cuda:1, mps.")] = None,
    settings: Annotated[Settings, option("KEY=VALUE", "Any field: optimizer.lr=0.1. Repeatable.", "--set")] = None,
    recipe: Annotated[Path | None, option("FILE", "A TOML file of fields, or a run's recipe.json.")] = None,
    find_lr: Annotated[bool, typer.Option("--find-lr", help="Train nothing; propose a learning rate.")] = False,
) -> None:  # fmt: skip
    """Train a classifier on DATA, measure it and write a report."""
    from sightline import api
    from sightline.evaluation import scores_table
    from sightline.training.progress import show
    from sightline.training.recipe import parse_settings

    options = {
        "model": model, "weights": weights, "strategy": strategy, "augment": augment,
        "epochs": epochs, "minutes": minutes, "seed": seed, "device": device,
    }  # fmt: skip
    values: dict[str, Any] = {key: value for key, value in options.items() if value is not None}
    values |= {key: None for key, value in values.items() if value == "auto" and key != "weights"}
    values |= parse_settings(settings or [])
    if find_lr:
        from sightline.training.find_lr import curve_file

        path = curve_file(out)
        curve = api.find_lr(data, recipe=recipe, **values)
        curve.figure(path)
        print(f"Proposed:  --set optimizer.lr={curve.proposed:.2g}\nCurve:     {path.resolve()}")
        return
    run = api.fit(data, out=out, recipe=recipe, **values)
    show(scores_table(run.scores))
    print(f"\nReport:    {run.report.resolve()}")
    print(f"Predict:   sightline predict {shlex.quote(str(run))} PICTURES...")
    print(f"Evaluate:  sightline evaluate {shlex.quote(str(run))} {shlex.quote(data)}")
    if run.read_json("run.json")["set_aside"]:
        raise typer.Exit(1)


@app.command()
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


@app.command()
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


@app.command()
def models(
    pattern: Annotated[Text, typer.Argument(metavar="PATTERN", help="resnet, '*50*', 'timm/*', ...")] = None,
    as_json: AsJson = False,
) -> None:
    """List the networks that can be built."""
    from sightline.models import list_models, model_info
    from sightline.training.progress import show
    from sightline.visualization.summary import models_table

    names = list_models(pattern) or list_models(f"{pattern}*")
    if not names:
        raise UnknownName("network", str(pattern), list_models(), "`sightline models` lists them.")
    show({"models": [model_info(name).to_dict() for name in names]} if as_json else models_table(names))


@app.command()
def summary(
    model: Annotated[str, typer.Argument(metavar="MODEL", help=NETWORKS)],
    shape: Annotated[Text, option("CxHxW", "Size of a picture, such as 1x28x28.", "--input")] = None,
    classes: Annotated[int | None, option("N", "Classes to tell apart.", min=1)] = None,
    settings: Annotated[Settings, option("KEY=VALUE", "An argument: kernel_size=3. Repeatable.", "--set")] = None,
    as_json: AsJson = False,
) -> None:  # fmt: skip
    """Show a network's layers: output, parameters, mult-adds."""
    from sightline import api
    from sightline.training.progress import show
    from sightline.training.recipe import parse_settings
    from sightline.visualization.summary import format_table, totals

    arguments = {key.removeprefix("model."): value for key, value in parse_settings(settings or []).items()}
    rows, size = api.summary(model, parse_shape(shape) if shape else None, classes, arguments)
    layers = [row.to_dict() for row in rows]
    data = {"model": model, "input": size, "layers": layers, **totals(rows).to_dict()}
    show(data if as_json else format_table(rows, model, size))


def parse_shape(text: str) -> tuple[int, int, int]:
    """`1x28x28` as (1, 28, 28)."""
    found = re.fullmatch(r"([1-9]\d{0,5})[x,]([1-9]\d{0,5})[x,]([1-9]\d{0,5})", text.lower(), re.ASCII)
    if not found:
        raise SightlineError(f"--input takes CxHxW, such as 1x28x28, not {text!r}.")
    return int(found[1]), int(found[2]), int(found[3])


def main() -> None:
    """Run the command line and exit; a request that cannot be carried out is one sentence and exit code 2."""
    # Names of files need not be text: they are read as they are, and shown with what is no letter spelled out.
    for stream in (sys.stdin, sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="surrogateescape" if stream is sys.stdin else "backslashreplace")
    try:
        code = run_command(sys.argv[1:])
        sys.stdout.flush()
    except OSError as error:
        if error.errno not in (errno.EPIPE, errno.ENOSPC, errno.EDQUOT):
            raise
        code = 141
        if error.errno != errno.EPIPE:
            code = refuse(f"The disk is full: {error.filename or 'the output'} could not be written.")
        # What is left in stdout has no place to go to: else Python would complain while it closes it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        os.dup2(sys.stdout.fileno(), sys.stderr.fileno())
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
        return refuse(usage_sentence(error))
    except SightlineError as error:
        return refuse(str(error))
    except KeyboardInterrupt as error:
        return refuse(str(error) or "Interrupted.", code=130)
    return 0


def refuse(sentence: str, code: int = 2) -> int:
    """Say why on stderr; the exit code."""
    from sightline.training.progress import say

    say(f"sightline: {sentence}")
    return code


def usage_sentence(error: typer.TyperException) -> str:
    """What is wrong with a command line, and what was meant or where to look."""
    text = error.format_message().rstrip(".")
    text = re.sub(r"^No such (command|option):? '?([^' ]+)'?", r"There is no \1 \2", text)
    text = re.sub(r"Input should be (.*?)(, unable .*)?$", r"it should be \1", text)
    text = re.sub(r"\.? ?\(?(Did you mean|Possible options:) '?([^')]+)[')?]*", r"; did you mean \2?", text)
    context = getattr(error, "ctx", None)
    command = context.command_path if context else "sightline"
    return text if text.endswith("?") else f"{text}; see `{command} --help`."
