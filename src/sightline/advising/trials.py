"""Strategies tried on the training pictures themselves: cross-validated, by their own recipes, all on the same folds.

Of FOLDS folds each is held back once; every strategy is trained on the others, with as many steps as it would take in
earnest. Training chooses its best epoch by validation pictures. Here one half of the fold chooses the epoch that the
other half is tested at, and the other way round: so every picture is tested once, and none chose what it tests.

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

from sightline.advising.constants import CLEARLY, FOLDS
from sightline.data import ImageDataset
from sightline.data.dataset import SPLITS
from sightline.pipeline.cache import read_all
from sightline.pipeline.loader import PlainPictures
from sightline.training.loop import Trainer
from sightline.training.prepare import canonical_stage, prepare
from sightline.training.progress import Quiet
from sightline.training.recipe import Recipe


@dataclass(frozen=True, slots=True)
class Trials:
    """How the strategies did. kinds: those tried, k of them; tested, right: pictures, each once, and right answers.

    only[i][j]: of the pictures that i and j were both tested on, those that i had right and j wrong.
    seconds: of all of it.
    """

    kinds: tuple[str, ...]
    tested: tuple[int, ...]
    right: tuple[int, ...]
    only: tuple[tuple[int, ...], ...]
    seconds: float

    @classmethod
    def of(cls, right: Mapping[str, NDArray[np.float64]], seconds: float = 0.0) -> Trials:
        """From what each strategy had right, (n,): 1 or 0, and NaN where it was not tested."""
        rows = np.array(list(right.values()))
        known = ~np.isnan(rows)
        good, bad = np.where(known, rows == 1, False), np.where(known, rows == 0, False)
        only = good.astype(int) @ bad.astype(int).T
        return cls(
            tuple(right),
            tuple(known.sum(1).tolist()),
            tuple(good.sum(1).tolist()),
            tuple(tuple(row) for row in only.tolist()),
            seconds,
        )

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Trials:
        """Back from plain data."""
        lists = {key: tuple(data[key]) for key in ("kinds", "tested", "right")}
        return cls(**lists, only=tuple(tuple(row) for row in data["only"]), seconds=data["seconds"])


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


def run_trials(
    train: ImageDataset, recipes: Mapping[str, Recipe], seed: int = 0, watcher: Quiet | None = None
) -> Trials:
    """Of the strategies with these complete recipes, on readable pictures `train`; see `can_be_tried`."""
    watch, begun = watcher or Quiet(), time.perf_counter()
    folds, halves = folds_of(train.targets, np.random.default_rng(seed))
    right = {kind: np.full(len(train), np.nan) for kind in recipes}
    racing = list(recipes)
    for fold in range(FOLDS):
        held = np.flatnonzero(folds == fold)
        watch.message(f"Trying {', '.join(racing)}: fold {fold + 1} of {FOLDS}.")
        for kind in racing:
            with torch.random.fork_rng(devices=[]):
                right[kind][held] = tested(train, held, halves[held], recipes[kind])
        racing = still_racing(right, racing)
    return Trials.of(right, time.perf_counter() - begun)


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
        self.best = [(-1.0, 0.0), (-1.0, 0.0)]

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
            classes = targets[mine].numpy()
            recalls = [right[mine][classes == one].mean() for one in np.unique(classes)]
            merit = float(np.mean(recalls)), -float(losses[mine].mean())
            if merit > self.best[own]:
                self.best[own], self.right[~mine] = merit, right[~mine]


def still_racing(right: Mapping[str, NDArray[np.float64]], racing: list[str]) -> list[str]:
    """Those of `racing` that are not clearly worse than the best of them: by McNemar's count, plus one against luck."""
    so_far = Trials.of({kind: right[kind] for kind in racing})
    best = int(np.argmax(so_far.right))

    def behind(i: int) -> float:
        lost, won = so_far.only[best][i], so_far.only[i][best]
        return float((lost - won) / (lost + won + 1) ** 0.5)

    return [kind for i, kind in enumerate(racing) if behind(i) < CLEARLY]
