"""What the heads share: standardisation that is folded away, the choice of the penalty, calibration."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from sightline.errors import SightlineError
from sightline.features.heads.calibration import fit_temperature, softmax

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Solved:
    """What a head's solver found on standardised features: P penalties, n samples, K classes, D features.

    errors, losses: (P,) on samples held out, in 0..1, and what breaks a tie between penalties of the same error.
    best: place of the penalty taken. held_out: (n, K) its decision values for samples held out.
    coef (K, D), intercept (K,): fitted with it on all samples.
    """

    penalties: Floats
    errors: Floats
    losses: Floats
    best: int
    held_out: Floats
    coef: Floats
    intercept: Floats


class LinearHead(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """A linear classifier on features X (n, D) that chooses its penalty on samples held out, never on a test split.

    penalties: the values to choose among, in scikit-learn's measure (see each head); None takes a grid that is
        wide enough for the data. A single one is taken as it is, and measured all the same.

    After `fit`:
    coef_ (K, D), intercept_ (K,): act on the features as they came; the standardisation (every feature to mean 0
        and deviation 1, one that never changes left alone) is folded into them. Also of two classes there are
        two rows, of which the second minus the first is scikit-learn's one.
    classes_: the K labels. n_features_in_: D.
    penalties_ (P,), errors_ (P,): the error of each on samples held out, in 0..1; penalty_: the one of least error.
    held_out_: (n, K) its decision values on samples held out. temperature_: fitted on those, for `predict_proba`.
    """

    def __init__(self, penalties: Sequence[float] | None = None) -> None:
        self.penalties = penalties

    def fit(self, X: ArrayLike, y: ArrayLike) -> Self:
        """Choose the penalty and fit. `y` (n,): labels of any kind, at least two of them.

        Raises SightlineError (a ValueError for what scikit-learn checks) where these cannot be fitted.
        """
        features, labels = validate_data(self, X, y, dtype=[np.float64, np.float32], ensure_min_samples=2)
        check_classification_targets(labels)
        self.classes_, targets = np.unique(labels, return_inverse=True)
        if len(self.classes_) < 2:
            raise SightlineError("A head needs samples of at least 2 classes, here is one class alone.")
        penalties = None
        if self.penalties is not None:
            penalties = np.sort(np.asarray(self.penalties, dtype=np.float64))[::-1]
            if penalties.ndim != 1 or not len(penalties) or not (penalties > 0).all():
                raise SightlineError(f"Penalties are a list of numbers above 0, not {self.penalties!r}.")
        mean = features.mean(0, dtype=np.float64)
        scale = features.std(0, dtype=np.float64)
        # As scikit-learn's StandardScaler: what differs by rounding alone is constant.
        constant = scale <= 10 * np.finfo(features.dtype).eps * np.abs(mean)
        constant |= scale == 0
        if constant.all():
            raise SightlineError(
                "The features are the same for all samples: there is nothing to tell them apart by."
            )
        scale[constant] = 1.0
        solved = self._solve((features - mean) / scale, targets, len(self.classes_), penalties)
        self.coef_ = solved.coef / scale
        self.intercept_ = solved.intercept - self.coef_ @ mean
        self.penalties_, self.errors_ = solved.penalties, solved.errors
        self.penalty_ = float(solved.penalties[solved.best])
        self.held_out_ = solved.held_out
        self.temperature_ = fit_temperature(solved.held_out, targets)
        return self

    def _solve(
        self, features: Floats, targets: NDArray[np.intp], classes: int, penalties: Floats | None
    ) -> Solved:
        """Fit on standardised features (n, D) and targets 0..classes-1; `penalties` falling, or None."""
        raise NotImplementedError

    def logits(self, X: ArrayLike) -> Floats:
        """Decision values (n, K), a column a class also where there are two."""
        check_is_fitted(self)
        features = validate_data(self, X, dtype=[np.float64, np.float32], reset=False)
        return np.asarray(features @ self.coef_.T + self.intercept_)

    def decision_function(self, X: ArrayLike) -> Floats:
        """Decision values (n, K); of two classes (n,), above 0 for the second, as scikit-learn has it."""
        logits = self.logits(X)
        return logits if len(self.classes_) > 2 else np.asarray(logits[:, 1] - logits[:, 0])

    def predict(self, X: ArrayLike) -> NDArray[Any]:
        """The label of the highest decision value, (n,)."""
        return np.asarray(self.classes_[self.logits(X).argmax(1)])

    def predict_proba(self, X: ArrayLike) -> Floats:
        """Calibrated probabilities (n, K): the softmax of the decision values over `temperature_`."""
        return softmax(self.logits(X) / self.temperature_)


def choose(errors: Floats, losses: Floats) -> int:
    """The place of the least error; among equals of the least loss, and then the first (the strongest penalty)."""
    return int(np.lexsort((losses, errors))[0])


def signed_targets(targets: NDArray[np.intp], classes: int) -> Floats:
    """(n, K): 1 for a sample's class, -1 for the others."""
    signs = np.full((len(targets), classes), -1.0)
    signs[np.arange(len(targets)), targets] = 1.0
    return signs
