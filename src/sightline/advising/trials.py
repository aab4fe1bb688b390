"""Strategies tried on the pictures looked at: cross-validated, by their own recipes, all on the same folds.

Of FOLDS folds each is held back once; every strategy is trained on the others, with as many steps as it would take in
earnest. Training chooses its epoch by validation pictures. Here one half of the fold chooses the epoch that the
other half is tested at, and the other way round: so every picture is tested once, and none chose what it tests.

Few pictures are divided anew in further rounds: of each picture is counted how often it was answered right. That leaves
the luck of which pictures there are, and takes away most of that of which of them a training had.

A strategy that is clearly worse than the best so far, picture against picture, needs no further folds.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from sightline.advising.balanced import effective, weights_of
from sightline.advising.constants import CLEARLY, ENOUGH, FOLDS, ROUNDS
from sightline.advising.prediction import HALF
from sightline.data import ImageDataset
from sightline.data.dataset import SPLITS
from sightline.pipeline.cache import read_all
from sightline.pipeline.loader import PlainPictures
from sightline.training.choice import Choice, deviation_of_mean_recall
from sightline.training.loop import Trainer
from sightline.training.prepare import canonical_stage, prepare
from sightline.training.progress import Quiet
from sightline.training.recipe import Recipe


@dataclass(frozen=True, slots=True)
class Trials:
    """How the strategies did. kinds: those tried, k of them; tested (k,): pictures that each was tested on.

    accuracies (k,): balanced, and as if one picture more were half right; covariance (k, k): of them, for other
    pictures of the same kind. rounds: how often the pictures were divided. seconds: of all of it.
    """

    kinds: tuple[str, ...]
    tested: tuple[int, ...]
    accuracies: tuple[float, ...]
    covariance: tuple[tuple[float, ...], ...]
    rounds: int = 1
    seconds: float = 0.0

    @classmethod
    def of(
        cls,
        right: Mapping[str, NDArray[np.float64]],
        weights: NDArray[np.float64],
        rounds: int = 1,
        seconds: float = 0.0,
    ) -> Trials:
        """From how often each strategy had each picture right, (n,): 0..1, and NaN where it was not tested.

        weights: (n,) what each picture counts for.

        Of two strategies that were tested on the same pictures, the covariance follows from the pictures that they
        differ on. One picture more, that only one of both has right, counts with them, or few pictures would say that
        nothing differs.
        """
        rows = np.array(list(right.values()))
        known = ~np.isnan(rows)
        there, counted = known.astype(float), known * weights
        answers = np.where(known, rows, 0.0)
        firsts, squares = counted * answers, counted * answers**2
        total = counted.sum(1)
        accuracies = (firsts.sum(1) + HALF) / (total + 2 * HALF)
        own = (squares.sum(1) + HALF) / (total + 2 * HALF) - accuracies**2
        shared = counted @ there.T
        ahead = firsts @ there.T - there @ firsts.T
        apart = squares @ there.T + there @ squares.T - 2 * firsts @ answers.T
        unlike = (apart + 1) / (shared + 1) - (ahead / shared) ** 2
        same = (own[:, None] + own - unlike) / 2
        np.fill_diagonal(same, own)
        # Those tested on fewer pictures were tested on some of the others': the covariance of two means.
        sure = [effective(weights[mine]) for mine in known]
        covariance = same / np.maximum.outer(sure, sure)
        return cls(
            tuple(right),
            tuple(known.sum(1).tolist()),
            tuple(accuracies.tolist()),
            tuple(tuple(row) for row in covariance.tolist()),
            rounds,
            seconds,
        )

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Trials:
        """Back from plain data."""
        lists = {key: tuple(data[key]) for key in ("kinds", "tested", "accuracies")}
        covariance = tuple(tuple(row) for row in data["covariance"])
        return cls(**lists, covariance=covariance, rounds=data["rounds"], seconds=data["seconds"])


def affordable(costs: Mapping[str, float], seconds: float) -> list[str]:
    """Those that can be tried in so many seconds together, the quickest first. costs: seconds that each would take."""
    kinds = sorted(costs, key=lambda kind: costs[kind])
    return [
        kind
        for kind, spent in zip(kinds, accumulate(costs[k] for k in kinds), strict=True)
        if spent <= seconds
    ]


def can_be_tried(train: ImageDataset) -> bool:
    """Whether every part of the folds has pictures, and every training two classes."""
    return len(train) >= 2 * FOLDS and int((train.class_counts() >= 2).sum()) >= 2


def rounds_for(pictures: int) -> int:
    """How often so many pictures are to be divided: once, or as often as gives ENOUGH answers at most, up to ROUNDS."""
    return min(ROUNDS, max(1, ENOUGH // pictures))


def run_trials(
    train: ImageDataset,
    recipes: Mapping[str, Recipe],
    seed: int = 0,
    watcher: Quiet | None = None,
    rounds: int = 1,
) -> Trials:
    """Of the strategies with these complete recipes, on readable pictures `train`; see `can_be_tried`."""
    watch, begun = watcher or Quiet(), time.perf_counter()
    rng, weights = np.random.default_rng(seed), weights_of(train.targets)
    right, asked = ({kind: np.zeros(len(train)) for kind in recipes} for _ in range(2))
    racing = list(recipes)
    for one in range(rounds):
        folds, halves = folds_of(train.targets, rng)
        for fold in range(FOLDS):
            held = np.flatnonzero(folds == fold)
            watch.message(f"Trying {', '.join(racing)}: part {one * FOLDS + fold + 1} of {rounds * FOLDS}.")
            for kind in racing:
                with torch.random.fork_rng(devices=[]):
                    right[kind][held] += tested(train, held, halves[held], recipes[kind])
                asked[kind][held] += 1
            shares = {kind: right[kind] / np.where(asked[kind], asked[kind], np.nan) for kind in recipes}
            racing = still_racing(shares, racing, weights)
    return Trials.of(shares, weights, rounds, time.perf_counter() - begun)


def tried_recipe(complete: Recipe, pictures: int) -> Recipe:
    """A strategy's complete recipe for so many training pictures, with the steps that it takes of them."""
    assert complete.batch_size is not None
    steps = complete.steps or (complete.epochs or 1) * math.ceil(pictures / complete.batch_size)
    return complete.updated({"steps": steps})


