"""The command line: the list of commands, and how a request that cannot be carried out is told."""

from __future__ import annotations

import errno
import io
import os
import re
import sys
from typing import Annotated

import typer

from sightline import __version__
from sightline.cli import advise, data, look, models, reproduce, train, words
from sightline.errors import SaidByMain, SightlineError

app = typer.Typer(
    help="Object recognition from end to end: a folder of pictures in; a trained, measured classifier out.",
    epilog="Each command has a --help of its own. To begin with: sightline fit digits",
    add_completion=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)


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


app.command(epilog="What is not given is chosen from the pictures, and said; `auto` stands for just that.")(
    train.fit
)
for command in (
    train.evaluate,
    train.predict,
    train.runs,
    advise.advise,
    data.augment,
    data.ablate,
    data.check,
    models.models,
    models.summary,
    reproduce.reproduce,
    look.look,
    words.zero_shot,
    words.search,
):
    app.command()(command)


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
    except SaidByMain:
        return 2
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
