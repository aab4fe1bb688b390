"""LogME: how well a linear model with a Gaussian prior explains labels from features, before any is trained.

    You, Liu, Wang, Long: LogME: Practical Assessment of Pre-trained Models for Transfer Learning. ICML 2021,
        arXiv 2102.11005 (section 4); the iteration is that of the journal version, arXiv 2110.10545, section 4.3

For each class the labels are y in {0, 1}; y = F w + noise with w ~ N(0, 1/alpha) and noise ~ N(0, 1/beta). LogME is the
logarithm of the evidence p(y | F), per picture and in the mean over the classes, at the alpha and beta that make it
largest. Higher is better; only values on the same pictures compare.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

# Passes of the iteration at most, and the relative change of alpha / beta at which it has arrived.
PASSES, ARRIVED = 200, 1e-6
# A ratio of alpha to beta, against the mean eigenvalue, at which the features explain nothing.
NOTHING = 1e12


def logme(features: ArrayLike, targets: ArrayLike) -> float:
    """Of features (n, D) and labels (n,), of at least two classes. The features are taken as they are.

    Where D exceeds n, the determinant's D - n factors of alpha are counted, as the formula has them (the authors'
    program leaves them out).
    """
    values = np.asarray(features, dtype=np.float64)
    _, labels = np.unique(np.asarray(targets), return_inverse=True)
    u, s, _ = np.linalg.svd(values, full_matrices=False)
    kept = s > s.max(initial=0.0) * 1e-10
    u, sigma = u[:, kept], s[kept] ** 2
    return float(np.mean([evidence(u, sigma, (labels == k).astype(float)) for k in range(labels.max() + 1)]))


def evidence(u: NDArray[np.float64], sigma: NDArray[np.float64], y: NDArray[np.float64]) -> float:
    """The largest log evidence of `y` (n,) per picture. u (n, r), sigma (r,): left singular vectors of the features and
    their squared singular values.
    """
    n = len(y)
    square = (u.T @ y) ** 2
    outside = max(float(y @ y - square.sum()), 1e-12)
    ratio, most = 1.0, NOTHING * max(sigma.mean() if len(sigma) else 1.0, 1e-12)
    for _ in range(PASSES):
        gamma = (sigma / (sigma + ratio)).sum()
        weight = (sigma * square / (sigma + ratio) ** 2).sum()
        residual = (square * (ratio / (sigma + ratio)) ** 2).sum() + outside
        alpha, beta = gamma / max(weight, 1e-300), (n - gamma) / residual
        before, ratio = ratio, min(alpha / max(beta, 1e-300), most)
        if abs(ratio - before) <= ARRIVED * before or ratio == most:
            break
    # At this ratio the best beta has a closed form: the evidence is then that of y ~ N(0, (1 + F F' / ratio) / beta).
    spread = (square * ratio / (sigma + ratio)).sum() + outside
    log_det = np.log1p(sigma / ratio).sum()
    return float(-0.5 * (np.log(2 * np.pi * spread / n) + 1.0 + log_det / n))
