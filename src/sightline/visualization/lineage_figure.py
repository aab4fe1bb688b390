"""The lineage as a picture: published error against what one picture costs, coloured by year."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sightline.errors import SightlineError
from sightline.files import write_beside
from sightline.visualization.lineage import published_error

if TYPE_CHECKING:
    from sightline.models.info import ModelInfo

FORMATS = ("png", "svg", "pdf")
# Where a label may stand: directions from its point, the readable ones first.
AROUND = ((1, 0), (-1, 0), (0, 1), (0, -1), (1, 1), (1, -1), (-1, 1), (-1, -1))


def draw_lineage(infos: Sequence[ModelInfo], path: str | Path) -> int:
    """Draw the networks of `infos` whose year, top-1 error and mult-adds are known into `path`; how many there are.

    Of several at one place the first stands for all. Points of one paper are joined. A full point is the error of
    one crop at the size that the mult-adds are for, an open one that of another protocol (ten crops, dense
    evaluation, fine-tuning at a larger size).
    Raises SightlineError where the file's ending is none of `FORMATS`, or fewer than two networks can be drawn.
    """
    path = Path(path)
    kind = path.suffix.removeprefix(".").lower()
    if kind not in FORMATS:
        raise SightlineError(f"{path} should end in {', '.join('.' + known for known in FORMATS)}.")
    places = {
        (info.mult_adds, published_error(info)[0]): info
        for info in reversed(infos)
        if info.year and info.mult_adds and published_error(info)[0] is not None
    }
    shown = list(reversed(places.values()))
    if len(shown) < 2:
        raise SightlineError("Of these networks fewer than two have a published error to draw.")
    from io import BytesIO

    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 7), layout="constrained")
    FigureCanvasAgg(figure)
    _draw(figure.subplots(), shown)
    data = BytesIO()
    # The same picture makes the same file.
    figure.savefig(data, format=kind, dpi=110, metadata={"Date": None} if kind == "svg" else None)
    write_beside(path, data.getvalue())
    return len(shown)


def _draw(axes: Any, infos: Sequence[ModelInfo]) -> None:
    from matplotlib import colormaps
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize
    from matplotlib.ticker import EngFormatter, MaxNLocator

    figure = axes.figure
    years = sorted(info.year or 0 for info in infos)
    # The last tenth of viridis is too light for a white ground.
    scale = Normalize(years[0], years[-1] + (years[-1] - years[0]) / 9)
    viridis = colormaps["viridis"]
    places: list[tuple[float, float]] = []
    papers: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for info in infos:
        top1, _, protocol = published_error(info)
        assert top1 is not None and info.mult_adds is not None
        place = (float(info.mult_adds), top1)
        colour = viridis(scale(info.year or 0))
        axes.plot(*place, "o", ms=7, mec=colour, mfc=colour if protocol == "1 crop" else "white", zorder=3)
        places.append(place)
        papers.setdefault((info.title, protocol), []).append(place)
    for joined in papers.values():
        axes.plot(*zip(*sorted(joined), strict=True), "-", color="0.8", lw=1, zorder=1)
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(EngFormatter())
    axes.margins(x=0.08)
    axes.grid(color="0.93", zorder=0)
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_xlabel("multiply-accumulates for one picture (log scale)")
    axes.set_ylabel("top-1 error on ImageNet-1k, percent, as published")
    axes.set_title("Full: one crop. Open: another protocol, such as ten crops.", fontsize=10, loc="left")
    if years[0] < years[-1]:
        bar = figure.colorbar(ScalarMappable(scale, viridis), ax=axes, label="year", pad=0.01, fraction=0.03)
        bar.ax.set_ylim(years[0], years[-1])
        bar.ax.yaxis.set_major_locator(MaxNLocator(integer=True))
    figure.canvas.draw()  # labels are placed by their size on the page
    # What is the same in all of a family says nothing here.
    _label(axes, [re.sub(r"_patch4_window\d+|_224$", "", info.name) for info in infos], places)


def _label(axes: Any, names: Sequence[str], places: Sequence[tuple[float, float]]) -> None:
    """Write each name beside its point, where it covers neither a point nor another name, as near as can be."""
    from matplotlib.transforms import Bbox

    renderer = axes.figure.canvas.get_renderer()
    unit = axes.figure.dpi / 72
    points = axes.transData.transform(places)
    taken = [Bbox.from_bounds(x - 5 * unit, y - 5 * unit, 10 * unit, 10 * unit) for x, y in points]
    for name, place in sorted(zip(names, places, strict=True), key=lambda pair: pair[1]):
        best, least = None, float("inf")
        for distance in (7, 13, 20, 28, 36):
            for across, up in AROUND:
                offset = (across * distance, up * distance)
                text = axes.annotate(
                    name, place, offset, textcoords="offset points", fontsize=7, color="0.2",
                    ha={1: "left", 0: "center", -1: "right"}[across],
                    va={1: "bottom", 0: "center", -1: "top"}[up], zorder=4,
                )  # fmt: skip
                box = text.get_window_extent(renderer)
                covered = sum(_overlap(box, other) for other in taken)
                outside = (
                    0 if axes.bbox.contains(box.x0, box.y0) and axes.bbox.contains(box.x1, box.y1) else 1e6
                )
                cost = covered * 10 + distance + outside
                if cost < least:
                    if best is not None:
                        best[0].remove()
                    best, least = (text, box, distance), cost
                else:
                    text.remove()
        assert best is not None
        text, box, distance = best
        taken.append(box)
        if distance > 7:
            axes.annotate(
                "", place, text.get_position(), textcoords="offset points", zorder=2,
                arrowprops={"arrowstyle": "-", "color": "0.6", "lw": 0.5, "shrinkA": 0, "shrinkB": 3},
            )  # fmt: skip


def _overlap(a: Any, b: Any) -> float:
    """The area that two boxes share."""
    width = min(a.x1, b.x1) - max(a.x0, b.x0)
    height = min(a.y1, b.y1) - max(a.y0, b.y0)
    return float(max(0.0, width) * max(0.0, height))
