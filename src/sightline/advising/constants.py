"""The numbers by which measured evidence becomes a prediction, and where each comes from.

None of them was set on the twelve cases of `benchmarks/transfer.py`. Those of BLENDS were fitted to its 29 development
cases (`--development`), in which a small residual network that had learned dog, frog, horse, ship and truck was
transferred to the other classes of CIFAR-10 (as they are, as negatives, with noise), to mnist 0 to 4, the digits,
omniglot, five flowers, ants and bees; `python benchmarks/transfer_constants.py` prints them. They know pictures
of 32 pixels, 40 to 3,000 of them, and short trainings: further away the intervals are too narrow.
"""

from __future__ import annotations

from dataclasses import dataclass

# Of the power law of a probe's error: the exponent that is expected, and how much it differs from one set of pictures
# to the next (Hestness et al. 2017, arXiv 1712.00409, found 0.07 to 0.5); and by how much (of its logarithm) an error
# strays from the law beyond what its test explains.
EXPONENT, EXPONENT_SPREAD, CURVE_NOISE = 0.3, 0.2, 0.05


@dataclass(frozen=True, slots=True)
class Blend:
    """How a strategy's accuracy follows from the evidence, on the scale of logits, log(p / (1 - p)):

        logit(accuracy) = base + shift + by_far * far

    with base and far as in `advising.prediction.Measured`. spread: of what is left over the development cases, beyond
    the noise of counting, when each is left out in turn; freedom: degrees of it.
    """

    shift: float
    by_far: float
    spread: float
    freedom: int


BLENDS = {
    "scratch": Blend(0.00, 0.59, 0.36, 27),
    "probe": Blend(-0.08, -0.41, 0.19, 27),
    "probe@": Blend(-0.11, -0.44, 0.36, 27),
    "finetune": Blend(0.10, -0.08, 0.30, 27),
    "finetune@": Blend(0.06, -0.26, 0.18, 27),
}

# How sharply (in logits) near and far are parted where pictures abound; and the share of the noise of counting that is
# left in the mean of two accuracies counted on the same pictures. Of some thirty forms of the Blend this one, with
# this SURE, had the least regret over the development cases, each left out in turn.
SURE, SHARED = 0.1, 0.6

# The borders of the quadrants. Near: what enters the classifier tells the classes apart better (in logits) than the
# better of hand-crafted features and random weights, by this much. Large: so many pictures a class; a round number,
# which names the quadrant and decides nothing.
NEAR, LARGE = 0.0, 100

# A strategy that takes fewer minutes is preferred where it is expected to lose no more than this.
WORTH = 0.005
# Training takes between a share and a multiple of what was foreseen (90 %): other processes, caches, the head's fit.
HURRY = 1.6