def seconds_to_read(train: ImageDataset, recipe: Recipe, pictures: int = 16) -> float:
    """Seconds that reading a picture takes, from a few of them."""
    places = np.unique(np.linspace(0, len(train) - 1, pictures).astype(np.int64))
    begun = time.perf_counter()
    read_all(train.subset(places), canonical_stage(recipe), "L" if recipe.input.channels == 1 else "RGB")
    return (time.perf_counter() - begun) / len(places)


def folds_of(
    targets: NDArray[np.integer], rng: np.random.Generator
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """(the fold, the half of it) of each picture; every class is spread evenly over folds and halves."""
    order = rng.permutation(len(targets))
    order = order[np.argsort(targets[order], kind="stable")]
    place = np.empty(len(targets), dtype=np.intp)
    place[order] = np.arange(len(targets))
    return place % FOLDS, place // FOLDS % 2


def tested(
    train: ImageDataset, held: NDArray[np.intp], half: NDArray[np.intp], recipe: Recipe
) -> NDArray[np.bool_]:
    """Which of the pictures at `held` are answered right after a training on the others."""
    others = np.setdiff1d(np.arange(len(train)), held)
    # A run wants a test split as well; it is not read.
    codes = np.repeat(
        [SPLITS.index(name) for name in ("train", "val", "test")], [len(others), *2 * [len(held)]]
    )
    part = train.subset(np.concatenate([others, held, held])).with_splits(codes)
    fold = Fold(prepare(part, recipe, Quiet()).trainer, half)
    fold.trainer.run(fold, state=fold.state)
    return fold.right


class Fold(Quiet):
    """Watches a training, whose validation pictures are the fold: after each epoch it answers them in its place."""

    def __init__(self, trainer: Trainer, half: NDArray[np.intp]) -> None:
        self.trainer, self.half, self.state = trainer, half, trainer.start()
        self.pictures = trainer.val
        trainer.val = PlainPictures(trainer.val.dataset.subset([]), trainer.preprocess)
        self.right = np.zeros(len(half), dtype=bool)
        self.choices = Choice(), Choice()

    @torch.inference_mode()
    def epoch(self, _: dict[str, Any]) -> None:
        """Where a half chooses this epoch, the other half's answers are kept."""
        model = self.state.evaluated.eval()
        batches = [
            (self.trainer.forward(model, batch.images).float().cpu(), batch.targets)
            for batch in self.pictures.batches()
        ]
        logits, targets = (torch.cat(parts) for parts in zip(*batches, strict=True))
        losses, right = (
            F.cross_entropy(logits, targets, reduction="none").numpy(),
            (logits.argmax(1) == targets).numpy(),
        )
        for own in (0, 1):
            mine = self.half == own
            classes = np.unique(targets[mine], return_inverse=True)[1]
            hits, seen = np.bincount(classes, right[mine]), np.bincount(classes)
            merit, deviation = float((hits / seen).mean()), deviation_of_mean_recall(hits, seen)
            if self.choices[own].keeps(merit, float(losses[mine].mean()), deviation):
                self.right[~mine] = right[~mine]


def still_racing(
    right: Mapping[str, NDArray[np.float64]], racing: list[str], weights: NDArray[np.float64]
) -> list[str]:
    """Those of `racing` that are not clearly worse than the best of them: by McNemar's count, plus one against luck."""
    best = max((right[kind] for kind in racing), key=lambda answers: np.nansum(weights * answers))

    def behind(kind: str) -> float:
        ahead = weights * (best - right[kind])
        return float(np.nansum(ahead) / (np.nansum(ahead**2) + 1) ** 0.5)

    return [kind for kind in racing if behind(kind) < CLEARLY]
