"""Evidence on the scale of logits, what is said of a strategy, in which time, and which one is chosen."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, astuple, dataclass
from typing import Any

from sightline.advising.constants import FLATTEST, FOLDS, HURRY, NEAR, SURE
from sightline.advising.evidence import Evidence
from sightline.advising.smoothed import Smoothed
from sightline.training.recipe import Recipe

# Accuracies are kept this far from 0 and 1 on the scale of logits, in pictures.
HALF = 0.5


@dataclass(frozen=True, slots=True)
class Prediction:
    """What a strategy is expected to reach on pictures that it did not see.

    kind: `scratch`, `probe`, `probe@`, `finetune` or `finetune@`; stage: of the latter forms. accuracy (balanced: the
    mean of the classes' recalls) and minutes each with the ends of their interval (LEVEL); settings: of the recipe,
    beside model and weights. tried: pictures that a trial was tested on; 0 where the accuracy rests on the
    evidence and the other strategies' trials.
    """

    kind: str
    stage: str | None
    accuracy: float
    low: float
    high: float
    minutes: float
    minutes_low: float
    minutes_high: float
    settings: Mapping[str, Any]
    tried: int = 0

    @property
    def name(self) -> str:
        """`probe@layer3`."""
        return self.kind + (self.stage or "")

    @property
    def options(self) -> str:
        """What to write behind `sightline fit DATA --model NAME --weights WEIGHTS`; without the last from scratch."""
        parts = [f"--strategy {self.settings['strategy']}"]
        if self.kind == "scratch":
            parts.insert(0, "--weights none")
            own = {key: v for key, v in self.settings.items() if key not in ("strategy", "model.weights")}
            parts += [f"--set {key}={json.dumps(v, separators=(',', ':'))}" for key, v in own.items()]
        if self.kind == "finetune@":
            parts.append(f"--train-from {self.stage}")
        if self.kind == "probe@":
            parts.append(f"--set last_stage={self.stage}")
        return " ".join(parts)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self) | {"name": self.name, "settings": dict(self.settings)}


def logit(p: float, n: float) -> float:
    """log(p / (1 - p)) of a share of n pictures, none and all of them half a picture away from the end."""
    p = min(max(p, HALF / n), 1.0 - HALF / n)
    return math.log(p / (1.0 - p))


def share(z: float) -> float:
    """The way back."""
    return 1.0 / (1.0 + math.exp(-z))


@dataclass(frozen=True, slots=True)
class Measured:
    """The evidence on the scale of logits, brought to the number of pictures that will be trained on.

    base: between what hand-crafted features and what the best stage reach. last: what enters the classifier.
    near_by: by how much last is better than the better of hand-crafted features and random weights; above 0 the
    network's old pictures are like the new ones. far: the probability that they are not, less a half, as near_by rests
    on so few pictures. per_class: pictures a class. strays: what bringing it to another number of pictures adds to the
    uncertainty. grows: what errors are multiplied with from the pictures that a trial trains on to all of them; steep:
    by how much their logarithm falls on that way.
    """

    base: float
    last: float
    near_by: float
    far: float
    per_class: float
    strays: float
    grows: float

    @property
    def steep(self) -> float:
        return max(-math.log(self.grows), FLATTEST)

    @classmethod
    def of(cls, evidence: Evidence) -> Measured:
        """Of more pictures than were looked at errors are smaller, as the learning curve has it; of fewer larger."""
        whole, looked = sum(evidence.counts), evidence.pictures
        falls = evidence.curve.error(whole)[0] / evidence.curve.error(looked)[0]
        strays = evidence.curve.covariance[1][1] ** 0.5 * abs(math.log(whole / looked))
        grows = evidence.curve.error(whole)[0] / evidence.curve.error(looked * (FOLDS - 1) / FOLDS)[0]
        return cls.from_accuracies(
            evidence.smoothed, pictures=evidence.effective, per_class=whole / sum(n > 0 for n in evidence.counts),
            falls=falls, strays=strays, grows=grows,
        )  # fmt: skip

    @classmethod
    def from_accuracies(
        cls, accuracies: Smoothed, *,
        pictures: float, per_class: float, falls: float, strays: float, grows: float,
    ) -> Measured:  # fmt: skip
        """From smoothed leave-one-out accuracies of `pictures`; falls: what errors are multiplied with."""
        last, best, hand, random = (logit(1.0 - (1.0 - p) * falls, pictures) for p in astuple(accuracies))
        base, near_by = (hand + best) / 2, last - max(hand, random)
        p = share(base)
        far = 0.5 * math.erf(-near_by / math.sqrt(2 * (SURE**2 + counting(p, pictures))))
        return cls(base, last, near_by, far, per_class, strays, grows)


def counting(p: float, n: float) -> float:
    """The variance of the logit of a share p that was counted on n pictures."""
    return 1.0 / (n * p * (1.0 - p))


# ---------------------------------------------------------------------------------------------------- minutes
def seconds_of(
    kind: str, recipe: Recipe, evidence: Evidence, n: int, val: int, behind: float, area: float = 1.0
) -> float:
    """Seconds that a strategy takes, by its complete recipe, with n pictures: reading and the report not counted.

    val: validation pictures. behind: the share of the network's work that lies behind the stage trained from.
    area: of its pictures, against those that the evidence was measured on.
    """
    forward, train = area * evidence.forward, area * evidence.train
    head = (
        n * forward + HEAD_SECONDS * n * evidence.last.length * len(evidence.classes)
        if kind != "scratch"
        else 0.0
    )
    if kind.startswith("probe"):
        return head + val * forward
    batch = recipe.batch_size or 32
    epochs = recipe.epochs or 1
    if recipe.steps:
        epochs = math.ceil(recipe.steps / math.ceil(n / batch))
    if kind == "finetune@":
        return head + (KEPT_VIEWS * n + val) * forward + epochs * (n * train + val * forward) * behind
    return head + epochs * (n * train + val * forward)


# Seconds of the softmax head's path for each number of (pictures x features x classes), of one core.
HEAD_SECONDS = 4e-7
KEPT_VIEWS = 4


def interval_of_minutes(seconds: float) -> tuple[float, float, float]:
    """(expected, low, high) in minutes."""
    return seconds / 60, seconds / 60 / HURRY, seconds / 60 * HURRY


def chosen(predictions: list[Prediction]) -> Prediction:
    """The one to advise: the most accurate one, and of equals that which takes the fewest minutes."""
    return max(predictions, key=lambda p: (p.accuracy, -p.minutes))


def quadrant(nearness: float, per_class: float, large: float) -> tuple[str, str]:
    """("small" or "large", "near" or "far")."""
    return "large" if per_class >= large else "small", "near" if nearness >= NEAR else "far"
