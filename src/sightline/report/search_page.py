"""What a search found, as one page that holds the pictures."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from sightline import __version__
from sightline.data.image_io import read_image
from sightline.report.thumbnails import Thumbnails

if TYPE_CHECKING:
    from sightline.search import Hit

TEMPLATES = Path(__file__).parent / "templates"
SIDE = 320  # pixels of a thumbnail's longer side


def render(folder: Path, hits: list[Hit], asked: str, searched: int) -> str:
    """The page as HTML: it loads nothing, runs nothing and sends nothing.

    asked: the sentence, or the picture's name. searched: how many pictures there are in the folder.
    """
    thumbnails = Thumbnails(lambda i: read_image(folder / hits[i].name))
    style = (TEMPLATES / "report.css").read_text(encoding="utf-8")
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("search.html.j2").render(
        version=__version__,
        folder=str(folder),
        asked=asked,
        searched=f"{searched:,}",
        hits=[(hit, None if thumbnails.exhausted else thumbnails.uri(i, SIDE)) for i, hit in enumerate(hits)],
        style=Markup(style),
    )
