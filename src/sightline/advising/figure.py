"""Advice as a picture: accuracy by depth with its intervals, and the four quadrants with the point in it."""

from __future__ import annotations

import base64
from html import escape
from io import BytesIO
from typing import TYPE_CHECKING, Any

from sightline.advising.constants import LARGE, NEAR
from sightline.advising.evidence import LEVEL
from sightline.advising.table import tried

if TYPE_CHECKING:
    from sightline.advising.advice import Advice

# Okabe and Ito's colours, told apart by mark and line as well.
LEARNED, RANDOM, HAND, POINT = "#0072B2", "#777777", "#D55E00", "#009E73"
# What the lecture on transfer learning says of each quadrant, as (size, nearness).
LECTURE = {
    ("small", "near"): "a linear classifier\non the features",
    ("large", "near"): "fine-tune the\nwhole network",
    ("small", "far"): "a linear classifier on\nan earlier layer",
    ("large", "far"): "train from scratch, or\nfine-tune all of it",
}


def draw_advice(advice: Advice) -> bytes:
    """A PNG."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4.4), layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2, width_ratios=(1.35, 1))
    draw_depths(left, advice)
    draw_quadrants(right, advice)
    figure.suptitle(
        f"{advice.name}, {advice.model}: {advice.advised.name} advised, "
        f"{advice.advised.accuracy:.1%} expected ({advice.advised.low:.1%} to {advice.advised.high:.1%})",
        x=0.01,
        ha="left",
        fontsize=11,
    )
    data = BytesIO()
    figure.savefig(data, format="png", dpi=110)
    return data.getvalue()


def draw_depths(axes: Any, advice: Advice) -> None:
    """Balanced leave-one-out accuracy of every stage, learned and random, and of hand-crafted features."""
    seen = advice.evidence
    places = list(range(len(seen.depths)))
    values = [100 * d.accuracy for d in seen.depths]
    below = [100 * (d.accuracy - d.low) for d in seen.depths]
    above = [100 * (d.high - d.accuracy) for d in seen.depths]
    axes.errorbar(places, values, [below, above], fmt="o-", color=LEARNED, capsize=3, label="pretrained")
    axes.plot(places, [100 * d.random for d in seen.depths], "s--", color=RANDOM, label="random weights")
    axes.axhline(100 * seen.handcrafted, color=HAND, ls=":", label="hand-crafted")
    axes.axhline(100 * seen.chance, color="0.8", lw=1, label="chance")
    names = [d.layer or "classifier" for d in seen.depths]
    turned = len(names) > 7 or max(map(len, names)) > 10
    axes.set_xticks(places, names, rotation=45 if turned else 0, ha="right" if turned else "center")
    axes.set_ylabel("balanced accuracy, leave-one-out, %")
    axes.set_title(f"by depth, on {seen.pictures:,} pictures, {LEVEL:.0%} intervals", fontsize=10, loc="left")
    axes.grid(axis="y", color="0.93")
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(fontsize=8, frameon=False)


def draw_quadrants(axes: Any, advice: Advice) -> None:
    """Pictures a class against how near the network's own pictures are, and what the lecture says of each quadrant."""
    wide = max(1.5, 1.2 * abs(advice.near_by - NEAR))
    low, high = min(2.0, advice.per_class / 2), max(LARGE**2 / 2.0, 2 * advice.per_class)
    axes.set_xscale("log")
    axes.set_xlim(low, high)
    axes.set_ylim(NEAR - wide, NEAR + wide)
    axes.axvline(LARGE, color="0.5", lw=1)
    axes.axhline(NEAR, color="0.5", lw=1)
    middle = {"small": (low * LARGE) ** 0.5, "large": (LARGE * high) ** 0.5}
    for (size, nearness), says in LECTURE.items():
        y, side = (NEAR + 0.96 * wide, "top") if nearness == "near" else (NEAR - 0.96 * wide, "bottom")
        here = (size, nearness) == (advice.size, advice.nearness)
        axes.text(
            middle[size], y, f"{size}, {nearness}\n{says}", ha="center", va=side, fontsize=8.5,
            color="0.15" if here else "0.6", weight="bold" if here else "normal",
        )  # fmt: skip
    axes.plot(advice.per_class, advice.near_by, "o", ms=11, color=POINT, mec="white", mew=1.5, zorder=3)
    above = 11 if advice.near_by >= NEAR else -20  # clear of the border
    axes.annotate(
        advice.advised.name, (advice.per_class, advice.near_by), xytext=(0, above), textcoords="offset points",
        ha="center", fontsize=9, color=POINT, weight="bold",
    )  # fmt: skip
    axes.set_xlabel("training pictures a class")
    axes.set_ylabel("nearness: pretrained against\nhand-crafted or random, logits")
    axes.set_title("the four quadrants of transfer learning", fontsize=10, loc="left")
    axes.spines[["top", "right"]].set_visible(False)


def figure_uri(advice: Advice) -> str:
    """The figure as a data URI."""
    return "data:image/png;base64," + base64.b64encode(draw_advice(advice)).decode("ascii")


def advice_page(advice: Advice) -> str:
    """One HTML page with the figure, the reasons and the strategies; it asks nothing of the network."""
    rows = "".join(
        f"<tr><th scope=row>{escape(p.name)}<td>{p.accuracy:.1%}<td>{p.low:.1%} to {p.high:.1%}<td>{tried(p)}"
        f"<td>{p.minutes:.2g}<td><code>sightline fit DATA {escape(p.options)}</code>"
        for p in sorted(advice.predictions, key=lambda p: -p.accuracy)
    )
    reasons = "".join(f"<li>{escape(line)}" for line in advice.reasons)
    title = f"Advice on {escape(advice.name)}"
    return (
        f"<!doctype html><html lang=en><meta charset=utf-8><title>{title}</title>"
        "<style>body{font:15px/1.5 system-ui;max-width:1100px;margin:2em auto;padding:0 1em}img{max-width:100%}"
        "table{border-collapse:collapse}td,th{padding:.25em 1.2em .25em 0;text-align:left}</style>"
        f"<h1>{title}</h1><p>{escape(advice.model)} with {escape(advice.weights)}</p>"
        f'<img alt="Accuracy by depth, and the quadrants" src="{figure_uri(advice)}">'
        f"<ul>{reasons}</ul><table><tr><th>strategy<th>balanced accuracy<th>{LEVEL:.0%} interval<th>tried<th>minutes"
        f"<th>{rows}</table></html>\n"
    )
