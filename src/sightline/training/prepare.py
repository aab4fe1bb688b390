"""From a source and a recipe to everything that a training run needs: splits, a complete recipe, a Trainer."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from sightline.data.dataset import NO_SPLIT
from sightline.data.split import make_splits, read_splits
from sightline.errors import SightlineError
from sightline.pipeline.cache import Failure, Mode, Prepared, Stage, fits, read_all
from sightline.pipeline.loader import PlainPictures, TrainLoader, TrainPictures
from sightline.training.build import build_model
from sightline.training.loop import Trainer
from sightline.training.plan import (
    OF_ONE_SIZE,
    Planner,
    default_shares,
    gather_facts,
    published_row,
    stored_bytes,
)
from sightline.training.processes import ALONE, Processes, synchronised
from sightline.training.progress import Quiet
from sightline.training.recipe import Recipe
from sightline.transforms.augment import Augment
from sightline.transforms.preprocess import IMAGENET_MEAN, IMAGENET_STD, Preprocess, store_image

if TYPE_CHECKING:
    from sightline.data.dataset import ImageDataset

# The mean and deviation of the pixels are taken from so many training pictures, evenly spaced.
STATISTICS = 1000


@dataclass
class Job:
    """A run that is ready to begin. `set_aside` are the pictures that could not be read."""

    dataset: ImageDataset
    recipe: Recipe
    reasons: list[str]
    trainer: Trainer
    set_aside: list[Failure]


def prepare(
    dataset: ImageDataset,
    recipe: Recipe,
    watcher: Quiet,
    processes: Processes = ALONE,
    splits: Path | None = None,
) -> Job:
    """Split, plan, read and build. Raises SightlineError where the recipe or the pictures do not allow a run.

    `splits`: the file of a run that is resumed; the splits are those, not made again.
    """
    device = choose_device(recipe.device, processes.local)
    if splits is not None:
        codes = processes.on_main(lambda: split_codes(dataset, splits))
        dataset = dataset.with_splits(codes).subset(codes != NO_SPLIT)
    else:
        shares = default_shares(len(dataset), len(dataset.classes))
        dataset = make_splits(
            dataset, seed=recipe.seed, val=recipe.val_share or shares[0], test=recipe.test_share or shares[1]
        )
    if not dataset.has_split("val") or not dataset.has_split("test"):
        raise SightlineError(
            f"{dataset.name} has too few pictures to hold some back for validation and test; "
            "give at least one class three pictures or more."
        )
    train, val = dataset.split("train"), dataset.split("val")
    recipe, reasons = Planner(recipe, gather_facts(train), device.type).plan()
    if (recipe.batch_size or 1) < processes.count:
        raise SightlineError(
            f"A batch of {recipe.batch_size} cannot be spread over {processes.count} processes; set a larger "
            "batch_size, or start fewer."
        )
    torch.manual_seed(recipe.seed)
    model, said = build_model(recipe, len(dataset.classes))
    if said:
        reasons.append(said)
    if recipe.sync_batchnorm and processes.count > 1:
        model = synchronised(model)
    stage = canonical_stage(recipe)
    channels = recipe.input.channels or 3
    mode: Mode = "L" if channels == 1 else "RGB"
    held = None
    if fits(len(train), stored_bytes(recipe.input.store_size or 0, channels)):
        held = read_all(train, stage, mode, partial(tell, watcher, len(train), "training pictures"))
        if not held.arrays:
            raise SightlineError(
                f"None of the {len(train):,} training pictures of {dataset.name} could be read."
            )
    set_aside = list(held.failures) if held else []
    train = train.subset(held.indices) if held else train
    preprocess = make_preprocess(recipe, train, held, stage, mode)
    val_held = None
    if fits(len(val), preprocess.size[0] * preprocess.size[1] * channels):
        val_held = read_all(
            val, preprocess.image, mode, partial(tell, watcher, len(val), "validation pictures")
        )
        set_aside += val_held.failures
    assert recipe.augment is not None
    pictures = TrainPictures(train, stage, Augment.parse(recipe.augment), preprocess, recipe.seed, held)
    trainer = Trainer(
        model.to(device, memory_format=torch.channels_last),  # type: ignore[call-overload]
        recipe,
        preprocess,
        TrainLoader(pictures, recipe.workers or 0, pinned=device.type == "cuda"),
        PlainPictures(val, preprocess, val_held),
        train.targets,
        len(dataset.classes),
        device,
        processes,
        recipe.accumulate,
    )
    return Job(dataset, recipe, reasons, trainer, set_aside)


def split_codes(dataset: ImageDataset, path: Path) -> np.ndarray:
    """The split of each picture of `dataset` as the file of a run has it; NO_SPLIT for one that it does not name."""
    known = dict(zip((found := read_splits(dataset, path)).refs(), found.splits.tolist(), strict=True))
    return np.array([known.get(ref, NO_SPLIT) for ref in dataset.refs()], dtype=np.uint8)


def canonical_stage(recipe: Recipe) -> Stage:
    """What every training picture goes through before it is augmented."""
    shape = recipe.input
    assert shape.store_size is not None
    assert shape.fit is not None
    assert shape.interpolation is not None
    return partial(store_image, size=shape.store_size, fit=shape.fit, interpolation=shape.interpolation)


def make_preprocess(
    recipe: Recipe, train: ImageDataset, held: Prepared | None, stage: Stage, mode: Mode
) -> Preprocess:
    """The recipe's fixed map, normalised by what the pretrained weights expect, or by the training pictures."""
    shape = recipe.input
    assert shape.size is not None
    channels = shape.channels or 3
    mean, std = normalisation(recipe, train, held, stage, mode)
    return Preprocess(
        size=(shape.size, shape.size),
        channels=channels,
        fit=shape.fit or "crop",
        resize=shape.resize if shape.fit == "crop" else None,
        interpolation=shape.interpolation or "bilinear",
        mean=mean,
        std=std,
    )


