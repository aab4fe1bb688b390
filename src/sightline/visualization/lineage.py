"""The lineage as tables: what there is, chosen and sorted; and its history as a timeline."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from sightline.errors import SightlineError, UnknownName
from sightline.visualization.layers import dims
from sightline.visualization.tables import plain_table, short, with_note

if TYPE_CHECKING:
    from rich.console import Group

    from sightline.models.info import ModelInfo

# The networks with which something new came, and what, in the order of the history.
MILESTONES = {
    "lenet5_1998": "convolution, subsampling and classifier learnt as one",
    "alexnet_2012": "a million photographs, GPUs, ReLU, dropout",
    "vgg16": "depth from nothing but 3x3 convolutions",
    "googlenet_2014": "inception: filters of several sizes side by side, 1x1 to save",
    "resnet152_2015": "a block learns the residual F(x) + x: 152 layers",
    "wide_resnet50_2": "wider blocks instead of more of them",
    "resnext101_64x4d": "cardinality: many narrow paths in a block",
    "efficientnet_b0": "a small network found by search",
    "efficientnet_b7": "width, depth and resolution scaled together",
    "vit_base_patch16_224": "no convolutions: patches as tokens of a Transformer",
    "pvt_small": "a pyramid of tokens, attention on reduced keys",
    "swin_tiny_patch4_window7_224": "attention in windows that shift from layer to layer",
    "dpt_small": "patches whose place and size are learnt from the picture",
    "clip_vit_large_patch14_336": "no list of classes: pictures and sentences in one space",
}


# ------------------------------------------------------------------------------------------------ choosing
def select(
    infos: Iterable[ModelInfo],
    *,
    family: str | None = None,
    year: str | None = None,
    max_params: str | None = None,
    sort: str | None = None,
) -> list[ModelInfo]:
    """Those of `infos` that are asked for, in the order asked for; what is not known of a network comes last.

    family: the file that holds it. year: "2015", or "2012-2016" with both ends. max_params: "25M".
    sort: one of `ORDERS`; by default the order of the history.
    Raises SightlineError for what none of these can be.
    """
    chosen = list(infos)
    if family is not None:
        families = list(dict.fromkeys(info.family for info in chosen))
        if family not in families:
            raise UnknownName("family", family, families)
        chosen = [info for info in chosen if info.family == family]
    if year is not None:
        first, last = parse_years(year)
        chosen = [info for info in chosen if info.year is not None and first <= info.year <= last]
    if max_params is not None:
        most = parse_count(max_params)
        chosen = [info for info in chosen if info.params is not None and info.params <= most]
    if sort is not None:
        if sort not in ORDERS:
            raise UnknownName("order", sort, ORDERS)
        value = ORDERS[sort]
        known = [info for info in chosen if value(info) is not None]
        unknown = [info for info in chosen if value(info) is None]
        chosen = sorted(known, key=value) + unknown
    if not chosen:
        raise SightlineError("No network in the list is of that year and that size.")
    return chosen


def parse_years(text: str) -> tuple[int, int]:
    """`2012-2016` as (2012, 2016), `2015` as (2015, 2015)."""
    found = re.fullmatch(r"(\d{4})(?:-(\d{4}))?", text, re.ASCII)
    first, last = (int(found[1]), int(found[2] or found[1])) if found else (1, 0)
    if first > last:
        raise SightlineError(f"A year is one, such as 2015, or from-to, such as 2012-2016, not {text!r}.")
    return first, last


def parse_count(text: str) -> float:
    """`25M` as 25,000,000; k, M and G (or B) are thousands, millions and billions."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([kMGB]?)", text.replace(",", ""), re.ASCII)
    if not found:
        raise SightlineError(f"A number of parameters is written as 25M, 600k or 1.5G, not {text!r}.")
    return float(found[1]) * {"": 1, "k": 1e3, "M": 1e6}.get(found[2], 1e9)


def top1_error(info: ModelInfo) -> float | None:
    """The network's first published top-1 error, in percent."""
    return published_error(info)[0]


