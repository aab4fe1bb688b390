"""What a recipe leaves open is chosen here from the data set, with a sentence for each choice."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from sightline.data.split import make_splits
from sightline.errors import SightlineError
from sightline.fast import BF16_MULT_ADDS, cpu_has_bf16
from sightline.features.embedding_network import described, preprocess_for
from sightline.pipeline.cache import cores, fits
from sightline.training.build import cost
from sightline.training.recipe import Recipe

if TYPE_CHECKING:
    from sightline.data.dataset import ImageDataset
    from sightline.models.info import PublishedWeights

# The house networks for training from scratch: for small pictures; for many of them in colour, and for large grey ones
# (measured: it learns these faster, and maxima find a small defect); for photographs; and the published one to start
# from where its weights are at hand.
SMALL_NETWORK, POOLED_NETWORK, PHOTO_NETWORK, PRETRAINED = (
    "resnet10_small",
    "resnet9_small",
    "resnet10_photo",
    "resnet18",
)
# Families whose networks are made for pictures of one size.
OF_ONE_SIZE = ("lecture", "lenet")
# Pictures up to this short side keep their size; larger ones are reduced, colour less than grey: the photo network
# halves the resolution at once, the others do not, so all cost the same. (Measured: colour photographs gain
# from the larger picture, fine defects on grey surfaces from the full-resolution first stage.)
SMALL_SIDE, GREY_SIDE, COLOUR_SIDE = 48, 64, 128
# Unbalanced: the largest class has more than this many times the pictures of the smallest.
UNBALANCED = 1.5
# From scratch: pictures seen in a whole run (small grey ones, which may be written signs, are learnt faster), and
# the number of pictures from which SGD is preferred. Few pictures are gone through so often at most.
PICTURES_SEEN, SIGNS_SEEN, MANY_PICTURES, MOST_EPOCHS = 630_000, 60_000, 5_000, 75
# Pictures seen while fine-tuning.
FINETUNE_SEEN = 10_000


@dataclass(frozen=True)
class Facts:
    """What the choices rest on. counts: training pictures per class; side, aspect: medians over probed pictures."""

    counts: tuple[int, ...]
    side: int
    aspect: float
    grey: bool

    @property
    def pictures(self) -> int:
        return sum(self.counts)

    @property
    def imbalance(self) -> float:
        """Largest class over smallest, by training pictures."""
        return max(self.counts) / max(1, min(self.counts))


def gather_facts(train: ImageDataset) -> Facts:
    """Count classes, and look at the headers of up to 200 training pictures."""
    headers = train.probe(200)
    sides = np.array([min(h.width, h.height) for h in headers])
    longs = np.array([max(h.width, h.height) for h in headers])
    return Facts(
        counts=tuple(int(c) for c in train.class_counts()),
        side=int(np.median(sides)),
        aspect=float(np.median(longs / np.maximum(sides, 1))),
        grey=all(h.is_grey for h in headers),
    )


class Planner:
    """Fills a recipe's open fields; `reasons` are the sentences for the user."""

    def __init__(self, recipe: Recipe, facts: Facts, device: str) -> None:
        self.recipe, self.facts, self.device = recipe, facts, device
        self.changes: dict[str, Any] = {"device": device}
        self.reasons: list[str] = []

    def choose(self, key: str, value: Any, why: str | None = None) -> None:
        """Set `key` where the recipe, and what was chosen before, leave it open."""
        if self.value(key) is None:
            self.changes[key] = value
            if why:
                self.reasons.append(why)

    def value(self, key: str) -> Any:
        """What `key` is by now."""
        if key in self.changes:
            return self.changes[key]
        place: Any = self.recipe
        for part in key.split("."):
            place = getattr(place, part)
        return place

    def plan(self) -> tuple[Recipe, list[str]]:
        self.network()
        self.input()
        self.optimisation()
        self.arithmetic()
        return self.recipe.updated(self.changes), self.reasons

    def network(self) -> None:
        """Name, weights and strategy."""
        if self.recipe.strategy == "auto":
            raise SightlineError("strategy = 'auto' measures first: it goes with a fit of classes.")
        facts, wanted = self.facts, (self.recipe.model.weights or "none")
        name = self.recipe.model.name
        from_run = described(wanted) if wanted not in ("auto", "none") else None
        if from_run is not None and name in (None, from_run["architecture"]):
            if name is None:
                name = self.changes["model.name"] = from_run["architecture"]
                self.reasons.append(f"Model {name}: what {wanted} was trained with.")
            for key, value in from_run["arguments"].items():
                if key not in ("in_chans", "img_size", *self.recipe.model.arguments):
                    self.changes[f"model.{key}"] = value
        if name is None:
            at_hand = weights_at_hand(PRETRAINED) if wanted == "auto" and facts.side > SMALL_SIDE else []
            if at_hand or (wanted not in ("auto", "none")):
                name = PRETRAINED
                why = (
                    f"Model {name}: pretrained weights are at hand, and the pictures are photographs in size."
                )
            else:
                if facts.side > SMALL_SIDE:
                    name = POOLED_NETWORK if facts.grey else PHOTO_NETWORK
                else:
                    many = facts.pictures >= MANY_PICTURES and not facts.grey
                    name = POOLED_NETWORK if many else SMALL_NETWORK
                why = (
                    f"Model {name}: a small residual network for {facts.pictures:,} pictures of about {facts.side} "
                    "pixels"
                    + (", as no pretrained weights are on this machine." if facts.side > SMALL_SIDE else ".")
                )
            self.changes["model.name"] = name
            self.reasons.append(why)
        if wanted == "auto":
            found = weights_at_hand(name) if self.recipe.strategy != "scratch" else []
            wanted = found[0].name if found else "none"
            self.changes["model.weights"] = wanted
            if wanted != "none":
                self.reasons.append(f"Weights: {wanted}, found on this machine.")
        if self.recipe.strategy in ("finetune", "probe") and wanted == "none":
            raise SightlineError(
                f"--strategy {self.recipe.strategy} needs pretrained weights, and there are none for {name} on this "
                "machine; give a file or a published name with --weights."
            )
        self.choose("strategy", "scratch" if wanted == "none" else "finetune")

    def input(self) -> None:
        """Size, channels, crop or squash, augmentation."""
        from sightline.models import model_info

        facts = self.facts
        pretrained = self.value("strategy") != "scratch"
        weights = self.value("model.weights") or "none"
        theirs = preprocess_for(self.value("model.name"), weights) if pretrained else None
        photos = facts.side > SMALL_SIDE
        info = None if "/" in self.value("model.name") else model_info(self.value("model.name"))
        if info is not None and info.family in OF_ONE_SIZE:
            self.choose(
                "input.size", info.input[1], f"Pictures at {info.input[1]} pixels, as {info.name} takes them."
            )
            if info.name == "lenet5_1998":
                self.choose("input.channels", 1)
        if theirs is not None:
            # The weights see what they were trained on: size, channels, cut and interpolation are theirs.
            self.choose("input.channels", theirs.channels)
            self.choose("input.size", theirs.size[0])
            self.choose("input.fit", theirs.fit)
            if self.value("input.fit") == "crop" and self.value("input.size") == theirs.size[0]:
                if theirs.resize is not None:
                    self.choose("input.resize", theirs.resize)
                self.choose("input.interpolation", theirs.interpolation)
        elif photos:
            full = self.value("model.name") in (SMALL_NETWORK, POOLED_NETWORK)
            self.choose("input.size", GREY_SIDE if full else COLOUR_SIDE)
            self.choose(
                "input.fit",
                "squash",
                "Pictures are squashed to a square: nothing at their edges is cut away.",
            )
        else:
            self.choose("input.size", max(8, facts.side))
            self.choose("input.fit", "squash")
        self.choose("input.channels", 1 if facts.grey else 3)
        self.choose("input.interpolation", "bilinear")
        size = self.value("input.size")
        if self.value("input.fit") == "crop" and photos:
            self.choose("input.resize", round(size * 256 / 224))
        self.choose("input.store_size", size)
        if self.value("strategy") == "probe":
            self.choose("augment", "none")
        elif photos and facts.grey:
            self.choose(
                "augment",
                "gentle",
                "Augmentation gentle: in large grey pictures, often measurements, no small part shows the class.",
            )
        elif photos:
            self.choose("augment", "photos")
        elif facts.grey:
            self.choose(
                "augment", "digits", "Augmentation digits: small grey pictures may be signs, so no flips."
            )
        else:
            self.choose("augment", "light")

    def optimisation(self) -> None:
        """Optimiser, schedule, length and balance."""
        facts, strategy = self.facts, self.value("strategy")
        if strategy == "scratch":
            # SGD finds the better networks where it has many steps; AdamW needs no batch norm and few pictures.
            many = facts.pictures >= MANY_PICTURES and "resnet" in self.value("model.name")
            self.choose("optimizer.name", "sgd" if many else "adamw")
            self.choose(
                "batch_size",
                64 if self.signs else int(np.clip(2 ** round(math.log2(facts.pictures / 30)), 16, 64)),
            )
            batch, adamw = self.value("batch_size"), self.value("optimizer.name") == "adamw"
            self.choose("optimizer.lr", 0.002 if adamw else 0.1 * batch / 64)
            self.choose("optimizer.nesterov", self.value("optimizer.momentum") > 0)
            self.choose("optimizer.weight_decay", 0.05 if adamw else 5e-4)
            self.choose("schedule.name", "onecycle")
            self.choose("label_smoothing", 0.1)
            self.choose("epochs", self.epochs())
            if (
                self.recipe.steps or not self.recipe.minutes
            ):  # else it waits until minutes have fixed the steps
                steps = self.recipe.steps or self.value("epochs") * math.ceil(facts.pictures / batch)
                self.choose("ema", default_ema(steps))
        else:
            # From a fitted head on small steps are enough, and the smaller the earlier the layer.
            if self.recipe.objective == "classes":
                self.choose("head", "softmax")
            self.choose("optimizer.name", "sgd")
            self.choose("batch_size", 32)
            self.choose("optimizer.lr", 0.01)
            self.choose("optimizer.nesterov", True)
            self.choose("optimizer.weight_decay", 0.0)
            self.choose("optimizer.layer_decay", 0.7)
            self.choose("schedule.name", "cosine")
            self.choose("label_smoothing", 0.0)
            self.choose("ema", 0.0)
            self.choose("epochs", int(np.clip(round(FINETUNE_SEEN / facts.pictures), 10, 50)))
            if strategy == "probe":  # it takes no steps
                self.changes["minutes"] = None
        if facts.imbalance > UNBALANCED:
            self.choose(
                "balance",
                "loss",
                f"Class-balanced loss: the largest class has {facts.imbalance:.1f} times the pictures of the "
                f"smallest ({max(facts.counts)} and {min(facts.counts)}).",
            )
        else:
            self.choose("balance", "none")

    def epochs(self) -> int:
        """How often the training pictures are gone through from scratch: the fewer there are, the more often."""
        seen, least = (SIGNS_SEEN, 3) if self.signs else (PICTURES_SEEN, 5)
        return int(np.clip(round(seen / self.facts.pictures), least, MOST_EPOCHS))

    @property
    def signs(self) -> bool:
        """Whether the pictures may be written signs: small and grey."""
        return self.facts.grey and self.facts.side <= SMALL_SIDE

    def arithmetic(self) -> None:
        """Precision and workers."""
        self.choose("precision", *self.precision())
        held = fits(
            self.facts.pictures, stored_bytes(self.value("input.store_size"), self.value("input.channels"))
        )
        self.choose("workers", 0 if self.device == "cpu" and held else min(8, cores()))

    def precision(self) -> tuple[str, str | None]:
        if self.device.startswith("cuda"):
            return "bf16", None
        if self.device != "cpu" or not cpu_has_bf16():
            return "fp32", None
        mult_adds, last_side = cost(self.recipe.updated(self.changes), len(self.facts.counts))
        # On feature maps of a single pixel bf16 convolutions were seen to give NaN now and then.
        if mult_adds < BF16_MULT_ADDS or last_side < 2:
            return "fp32", None
        return "bf16", "Precision bf16: this processor has instructions for it (weights stay in float32)."