def normalisation(
    recipe: Recipe, train: ImageDataset, held: Prepared | None, stage: Stage, mode: Mode
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """(mean, std) a channel, on the scale 0..1: the architecture's own, the weights', or the training pictures'."""
    from sightline.models import model_info

    channels = recipe.input.channels or 3
    info = model_info(recipe.model.name or "")
    if info.family in OF_ONE_SIZE and len(info.mean) == channels:
        return info.mean, info.std
    if recipe.strategy != "scratch":
        weights = published_row(recipe.model.name or "", recipe.model.weights or "")
        mean, std = (weights.mean, weights.std) if weights else (IMAGENET_MEAN, IMAGENET_STD)
        return (mean, std) if channels == 3 else ((float(np.mean(mean)),), (float(np.mean(std)),))
    if held is None:
        sample = train.subset(np.unique(np.linspace(0, len(train) - 1, STATISTICS).astype(np.int64)))
        held = read_all(sample, stage, mode)
    step = max(1, len(held.arrays) // STATISTICS)
    total, square, count = np.zeros(channels), np.zeros(channels), 0
    for array in held.arrays[::step]:
        pixels = array.reshape(-1, channels).astype(np.float64) / 255.0
        total += pixels.sum(0)
        square += (pixels**2).sum(0)
        count += len(pixels)
    average = total / max(1, count)
    deviation = np.sqrt(np.maximum(square / max(1, count) - average**2, 1e-4))
    return tuple(np.round(average, 4).tolist()), tuple(np.round(deviation, 4).tolist())


def choose_device(name: str | None, local: int = 0) -> torch.device:
    """The device of that name, or a GPU if there is one. Raises SightlineError where it cannot be had.

    `local`: this process's number among those on the machine; `cuda` is the GPU of that number.
    """
    if name is None:
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device("cuda", local) if name == "cuda" and local else torch.device(name)
        torch.zeros(1, device=device).item()
    except (RuntimeError, AssertionError, NotImplementedError):
        known = "cpu" + (", cuda" if torch.cuda.is_available() else "")
        raise SightlineError(f"There is no device {name!r} on this machine; it has {known}.") from None
    return device


def tell(watcher: Quiet, total: int, what: str, done: int) -> None:
    """Pass a count on to the watcher."""
    watcher.reading(done, total, what)
