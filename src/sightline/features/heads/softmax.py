"""Softmax: cross-entropy by L-BFGS along a path of penalties, in coordinates in which the problem is round.

Three things make it quick, none of which moves the solution:
- The features are turned into their principal components (for n < D there are only n of them). A penalty on the
  squared length of the weights does not see a rotation.
- In these, the curvature of the cost is near a diagonal one, k s_j / n + penalty, with s_j the eigenvalues and k the
  mean of p (1 - p) over what is predicted. Scaled by its root, L-BFGS (Liu and Nocedal, 1989) needs a few steps.
- Every penalty begins from where the weights of the last three were heading. Two folds are worked on at a time.

Whether it has arrived is told by the gradient, as scikit-learn tells it: its largest component, of the mean cost. The
path computes in float32, whose gradient is right to about 1e-7, where it need not be right to more than 1e-5. The last
fit, in float64, is made exact by a few of Newton's steps, each solved by conjugate gradients.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from sightline.features.heads.base import Floats, LinearHead, Solved, choose

# Penalties of the grid, as multiples of the mean eigenvalue.
GRID = np.geomspace(1e1, 1e-5, 30)
# Eigenvalues below this share of the largest are rounding.
RANK = 1e-12
# The largest component of the gradient at the end of the last fit.
EXACT = 1e-10
# From this gradient on Newton's steps are quicker.
CLOSE = 1e-4
# Float32 is trusted to tell gradients down to this one.
SINGLE = 1e-5


class SoftmaxHead(LinearHead):
    """Multinomial logistic regression, the penalty by cross-validation.

    penalties: 1 / C of scikit-learn's LogisticRegression on standardised features; at the same one the decision
        values are the same. None: 30 of them, multiples of the mean eigenvalue of Z'Z from 1e-5 to 10.
    folds: of the cross-validation, stratified and shuffled; fewer where a class has fewer samples.
    tol: the path's fits end at this gradient, as scikit-learn's do; the last fit is exact.
    """

    def __init__(self, penalties: Sequence[float] | None = None, folds: int = 5, tol: float = 1e-4) -> None:
        super().__init__(penalties)
        self.folds = folds
        self.tol = tol

    def _solve(
        self, features: Floats, targets: NDArray[np.intp], classes: int, penalties: Floats | None
    ) -> Solved:
        n, _ = features.shape
        rotated, values, back = components(features)
        if penalties is None:
            penalties = GRID * values.mean()
        # Of two classes both have weights here, w/2 and -w/2, where scikit-learn has one w: |w|^2 / 2 against |w|^2.
        strengths = penalties * (2.0 if classes == 2 else 1.0)
        held_out = np.empty((len(penalties), n, classes), dtype=np.float32)
        starts = np.zeros((len(penalties), classes, len(values) + 1))
        parts = folds_of(targets, self.folds)

        def fold(part: tuple[NDArray[np.intp], NDArray[np.intp]]) -> NDArray[np.floating]:
            """The weights (P, K, r + 1) of a fold; what they say of the samples held out goes to `held_out`."""
            kept, out = part
            problem = Problem.of(rotated[kept], targets[kept], classes, values / n, single=self.tol >= SINGLE)
            path = np.stack(problem.path(strengths, self.tol))
            decided = path[..., :-1].reshape(-1, len(values)) @ rotated[out].T
            held_out[:, out] = decided.reshape(*path.shape[:2], -1).swapaxes(1, 2) + path[:, None, :, -1]
            return path

        # NumPy's BLAS would share out each of many small steps on all cores, and wait for itself.
        with threadpool_limits(1, user_api="blas"), ThreadPoolExecutor(2) as pool:
            for path in pool.map(fold, parts):
                starts += path / len(parts)
        errors, losses = np.empty(len(penalties)), np.empty(len(penalties))
        for i, decided in enumerate(held_out):
            errors[i] = (decided.argmax(1) != targets).mean()
            losses[i] = cross_entropy(decided.T.astype(np.float64), targets)[0]
        best = choose(errors, losses)
        problem = Problem.of(rotated, targets, classes, values / n, single=False)
        with threadpool_limits(1, user_api="blas"):
            weights = problem.solve(strengths[best], starts[best], CLOSE)
            weights = problem.polish(strengths[best], weights, EXACT)
        intercept = weights[:, -1] - weights[:, -1].mean()
        return Solved(
            penalties,
            errors,
            losses,
            best,
            held_out[best].astype(np.float64),
            weights[:, :-1] @ back,
            intercept,
        )


def components(features: Floats) -> tuple[Floats, Floats, Floats]:
    """Principal components (n, r) of mean-free features (n, D), their eigenvalues (r,), and the way back (r, D)."""
    from scipy.linalg import eigh

    n, d = features.shape
    wide = d > n
    gram = features @ features.T if wide else features.T @ features
    values, vectors = eigh(gram, driver="evd", overwrite_a=True, check_finite=False)
    kept = values > values[-1] * RANK
    values, vectors = values[kept], vectors[:, kept]
    if not wide:
        return features @ vectors, values, vectors.T
    roots = np.sqrt(values)
    return vectors * roots, values, (vectors / roots).T @ features


def folds_of(targets: NDArray[np.intp], folds: int) -> list[tuple[NDArray[np.intp], NDArray[np.intp]]]:
    """(kept, held out) places of each fold, the classes shared out evenly."""
    from sklearn.model_selection import KFold, StratifiedKFold

    fewest = int(np.bincount(targets)[np.unique(targets)].min())
    if fewest < 2:  # a class of one sample cannot be shared out
        return list(KFold(min(folds, len(targets)), shuffle=True, random_state=0).split(targets))
    parts = StratifiedKFold(min(folds, fewest), shuffle=True, random_state=0)
    return list(parts.split(targets, targets))


def cross_entropy(
    logits: NDArray[np.floating], targets: NDArray[np.intp]
) -> tuple[float, NDArray[np.floating]]:
    """The mean cost of `logits` (K, n), and the probabilities (K, n), which overwrite them."""
    logits -= logits.max(0)
    places = np.arange(logits.shape[1])
    true = logits[targets, places].sum(dtype=np.float64)
    np.exp(logits, out=logits)
    total = logits.sum(0)
    logits /= total
    return float((np.log(total).sum(dtype=np.float64) - true) / logits.shape[1]), logits


def product(a: NDArray[np.floating], b: NDArray[np.floating]) -> NDArray[np.floating]:
    """a @ b. Where `a` has few rows torch's BLAS takes up to half of NumPy's time, but not with few columns in `b`."""
    import torch

    done: NDArray[np.floating] = torch.from_numpy(a).mm(torch.from_numpy(b)).numpy()
    return done


@dataclass(frozen=True, slots=True, eq=False)
class Problem:
    """The cost of weights (K, r + 1), the last column the intercepts, on the samples of one fold.

    rows: (r, n) features, a sample a column, in the precision to compute in. values: (r,) the mean square of each
    feature, about.
    """

    rows: NDArray[np.floating]
    targets: NDArray[np.intp]
    classes: int
    values: Floats

    @classmethod
    def of(
        cls, features: Floats, targets: NDArray[np.intp], classes: int, values: Floats, single: bool
    ) -> Problem:
        """From features (n, r)."""
        rows: NDArray[np.floating] = np.ascontiguousarray(features.T)
        return cls(rows.astype(np.float32) if single else rows, targets, classes, values)

    def cost(self, weights: Floats, penalty: float) -> tuple[float, Floats, NDArray[np.floating]]:
        """The mean cost with the penalty, its gradient (K, r + 1), and the probabilities less the truth (K, n)."""
        rows = self.rows
        n = rows.shape[1]
        logits = product(weights[:, :-1].astype(rows.dtype), rows)
        logits += weights[:, -1:].astype(rows.dtype)
        value, wrong = cross_entropy(logits, self.targets)
        wrong[self.targets, np.arange(n)] -= 1.0
        gradient = np.empty_like(weights)
        gradient[:, :-1] = product(wrong, rows.T)
        gradient[:, -1] = wrong.sum(1, dtype=np.float64)
        gradient[:, :-1] += penalty * weights[:, :-1]
        gradient /= n
        return value + 0.5 * penalty / n * float(np.square(weights[:, :-1]).sum()), gradient, wrong

    def path(self, penalties: Floats, tol: float) -> list[Floats]:
        """The weights at each of the penalties, which fall."""
        found: list[Floats] = []
        start = np.zeros((self.classes, len(self.values) + 1))
        for penalty in penalties:
            if len(found) > 2:
                start = 3.0 * (found[-1] - found[-2]) + found[-3]
            found.append(self.solve(penalty, start, tol))
            start = found[-1]
        return found

    def solve(self, penalty: float, start: Floats, tol: float) -> Floats:
        """The weights whose gradient has no component above `tol`, by L-BFGS from `start`."""
        from scipy.optimize import minimize

        value, gradient, wrong = self.cost(start, penalty)
        if np.abs(gradient).max() <= tol:
            return start
        scale = self.scale(wrong, penalty)
        known: tuple[float, Floats] | None = (value, gradient)  # at the start, which is asked for first
        largest = np.inf

        def scaled(place: Floats) -> tuple[float, Floats]:
            nonlocal known, largest
            value, gradient = known or self.cost(place.reshape(start.shape) * scale, penalty)[:2]
            known, largest = None, np.abs(gradient).max()
            return value, (gradient * scale).ravel()

        def arrived(intermediate_result: object) -> None:
            del intermediate_result
            if largest <= tol:
                raise StopIteration

        done = minimize(
            scaled,
            (start / scale).ravel(),
            jac=True,
            method="L-BFGS-B",
            callback=arrived,
            options={"maxiter": 2000, "maxfun": 4000, "maxcor": 20, "ftol": 0.0, "gtol": 0.0},
        )
        return np.asarray(done.x.reshape(start.shape) * scale)

    def scale(self, wrong: NDArray[np.floating], penalty: float) -> Floats:
        """(r + 1,): coordinates in which the cost is about round; `wrong` as of `cost`."""
        # p (1 - p), as |p - truth| (1 - |p - truth|).
        curvature = max(float((np.abs(wrong) * (1 - np.abs(wrong))).mean()), 1e-6)
        return np.asarray(
            1.0 / np.sqrt(np.append(curvature * self.values + penalty / self.rows.shape[1], curvature))
        )

    def polish(self, penalty: float, weights: Floats, tol: float) -> Floats:
        """Newton's steps from `weights` near the solution, until no component of the gradient is above `tol`.

        A step that would raise the cost is halved; where rounding lets none lower it, that is the solution.
        """
        from scipy.sparse.linalg import LinearOperator, cg

        n = self.rows.shape[1]
        shape, size = weights.shape, weights.size
        rows = self.rows.astype(np.float32)  # a step is found roughly; where it has led is told in float64
        value, gradient, wrong = self.cost(weights, penalty)
        for _ in range(30):
            if np.abs(gradient).max() <= tol:
                break
            squares = self.scale(wrong, penalty) ** 2
            wrong[self.targets, np.arange(n)] += 1.0
            shares = wrong.astype(np.float32)

            def curved(way: Floats, shares: NDArray[np.float32] = shares) -> Floats:
                way = way.reshape(shape)
                low = way.astype(np.float32)
                change = shares * (product(low[:, :-1], rows) + low[:, -1:])
                change -= shares * change.sum(0)
                curve = np.column_stack([product(change, rows.T) + penalty * way[:, :-1], change.sum(1)])
                return np.asarray(curve.ravel() / n)

            def round_(way: Floats, squares: Floats = squares) -> Floats:
                return np.asarray((way.reshape(shape) * squares).ravel())

            operator = LinearOperator((size, size), curved, dtype=np.float64)
            rounder = LinearOperator((size, size), round_, dtype=np.float64)
            way, _ = cg(operator, -gradient.ravel(), rtol=1e-3, maxiter=200, M=rounder)
            step = way.reshape(shape)
            for _ in range(8):
                found = self.cost(weights + step, penalty)
                if found[0] <= value + 1e-15 * abs(value):
                    break
                step = step / 2
            else:
                break
            weights = weights + step
            value, gradient, wrong = found
        return weights
