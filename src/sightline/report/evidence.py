"""The part of the report that asks why: evidence maps of some right and some wrong answers, each tested."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from sightline.errors import SightlineError
from sightline.report.confusion import losses, roughly
from sightline.report.data import ReportData
from sightline.report.looking import tested
from sightline.report.thumbnails import thumbnail_uri

if TYPE_CHECKING:
    import torch

EACH = 3
"""Wrong answers that are shown, and right ones."""
TRIED = 20
"""Pictures of each kind that are tried for those: some cannot be read."""
SIDE = 224
PATIENCE = 5.0
"""Seconds that the tests of the maps may take; on larger networks the last maps stay untested, and that is said."""
TEST = 20
"""About how many times what a map takes its tests take: some 60 forward passes, where a map is about three."""


@dataclass(frozen=True, slots=True)
class Case:
    """An answer with the map of what speaks for it, rather than for the other class, and whether that is believed."""

    src: str
    ref: str
    right: bool
    said: str
    said_share: str
    other: str | None
    other_share: str
    scale: str
    trust: tuple[str, ...]
    warns: bool


@dataclass(frozen=True, slots=True)
class Cases:
    """The worst wrong answers, then sure right ones, and the layer whose maps are shown."""

    layer: str
    cases: list[Case]
    untested: int


def evidence(data: ReportData) -> Cases:
    """HiResCAM for what the network said, rather than for the truth, or where it was right for the second best.

    HiResCAM, as it holds for networks that flatten their last map, too, and shows what speaks against the answer.
    Raises SightlineError where the network has no layer over the picture, or no picture can be read.
    """
    from sightline.visualization.evidence import hires_cam
    from sightline.visualization.evidence_figures import draw_evidence, scale_text

    found: list[Case] = []
    layer, untested, left = "", 0, PATIENCE
    for number, image, x in chosen(data):
        order = np.argsort(-data.probabilities[number], kind="stable").tolist()
        said, truth = order[0], int(data.targets[number])
        other = truth if said != truth else order[1] if len(order) > 1 else None
        view = partial(hires_cam, target=said, versus=other)
        began = time.monotonic()
        record = view(data.model, x)
        took = time.monotonic() - began
        trust: tuple[str, ...] = ()
        warns = False
        if left > TEST * took:
            began = time.monotonic()
            again = partial(view, layer=record.layer)  # the same one in every network of the tests
            trust, warns = tested(data.model, x, record, again, steps=8, draws=1)
            left -= time.monotonic() - began
        else:
            untested += 1
        layer = record.layer
        found.append(
            Case(
                src=thumbnail_uri(draw_evidence(record, image, side=SIDE)),
                ref=data.refs[number],
                right=said == truth,
                said=data.classes[said],
                said_share=roughly(float(data.probabilities[number, said])),
                other=None if other is None else data.classes[other],
                other_share="" if other is None else roughly(float(data.probabilities[number, other])),
                scale=scale_text(record),
                trust=trust,
                warns=warns,
            )
        )
    if not found:
        raise SightlineError("none of the pictures could be read.")
    return Cases(layer, found, untested)


def chosen(data: ReportData) -> Iterator[tuple[int, Image.Image, torch.Tensor]]:
    """(number, the picture as the network sees it, normalised) of the wrong answers that cost most, then of the
    surest right ones, a class at most once among them while there are others."""
    right = data.probabilities.argmax(1) == np.asarray(data.targets)
    dearest = np.argsort(-losses(data), kind="stable")
    surest = np.argsort(-data.probabilities.max(1), kind="stable")
    first = {int(data.targets[i]): int(i) for i in surest[::-1] if right[i]}  # of each class the surest
    ahead = sorted(first.values(), key=surest.tolist().index)
    for numbers in (
        [int(i) for i in dearest if not right[i]],
        [*ahead, *(int(i) for i in surest if right[i] and int(i) not in ahead)],
    ):
        shown = 0
        for number in numbers[:TRIED]:
            try:
                image = data.picture(number)
                seen, pixels = data.preprocess.image(image), data.preprocess(image)
            except Exception:  # as for the thumbnails
                continue
            yield number, seen, data.preprocess.normalize(pixels[None])
            shown += 1
            if shown == EACH:
                break
