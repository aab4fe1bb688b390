"""The effects as a picture: a dot and an interval for each augmentation, and the line where nothing changes."""

from __future__ import annotations

from io import BytesIO
from textwrap import wrap
from typing import TYPE_CHECKING

from sightline.evaluation.intervals import percent

if TYPE_CHECKING:
    from sightline.ablation.result import Ablation

# Told apart without colours, too: by the shape of the mark (Okabe and Ito's colours).
LOOKS = {"helps": ("#0072B2", "o"), "hurts": ("#D55E00", "s"), "unclear": ("#777777", "D")}
# Letters in a line of a name; a chain goes on below.
LINE = 28


def draw_effects(ablation: Ablation) -> bytes:
    """A PNG, the most helpful augmentation on top, the helpful ones together below a line."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rows = [*ablation.ranked, *([ablation.together] if ablation.together else [])]
    names = [wrap(effect.augment, LINE) for effect in rows]
    places: list[float] = list(range(len(rows)))
    places[-1] += max(0, len(names[-1]) - 2) / 4  # room for the lines of a long chain
    figure = Figure(figsize=(8, 1.5 + 0.34 * (places[-1] + 1)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    axes.axvline(0, color="0.3", lw=1, zorder=1)
    for place, effect in zip(places, rows, strict=True):
        colour, mark = LOOKS[effect.verdict]
        change = effect.change
        if change.low is not None and change.high is not None:
            axes.plot([100 * change.low, 100 * change.high], [place, place], color=colour, lw=2, zorder=2)
        axes.plot(100 * change.value, place, mark, color=colour, ms=6, zorder=3)
    if ablation.together:
        axes.axhline(len(rows) - 1.5, color="0.8", lw=1)
    axes.set_yticks(places, ["\n".join(lines) for lines in names])
    axes.set_ylim(2 * places[-1] - len(rows) + 1.6, -0.6)
    axes.grid(axis="x", color="0.93", zorder=0)
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(axis="y", length=0)
    axes.set_xlabel("change in validation accuracy, percentage points")
    seeds = len(ablation.seeds)
    bars = "all intervals together hold at 95 %" if seeds > 1 else "one seed, no intervals"
    figure.suptitle(
        f"{ablation.name}: each augmentation alone, against {percent(ablation.accuracy)} without\n"
        f"{ablation.setup['training_pictures']:,} training and {ablation.setup['validation_pictures']:,} "
        f"validation pictures, {seeds} {'seed' if seeds == 1 else 'seeds'}; {bars}",
        x=0.01,
        ha="left",
        fontsize=10,
    )
    data = BytesIO()
    figure.savefig(data, format="png", dpi=110)
    return data.getvalue()
