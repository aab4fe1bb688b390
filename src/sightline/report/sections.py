"""The parts of the report that are read off the data: headline, classes, counts, mistakes, recipe."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np

from sightline.evaluation.intervals import Estimate, percent
from sightline.report.confusion import losses, roughly
from sightline.report.data import ReportData
from sightline.report.thumbnails import Thumbnails

SPLITS = ("train", "val", "test")
MISTAKES = 25
MISTAKE_SIDE = 160
EXAMPLE_SIDE = 64
SEEN = {
    "test": ", which it had not seen,",
    "val": ", which also chose the epoch,",
    "train": ", which it learned from,",
}
SET_ASIDE = 100
"""Pictures set aside that are named; more are counted."""


@dataclass(frozen=True, slots=True)
class Whisker:
    """A figure and its interval on an axis from `floor` to 100 %, all in percent of the axis's length."""

    text: str
    span: str
    at: float
    left: float
    right: float


@dataclass(frozen=True, slots=True)
class Headline:
    """The figure in large, the others beside it on one axis, and sentences that put them in place."""

    figure: str
    span: str
    right: int
    figures: list[tuple[str, Whisker]]
    ticks: list[tuple[str, float]]
    trained: str
    tested: str
    baseline: str
    facts: list[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class ClassRow:
    """One class: its place in the list, how many pictures, and its three figures (None where undefined)."""

    place: int
    name: str
    support: int
    precision: Whisker | None
    recall: Whisker | None
    f1: Whisker | None


@dataclass(frozen=True, slots=True)
class CountRow:
    """One class: pictures in each split and their share of the largest class's; an example to look at."""

    name: str
    example: str | None
    ref: str
    counts: list[tuple[str, int, float]]
    total: int


@dataclass(frozen=True, slots=True)
class Mistake:
    """A picture with what was said of it, what is true, and what it cost."""

    src: str | None
    ref: str
    file: str
    said: str
    said_share: str
    truth: str
    truth_share: str
    loss: str


def headline(data: ReportData, parameters: int) -> Headline:
    """What a reader takes away from the first screen."""
    scores = data.scores
    named = [("Accuracy", scores.accuracy), ("Balanced accuracy", scores.balanced_accuracy)]
    named += [("Macro-F1", scores.macro_f1)]
    named += [("Top-5 accuracy", scores.top5_accuracy)] if scores.top5_accuracy else []
    floor = axis_floor(min(figure.low for _, figure in named))
    right = int(np.trace(scores.confusion))
    largest = int(scores.confusion.sum(1).argmax())
    majority = scores.confusion.sum(1)[largest] / scores.n
    return Headline(
        figure=percent(scores.accuracy.value),
        span=_span(scores.accuracy),
        right=right,
        figures=[(name, whisker(figure, floor)) for name, figure in named],
        ticks=axis_ticks(floor),
        trained=_trained(data),
        tested=(
            f"Of {counted(scores.n, 'picture')} in the {scores.split} split{SEEN.get(scores.split, '')} "
            f"it named {right:,} right."
        ),
        baseline=(
            f"Always answering “{data.classes[largest]}” would be right in {percent(float(majority))}."
            if len(data.classes) > 1
            else ""
        ),
        facts=list(_facts(data, parameters)),
    )


def class_rows(data: ReportData) -> tuple[list[ClassRow], list[tuple[str, float]]]:
    """A row per class and the axis's ticks; with many classes the weakest come first."""
    classes = data.scores.classes
    limits = [
        pair[0]
        for one in classes
        for pair in (one.precision_interval, one.recall_interval, one.f1_interval)
        if pair is not None
    ]
    floor = axis_floor(min(limits, default=0.0))

    def bar(value: float | None, limits: tuple[float, float] | None, n: int) -> Whisker | None:
        return None if value is None or limits is None else whisker(Estimate(value, *limits, n), floor)

    rows = [
        ClassRow(
            place=place,
            name=one.name,
            support=one.support,
            precision=bar(one.precision, one.precision_interval, one.predicted),
            recall=bar(one.recall, one.recall_interval, one.support),
            f1=bar(one.f1, one.f1_interval, one.support),
        )
        for place, one in enumerate(classes)
    ]
    if len(rows) > 20:
        order = sorted(range(len(rows)), key=lambda i: 2.0 if classes[i].f1 is None else classes[i].f1 or 0.0)
        rows = [rows[i] for i in order]
    return rows, axis_ticks(floor)


def count_rows(data: ReportData, thumbnails: Thumbnails) -> list[CountRow]:
    """Pictures per class and split, with the picture of each class that the network is surest of."""
    counts = {split: list(data.dataset["counts"].get(split) or [0] * len(data.classes)) for split in SPLITS}
    totals = [sum(counts[split][i] for split in SPLITS) for i in range(len(data.classes))]
    most = max(totals, default=0) or 1
    rows = []
    for i, name in enumerate(data.classes):
        members = np.flatnonzero(np.asarray(data.targets) == i)
        example, ref = None, ""
        if len(members) and not thumbnails.exhausted:
            surest = int(members[data.probabilities[members, i].argmax()])
            example, ref = thumbnails.uri(surest, EXAMPLE_SIDE), data.refs[surest]
        parts = [(split, int(counts[split][i]), round(100 * counts[split][i] / most, 2)) for split in SPLITS]
        rows.append(CountRow(name, example, ref, parts, int(totals[i])))
    return rows


def split_totals(data: ReportData) -> list[tuple[str, int]]:
    """Pictures in each split that has any."""
    totals = [(split, int(sum(data.dataset["counts"].get(split) or []))) for split in SPLITS]
    return [(split, total) for split, total in totals if total]


def set_aside(data: ReportData) -> tuple[list[tuple[str, str]], int]:
    """Name and reason of the first pictures that were set aside, and how many there are in all."""
    aside = data.dataset.get("set_aside") or []
    return [(str(one["ref"]), str(one["reason"])) for one in aside[:SET_ASIDE]], len(aside)


def mistakes(data: ReportData, thumbnails: Thumbnails) -> list[Mistake]:
    """The wrong answers that cost most, dearest first; without any, the right ones that cost most."""
    called = data.probabilities.argmax(1)
    loss = losses(data)
    wrong = called != np.asarray(data.targets)
    candidates = np.flatnonzero(wrong) if wrong.any() else np.arange(len(loss))
    found = []
    for number in candidates[np.argsort(-loss[candidates], kind="stable")][:MISTAKES]:
        i, said, truth = int(number), int(called[number]), int(data.targets[number])
        found.append(
            Mistake(
                src=thumbnails.uri(i, MISTAKE_SIDE),
                ref=data.refs[i],
                file=data.refs[i].rsplit("/", 1)[-1],
                said=data.classes[said],
                said_share=roughly(float(data.probabilities[i, said])),
                truth=data.classes[truth],
                truth_share=roughly(float(data.probabilities[i, truth])),
                loss=f"{loss[i]:.2f}",
            )
        )
    return found


def flattened(tree: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Nested plain data as dotted keys and values: how `--set` spells a recipe."""
    rows: list[tuple[str, str]] = []
    for key, value in tree.items():
        if isinstance(value, Mapping) and value:
            rows += flattened(value, f"{prefix}{key}.")
        else:
            rows.append((f"{prefix}{key}", "none" if value is None else str(value)))
    return rows


def axis_floor(lowest: float) -> float:
    """Where an axis that ends at 100 % begins: as late as shows every interval whole."""
    return max((floor for floor in (0.0, 0.5, 0.8, 0.9, 0.95, 0.98) if floor <= lowest), default=0.0)


def axis_ticks(floor: float) -> list[tuple[str, float]]:
    """Five labels from the floor to 100 % with their places in percent of the axis."""
    return [(f"{100 * (floor + (1 - floor) * i / 4):.4g}%", 25.0 * i) for i in range(5)]


def whisker(figure: Estimate, floor: float) -> Whisker:
    """`figure` with its places on the axis from `floor` to 1."""

    def place(value: float) -> float:
        return round(100 * (value - floor) / (1 - floor), 2)

    left = place(figure.low)
    return Whisker(
        percent(figure.value), _span(figure), place(figure.value), left, round(100 - place(figure.high), 2)
    )


def duration(seconds: float) -> str:
    """41 s, 3 min 12 s, 2 h 5 min; the spaces do not break."""
    minutes, rest = divmod(max(0, round(seconds)), 60)
    if minutes >= 60:
        text = f"{minutes // 60} h {minutes % 60} min"
    elif minutes:
        text = f"{minutes} min {rest} s"
    else:
        text = f"{seconds:.1f} s" if seconds < 9.95 else f"{rest} s"
    return text.replace(" ", "\N{NO-BREAK SPACE}")


def counted(number: int, noun: str) -> str:
    """1 picture, 1,797 pictures, 3 classes."""
    plural = noun + ("es" if noun.endswith("s") else "s")
    return f"{number:,} {noun if number == 1 else plural}"


def when(created: str) -> str:
    """An ISO time as a person writes it; other text as it is."""
    try:
        moment = datetime.fromisoformat(created)
    except ValueError:
        return created
    return f"{moment.day} {moment:%B %Y, %H:%M}"


def _trained(data: ReportData) -> str:
    model = _section(data.recipe, "model")
    name = model.get("name") or type(data.model).__name__
    strategy = data.recipe.get("strategy")
    weights = model.get("weights")
    source = "published weights" if weights in (None, "auto") else str(weights)
    how = {
        "finetune": f", starting from {source}",
        "probe": f", as a new head on the features of {source}",
        "scratch": ", from scratch",
    }.get(str(strategy), "")
    train = dict(split_totals(data)).get("train", 0)
    seconds = _seconds(data)
    took = f" in {duration(seconds)}" if seconds else ""
    classes = counted(len(data.classes), "class")
    return (
        f"{name} learned to tell {classes} apart from {counted(train, 'picture')} of "
        f"{data.dataset['name']}{how}{took}."
    )


def _facts(data: ReportData, parameters: int) -> Iterator[tuple[str, str]]:
    model = _section(data.recipe, "model")
    yield "Model", str(model.get("name") or type(data.model).__name__)
    yield "Parameters", f"{parameters:,}"
    height, width = data.preprocess.size
    yield "Input", f"{data.preprocess.channels} × {height} × {width}"
    if data.history:
        best = next((row.get("epoch") for row in data.history if row.get("best")), None)
        yield "Epochs", f"{len(data.history)}" + (f", kept {best}" if best is not None else "")
    seconds = _seconds(data)
    if seconds:
        yield "Time", duration(seconds)
    if "device" in data.environment:
        yield "Device", str(data.environment["device"])


def _seconds(data: ReportData) -> float:
    told = data.environment.get("seconds")
    total = told if told is not None else sum(row.get("seconds") or 0.0 for row in data.history)
    return float(total) if math.isfinite(float(total)) else 0.0


def _section(recipe: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    """A section of the recipe, also where it is spelled short as a plain name."""
    value = recipe.get(key)
    return value if isinstance(value, Mapping) else {"name": value}


def _span(figure: Estimate) -> str:
    return f"{percent(figure.low)} – {percent(figure.high)}"
