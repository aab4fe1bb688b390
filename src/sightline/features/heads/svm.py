"""SVM: the squared hinge of each class against the rest, by scikit-learn's LinearSVC."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from sightline.features.heads.base import Floats, LinearHead, Solved, choose, signed_targets
from sightline.features.heads.softmax import components, folds_of

# Penalties of the grid, as multiples of the mean eigenvalue.
GRID = np.geomspace(1e1, 1e-3, 9)


class SVMHead(LinearHead):
    """A linear support vector machine, the penalty by cross-validation.

    penalties: 1 / C of scikit-learn's LinearSVC on standardised features. None: 9 of them, multiples of the mean
        eigenvalue of Z'Z from 1e-3 to 10.
    folds: of the cross-validation, stratified and shuffled; fewer where a class has fewer samples.
    `tol` and `max_iter` are LinearSVC's.
    """

    def __init__(
        self,
        penalties: Sequence[float] | None = None,
        folds: int = 3,
        tol: float = 1e-4,
        max_iter: int = 1000,
    ) -> None:
        super().__init__(penalties)
        self.folds = folds
        self.tol = tol
        self.max_iter = max_iter

    def _solve(
        self, features: Floats, targets: NDArray[np.intp], classes: int, penalties: Floats | None
    ) -> Solved:
        # With fewer samples than features the weights lie in the samples' span: fewer coordinates, the same machine.
        n, d = features.shape
        back = None
        if n < d:
            features, _, back = components(features)
        if penalties is None:
            penalties = GRID * np.square(features).sum() / min(n, d)
        signs = signed_targets(targets, classes)
        errors, losses = np.zeros(len(penalties)), np.zeros(len(penalties))
        held_out = np.empty((len(penalties), n, classes))
        for kept, out in folds_of(targets, self.folds):
            for i, penalty in enumerate(penalties):
                coef, intercept = self._machine(features[kept], targets[kept], classes, penalty)
                held_out[i, out] = features[out] @ coef.T + intercept
        for i, decided in enumerate(held_out):
            errors[i] = (decided.argmax(1) != targets).mean()
            losses[i] = np.square(np.maximum(0.0, 1.0 - signs * decided)).mean()
        best = choose(errors, losses)
        coef, intercept = self._machine(features, targets, classes, penalties[best])
        if back is not None:
            coef = coef @ back
        return Solved(penalties, errors, losses, best, held_out[best], coef, intercept)

    def _machine(
        self, features: Floats, targets: NDArray[np.intp], classes: int, penalty: float
    ) -> tuple[Floats, Floats]:
        """(coef (K, D), intercept (K,)) at one penalty; a class without samples here is never chosen."""
        from sklearn.svm import LinearSVC

        machine = LinearSVC(C=1.0 / penalty, tol=self.tol, max_iter=self.max_iter, random_state=0)
        machine.fit(features, targets)
        coef, intercept = machine.coef_, machine.intercept_
        if len(machine.classes_) == 2:
            coef, intercept = np.vstack([-coef, coef]) / 2, np.append(-intercept, intercept) / 2
        whole = np.zeros((classes, coef.shape[1]))
        level = np.full(classes, -1e3)
        whole[machine.classes_], level[machine.classes_] = coef, intercept
        return whole, level
