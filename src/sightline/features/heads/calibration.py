"""One number that makes decision values into probabilities: the temperature (Guo et al. 2017, arXiv 1706.04599)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def softmax(logits: Floats) -> Floats:
    """(n, K) -> (n, K), rows that sum to 1."""
    shifted = np.exp(logits - logits.max(1, keepdims=True))
    return np.asarray(shifted / shifted.sum(1, keepdims=True))


def fit_temperature(logits: Floats, targets: NDArray[np.integer]) -> float:
    """What to divide `logits` (n, K) by so that their softmax costs least on `targets` (n,), places 0..K-1.

    The logits must come from a model that did not see these samples. As in Platt's scaling (1999) the targets are
    softened by one sample a class, (n + 1) / (n + K) for the true one: without that the temperature of a few
    samples that are all told apart would be 0.
    """
    from scipy.optimize import minimize_scalar

    n, classes = logits.shape
    scale = float(np.abs(logits - logits.mean(1, keepdims=True)).mean())
    if not scale > 0:
        return 1.0  # all classes alike, whatever they are divided by
    centred = (logits - logits.max(1, keepdims=True)) / scale
    # Cost of the softened targets: log Z - (n t_true + sum of all logits) / (n + K).
    linear = (n * centred[np.arange(n), targets] + centred.sum(1)).mean() / (n + classes)

    def cost(log_sharpness: float) -> float:
        sharpness = np.exp(log_sharpness)
        return float(np.log(np.exp(centred * sharpness).sum(1)).mean() - sharpness * linear)

    # The cost is convex in the sharpness, hence unimodal here.
    best = minimize_scalar(cost, bounds=(-7.0, 7.0), method="bounded", options={"xatol": 1e-4})
    return float(scale / np.exp(best.x))
