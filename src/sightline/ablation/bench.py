"""One small recipe and its pictures: read once, and trained on many times in this process."""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from sightline.audit import alike
from sightline.data.dataset import SPLITS
from sightline.errors import SightlineError
from sightline.pipeline.cache import Failure, Mode, Prepared, fits, read_all, stack
from sightline.pipeline.loader import PlainPictures, TrainLoader, TrainPictures
from sightline.training.build import build_model
from sightline.training.calibration import calibrate
from sightline.training.loop import Trainer
from sightline.training.plan import (
    SMALL_SIDE,
    Planner,
    default_ema,
    gather_facts,
    split_as_planned,
    stored_bytes,
)
from sightline.training.prepare import canonical_stage, choose_device, make_preprocess, tell
from sightline.training.progress import Quiet
from sightline.training.recipe import Recipe
from sightline.transforms.augment import Augment
from sightline.transforms.preprocess import Preprocess

if TYPE_CHECKING:
    from sightline.data.dataset import ImageDataset

Places = NDArray[np.int64]

# Many short trainings, so the networks are small: the lecture's, and for larger pictures the house's at a size at
# which it is quick.
SMALL_NETWORK, LARGE_NETWORK, LARGE_SIZE = "lecture_net", "resnet10_photo", 64
# So many pictures are read at most, and of these a share is held back for validation: half as many training pictures
# cost little where a few are enough, more validation pictures make every interval narrower.
READ, VALIDATION = 20_000, 0.4
FEWEST = 50
# Trained on at most: augmentation is for small data.
LARGEST = 5_000
# Reading may take this share of the time.
READING = 0.2
PROBED = 64
CHUNK = 512


@dataclass
class Bench:
    """What all trainings share. `recipe` is complete but for seed, steps, averaging and augmentation."""

    dataset: ImageDataset  # the pictures to train on, of which each seed draws its own
    recipe: Recipe
    held: Prepared  # these after the canonical stage
    preprocess: Preprocess
    val_images: torch.Tensor  # uint8 (V, C, H, W)
    val_targets: Places
    device: torch.device
    averaging: float | None  # what the user gave for `ema`
    set_aside: list[Failure]

    @property
    def batch_size(self) -> int:
        return self.recipe.batch_size or 1

    def drawn(self, seed: int, count: int) -> Places:
        """The `count` pictures that a training with `seed` gets, of all classes in their proportions."""
        order = stratified_order(self.dataset.targets, np.random.default_rng(seed))
        return np.sort(order[:count])

    def trainer(self, augment: str, seed: int, steps: int, count: int) -> Trainer:
        """A run with one augmentation; of the same seed, start, pictures and their order are the same."""
        ema = default_ema(steps) if self.averaging is None else self.averaging
        recipe = self.recipe.updated({"augment": augment, "seed": seed, "steps": steps, "ema": ema})
        chosen = self.drawn(seed, count)
        part = self.dataset.subset(chosen)
        held = Prepared(np.arange(len(chosen)), [self.held.arrays[i] for i in chosen], [])
        torch.manual_seed(seed)
        model, _ = build_model(recipe, len(part.classes))
        chain = Augment.parse(augment)
        # No validation within: it is asked once, at the end, and nothing is chosen by it.
        nothing = PlainPictures(part.subset([]), self.preprocess, Prepared(np.arange(0), [], []))
        return Trainer(
            model.to(self.device, memory_format=torch.channels_last),  # type: ignore[call-overload]
            recipe,
            self.preprocess,
            TrainLoader(TrainPictures(part, canonical_stage(recipe), chain, self.preprocess, seed, held), 0),
            nothing,
            part.targets,
            len(part.classes),
            self.device,
        )

    @torch.inference_mode()
    def answers(self, trainer: Trainer, network: Any, count: int) -> NDArray[np.bool_]:
        """(count,) whether `network` is right about each of the first `count` validation pictures."""
        network.eval()
        called = [
            trainer.forward(network, self.val_images[start : min(start + CHUNK, count)]).argmax(1).cpu()
            for start in range(0, count, CHUNK)
        ]
        right: NDArray[np.bool_] = torch.cat(called).numpy() == self.val_targets[:count]
        return right

    def step_seconds(self, augment: str, count: int) -> float:
        """How long one step with this augmentation takes, measured on a few."""
        return calibrate(self.trainer(augment, self.recipe.seed, 1, count), 0.0)[1]

    def answer_seconds(self, count: int) -> float:
        """How long asking for one validation picture takes."""
        trainer = self.trainer("none", self.recipe.seed, 1, count)
        asked = min(CHUNK, len(self.val_targets))
        self.answers(trainer, trainer.model, asked)
        begun = time.perf_counter()
        self.answers(trainer, trainer.model, asked)
        return (time.perf_counter() - begun) / asked


