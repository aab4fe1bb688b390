"""The report of a run that learned from captions: curves, recall with intervals, and what is found for what."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from sightline import __version__
from sightline.evaluation.intervals import percent
from sightline.evaluation.retrieval import AT, RetrievalScores
from sightline.report.curves import CHARTS, Drawing, charts
from sightline.report.sections import SET_ASIDE, counted, flattened, when
from sightline.report.thumbnails import Thumbnails

if TYPE_CHECKING:
    from PIL import Image

TEMPLATES = Path(__file__).parent / "templates"
LOSS, _, RATE = CHARTS
RECALL: Drawing = (
    "Recall at 1, validation",
    [
        ("val", "caption of a picture", "val_image_to_text_1"),
        ("balanced", "picture of a caption", "val_text_to_image_1"),
    ],
    percent,
    True,
)
SCALE: Drawing = ("Scale of the logits", [("rate", "scale", "scale")], lambda v: f"{v:.3g}", False)
# Examples: so many pictures with their nearest captions, and captions with their nearest pictures.
PICTURES, CAPTIONS, NEAREST, SHOWN = 8, 6, 3, 5


@dataclass(frozen=True, slots=True, eq=False)
class RetrievalReport:
    """Everything that the page shows. N readable test pictures, M captions of all of them.

    counts: pictures by split. history: as in ReportData. images (N, D), texts (M, D): embeddings of length one;
    captions, owners (M,): the texts, and the test picture that each belongs to; found (N,): the test pictures of
    `images`. picture: reads a test picture. words: of the vocabulary.
    """

    title: str
    created: str
    source: str
    counts: dict[str, int]
    set_aside: Sequence[dict[str, str]]
    recipe: dict[str, Any]
    reasons: Sequence[str]
    history: Sequence[dict[str, Any]]
    scores: RetrievalScores
    images: np.ndarray
    texts: np.ndarray
    captions: Sequence[str]
    owners: np.ndarray
    found: np.ndarray
    picture: Callable[[int], Image.Image]
    words: int
    parameters: int
    environment: dict[str, Any]


def retrieval_page(data: RetrievalReport) -> str:
    """The report as HTML: one file that loads nothing and sends nothing."""
    thumbnails = Thumbnails(data.picture)
    pictures, captions = picture_examples(data, thumbnails), caption_examples(data, thumbnails)
    curves = charts(data.history, [LOSS, RECALL, SCALE, RATE])
    script = (TEMPLATES / "report.js").read_text(encoding="utf-8")
    style = "\n".join((TEMPLATES / name).read_text("utf-8") for name in ("report.css", "retrieval.css"))
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals["counted"] = counted
    return environment.get_template("retrieval.html.j2").render(
        version=__version__,
        data=data,
        when=when(data.created),
        at=AT,
        ways=[
            ("caption of a picture", data.scores.image_to_text),
            ("picture of a caption", data.scores.text_to_image),
        ],
        percent=percent,
        aside=[(one["ref"], one["reason"]) for one in data.set_aside[:SET_ASIDE]],
        charts=curves,
        pictures=pictures,
        captions=captions,
        pixelated=thumbnails.largest <= 64,
        recipe=flattened(data.recipe),
        environment=flattened(data.environment),
        page_data={"cells": [], "charts": [chart.readout for chart in curves]},
        style=Markup(style),
        script=Markup(script),
        # The page may run this script and no other, load nothing, and send nothing.
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii"),
    )


def spread(count: int, wanted: int) -> list[int]:
    """Up to `wanted` of `count` places, evenly over them: examples are not chosen for their answer."""
    return [int(place) for place in np.unique(np.linspace(0, count - 1, min(wanted, count)).astype(int))]


def picture_examples(data: RetrievalReport, thumbnails: Thumbnails) -> list[dict[str, Any]]:
    """Pictures, each with the captions nearest to it; `own` ones are the picture's."""
    _, first = np.unique(np.asarray(data.captions, dtype=object), return_index=True)
    examples = []
    for row in spread(len(data.found), PICTURES):
        number = int(data.found[row])
        own = {caption for caption, owner in zip(data.captions, data.owners, strict=True) if owner == number}
        near = data.texts[first] @ data.images[row]
        best = [data.captions[first[i]] for i in np.argsort(-near, kind="stable")[:NEAREST]]
        examples.append(
            {
                "src": thumbnails.uri(number, 160),
                "captions": [(caption, caption in own) for caption in best],
                "own": None if own & set(best) else min(own, key=len),
            }
        )
    return examples


def caption_examples(data: RetrievalReport, thumbnails: Thumbnails) -> list[dict[str, Any]]:
    """Captions, each with the pictures nearest to it; `own` is the caption's."""
    there = np.flatnonzero(np.isin(data.owners, data.found))
    examples = []
    for row in (int(there[i]) for i in spread(len(there), CAPTIONS)):
        same = {int(o) for c, o in zip(data.captions, data.owners, strict=True) if c == data.captions[row]}
        near = np.argsort(-(data.images @ data.texts[row]), kind="stable")[:SHOWN]
        numbers = [int(data.found[i]) for i in near]
        pictures = [(thumbnails.uri(number, 160), number in same) for number in numbers]
        examples.append({"caption": data.captions[row], "pictures": pictures})
    return examples
