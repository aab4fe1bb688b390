"""The views of a picture as files: a PNG each, or one page that holds them all."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from sightline import __version__
from sightline.report.looking import Figure, Look, View
from sightline.report.thumbnails import exact_uri, thumbnail_uri

TEMPLATES = Path(__file__).parent / "templates"
GROUPS = {
    "evidence": (
        "Evidence",
        ("grad-cam", "hires-cam", "cam", "occlusion", "integrated-gradients", "guided-backprop"),
    ),
    "attention": ("Attention", ("attention", "rollout", "positions", "boxes")),
    "layers": ("Layers", ("filters", "feature-maps", "deconvnet")),
}
EXACT = ("filters", "feature-maps", "positions")  # drawn in whole pixels, with gaps that are clear


def save_figures(look: Look, folder: Path) -> Iterator[Path]:
    """Write a PNG per figure into `folder`, under its title and over its words; their paths, as they are written."""
    from sightline.visualization.evidence_figures import captioned
    from sightline.visualization.figures import save_png

    for view in look.views:
        for number, figure in enumerate(view.figures):
            name = view.name if len(view.figures) == 1 else f"{view.name}-{number + 1}"
            title = view.title if len(view.figures) == 1 else f"{view.title}: {figure.title}"
            scale = f"{figure.scale[:1].upper()}{figure.scale[1:]}." if figure.scale else ""
            words = [figure.shows, scale, *figure.trust, look.subject.note]
            path = folder / f"{name}.png"
            save_png(captioned(figure.image, title, [line for line in words if line]), path)
            yield path


def render(look: Look) -> str:
    """The page as HTML: it loads nothing and sends nothing."""
    script = (TEMPLATES / "report.js").read_text(encoding="utf-8")
    style = "\n".join((TEMPLATES / name).read_text(encoding="utf-8") for name in ("report.css", "look.css"))
    taken = {view.name: view for view in look.views}
    groups = [
        (key, title, [shown(taken[name]) for name in names if name in taken])
        for key, (title, names) in GROUPS.items()
        if any(name in taken for name in names)
    ]
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("look.html.j2").render(
        version=__version__,
        look=look,
        picture=exact_uri(look.picture) if max(look.picture.size) <= 64 else thumbnail_uri(look.picture),
        pixelated=max(look.picture.size) <= 64,
        groups=groups,
        style=Markup(style),
        script=Markup(script),
        # The page may run this script and no other, load nothing, and send nothing.
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii"),
    )


def shown(view: View) -> dict[str, Any]:
    """A view as the template takes it."""
    return {"view": view, "figures": [(figure, uri(view, figure)) for figure in view.figures]}


def uri(view: View, figure: Figure) -> str:
    """A drawing as a data URI: exact where pixels are meant to be seen."""
    exact = view.name in EXACT or figure.image.mode in ("RGBA", "LA")
    return exact_uri(figure.image) if exact else thumbnail_uri(figure.image)
