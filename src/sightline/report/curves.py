"""Training curves as inline SVG: coloured by the page's CSS, so that one drawing serves both themes."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any

from markupsafe import Markup

from sightline.evaluation.intervals import percent

WIDTH, HEIGHT = 286, 186
LEFT, RIGHT, TOP, BOTTOM = 42, 12, 18, 36
POINTS = 600
"""More epochs than this are thinned out: a line has no more pixels."""


@dataclass(frozen=True, slots=True)
class Line:
    """One curve: its CSS class, its name, a value per epoch (None where there is none), the one to quote."""

    style: str
    name: str
    values: list[float | None]
    quoted: str


@dataclass(frozen=True, slots=True)
class Chart:
    """One drawing with what the page's script needs to read values off it."""

    title: str
    lines: list[Line]
    svg: Markup
    readout: dict[str, Any]


# Title, lines (style, name, key of the history), how a value is written, whether values are shares.
Drawing = tuple[str, list[tuple[str, str, str]], Callable[[float], str], bool]
CHARTS: list[Drawing] = [
    (
        "Loss",
        [("train", "training", "train_loss"), ("val", "validation", "val_loss")],
        lambda v: f"{v:.3g}",
        False,
    ),
    (
        "Accuracy",
        [
            ("train", "training", "train_accuracy"),
            ("val", "validation", "val_accuracy"),
            ("balanced", "validation, balanced", "val_balanced_accuracy"),
        ],
        percent,
        True,
    ),
    ("Learning rate", [("rate", "rate", "lr")], lambda v: f"{v:.2g}", False),
]


def charts(history: Sequence[dict[str, Any]], drawings: Sequence[Drawing] = tuple(CHARTS)) -> list[Chart]:
    """Loss, accuracy and learning rate over the epochs; a chart without any value is left out."""
    rows = _thinned(history)
    epochs = [int(row.get("epoch", i + 1)) for i, row in enumerate(rows)]
    best = next((e for e, row in zip(epochs, rows, strict=True) if row.get("best")), None)
    drawn = []
    for title, series, show, shares in drawings:
        lines = []
        for style, name, key in series:
            values = [_finite(row.get(key)) for row in rows]
            present = [value for value in values if value is not None]
            if present:
                at_best = values[epochs.index(best)] if best is not None else None
                lines.append(Line(style, name, values, show(present[-1] if at_best is None else at_best)))
        if lines:
            texts = [[None if v is None else show(v) for v in line.values] for line in lines]
            readout = {"epochs": epochs, "lines": texts, "left": LEFT, "right": WIDTH - RIGHT, "width": WIDTH}
            drawn.append(Chart(title, lines, _draw(title, lines, epochs, best, shares), readout))
    return drawn


def _draw(title: str, lines: list[Line], epochs: list[int], best: int | None, shares: bool) -> Markup:
    values = [value for line in lines for value in line.values if value is not None]
    ticks = nice_ticks(min(values), max(values), (0.0, 1.0) if shares else (0.0, math.inf))
    low, high = ticks[0], ticks[-1]
    first, last = epochs[0], epochs[-1]

    def x(epoch: float) -> float:
        # A single epoch stands in the middle.
        share = (epoch - first) / (last - first) if last > first else 0.5
        return round(LEFT + share * (WIDTH - LEFT - RIGHT), 1)

    def y(value: float) -> float:
        share = (value - low) / (high - low)
        return round(HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM), 1)

    def text(at: float, height: float, anchor: str, words: str) -> str:
        return f'<text class="tick" x="{at}" y="{height}" text-anchor="{anchor}">{words}</text>'

    floor, middle = HEIGHT - BOTTOM, (LEFT + WIDTH - RIGHT) / 2
    labels = _tick_labels([tick * 100 for tick in ticks], "%") if shares else _tick_labels(ticks)
    caption = f"{title} over {len(epochs)} epochs"
    parts = [f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{caption}">']
    parts += [f'<path class="grid" d="M{LEFT} {y(tick)}H{WIDTH - RIGHT}"/>' for tick in ticks]
    parts += [text(LEFT - 7, y(tick) + 4, "end", label) for tick, label in zip(ticks, labels, strict=True)]
    parts += [text(x(epoch), floor + 16, "middle", str(epoch)) for epoch in epoch_ticks(first, last)]
    parts += [text(middle, HEIGHT - 3, "middle", "epoch")]
    if best is not None:
        # The label turns inwards near the right edge.
        anchor, shift = ("end", -4) if x(best) > WIDTH * 0.75 else ("start", 4)
        parts.append(f'<path class="best" d="M{x(best)} {TOP - 12}V{floor}"/>')
        parts.append(text(x(best) + shift, TOP - 6, anchor, f"kept: {best}"))
    for line in lines:
        points = [
            None if value is None else (x(epoch), y(value))
            for epoch, value in zip(epochs, line.values, strict=True)
        ]
        parts.append(f'<path class="line {line.style}" d="{_path(points)}"/>')
        dots = [
            point for epoch, point in zip(epochs, points, strict=True) if epoch == best or len(epochs) == 1
        ]
        parts += [f'<circle class="dot {line.style}" cx="{p[0]}" cy="{p[1]}" r="3.2"/>' for p in dots if p]
    parts.append(f'<path class="cursor" d="M0 {TOP}V{floor}"/></svg>')
    return Markup("".join(parts))  # numbers and our own words only: nothing to escape


def _path(points: Sequence[tuple[float, float] | None]) -> str:
    """An SVG path through the points, broken where one is missing."""
    steps, pen = [], "M"
    for point in points:
        if point is None:
            pen = "M"
            continue
        steps.append(f"{pen}{point[0]} {point[1]}")
        pen = "L"
    return "".join(steps)


def nice_ticks(low: float, high: float, bounds: tuple[float, float] = (-math.inf, math.inf)) -> list[float]:
    """3 to 7 round numbers (steps of 1, 2, 2.5 or 5 times a power of ten) that enclose low..high.

    `bounds` are values that the axis does not pass, such as 0 and 1 for shares.
    """
    if high - low < max(1e-9 * abs(high), 1e-11):
        pad = abs(high) * 0.5 if abs(high) > 1e-9 else 0.5
        low, high = max(low - pad, bounds[0]), min(high + pad, bounds[1])
    rough = (high - low) / 4
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= rough * 0.999)
    start, end = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(i * step, 12) for i in range(start, end + 1)]


def _tick_labels(ticks: Sequence[float], unit: str = "") -> list[str]:
    """The ticks with as many decimals as tell them all apart, the same for each: 0.0, 0.5, 1.0."""
    for decimals in range(4):
        if all(abs(tick - round(tick, decimals)) < 1e-9 for tick in ticks):
            return [f"{tick:.{decimals}f}{unit}" for tick in ticks]
    return [f"{tick:.4g}{unit}" for tick in ticks]


def epoch_ticks(first: int, last: int) -> list[int]:
    """Up to seven whole epochs from `first` to `last`, both ends among them."""
    span = last - first
    if span <= 6:
        return list(range(first, last + 1))
    power = 10 ** math.floor(math.log10(span / 5))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= span / 5)
    inner = [
        e for e in range(-(-first // step) * step, last, step) if e - first > step / 2 and last - e > step / 2
    ]
    return [first, *inner, last]


def _thinned(history: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    stride = -(-len(history) // POINTS)
    last = len(history) - 1
    return [row for i, row in enumerate(history) if i % stride == 0 or i == last or row.get("best")]


def _finite(value: Any) -> float | None:
    return float(value) if isinstance(value, Real) and math.isfinite(value) else None
