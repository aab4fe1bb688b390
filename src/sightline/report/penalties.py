"""How the error of a linear head depends on its penalty, as inline SVG in the manner of the training curves."""

from __future__ import annotations

import math
from collections.abc import Sequence

from markupsafe import Markup

from sightline.report.curves import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH, _tick_labels, nice_ticks


def penalty_chart(path: Sequence[tuple[float, float]]) -> Markup | None:
    """Error (0..1) on pictures left out against the penalty, which is on a logarithmic axis; None of fewer than two.

    path: (penalty, error) in any order. The penalty of the least error is marked.
    """
    if len(path) < 2:
        return None
    points = sorted((math.log10(penalty), error) for penalty, error in path)
    first, last = points[0][0], points[-1][0]
    ticks = nice_ticks(min(e for _, e in points), max(e for _, e in points), (0.0, 1.0))
    floor, middle = HEIGHT - BOTTOM, (LEFT + WIDTH - RIGHT) / 2

    def x(power: float) -> float:
        return round(LEFT + (power - first) / (last - first) * (WIDTH - LEFT - RIGHT), 1)

    def y(error: float) -> float:
        return round(floor - (error - ticks[0]) / (ticks[-1] - ticks[0]) * (floor - TOP), 1)

    def text(at: float, height: float, anchor: str, words: str) -> str:
        return f'<text class="tick" x="{at}" y="{height}" text-anchor="{anchor}">{words}</text>'

    best = min(points, key=lambda point: (point[1], -point[0]))
    whole = range(math.ceil(first), math.floor(last) + 1)
    parts = [f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="Error against penalty">']
    parts += [f'<path class="grid" d="M{LEFT} {y(tick)}H{WIDTH - RIGHT}"/>' for tick in ticks]
    labels = _tick_labels([100 * tick for tick in ticks], "%")
    parts += [text(LEFT - 7, y(tick) + 4, "end", label) for tick, label in zip(ticks, labels, strict=True)]
    step = -(-len(whole) // 6)
    parts += [text(x(power), floor + 16, "middle", f"1e{power}") for power in whole[::step]]
    parts += [text(middle, HEIGHT - 3, "middle", "penalty")]
    anchor, shift = ("end", -4) if x(best[0]) > WIDTH * 0.75 else ("start", 4)
    parts.append(f'<path class="best" d="M{x(best[0])} {TOP - 12}V{floor}"/>')
    parts.append(text(x(best[0]) + shift, TOP - 6, anchor, f"{10 ** best[0]:.3g}: {best[1]:.1%}"))
    parts.append(f'<path class="line val" d="M{"L".join(f"{x(p)} {y(e)}" for p, e in points)}"/>')
    parts.append(f'<circle class="dot val" cx="{x(best[0])}" cy="{y(best[1])}" r="3.2"/></svg>')
    return Markup("".join(parts))  # numbers and our own words only: nothing to escape