def default_ema(steps: int) -> float:
    """The decay that averages the weights over about the last twentieth of a run; more would drag its start along."""
    return round(min(max(0.0, 1 - 20 / steps), 0.999), 4)


def stored_bytes(side: int, channels: int) -> int:
    """About how much memory a picture takes after the canonical stage: 4:3 is a usual aspect ratio."""
    return int(side * side * channels * 1.4)


def weights_at_hand(name: str) -> list[PublishedWeights]:
    """The published sets of weights of the network `name` whose files lie on this machine, the recommended first."""
    from sightline.models.registry import published_weights
    from sightline.models.weights import local_file

    return [row for row in published_weights(name) if local_file(name, row) is not None]


def published_row(name: str, weights: str) -> PublishedWeights | None:
    """What is known about the set of weights called `weights`; None for a file."""
    from sightline.models.registry import published_weights

    rows = published_weights(name)
    return next(
        (row for row in rows if weights == row.name or (weights == "DEFAULT" and row is rows[0])), None
    )


def default_shares(pictures: int, classes: int) -> tuple[float, float]:
    """(validation, test) shares where the data set has no such split.

    15 % each, but no more than gives a figure its precision: about 2,500 and 10,000 pictures, or five and
    twenty a class.
    """
    val = min(0.15, max(2500, 5 * classes) / max(1, pictures))
    test = min(0.15, max(10_000, 20 * classes) / max(1, pictures))
    return val, test


def split_as_planned(dataset: ImageDataset, recipe: Recipe, groups: np.ndarray | None = None) -> ImageDataset:
    """`dataset` with all three splits, by the recipe's seed and its shares or the default ones; see `make_splits`."""
    val, test = default_shares(len(dataset), len(dataset.classes))
    return make_splits(
        dataset,
        seed=recipe.seed,
        val=recipe.val_share or val,
        test=recipe.test_share or test,
        groups=groups,
    )
