"""Set the constants of `advise` from the development cases of transfer.py, and print them.

    python benchmarks/transfer_constants.py [FILE.csv]

FILE.csv is what `transfer.py --development` wrote (transfer_development.csv, its evidence beside it). What comes out
belongs into `sightline.advising.constants`. Nothing of the twelve cases goes into it.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
from transfer import STRATEGIES, TESTED, evidence_file, known_rows, scaled


def fit_constants(out: Path) -> None:
    """Print the BLENDS of `sightline.advising.constants` that the rows of the development cases give.

    Ridge regression of what each strategy reached on the terms of a Blend, all on the scale of logits and weighted by
    the pictures counted; the penalty, of five, by leaving out one case at a time. The spread is what makes the gaps of
    cases left out as large as they should be.
    """
    from sightline.advising.constants import SHARED
    from sightline.advising.prediction import counting, logit

    reached = {(r["case"], r["draw"], r["strategy"]): float(r["accuracy"]) for r in known_rows(out)}
    evidence = {(r["case"], r["draw"]): r for r in known_rows(evidence_file(out))}
    for kind in STRATEGIES:
        rows, wanted, noise, case = [], [], [], []
        for (name, draw), row in evidence.items():
            if (name, draw, kind) not in reached:
                continue
            known, accuracy = scaled(row), reached[name, draw, kind]
            p = min(max(accuracy, 0.01), 0.99)
            rows.append((1.0, known.far))
            wanted.append(logit(accuracy, TESTED) - known.base)
            noise.append(SHARED * counting(p, int(row["pictures"])) + counting(p, TESTED))
            case.append(name)
        x, y, variance, group = np.array(rows), np.array(wanted), np.array(noise), np.array(case)

        def solved(kept: np.ndarray, penalty: float, x: Any = x, y: Any = y, v: Any = variance) -> np.ndarray:
            w = 1.0 / (v[kept] + 0.15**2)
            ridge = np.diag([1e-3, penalty])
            left = x[kept].T @ (w[:, None] * x[kept]) + ridge
            return np.asarray(np.linalg.solve(left, x[kept].T @ (w * y[kept])))

        def left_out(
            penalty: float, x: Any = x, y: Any = y, group: Any = group, fit: Any = solved
        ) -> np.ndarray:
            gaps = np.empty(len(y))
            for one in np.unique(group):
                out = group == one
                gaps[out] = y[out] - x[out] @ fit(~out, penalty)
            return gaps

        def lost(penalty: float, v: Any = variance, gaps: Any = left_out) -> float:
            return float((gaps(penalty) ** 2 / (v + 0.15**2)).mean())

        penalty = min((0.1, 1.0, 10.0, 100.0, 1000.0), key=lost)
        weights = solved(np.full(len(y), True), penalty)
        gaps = left_out(penalty) ** 2
        spread = next((s for s in np.arange(0.1, 2.0, 0.01) if (gaps / (variance + s**2)).mean() <= 1.0), 2.0)
        figures = ", ".join(f"{w:.2f}" for w in weights)
        print(
            f'    "{kind}": Blend({figures}, {spread:.2f}, {len(np.unique(group)) - 2}),  # penalty {penalty:g}'
        )


if __name__ == "__main__":
    fit_constants(
        Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).with_name("transfer_development.csv")
    )
