"""Linear heads against scikit-learn's: the same penalties, folds, tolerance and features.

    OMP_NUM_THREADS=1 python benchmarks/heads.py [--quick] [--csv benchmarks/heads.csv]

Features such as a network's: 5,000 x 512, 10 classes, none below 0, a few directions strong and many weak; a linear
head errs on about one in eighteen. Each contest is run in turns, ours and theirs, and the medians are compared; theirs
is given features that are standardised already, ours does that itself.

    ridge      30 penalties with leave-one-out, against one fit of RidgeClassifier (at most 5 times as long)
               and RidgeClassifierCV over the same penalties (at most 1/5 as long)
    softmax    30 penalties, 5 folds, tol 1e-4, against LogisticRegressionCV (at most 1/5 as long); ours works on
               two folds at a time, and fits the last one to a gradient of 1e-10, theirs to 1e-4

The last column is the largest difference of our decision values from scikit-learn's at the penalty taken (from
LogisticRegression with tol 1e-10).
"""

import argparse
import csv
import statistics
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
from sklearn.linear_model import LogisticRegression, LogisticRegressionCV, RidgeClassifier, RidgeClassifierCV
from sklearn.model_selection import StratifiedKFold
from sklearn.preprocessing import StandardScaler

from sightline.features import RidgeHead, SoftmaxHead

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("--quick", action="store_true", help="1,000 x 64, once")
parser.add_argument("--repeats", type=int, default=5)
parser.add_argument("--csv", type=Path, help="where to write the table")


def features(n: int, d: int, classes: int) -> tuple[np.ndarray, np.ndarray]:
    """(n, d) features and (n,) labels, as of a network's last pooled maps."""
    rng = np.random.default_rng(0)
    latent = d // 8
    means = rng.normal(size=(classes, latent))
    labels = rng.integers(classes, size=n)
    hidden = 0.5 * means[labels] + rng.normal(size=(n, latent))
    mixed = hidden @ (rng.normal(size=(latent, d)) * np.geomspace(1, 0.1, latent)[:, None])
    return np.maximum(0.0, mixed + 0.3 * rng.normal(size=(n, d))), labels


def seconds(work: Callable[[], object]) -> float:
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def contest(repeats: int, **works: Callable[[], object]) -> dict[str, float]:
    """Median seconds of each, run in turns."""
    times: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(repeats):
        for name, work in works.items():
            times[name].append(seconds(work))
    return {name: statistics.median(taken) for name, taken in times.items()}


def main() -> None:
    args = parser.parse_args()
    n, d, repeats = (1000, 64, 1) if args.quick else (5000, 512, args.repeats)
    X, y = features(n, d, 10)
    Z = StandardScaler().fit_transform(X)
    rows: list[list[object]] = []

    ridge = RidgeHead().fit(X, y)
    penalties = ridge.penalties_
    exact = RidgeClassifier(alpha=ridge.penalty_).fit(Z, y)
    off = np.abs(exact.decision_function(Z) - ridge.decision_function(X)).max()
    taken = contest(
        repeats,
        ours=lambda: RidgeHead(penalties).fit(X, y),
        one=lambda: RidgeClassifier(alpha=ridge.penalty_).fit(Z, y),
        all=lambda: RidgeClassifierCV(penalties).fit(Z, y),
    )
    for name, theirs, bound in (
        ("one RidgeClassifier", taken["one"], 5),
        ("RidgeClassifierCV", taken["all"], 0.2),
    ):
        rows.append(
            ["ridge", name, taken["ours"], theirs, taken["ours"] / theirs, bound, ridge.errors_.min(), off]
        )

    softmax = SoftmaxHead().fit(X, y)
    penalties_of_softmax = softmax.penalties_
    folds = StratifiedKFold(5, shuffle=True, random_state=0)
    best = LogisticRegression(C=1 / softmax.penalty_, tol=1e-10, max_iter=100_000).fit(Z, y)
    off = np.abs(best.decision_function(Z) - softmax.decision_function(X)).max()
    taken = contest(
        min(repeats, 3),
        ours=lambda: SoftmaxHead(penalties_of_softmax).fit(X, y),
        theirs=lambda: LogisticRegressionCV(
            Cs=1 / penalties_of_softmax, cv=folds, tol=1e-4, max_iter=10_000, use_legacy_attributes=False
        ).fit(Z, y),
    )
    rows.append(["softmax", "LogisticRegressionCV", taken["ours"], taken["theirs"],
                 taken["ours"] / taken["theirs"], 0.2, softmax.errors_.min(), off])  # fmt: skip

    header = [
        "head",
        "against",
        "ours s",
        "theirs s",
        "ratio",
        "at most",
        "held-out error",
        "largest difference",
    ]
    table = [header, *([f"{v:.3g}" if isinstance(v, float) else str(v) for v in row] for row in rows)]
    for row in table:
        print("  ".join(cell.ljust(20) for cell in row))
    if args.csv:
        with args.csv.open("w", newline="") as file:
            csv.writer(file, lineterminator="\n").writerows(table)


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    main()
