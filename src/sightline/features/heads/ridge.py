"""Ridge: squared error, solved for every penalty, with its leave-one-out error, by one eigendecomposition.

Write Z (n, D) for the standardised features, Y (n, K) for targets of -1 and 1, made mean 0 (which is what an
intercept without a penalty does), and r for the smaller of n and D. Of the thin decomposition Z = U diag(s)^1/2 V',

    from Z'Z = V diag(s) V'  (D <= n)     or     ZZ' = U diag(s) U'  (n < D)

all else follows for every penalty a, without another decomposition:

    W_a = V diag(s^1/2 / (s + a)) U'Y                       the weights
    F_a = mean + U diag(s / (s + a)) U'Y                    what is fitted
    h_a = 1/n + rows of U^2 @ (s / (s + a))                 how much each sample pulls its own fit
    Y - LOO_a = (Y - F_a) / (1 - h_a)                       its error had it been left out: exact, no refitting

(Allen's PRESS, 1974; Hastie, Tibshirani and Friedman, The Elements of Statistical Learning, 7.10). Standardising is
the one step that a sample left out still had a part in.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sightline.features.heads.base import Floats, LinearHead, Solved, choose, signed_targets

# Penalties of the grid, as multiples of the mean eigenvalue.
GRID = np.geomspace(1e2, 1e-5, 30)
# Eigenvalues below this share of the largest are rounding.
RANK = 1e-12
# 1 - h is no smaller: at h = 1 a sample is fitted whatever its target.
ROUNDING = 1e-10
# Decision values that are held at a time: 64 MiB of them.
AT_ONCE = 2**23


class RidgeHead(LinearHead):
    """Least squares with a penalty, the penalty by the leave-one-out error.

    penalties: scikit-learn's `alpha` of RidgeClassifier on standardised features; at the same one the decision
        values are the same. None: 30 of them, multiples of the mean eigenvalue of Z'Z from 1e-5 to 100.
    `errors_` and `held_out_` are leave-one-out.
    """

    def _solve(
        self, features: Floats, targets: NDArray[np.intp], classes: int, penalties: Floats | None
    ) -> Solved:
        # scipy, as its eigh takes the divide-and-conquer driver in place.
        from scipy.linalg import eigh

        n, d = features.shape
        signs = signed_targets(targets, classes)
        if classes == 2:
            signs *= 0.5  # so that the second column minus the first is the target of -1 or 1
        centre = signs.mean(0)
        wide = d > n
        values, vectors = eigh(
            features @ features.T if wide else features.T @ features,
            driver="evd",
            overwrite_a=True,
            check_finite=False,
        )
        kept = values > values[-1] * RANK
        values, vectors = values[kept], vectors[:, kept]
        roots = np.sqrt(values)
        u = vectors if wide else features @ (vectors / roots)  # n, r
        target = u.T @ (signs - centre)  # r, K
        if penalties is None:
            penalties = GRID * values.mean()
        shrink = values[:, None] / (values[:, None] + penalties)  # r, P
        left = np.maximum(1.0 - 1.0 / n - np.square(u) @ shrink, ROUNDING)  # n, P: 1 - h

        def left_out(chosen: slice) -> Floats:
            """Decision values (n, p, K) at the penalties `chosen` of each sample when left out."""
            weights = (shrink[:, chosen, None] * target[:, None]).reshape(len(target), -1)
            fitted = centre + (u @ weights).reshape(n, -1, classes)
            return np.asarray(signs[:, None] - (signs[:, None] - fitted) / left[:, chosen, None])

        errors, losses = np.empty(len(penalties)), np.empty(len(penalties))
        step = max(1, AT_ONCE // (n * classes))
        for start in range(0, len(penalties), step):
            chosen = slice(start, start + step)
            decided = left_out(chosen)
            errors[chosen] = (decided.argmax(2) != targets[:, None]).mean(0)
            losses[chosen] = np.square(decided - signs[:, None]).mean((0, 2))
        best = choose(errors, losses)
        held_out = left_out(slice(best, best + 1))[:, 0]
        # W = V diag(s^1/2 / (s + a)) U'Y, where V is Z'U diag(s)^-1/2 if it was not decomposed itself.
        weights = target * (shrink[:, best] / (values if wide else roots))[:, None]
        coef = (features.T @ (u @ weights) if wide else vectors @ weights).T
        return Solved(penalties, errors, losses, best, held_out, coef, centre)
