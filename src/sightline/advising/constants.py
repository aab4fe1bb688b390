"""The numbers by which measured evidence becomes a prediction, and where each comes from.

None of them was fitted to the CASES of `benchmarks/transfer.py`. BLENDS, STRAYS, WIDER were fitted to
two draws of its 29 development cases (`--development`), in which a small residual network that had learned dog, frog,
horse, ship and truck was transferred to the other classes of CIFAR-10 (as they are, as negatives, with noise), to mnist
0 to 4, the digits, omniglot, five flowers, ants and bees; `python benchmarks/transfer_constants.py` prints them. They
know pictures of 32 pixels, 40 to 3,000 of them, and short trainings: further away the intervals are too narrow.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

# Of the power law of a probe's error: the exponent that is expected, and how much it differs from one set of pictures
# to the next (Hestness et al. 2017, arXiv 1712.00409, found 0.07 to 0.5); and by how much (of its logarithm) an error
# strays from the law beyond what its test explains.
EXPONENT, EXPONENT_SPREAD, CURVE_NOISE = 0.3, 0.2, 0.05

# How much leave-one-out accuracies are smoothed, in deviations of the margins times n^-1/3: 0.6 deviations with 40
# pictures. And what share of a count's variance that leaves: the mean over the development cases with less than 200.
BOLSTER, STEADIER = 2.0, 0.6


@dataclass(frozen=True, slots=True)
class Blend:
    """How a strategy's balanced accuracy follows from the evidence, on the scale of logits, log(p / (1 - p)):

        logit(accuracy) = anchor + shift + by_far * far * steep

    anchor: which accuracy of `advising.prediction.Measured` it follows; far and steep are there, too. Of the ways of
    giving each its anchor that were tried this one had the least regret over the development cases. (A probed stage's
    own accuracy is the best of several, in part by luck.) How far the network's pictures are matters where much is left
    to be learned: far * steep made what was left 12 nats likelier than far.
    spread: of what is left over the development cases, beyond the noise of counting, when each is left out in turn, for
    a learning curve by which the logarithm of errors falls by 1; its square is in proportion to that. Those of several
    strategies are unrelated. freedom: degrees of it. (Spreads that are the same for all curves made the development
    cases 3 nats likelier, and the others 18 less.)
    """

    anchor: Literal["base", "last"]
    shift: float
    by_far: float
    spread: float
    freedom: int


BLENDS = {
    "scratch": Blend("base", 0.06, 5.30, 1.07, 27),
    "probe": Blend("last", 0.07, 0.70, 0.02, 27),
    "probe@": Blend("last", -0.01, 0.0, 0.50, 27),
    "finetune": Blend("base", 0.26, 0.0, 0.52, 27),
    "finetune@": Blend("last", 0.21, 2.20, 0.40, 27),
}

# How much a trial strays, beyond the noise of counting, from the logit that its count and the learning curve give, for
# each unit by which the curve lets the logarithm of errors fall. The curve is a probe's: that of another strategy may
# be steeper or flatter. (A shift in proportion to that, for each strategy, made the development cases no likelier.)
STRAYS = {"scratch": 1.33, "probe": 0.02, "probe@": 0.44, "finetune": 0.95, "finetune@": 1.21}
# Curves are not flatter than this: the flattest of the development cases.
FLATTEST = 0.05
# What the spreads of evidence and trials together are multiplied with, as both are counted on the same pictures.
WIDER = 1.25
# Evidence and trials that are further apart than this share of all cases would be contradict each other. In none of the
# development cases they do.
CREDIBLE = 0.999

# How sharply (in logits) near and far are parted where pictures abound; and the share of the noise of counting that is
# common to two accuracies counted on the same pictures, and left in their mean. Of some thirty forms of the Blend those
# of `base` and `far`, with this SURE, had the least regret over the development cases, when all strategies followed
# `base`.
SURE, SHARED = 0.1, 0.6

# The borders of the quadrants. Near: what enters the classifier tells the classes apart better (in logits) than the
# better of hand-crafted features and random weights, by this much. Large: so many pictures a class; a round number,
# which names the quadrant and decides nothing.
NEAR, LARGE = 0.0, 100

# Training takes between a share and a multiple of what was foreseen (90 %): other processes, caches, the head's fit.
HURRY = 1.6

# Trials hold back one of so many folds at a time. In two folds each training has half of the pictures; more folds take
# the time of as many trainings. (Measured on the development cases: three folds gave neither better advice nor
# narrower intervals.)
FOLDS = 2
# Few pictures are divided anew as long as a strategy gives no more than so many answers, so many times at most.
ENOUGH, ROUNDS = 250, 3
# A strategy is tried no further where it has lost against the best, picture by picture, by so many standard deviations.
CLEARLY = 2.0
# Seconds that trials may take in all, by what was foreseen; those that take the least come first.
TRYING = 90.0