ORDERS: dict[str, Callable[[ModelInfo], Any]] = {
    "name": lambda info: info.name,
    "year": lambda info: info.year,
    "params": lambda info: info.params,
    "mult-adds": lambda info: info.mult_adds,
    "error": top1_error,
}


def published_error(info: ModelInfo) -> tuple[float | None, float | None, str]:
    """The network's first published (top-1, top-5, protocol); of its weights, if there is no other."""
    if info.errors:
        return info.errors[0].top1, info.errors[0].top5, info.errors[0].protocol
    best = info.weights[0] if info.weights else None
    if best is not None and best.top1_error is not None:
        return best.top1_error, best.top5_error, "1 crop"
    return None, None, ""


# ------------------------------------------------------------------------------------------------- showing
def models_table(infos: Sequence[ModelInfo]) -> Group:
    """Networks with their size and published errors, as a table for the terminal."""
    errors, note = marked_errors(infos)
    columns: dict[str, list[str]] = {
        "network": [info.name for info in infos],
        "year": [str(info.year or "") for info in infos],
        "input": [dims(info.input, "x") for info in infos],
        "params": [short(info.params) for info in infos],
        "mult-adds": [short(info.mult_adds) for info in infos],
        "error": errors,
    }
    table = plain_table()
    shown = {head: cells for head, cells in columns.items() if any(cells)}  # libraries do not tell everything
    for head in shown:
        table.add_column(head, justify="left" if head in ("network", "error") else "right", no_wrap=True)
    for row in zip(*shown.values(), strict=True):
        table.add_row(*row)
    return with_note(table, note)


def marked_errors(infos: Sequence[ModelInfo]) -> tuple[list[str], str]:
    """`top-1/top-5` of each network, with a letter for the protocol where it is not one crop; and the legend."""
    marks: dict[str, str] = {"1 crop": ""}
    texts = []
    for info in infos:
        top1, top5, protocol = published_error(info)
        if top1 is None and top5 is None:
            texts.append("")
            continue
        mark = marks.setdefault(protocol, chr(ord("a") + len(marks) - 1))
        texts.append("/".join("-" if value is None else f"{value:.2f}" for value in (top1, top5)) + mark)
    legend = [
        "error in percent on ImageNet-1k, top-1/top-5, as published: one crop"
        + " unless marked" * (len(marks) > 1)
    ]
    legend += [f"{mark}  {protocol}" for protocol, mark in marks.items() if mark]
    return texts, "\n".join(legend) if any(texts) else ""


def timeline(infos: Iterable[ModelInfo]) -> list[dict[str, Any]]:
    """The milestones among `infos` as plain data: year, network, new, top1_error, top5_error, protocol, params,
    title, reference."""
    found = {info.name: info for info in infos if info.name in MILESTONES}
    rows = []
    for name, new in MILESTONES.items():
        if name in found:
            info = found[name]
            top1, top5, protocol = published_error(info)
            rows.append(
                {"year": info.year, "network": name, "new": new, "top1_error": top1, "top5_error": top5}
                | {"protocol": protocol, "params": info.params, "title": info.title}
                | {"reference": info.reference}
            )
    return sorted(rows, key=lambda row: row["year"] or 0)


def timeline_table(infos: Sequence[ModelInfo]) -> Group:
    """The milestones among `infos` as a table for the terminal."""
    known = {info.name: info for info in infos}
    rows = timeline(infos)
    errors, note = marked_errors([known[row["network"]] for row in rows])
    table = plain_table()
    for head in ("year", "network", "what was new", "error", "params"):
        table.add_column(
            head, justify="right" if head == "params" else "left", no_wrap=head != "what was new"
        )
    before = None
    for row, error in zip(rows, errors, strict=True):
        year = "" if row["year"] == before else str(row["year"] or "")
        table.add_row(year, row["network"], row["new"], error, short(row["params"]))
        before = row["year"]
    return with_note(table, note)