def set_up(dataset: ImageDataset, recipe: Recipe, seconds: float, watch: Quiet) -> Bench:
    """Choose pictures and recipe, and read the pictures in a share of the `seconds`.

    The test split, the data set's own or the one that `fit` with the same seed would make, is left out: what is chosen
    here must not have seen it. Near duplicates are kept apart as in `fit`. Of the rest, up to `READ`, two fifths are
    validated on. Raises SightlineError for what a user can mend.
    """
    device = choose_device(recipe.device)
    groups = alike(dataset, watch.reading).groups
    split = split_as_planned(dataset, recipe, groups)
    beside = split.splits != SPLITS.index("test")
    pool, groups = split.subset(beside), groups[beside]
    if len(pool) < FEWEST:
        raise SightlineError(
            f"{dataset.name} has {len(pool)} pictures beside its test split, too few to compare augmentations by; "
            f"it takes {FEWEST} at least."
        )
    complete = plan_recipe(pool, recipe, device)
    channels = complete.input.channels or 3
    mode: Mode = "L" if channels == 1 else "RGB"
    stage = canonical_stage(complete)
    order = stratified_order(pool.targets, np.random.default_rng(recipe.seed))[:READ]
    begun = time.perf_counter()
    probed = read_all(pool.subset(order[:PROBED]), stage, mode)
    each = (time.perf_counter() - begun) / min(PROBED, len(order))
    order = order[: max(FEWEST, int(seconds * READING / each))]
    while not fits(len(order), stored_bytes(complete.input.store_size or 0, channels)):
        order = order[: len(order) // 2]
    if not probed.arrays and not read_all(pool.subset(order), stage, mode).arrays:
        raise SightlineError(f"None of the {len(order):,} pictures of {dataset.name} could be read.")
    cut = round(len(order) * VALIDATION)
    # Nothing is trained on that shows the same as a picture to validate on.
    others = order[cut:][~np.isin(groups[order[cut:]], groups[order[:cut]])]
    val, train = pool.subset(order[:cut]), pool.subset(others)
    held = read_all(train, stage, mode, partial(tell, watch, len(train), "training pictures"))
    preprocess = make_preprocess(complete, train.subset(held.indices), held, stage, mode)
    seen = read_all(val, preprocess.image, mode, partial(tell, watch, len(val), "validation pictures"))
    if len(held.arrays) < 2 or len(seen.arrays) < 2:
        raise SightlineError(f"Almost none of the {len(order):,} pictures of {dataset.name} could be read.")
    return Bench(
        train.subset(held.indices),
        complete,
        held,
        preprocess,
        stack(seen.arrays),
        val.targets[seen.indices].astype(np.int64),
        device,
        recipe.ema,
        [*held.failures, *seen.failures],
    )


def plan_recipe(pool: ImageDataset, recipe: Recipe, device: torch.device) -> Recipe:
    """The small recipe: what `recipe` leaves open chosen for many short trainings from scratch, in float32."""
    facts = gather_facts(pool)
    changes: dict[str, Any] = {"augment": "none", "workers": 0, "accumulate": 1}
    if recipe.model.weights == "auto":
        changes["model.weights"] = "none"
    if recipe.model.name is None:
        changes["model.name"] = SMALL_NETWORK if facts.side <= SMALL_SIDE else LARGE_NETWORK
        if facts.side > SMALL_SIDE and recipe.input.size is None:
            changes["input.size"] = LARGE_SIZE
    if recipe.precision is None:
        changes["precision"] = "fp32"
    return Planner(recipe.updated(changes), facts, device.type).plan()[0]


def stratified_order(targets: NDArray[Any], rng: np.random.Generator) -> Places:
    """A random order (N,) of which every beginning has the classes of `targets` in their proportions."""
    shuffled = rng.permutation(len(targets))
    place = np.empty(len(targets))
    for label in np.unique(targets):
        own = shuffled[targets[shuffled] == label]
        place[own] = (np.arange(len(own)) + rng.random()) / len(own)
    return np.asarray(np.argsort(place, kind="stable"), np.int64)
