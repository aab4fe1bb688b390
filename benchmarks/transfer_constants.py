"""Set the constants of `advise` from the development cases of transfer.py, and print them.

    python benchmarks/transfer_constants.py [FILE.csv]

FILE.csv is what `transfer.py --development` wrote (transfer_development.csv, its evidence beside it). What comes out
belongs into `sightline.advising.constants`. Nothing of the CASES goes into it. Where a case has several draws, all of
them are left out together.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
from transfer import STRATEGIES, evidence_file, known_rows, scaled, tried
from transfer_cases import TESTED

from sightline.advising import combined
from sightline.advising.combined import observed
from sightline.advising.constants import BLENDS, STEADIER, Blend
from sightline.advising.prediction import counting, logit

# Beyond the noise of counting, for the weights of cases before their spread is known.
ROUGHLY = 0.15
PENALTIES = (0.1, 1.0, 10.0, 100.0, 1000.0)


def fitted(rows: list[dict[str, str]], truth: np.ndarray) -> dict[str, Any]:
    """The constants of `sightline.advising.constants`, by name, from evidence and what was reached (rows, strategies).

    A Blend is a ridge regression of what a strategy reached on its terms, all on the scale of logits and weighted by
    the pictures counted; the penalty, of five, by leaving out one case at a time. The spreads are what makes the gaps
    of cases left out as large as they should be.
    """
    wanted = np.array([[logit(p, TESTED) for p in accuracies] for accuracies in truth])
    kept = np.clip(truth, 0.01, 0.99)
    noise = counting(kept, TESTED)
    known = [scaled(r) for r in rows]
    alike = combined.alike(STRATEGIES)
    counted = STEADIER * counting(kept, np.array([[float(r["effective"])] for r in rows]))
    trials = [observed(tried(r), m.grows) for r, m in zip(rows, known, strict=True)]
    steep = np.array([m.steep for m in known])
    x = np.column_stack([np.ones(len(known)), steep * [m.far for m in known]])
    cases = np.array([r["case"] for r in rows])

    freedom = len(set(cases)) - x.shape[1]
    blends, strays = {}, {}
    for k, kind in enumerate(STRATEGIES):
        anchor = BLENDS[kind].anchor
        y = wanted[:, k] - [getattr(m, anchor) for m in known]
        variance = noise[:, k] + alike[k, k] * counted[:, k]
        losses = {}
        for penalty in PENALTIES:
            losses[penalty] = (left_out(x, y, variance, penalty, cases) ** 2 / (variance + ROUGHLY**2)).mean()
        penalty = min(losses, key=lambda p, known=losses: known[p])  # type: ignore[misc]
        shift, by_far = solved(x, y, variance, penalty)
        spread = spread_of(left_out(x, y, variance, penalty, cases), variance, steep**0.5)
        blends[kind] = Blend(anchor, shift, by_far, spread, freedom)
        y = wanted[:, k] - [found[k] for found, _ in trials]
        variance = noise[:, k] + [covariance[k, k] for _, covariance in trials]
        strays[kind] = spread_of(y, variance, steep)
    return {"BLENDS": blends, "STRAYS": strays}


def solved(x: np.ndarray, y: np.ndarray, variance: np.ndarray, penalty: float) -> np.ndarray:
    """Weights of the columns of x (n, d), of which the first one is hardly penalised."""
    w = 1.0 / (variance + ROUGHLY**2)
    ridge = np.diag([1e-3, *[penalty] * (x.shape[1] - 1)])
    return np.asarray(np.linalg.solve(x.T @ (w[:, None] * x) + ridge, x.T @ (w * y)))


def left_out(
    x: np.ndarray, y: np.ndarray, variance: np.ndarray, penalty: float, cases: np.ndarray
) -> np.ndarray:
    """What is left of each y when the other cases alone are fitted."""
    gaps = np.empty(len(y))
    for one in set(cases):
        mine = cases == one
        gaps[mine] = y[mine] - x[mine] @ solved(x[~mine], y[~mine], variance[~mine], penalty)
    return gaps


def spread_of(gaps: np.ndarray, variance: np.ndarray, times: np.ndarray) -> float:
    """What has to be added to the noise, each by so many times, to make the gaps as large as they are."""
    spreads = np.arange(0.02, 3.0, 0.01)
    return float(next((s for s in spreads if (gaps**2 / (variance + (s * times) ** 2)).mean() <= 1.0), 3.0))


def foretold(rows: list[dict[str, str]], truth: np.ndarray) -> tuple[float, list[combined.Told]]:
    """WIDER, and what is said of each case by the constants that the other cases give.

    Evidence and trials are counted on the same pictures, so both together are less sure than their precisions say:
    WIDER is what makes the gaps of cases left out as large as they should be in the mean.
    """
    by_row: dict[int, combined.Told] = {}
    cases = np.array([row["case"] for row in rows])
    for case in set(cases):
        rest = np.flatnonzero(cases != case)
        for name, value in {**fitted([rows[other] for other in rest], truth[rest]), "WIDER": 1.0}.items():
            setattr(combined, name, value)
        for one in np.flatnonzero(cases == case):
            row = rows[one]
            by_row[int(one)] = combined.combined(STRATEGIES, scaled(row), float(row["effective"]), tried(row))
    told = [by_row[one] for one in range(len(rows))]
    gaps = np.array([[logit(p, TESTED) for p in each] for each in truth]) - [one.mean for one in told]
    noise = counting(np.clip(truth, 0.01, 0.99), TESTED)
    variance = np.array([np.diag(one.covariance) for one in told])
    wider = float(
        next(w for w in np.arange(1.0, 3.0, 0.01) if np.mean(gaps**2 / (noise + w**2 * variance)) <= 1.0)
    )
    return wider, [combined.Told(one.kinds, one.mean, one.covariance * wider**2) for one in told]


def main() -> None:
    out = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).with_name("transfer_development.csv")
    reached = {(r["case"], r["draw"], r["strategy"]): float(r["balanced"]) for r in known_rows(out)}
    rows = known_rows(evidence_file(out))
    truth = np.array([[reached[r["case"], r["draw"], k] for k in STRATEGIES] for r in rows])
    found = fitted(rows, truth)
    wider, told = foretold(rows, truth)
    print("BLENDS = {")
    for kind, blend in found["BLENDS"].items():
        figures = f"{blend.shift:.2f}, {blend.by_far:.2f}, {blend.spread:.2f}, {blend.freedom}"
        print(f'    "{kind}": Blend("{blend.anchor}", {figures}),')
    print("}")
    figures = ", ".join(f'"{kind}": {value:.2f}' for kind, value in found["STRAYS"].items())
    print(f"STRAYS = {{{figures}}}")
    print(f"WIDER = {wider:.2f}\n\nby the constants of the other cases:")
    spans = np.array([[one.accuracy(kind) for kind in STRATEGIES] for one in told])
    regret = truth.max(1) - truth[np.arange(len(rows)), spans[:, :, 0].argmax(1)]
    held = (spans[:, :, 1] <= truth) & (truth <= spans[:, :, 2])
    print(
        f"within 2 points of the best in {(regret <= 0.02).sum()} of {len(rows)} cases; mean regret "
        f"{100 * regret.mean():.2f} points, at most {100 * regret.max():.1f}; 90 % intervals hold {held.mean():.1%}, "
        f"{100 * (spans[:, :, 2] - spans[:, :, 1]).mean():.1f} points wide in the mean"
    )


if __name__ == "__main__":
    main()
