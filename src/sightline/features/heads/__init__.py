"""Linear heads on features: scikit-learn classifiers that find their own penalty and fold into a network.

RidgeHead    squared error; every penalty and the leave-one-out error from one eigendecomposition
SoftmaxHead  cross-entropy; a warm-started path, the penalty by cross-validation
SVMHead      squared hinge, one class against the rest; scikit-learn's LinearSVC, the penalty by cross-validation
"""

from __future__ import annotations

from collections.abc import Callable

from sightline.errors import UnknownName
from sightline.features.heads.base import LinearHead
from sightline.features.heads.folding import fold_head
from sightline.features.heads.ridge import RidgeHead
from sightline.features.heads.softmax import SoftmaxHead
from sightline.features.heads.svm import SVMHead

HEADS: dict[str, Callable[..., LinearHead]] = {"ridge": RidgeHead, "softmax": SoftmaxHead, "svm": SVMHead}

__all__ = ["HEADS", "LinearHead", "RidgeHead", "SVMHead", "SoftmaxHead", "fold_head", "make_head"]


def make_head(name: str, penalty: float | None = None) -> LinearHead:
    """The head `ridge`, `softmax` or `svm`; with `penalty` it has that one and searches none."""
    if name not in HEADS:
        raise UnknownName("head", name, HEADS)
    return HEADS[name](penalties=None if penalty is None else [penalty])
