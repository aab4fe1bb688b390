"""`look`: views into a network on one picture."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sightline.cli.options import Text, option
from sightline.errors import SightlineError

if TYPE_CHECKING:
    from sightline.report.looking import Look

MODEL = "A run's folder, one of `sightline models`, torchvision/NAME, or timm/NAME."


def look(
    model: Annotated[str, typer.Argument(metavar="MODEL|RUN", help=MODEL)],
    picture: Annotated[Path, typer.Argument(metavar="PICTURE", help="A file.")],
    view: Annotated[list[str] | None, option("NAME", "grad-cam, attention, ... (all that fit). Repeatable.")] = None,
    layer: Annotated[Text, option("NAME", "Look into this layer; by default one is found.")] = None,
    target: Annotated[Text, option("CLASS", "Evidence for this class (the answer); name or number.", "--class")] = None,
    versus: Annotated[Text, option("CLASS", "Evidence for it rather than for this one.")] = None,
    weights: Annotated[Text, option("FILE", "Weights for a named network; without them they are random.")] = None,
    out: Annotated[Path | None, option("FOLDER", "A PNG per view into this folder (look-PICTURE).")] = None,
    html: Annotated[Path | None, option("FILE", "One page with all views instead.")] = None,
    trust: Annotated[bool, typer.Option("--trust/--no-trust", help="Test the maps of evidence.")] = True,
) -> None:  # fmt: skip
    """Show what a network makes of a picture, and why it answers so."""
    from sightline.files import write_beside
    from sightline.report.look_page import render, save_figures
    from sightline.report.looking import look as take
    from sightline.report.subject import open_subject
    from sightline.training.progress import say

    if out is not None and html is not None:
        raise SightlineError("--out and --html exclude each other; give one of them.")
    page = None if html is None else checked_page(html)
    folder = out or Path("look-" + (re.sub(r"[^\w.-]+", "-", picture.stem) or "picture"))
    if folder.exists() and not folder.is_dir():
        raise SightlineError(f"{folder} is a file; --out takes a folder.")
    subject = open_subject(model, weights)
    if "RANDOM" in subject.note:
        say(f"{subject.name}: {subject.note}")
    found = take(
        subject, picture, views=view or (), layer=layer, target=target, versus=versus, trust=trust,
        progress=lambda title: say(f"{title} ..."),
    )  # fmt: skip
    print(summary(found))
    if page is not None:
        write_beside(page, render(found))
        print(f"Written to {page.resolve()}")
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SightlineError(f"The folder {folder} cannot be made: {error.strerror}.") from None
    for path in save_figures(found, folder):
        print(path)


def checked_page(path: Path) -> Path:
    """Where the page goes. Raises SightlineError for what is no place for one."""
    path = path.expanduser()
    if path.suffix.lower() not in (".html", ".htm") or path.is_dir():
        raise SightlineError(f"--html takes a file that ends in .html, not {path}.")
    if not path.parent.is_dir():
        raise SightlineError(f"There is no folder {path.parent} to write {path.name} into.")
    return path


def summary(found: Look) -> str:
    """The answer, what was asked, and what could not be shown, as lines."""
    from sightline.training.progress import printable

    best = ", ".join(f"{name} {share:.1%}" for name, share in found.answer[:3])
    versus = f" rather than {found.versus}" if found.versus else ""
    lines = [f"{found.picture_name}: {best}", f"Evidence for {found.target}{versus}"]
    for view in found.views:
        for figure in view.figures:
            lines += [f"{figure.title}: {sentence}" for sentence in figure.trust]
    lines += [f"Left out: {sentence}" for sentence in found.missing]
    return "\n".join(map(printable, lines))
