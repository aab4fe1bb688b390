"""The parts of the report that look into the network: layer table, filters, feature maps of one picture, evidence."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from PIL import Image

from sightline.errors import SightlineError
from sightline.report.data import ReportData
from sightline.report.evidence import Cases, evidence
from sightline.report.thumbnails import exact_uri

if TYPE_CHECKING:
    from sightline.visualization.feature_maps import FeatureMap

MAPS = 11
"""Layers in the strip through the network."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Figure:
    """A drawing with its caption; `width` is what it is meant to be seen at, in CSS pixels."""

    src: str
    width: int
    title: str
    detail: str
    alt: str


@dataclass(frozen=True, slots=True)
class Layer:
    """A row of the layer table, as text."""

    name: str
    kind: str
    output: str
    params: str
    formula: str
    mult_adds: str


@dataclass(frozen=True, slots=True)
class LayerTable:
    """The layers, their totals, and a sentence on them."""

    rows: list[Layer]
    params: str
    mult_adds: str
    note: str


@dataclass(frozen=True, slots=True)
class Network:
    """What could be shown, and a sentence for each view that could not."""

    table: LayerTable | None
    filters: Figure | None
    maps: list[Figure]
    picture: str
    evidence: Cases | None
    missing: list[str]


def network(data: ReportData) -> Network:
    """Every view into `data.model`; one that does not work for it is left out and said."""
    missing: list[str] = []
    table = _attempt("layer table", lambda: _table(data), missing)
    filters = _attempt("first-layer filters", lambda: _filters(data), missing)
    strip = _attempt("feature maps", lambda: _strip(data), missing)
    maps, picture = strip or ([], "")
    why = _attempt("evidence", lambda: evidence(data), missing)
    return Network(table, filters, maps, picture, why, missing)


def _attempt(view: str, make: Callable[[], T], missing: list[str]) -> T | None:
    """A view must never cost the report: what has been trained for hours is worth more than a picture of it."""
    try:
        return make()
    except SightlineError as error:
        missing.append(f"No {view}: {error}")
    except Exception as error:
        missing.append(f"The {view} could not be made ({type(error).__name__}: {error}).")
    return None


def _table(data: ReportData) -> LayerTable:
    from sightline.visualization.layers import layer_table, totals

    height, width = data.preprocess.size
    rows = layer_table(data.model, (data.preprocess.channels, height, width))
    sums = totals(rows)
    layers = [
        Layer(
            row.name,
            row.kind,
            " × ".join(f"{side:,}" for side in row.output or ()),
            f"{row.params:,}" if row.params else "",
            # The sum stands in its own column.
            row.formula.rpartition(" = ")[0].replace(" x ", " × "),
            f"{row.mult_adds:,}" if row.mult_adds else "",
        )
        for row in rows
    ]
    frozen = sums.params - sums.trainable
    note = (
        f"{sums.trainable:,} of the {sums.params:,} parameters were trained, {frozen:,} were frozen. "
        if frozen
        else ""
    )
    note += (
        "Mult-adds are the multiply-accumulates of convolutions, linear layers and attention on one picture."
    )
    return LayerTable(layers, f"{sums.params:,}", f"{sums.mult_adds:,}", note)


def _filters(data: ReportData) -> Figure:
    from sightline.visualization.figures import draw_filters
    from sightline.visualization.filters import filters

    record = filters(data.model)
    image = draw_filters(record, tile=40)
    count, planes, height, width = record.values.shape
    detail = f"{count} filters of {height} × {width}" + (f" on {planes} planes" if planes > 1 else "")
    meaning = "in colour, grey is 0" if planes == 3 else "grey is 0, white positive, black negative"
    return Figure(
        exact_uri(image),
        image.width,
        record.layer,
        f"{detail}; {meaning}; largest weight {record.scale:.3g}",
        f"{detail} of layer {record.layer}",
    )


def _strip(data: ReportData) -> tuple[list[Figure], str]:
    from sightline.visualization.feature_maps import feature_maps

    number, image = _readable(data)
    pixels = data.preprocess(image)
    maps = feature_maps(data.model, data.preprocess.normalize(pixels[None]))
    array = pixels.numpy().transpose(1, 2, 0)
    seen = Image.fromarray(array[..., 0] if array.shape[2] == 1 else array)
    enlarged = seen.resize(
        (seen.width * (k := max(1, 160 // max(seen.size))), seen.height * k), Image.Resampling.NEAREST
    )
    shape = " × ".join(str(side) for side in pixels.shape)
    first = Figure(exact_uri(enlarged), 160, "input", shape, f"{data.refs[number]} as the network sees it")
    return [first, *(_map(one) for one in spread(maps.maps, MAPS))], data.refs[number]


def _map(one: FeatureMap) -> Figure:
    from sightline.visualization.figures import draw_feature_map

    planes = min(16, len(one.values))
    image = draw_feature_map(one, planes=16, columns=4, tile=72)
    shape = " × ".join(str(side) for side in one.values.shape)
    return Figure(
        exact_uri(image), 160, one.layer, shape, f"{planes} of {len(one.values)} feature maps of {one.layer}"
    )


def spread(items: tuple[T, ...], count: int) -> list[T]:
    """At most `count` items, evenly from the first to the last."""
    if len(items) <= count:
        return list(items)
    return [items[round(i * (len(items) - 1) / (count - 1))] for i in range(count)]


def _readable(data: ReportData) -> tuple[int, Image.Image]:
    """The picture that the network names rightly and most surely, among those that can be read."""
    right = data.probabilities.argmax(1) == np.asarray(data.targets)
    order = np.lexsort((-data.probabilities.max(1), ~right))
    for number in order[:50]:
        try:
            return int(number), data.picture(int(number))
        except Exception:  # as for the thumbnails
            continue
    raise SightlineError("none of the pictures could be read.")
