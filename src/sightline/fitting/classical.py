"""A fit with no network to train: hand-crafted features and a linear head (`sightline fit DATA --features hog`).

The features learn what they learn (a vocabulary), and the head is fitted on them, from the training and the validation
pictures together: there is no epoch to choose, and the penalty is chosen by leaving pictures out. What is kept is a
network all the same, `features/...`, so that it is evaluated, served and reported like any other.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
from torch import Tensor, nn

from sightline.data import ImageDataset
from sightline.data.dataset import NO_SPLIT, SPLITS
from sightline.errors import SightlineError
from sightline.features import HEADS, fold_head, make_head
from sightline.features.network import FeaturesNetwork, Handcrafted
from sightline.features.pictures import COMMON_SIZE, fixed
from sightline.features.spelling import parse_features, spell_features
from sightline.fitting.audit import kept_together, seen_before
from sightline.fitting.begin import CLASSES
from sightline.fitting.course import Course
from sightline.fitting.folder import Fit
from sightline.models import create_model
from sightline.pipeline.cache import read_all
from sightline.training.plan import gather_facts, split_as_planned
from sightline.training.prepare import Job, split_codes, tell
from sightline.training.recipe import Recipe
from sightline.training.state import Best, TrainState
from sightline.transforms.preprocess import Preprocess

HEAD = "ridge"


@dataclass
class Fitted:
    """What stands in a trainer's place: all is done, and `run` hands it over. targets: of the pictures learned from."""

    network: nn.Module
    preprocess: Preprocess
    targets: np.ndarray
    error: float
    accumulate: int = 1

    def start(self) -> TrainState:
        """Before it is handed over."""
        return TrainState(self.network, cast(Any, None), None)

    def total_steps(self) -> int:
        """None is needed."""
        return 0

    def run(
        self, _watch: Any, keep: Callable[[TrainState], None], state: TrainState, _saver: Any = None
    ) -> TrainState:
        """Keep the network as the best there is."""
        weights: dict[str, Tensor] = self.network.state_dict()
        state.best = Best(0, 1.0 - self.error, self.error, weights)
        keep(state)
        return state


def prepared(
    dataset: ImageDataset, recipe: Recipe, fit: Fit, splits: Path | None = None
) -> tuple[Job, list[str]]:
    """Split, read, compute the features, fit the head and fold it in."""
    if fit.processes.count > 1:
        raise SightlineError("Hand-crafted features are fitted by one process; start it without torchrun.")
    assert recipe.features is not None
    parts = parse_features(recipe.features)
    name = f"features/{spell_features(parts)}"
    refuse(recipe, name)
    found = None
    if splits is not None:
        codes = split_codes(dataset, splits)
        dataset = dataset.with_splits(codes).subset(codes != NO_SPLIT)
    else:
        found = kept_together(dataset, fit)
        dataset = split_as_planned(dataset, recipe, found.groups)
    if not dataset.has_split("train") or not dataset.has_split("test"):
        raise SightlineError(
            f"{dataset.name} has too few pictures to hold some back for the test; give at least one class three "
            "pictures or more."
        )
    learned = dataset.subset(np.isin(dataset.splits, [SPLITS.index("train"), SPLITS.index("val")]))
    facts = gather_facts(learned)
    spelled = [part.size for part in parts if isinstance(part.size, int)]
    size = recipe.input.size or next(iter(spelled), min(facts.side, COMMON_SIZE))
    channels = recipe.input.channels or (1 if facts.grey else 3)
    network: Any = create_model(name, num_classes=0, in_chans=channels, img_size=size)
    preprocess = fixed((size, size), "L" if channels == 1 else "RGB")
    held = read_all(
        learned,
        preprocess.image,
        preprocess.mode,
        partial(tell, fit.watch, len(learned), "pictures to learn from"),
    )
    if not held.arrays:
        raise SightlineError(
            f"None of the {len(learned):,} training pictures of {dataset.name} could be read."
        )
    features = learn(network, held.arrays)
    targets = learned.targets[held.indices]
    head = make_head(recipe.head or HEAD, recipe.penalty)
    head.fit(features, targets)
    network.reset_classifier(len(dataset.classes))
    temperature = fold_head(network, widened(head, len(dataset.classes)))
    error = float(head.errors_.min())
    kind = next(key for key, made in HEADS.items() if isinstance(head, cast(type, made)))
    reasons = [
        f"Features {recipe.features}: {features.shape[1]:,} numbers for a picture of {size}x{size} pixels"
        + (" in grey." if channels == 1 else "."),
        f"Head {kind}: of {len(head.penalties_)} penalties {head.penalty_:.3g} errs least on pictures left out, "
        f"{error:.1%} of {len(targets):,}; temperature {temperature:.3g}. Training and validation pictures were "
        "learned from together.",
    ]
    complete = recipe.model_dump() | {
        "model": {"name": name, "weights": "none"},
        "head": kind,
        "device": "cpu",
        "input": recipe.input.model_dump()
        | {"size": size, "channels": channels, "fit": "squash", "interpolation": "bilinear"},
    }
    job = Job(
        dataset,
        Recipe.model_validate(complete),
        reasons,
        cast(Any, Fitted(network.eval(), preprocess, targets, error)),
        list(held.failures),
        temperature,
        path=list(zip(head.penalties_.tolist(), head.errors_.tolist(), strict=True)),
    )
    return job, seen_before(job, found, fit) if found else []


def refuse(recipe: Recipe, name: str) -> None:
    """SightlineError where `recipe` has fields of the training of a network, as there is none to train."""
    given = {
        "model.name": recipe.model.name not in (None, name),
        "strategy": recipe.strategy is not None,
        "epochs": recipe.epochs is not None,
        "minutes": recipe.minutes is not None,
        "steps": recipe.steps is not None,
        "train_from": recipe.train_from is not None,
        "head": recipe.head == "none",
    }
    wrong = [key for key, is_given in given.items() if is_given]
    if wrong:
        raise SightlineError(
            f"With features there is no network to train: leave out {', '.join(wrong)} (or features)."
        )


def learn(network: FeaturesNetwork, pictures: list[np.ndarray]) -> np.ndarray:
    """Fit the features of `network` on pictures of its size, put what they learned into it, and compute them."""
    found = []
    for module in network.parts:
        assert isinstance(module, Handcrafted)
        part = module.part
        grey = part.grey_
        part.fit(pictures)
        part.settle(network.size, grey)
        module.take(part)
        found.append(part.transform(pictures))
    return np.concatenate(found, 1)


def widened(head: Any, classes: int) -> Any:
    """`head` with a row for every class of the data set: one without a picture to learn from is never chosen."""
    if len(head.classes_) < classes:
        coef = np.zeros((classes, head.coef_.shape[1]))
        intercept = np.full(classes, head.intercept_.min() - 1e3)
        coef[head.classes_], intercept[head.classes_] = head.coef_, head.intercept_
        head.coef_, head.intercept_ = coef, intercept
    return head


HANDCRAFTED = Course(
    ImageDataset,
    CLASSES.open,
    prepared,
    CLASSES.write_splits,
    CLASSES.fingerprint,
    CLASSES.keep,
    CLASSES.conclude,
    CLASSES.use,
)
