"""The cases of transfer.py: which pictures of which classes a pretrained network is transferred to.

Each was fixed before it was run. CASES were looked at while the form of the predictions was being sought, FURTHER when
that had all but ended (docs/advise.md tells what came after). The constants of `advise` were set from DEVELOPMENT,
which has none of the others' classes: they are of other classes of the same data sets, or of data sets that the others
have nothing of.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import sightline
from sightline.data import ImageDataset
from sightline.data.dataset import NO_SPLIT, SPLITS

TESTED = 1000
FIRST, LAST = tuple(range(5)), tuple(range(5, 10))


@dataclass(frozen=True)
class Case:
    """`per_class` training pictures (validation included) of `classes` of a data set; None: all there are.

    quadrant: what it was made to be.
    """

    name: str
    data: str
    classes: tuple[int, ...]
    per_class: int | None
    quadrant: str


CASES = (
    Case("cifar last five, 10 a class", "cifar10", LAST, 10, "small near"),
    Case("cifar last five, 30 a class", "cifar10", LAST, 30, "small near"),
    Case("cifar dog, frog, horse, 20 a class", "cifar10", (5, 6, 7), 20, "small near"),
    Case("cifar last five, 150 a class", "cifar10", LAST, 150, "large near"),
    Case("cifar last five, 500 a class", "cifar10", LAST, 500, "large near"),
    Case("cifar dog, ship, truck, 300 a class", "cifar10", (5, 8, 9), 300, "large near"),
    Case("mnist 5 to 9, 10 a class", "mnist", LAST, 10, "small far"),
    Case("magtile, 15 a class", "magtile", tuple(range(6)), 15, "small far"),
    Case("omniglot, 30 characters", "omniglot", tuple(range(0, 60, 2)), None, "small far"),
    Case("mnist 5 to 9, 120 a class", "mnist", LAST, 120, "large far"),
    Case("mnist 5 to 9, 500 a class", "mnist", LAST, 500, "large far"),
    Case("magtile, all", "magtile", tuple(range(6)), None, "large far"),
    # Added, before either was run, when two of the twelve above had turned out to have less than 5 points between the
    # best and the worst strategy: 300 of dog, ship, truck, and 500 digits a class.
    Case("cifar last five, 100 a class", "cifar10", LAST, 100, "large near"),
    Case("mnist 5, 8, 9, 100 a class", "mnist", (5, 8, 9), 100, "large far"),
)

FURTHER = (
    Case("cifar horse, ship, truck, 12 a class", "cifar10", (7, 8, 9), 12, "small near"),
    Case("cifar last five, 20 a class", "cifar10", LAST, 20, "small near"),
    Case("cifar frog, horse, 40 a class", "cifar10", (6, 7), 40, "small near"),
    Case("cifar dog, frog, ship, truck, 120 a class", "cifar10", (5, 6, 8, 9), 120, "large near"),
    Case("cifar dog, horse, 250 a class", "cifar10", (5, 7), 250, "large near"),
    Case("cifar last five, 250 a class", "cifar10", LAST, 250, "large near"),
    Case("mnist 5 to 9, 25 a class", "mnist", LAST, 25, "small far"),
    Case("magtile, 30 a class", "magtile", tuple(range(6)), 30, "small far"),
    Case("omniglot, 20 further characters", "omniglot", tuple(range(62, 102, 2)), None, "small far"),
    Case("mnist 5, 6, 8, 9, 100 a class", "mnist", (5, 6, 8, 9), 100, "large far"),
    Case("noisy cifar last five, 150 a class", "noisy last", LAST, 150, "large far"),
    Case("negative cifar last five, 300 a class", "negative last", LAST, 300, "large far"),
)

DEVELOPMENT = (
    Case("cifar first five, 8", "cifar10", FIRST, 8, ""),
    Case("cifar first five, 15", "cifar10", FIRST, 15, ""),
    Case("cifar first five, 40", "cifar10", FIRST, 40, ""),
    Case("cifar first five, 100", "cifar10", FIRST, 100, ""),
    Case("cifar first five, 250", "cifar10", FIRST, 250, ""),
    Case("cifar first five, 600", "cifar10", FIRST, 600, ""),
    Case("cifar airplane, cat, deer, 25", "cifar10", (0, 3, 4), 25, ""),
    Case("cifar automobile, bird, cat, 200", "cifar10", (1, 2, 3), 200, ""),
    Case("cifar bird, cat, deer, 60", "cifar10", (2, 3, 4), 60, ""),
    Case("cifar bird, cat, deer, 400", "cifar10", (2, 3, 4), 400, ""),
    Case("negative cifar first five, 20", "negative", FIRST, 20, ""),
    Case("negative cifar first five, 200", "negative", FIRST, 200, ""),
    Case("mnist 0 to 4, 8", "mnist", FIRST, 8, ""),
    Case("mnist 0 to 4, 20", "mnist", FIRST, 20, ""),
    Case("mnist 0 to 4, 60", "mnist", FIRST, 60, ""),
    Case("mnist 0 to 4, 200", "mnist", FIRST, 200, ""),
    Case("mnist 0 to 4, 600", "mnist", FIRST, 600, ""),
    Case("digits, 6", "digits", tuple(range(10)), 6, ""),
    Case("digits, 25", "digits", tuple(range(10)), 25, ""),
    Case("digits, 100", "digits", tuple(range(10)), 100, ""),
    Case("omniglot, 12 other characters", "omniglot", tuple(range(61, 84, 2)), None, ""),
    Case("omniglot, 35 other characters", "omniglot", tuple(range(61, 131, 2)), None, ""),
    Case("flowers, 12", "flowers5", tuple(range(5)), 12, ""),
    Case("flowers, 60", "flowers5", tuple(range(5)), 60, ""),
    Case("flowers, 200", "flowers5", tuple(range(5)), 200, ""),
    Case("ants and bees, 30", "hymenoptera", (0, 1), 30, ""),
    Case("ants and bees, all", "hymenoptera", (0, 1), None, ""),
    Case("noisy cifar first five, 30", "noisy", FIRST, 30, ""),
    Case("noisy cifar first five, 300", "noisy", FIRST, 300, ""),
)

FILES = {
    "cifar10": "cifar10/cifar10.tar.gz",
    "omniglot": "omniglot/omniglot.tar.gz",
    "mnist": "mnist/mnist.npz",
    "magtile": "magtile",
    "flowers5": "flowers5",
    "hymenoptera": "hymenoptera",
}


def opened(name: str, root: Path) -> ImageDataset:
    """A data set by its name in a Case; `negative` and `noisy` are made of the first or the last five of CIFAR-10."""
    if name == "digits":
        return sightline.make_splits(sightline.open_dataset("digits"), seed=0, val=0.01, test=0.4)
    made, _, which = name.partition(" ")
    if made not in ("negative", "noisy"):
        return sightline.open_dataset(root / FILES[name])
    from sightline.data.dataset import Arrays

    whole = sightline.open_dataset(root / FILES["cifar10"])
    rng = np.random.default_rng(0)
    chosen = [
        rng.choice(np.flatnonzero((whole.targets == target) & (whole.splits == split)), 400, replace=False)
        for target in (LAST if which else FIRST)
        for split in (SPLITS.index("train"), SPLITS.index("test"))
    ]
    part = whole.subset(np.sort(np.concatenate(chosen)))
    pixels = np.stack([part.read_pixels(i) for i in range(len(part))])
    if made == "negative":
        pixels = 255 - pixels
    else:
        pixels = np.clip(pixels + rng.normal(0, 60, pixels.shape), 0, 255).astype(np.uint8)
    return ImageDataset(Arrays([(name, pixels)]), part.targets, part.classes, splits=part.splits, name=name)


def of_classes(whole: ImageDataset, classes: Sequence[int]) -> ImageDataset:
    """Its pictures of these classes, which are numbered anew."""
    part = whole.subset(np.isin(whole.targets, classes))
    table = np.full(len(whole.classes), -1, dtype=np.int32)
    table[list(classes)] = np.arange(len(classes))
    part.targets, part.classes = table[part.targets], tuple(whole.classes[c] for c in classes)
    return part


def drawn(whole: ImageDataset, case: Case, draw: int) -> ImageDataset:
    """The training pictures of a draw and the test pictures of the case, with the case's classes alone."""
    part = of_classes(whole, case.classes)
    part.name = case.name
    rng = np.random.default_rng([draw, *case.name.encode()])
    train = np.isin(part.splits, [SPLITS.index("train"), SPLITS.index("val")])
    tested = np.flatnonzero(part.splits == SPLITS.index("test"))
    fixed = np.random.default_rng([*case.name.encode()])
    tested = fixed.permutation(tested)[:TESTED]
    codes = np.full(len(part), NO_SPLIT)
    codes[tested] = SPLITS.index("test")
    for target in range(len(part.classes)):
        known = rng.permutation(np.flatnonzero(train & (part.targets == target)))
        codes[known[: case.per_class]] = SPLITS.index("train")
    return part.with_splits(codes).subset(codes != NO_SPLIT)
