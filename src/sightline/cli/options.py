"""The kinds of argument that several commands take."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer


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
