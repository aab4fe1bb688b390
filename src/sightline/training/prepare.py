"""From a source and a recipe to everything that a training run needs: splits, a complete recipe, a Trainer."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from sightline.data.dataset import NO_SPLIT
from sightline.data.split import read_splits
from sightline.errors import SightlineError
from sightline.features.embedding_network import preprocess_for
from sightline.pipeline.cache import Canonical, Failure, Mode, Prepared, fits, read_all
from sightline.pipeline.loader import PlainPictures, TrainLoader, TrainPictures
from sightline.pipeline.stored import store
from sightline.training.build import build_model
from sightline.training.choice import Choice
from sightline.training.loop import Trainer
from sightline.training.plan import (
    OF_ONE_SIZE,
    Planner,
    gather_facts,
    split_as_planned,
    stored_bytes,
)
from sightline.training.processes import ALONE, Processes, synchronised
from sightline.training.progress import Quiet
from sightline.training.recipe import Recipe
from sightline.training.state import Best
from sightline.training.transfer import TransferTrainer
from sightline.transforms.augment import Augment
from sightline.transforms.preprocess import Preprocess

if TYPE_CHECKING:
    from sightline.advising import Advice
    from sightline.data.dataset import ImageDataset

# The mean and deviation of the pixels are taken from so many training pictures, evenly spaced.
STATISTICS = 1000


@dataclass(frozen=True)
class Rival:
    """Another strategy, trained before this run's own: kept unless that does better on the validation pictures.

    best: the epoch it kept, without the weights; choice: what its epochs reached; said: what there is to say of it.
    """

    name: str
    best: Best
    choice: Choice
    recipe: Recipe
    history: list[dict[str, Any]]
    said: str


@dataclass
class Job:
    """A run that is ready to begin. set_aside: the pictures that could not be read. temperature: of the Bundle.

    name: of its strategy, where that was chosen by advice against a rival.
    """

    dataset: ImageDataset
    recipe: Recipe
    reasons: list[str]
    trainer: Trainer
    set_aside: list[Failure]
    temperature: float = 1.0
    path: list[tuple[float, float]] = field(default_factory=list)
    advice: Advice | None = None
    rival: Rival | None = None
    name: str = ""


def prepare(
    dataset: ImageDataset,
    recipe: Recipe,
    watcher: Quiet,
    processes: Processes = ALONE,
    splits: Path | None = None,
    groups: np.ndarray | None = None,
) -> Job:
    """Split, plan, read and build. Raises SightlineError where the recipe or the pictures do not allow a run.

    `splits`: the file of a run that is resumed; the splits are those, not made again. `groups`, (N,) integers: pictures
    of one number fall into one split, as far as splits are made here.
    """
    device = choose_device(recipe.device, processes.local)
    if splits is not None:
        codes = processes.on_main(lambda: split_codes(dataset, splits))
        dataset = dataset.with_splits(codes).subset(codes != NO_SPLIT)
    else:
        dataset = split_as_planned(dataset, recipe, groups)
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
    read = read_pictures(train, val, recipe, watcher, device, processes)
    kind = Trainer if recipe.strategy == "scratch" else TransferTrainer
    trainer = kind(
        model.to(device, memory_format=torch.channels_last),  # type: ignore[call-overload]
        recipe,
        read.preprocess,
        read.train,
        read.val,
        train.targets[read.kept],
        len(dataset.classes),
        device,
        processes,
        recipe.accumulate,
    )
    job = Job(dataset, recipe, reasons, trainer, read.set_aside)
    if isinstance(trainer, TransferTrainer):
        begin_transfer(job, trainer, train, watcher)
    return job


def begin_transfer(job: Job, trainer: TransferTrainer, train: ImageDataset, watcher: Quiet) -> None:
    """The head first; then what a frozen part computes, for views that are kept."""
    if trainer.recipe.head != "none":
        trainer.fit_head(train, watcher)
        assert trainer.head is not None
        job.reasons.append(trainer.head.said)
        job.temperature = trainer.head.temperature
        known = {failure.ref for failure in job.set_aside}
        job.set_aside += [failure for failure in trainer.head.failures if failure.ref not in known]
    views, said = trainer.keep_views()
    if said:
        job.reasons.append(said)
    job.recipe = trainer.recipe = trainer.recipe.model_copy(update={"views": views})


@dataclass(frozen=True)
class Pictures:
    """Training and validation pictures ready to be served. kept: places of those that could be read in `train`."""

    train: TrainLoader
    val: PlainPictures
    preprocess: Preprocess
    kept: np.ndarray
    set_aside: list[Failure]


def read_pictures(
    train: ImageDataset,
    val: ImageDataset,
    recipe: Recipe,
    watcher: Quiet,
    device: torch.device,
    processes: Processes = ALONE,
) -> Pictures:
    """Hold the pictures in memory where they fit, else keep those to train on on the disk.

    Raises SightlineError where none of `train` can be read.
    """
    stage = canonical_stage(recipe)
    channels = recipe.input.channels or 3
    mode: Mode = "L" if channels == 1 else "RGB"
    held, stored = None, None
    progress = partial(tell, watcher, len(train), "training pictures")
    if recipe.strategy == "probe":
        pass  # it reads its pictures once, and through the Preprocess
    elif fits(len(train), stored_bytes(recipe.input.store_size or 0, channels)):
        held = read_all(train, stage, mode, progress)
    else:
        stored = processes.on_main(lambda: store(train, stage, mode, progress))
        if stored is not None and stored.said:
            watcher.message(stored.said)
    known = held or stored
    set_aside = list(known.failures) if known else []
    kept = known.indices if known else np.arange(len(train))
    if not len(kept):
        raise SightlineError(f"None of the {len(train):,} training pictures of {train.name} could be read.")
    train = train.subset(kept)
    preprocess = make_preprocess(recipe, train, held, stage, mode)
    val_held = None
    if fits(len(val), preprocess.size[0] * preprocess.size[1] * channels):
        val_held = read_all(
            val, preprocess.image, mode, partial(tell, watcher, len(val), "validation pictures")
        )
        set_aside += val_held.failures
    assert recipe.augment is not None
    chain = Augment.parse(recipe.augment)
    on_disk = stored.pictures if stored else None
    pictures = TrainPictures(train, stage, chain, preprocess, recipe.seed, held, on_disk)
    loader = TrainLoader(pictures, recipe.workers or 0, pinned=device.type == "cuda")
    return Pictures(loader, PlainPictures(val, preprocess, val_held), preprocess, kept, set_aside)


def split_codes(dataset: ImageDataset, path: Path) -> np.ndarray:
    """The split of each picture of `dataset` as the file of a run has it; NO_SPLIT for one that it does not name."""
    known = dict(zip((found := read_splits(dataset, path)).refs(), found.splits.tolist(), strict=True))
    return np.array([known.get(ref, NO_SPLIT) for ref in dataset.refs()], dtype=np.uint8)


def canonical_stage(recipe: Recipe) -> Canonical:
    """What every training picture goes through before it is augmented."""
    shape = recipe.input
    assert shape.store_size is not None
    assert shape.fit is not None
    assert shape.interpolation is not None
    return Canonical(shape.store_size, shape.fit, shape.interpolation, shape.scaled_decoding)


def make_preprocess(
    recipe: Recipe, train: ImageDataset, held: Prepared | None, stage: Canonical, mode: Mode
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
    recipe: Recipe, train: ImageDataset, held: Prepared | None, stage: Canonical, mode: Mode
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """(mean, std) a channel, on the scale 0..1: the architecture's own, the weights', or the training pictures'."""
    from sightline.models import model_info

    channels = recipe.input.channels or 3
    info = model_info(recipe.model.name or "")
    if info.family in OF_ONE_SIZE and len(info.mean) == channels:
        return info.mean, info.std
    if recipe.strategy != "scratch":
        theirs = preprocess_for(recipe.model.name or "", recipe.model.weights or "")
        if channels == theirs.channels:
            return theirs.mean, theirs.std
        return (float(np.mean(theirs.mean)),) * channels, (float(np.mean(theirs.std)),) * channels
    places = np.unique(np.linspace(0, len(train) - 1, STATISTICS).astype(np.int64))
    if held is None:
        arrays = read_all(train.subset(places), stage, mode).arrays
    else:
        arrays = [held.arrays[place] for place in places.tolist()]
    total, square, count = np.zeros(channels), np.zeros(channels), 0
    for array in arrays:
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
