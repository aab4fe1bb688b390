"""What every strategy will reach, from the evidence and from the trials: one normal distribution of logits.

The evidence gives a mean and a covariance of all strategies (`Blend`): in part they go wrong together, as their
predictions rest on the same pictures. The steeper the learning curve, the less sure that is: more is still to be
learned, and one strategy learns it sooner than another. The trials then are an observation of it: of each strategy that
was tried the logit of what was counted, with a covariance that has the noise of counting, picture against picture, and
what a trial strays beyond that: the further, the more the learning curve makes of it. The posterior is

    mean = prior + P (P_tt + S)^-1 (observed - prior_t)     covariance = P - P_t (P_tt + S)^-1 P_t'

(t: the rows of those tried), so each counts by its precision: with 40 pictures the evidence decides, with 1,000 the
trials do; pictures that two strategies both got wrong do not blur their difference; and of a strategy that was not
tried, those that were tell something. Where evidence and trials contradict each other, the trials are believed.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sightline.advising.constants import BLENDS, CREDIBLE, SHARED, STEADIER, STRAYS, WIDER
from sightline.advising.evidence import LEVEL
from sightline.advising.prediction import HALF, Measured, counting, logit, share
from sightline.advising.trials import Trials


@dataclass(frozen=True, slots=True)
class Told:
    """mean (k,), covariance (k, k) of the logits of what k strategies reach."""

    kinds: tuple[str, ...]
    mean: NDArray[np.float64]
    covariance: NDArray[np.float64]

    def accuracy(self, kind: str) -> tuple[float, float, float]:
        """(expected, low, high) of a strategy, 0..1; the interval is of LEVEL."""
        from scipy.stats import t

        i = self.kinds.index(kind)
        z, spread = float(self.mean[i]), float(self.covariance[i, i]) ** 0.5
        half = float(t.ppf(0.5 + LEVEL / 2, BLENDS[kind].freedom)) * spread
        return share(z), share(z - half), share(z + half)


def combined(
    kinds: tuple[str, ...], measured: Measured, pictures: float, trials: Trials | None = None
) -> Told:
    """Of the strategies `kinds`. pictures: how many, of equal classes, the evidence rests on; trials: of some."""
    told = by_evidence(kinds, measured, pictures)
    if trials is not None:
        told = updated(told, trials, measured)
    # What bringing all of it to more pictures than were looked at adds is the same for every strategy.
    wider = 1.0 if trials is None else WIDER
    return Told(kinds, told.mean, told.covariance * wider**2 + measured.strays**2)


def by_evidence(kinds: tuple[str, ...], measured: Measured, pictures: float) -> Told:
    """Before any trial."""
    blends = [BLENDS[kind] for kind in kinds]
    further = measured.far * measured.steep
    mean = np.array([getattr(measured, b.anchor) + b.shift + b.by_far * further for b in blends])
    ends = HALF / pictures
    shares = [min(max(share(z), ends), 1 - ends) for z in mean]
    counted = np.array([STEADIER * counting(p, pictures) for p in shares]) ** 0.5
    own = np.diag([blend.spread**2 for blend in blends]) * measured.steep
    return Told(kinds, mean, own + alike(kinds) * np.outer(counted, counted))


def alike(kinds: tuple[str, ...]) -> NDArray[np.float64]:
    """(k, k): how much of the noise of counting strategies have in common: those of one anchor all that it has."""
    anchors = [BLENDS[kind].anchor for kind in kinds]
    return np.array([[1.0 if a == b != "base" else SHARED for a in anchors] for b in anchors])


def updated(told: Told, trials: Trials, measured: Measured) -> Told:
    """After the trials."""
    from scipy.stats import chi2

    rows = [told.kinds.index(kind) for kind in trials.kinds]
    found, noise = observed(trials, measured.grows)
    noise += np.diag([(STRAYS[kind] * measured.steep) ** 2 for kind in trials.kinds])
    gap = found - told.mean[rows]
    surprise = float(gap @ np.linalg.solve(told.covariance[np.ix_(rows, rows)] + noise, gap))
    # Where both contradict each other beyond chance the evidence misleads: its covariance grows until they agree.
    misled = surprise > chi2.ppf(CREDIBLE, len(rows))
    before = told.covariance * (surprise / len(rows) if misled else 1.0)
    across = before[:, rows]
    gain = across @ np.linalg.inv(across[rows] + noise)
    return Told(told.kinds, told.mean + gain @ gap, before - gain @ across.T)


def observed(trials: Trials, grows: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(logits (k,) of what the strategies tried would reach with all pictures, the covariance (k, k) of counting)."""
    accuracies = np.array(trials.accuracies)
    pairs = zip(trials.accuracies, trials.tested, strict=True)
    found = np.array([logit(1 - (1 - p) * grows, n) for p, n in pairs])
    slope = accuracies * (1 - accuracies)
    return found, np.array(trials.covariance) / np.outer(slope, slope)
