"""What is measured of a data set and a pretrained network before anything is trained.

The pictures are those that `fit` would train on, a thousand of them at most, and where they are fewer those that it
would validate by, too: of few pictures each one counts. What decides is told without the network's old data: how well
each of its stages tells the new classes apart, leave-one-out, against the same network with random weights, and against
features made by hand.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from sightline.advising.balanced import balanced_accuracy, effective, weights_of
from sightline.advising.curve import Curve, measure_curve, some
from sightline.advising.logme import logme
from sightline.advising.smoothed import Smoothed, smoothed
from sightline.data import ImageDataset
from sightline.data.dataset import SPLITS
from sightline.errors import SightlineError
from sightline.features.embedding_network import Network
from sightline.features.embedding_stages import margins_of, probe_stages, stage_features_of
from sightline.features.heads import RidgeHead
from sightline.pipeline.cache import Failure, read_all
from sightline.training.progress import Quiet
from sightline.transforms.preprocess import Preprocess

MOST = 1000
"""Pictures that are looked at; of more, each class keeps its share."""
LEVEL = 0.9
HAND_SIDE = 64
"""Hand-crafted features see pictures of this side, or of the network's own where that is smaller."""
NEED_PER_CLASS = 2
PATIENCE = 5.0


@dataclass(frozen=True, slots=True)
class Depth:
    """One stage. layer: its name, None for what enters the classifier. accuracy: balanced, of a ridge head on its
    features, leave-one-out, with its interval (LEVEL); random: the same with random weights. logme: see
    `advising.logme`.
    """

    layer: str | None
    length: int
    accuracy: float
    low: float
    high: float
    random: float
    logme: float


@dataclass(frozen=True, slots=True)
class Evidence:
    """All that was measured. Accuracies are leave-one-out and balanced, 0..1.

    counts: training pictures of each class. pictures: how many were looked at, of training and validation; effective:
    of how many in equal classes balanced accuracies would be as sure. handcrafted: accuracy of HOG and colour
    histograms. smoothed: what predictions rest on. forward, train: seconds a picture takes through the network, and in
    a step of training.
    """

    classes: tuple[str, ...]
    counts: tuple[int, ...]
    pictures: int
    effective: float
    depths: tuple[Depth, ...]
    handcrafted: float
    smoothed: Smoothed
    curve: Curve
    forward: float
    train: float
    failures: tuple[Failure, ...] = field(default=())

    @property
    def last(self) -> Depth:
        """What enters the classifier."""
        return self.depths[-1]

    @property
    def best(self) -> Depth:
        """The stage that tells the classes apart best; of equals the deepest."""
        return max(reversed(self.depths), key=lambda depth: depth.accuracy)

    @property
    def random(self) -> float:
        """The best of the same network with random weights."""
        return max(depth.random for depth in self.depths)

    @property
    def chance(self) -> float:
        """The balanced accuracy of one answer to all."""
        return 1 / sum(count > 0 for count in self.counts)


def measure(
    whole: ImageDataset,
    network: Network,
    seed: int = 0,
    watcher: Quiet | None = None,
) -> Evidence:
    """Of the training and validation pictures of `whole`.

    Raises SightlineError where there are too few of them to measure anything.
    """
    watch = watcher or Quiet()
    train = whole.split("train")
    counts = train.class_counts()
    present = counts > 0
    if present.sum() < 2:
        name = train.classes[int(counts.argmax())]
        raise SightlineError(
            f"{train.name} has training pictures of one class alone ({name}); advice needs at least two classes."
        )
    if len(train) < NEED_PER_CLASS * present.sum():
        raise SightlineError(
            f"{train.name} has {len(train)} training pictures of {present.sum()} classes; advice needs "
            f"{NEED_PER_CLASS} a class at least."
        )
    looked = looked_at(whole, seed)
    total = len(looked)

    layers, found = stage_features_of(
        network, looked, progress=lambda done: watch.reading(done, total, "pictures through the network")
    )
    targets = looked.targets[found.indices]
    if len(np.unique(targets)) < 2:
        raise SightlineError(f"Too few of the {total:,} pictures to train on of {whole.name} could be read.")
    twin = Network(random_twin(network.module), network.preprocess, network.device, network.precision)
    _, blind = stage_features_of(
        twin,
        looked,
        kept=False,
        progress=lambda done: watch.reading(done, total, "pictures through random weights"),
    )
    depths = []
    probes = probe_stages(layers, found, targets)
    blind_targets = looked.targets[blind.indices]
    others = probe_stages(layers, blind, blind_targets)
    weights = weights_of(targets)
    for probe, other, values in zip(probes, others, found.values, strict=True):
        accuracy, low, high = balanced_accuracy(probe.margins, targets, LEVEL)
        depths.append(
            Depth(
                probe.layer,
                probe.length,
                accuracy,
                low,
                high,
                balanced_accuracy(other.margins, blind_targets, LEVEL)[0],
                logme(standardised(values), targets),
            )
        )
    watch.reading(0, total, "pictures by hand-crafted features")
    by_hand = handcrafted_margins(looked.subset(found.indices), network.preprocess, targets)
    forward, step = seconds_a_picture(network)
    return Evidence(
        whole.classes,
        tuple(counts.tolist()),
        len(targets),
        effective(weights),
        tuple(depths),
        balanced_accuracy(by_hand, targets, LEVEL)[0],
        Smoothed(
            smoothed(probes[-1].margins, weights),
            max(smoothed(probe.margins, weights) for probe in probes),
            smoothed(by_hand, weights),
            max(smoothed(probe.margins, weights_of(blind_targets)) for probe in others),
        ),
        measure_curve(found.values[-1], targets, 1.0 - depths[-1].accuracy, seed),
        forward,
        step,
        tuple(found.failures),
    )


def looked_at(whole: ImageDataset, seed: int) -> ImageDataset:
    """What anything is measured on: MOST training pictures; where they are fewer validation pictures as well.

    Of what is too much each class keeps its share.
    """
    rng, chosen = np.random.default_rng(seed), np.empty(0, dtype=np.intp)
    for code in (SPLITS.index("train"), SPLITS.index("val")):
        there = np.flatnonzero(whole.splits == code)
        room = MOST - len(chosen)
        if len(there) > room:
            there = there[np.sort(some(whole.targets[there], room, rng))]
        chosen = np.concatenate([chosen, there])
    return whole.subset(chosen)


def standardised(values: NDArray[np.float32]) -> NDArray[np.float64]:
    """Each feature to mean 0 and deviation 1, one that never changes left at 0; and a constant for the intercept."""
    values = values.astype(np.float64)
    centred = values - values.mean(0)
    scale = centred.std(0)
    return np.column_stack([centred / np.where(scale > 1e-6, scale, 1.0), np.ones(len(values))])


def random_twin(network: nn.Module) -> nn.Module:
    """A copy with weights drawn anew, the same each time, by the layers' own rules."""
    import copy

    twin = copy.deepcopy(network)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        for module in twin.modules():
            reset = getattr(module, "reset_parameters", None)
            if callable(reset):
                reset()
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    return twin.eval()


def handcrafted_margins(
    pictures: ImageDataset, preprocess: Preprocess, targets: NDArray[np.integer]
) -> NDArray[np.float64]:
    """(n,) of a ridge head on HOG and colour histograms, leave-one-out; pictures as the network sees them."""
    from sightline.features import HOG, ColorHistogram

    side = min(HAND_SIDE, *preprocess.size)
    held = read_all(pictures, preprocess.image, preprocess.mode)
    arrays = list(held.arrays)
    parts = [HOG(cell=8 if side >= 32 else max(2, side // 4), size=side)]
    if preprocess.channels == 3:
        parts.append(ColorHistogram(size=side))
    values = np.concatenate([part.fit_transform(arrays) for part in parts], 1)
    head = RidgeHead().fit(values, targets[held.indices])
    return margins_of(head.held_out_, np.searchsorted(head.classes_, targets[held.indices]))


def seconds_a_picture(network: Network, pictures: int = 16, passes: int = 3) -> tuple[float, float]:
    """(answering, a step of training): the quickest of some passes over pictures of noise; few where they take long."""
    import copy

    model = copy.deepcopy(network.module).train()
    device = network.device
    x = torch.randn(pictures, *network.size, device=device).contiguous(memory_format=torch.channels_last)
    forward, step = [], []
    for _ in range(passes):
        begun = time.perf_counter()
        with torch.inference_mode():
            network.module(x).sum().item()
        forward.append(time.perf_counter() - begun)
        begun = time.perf_counter()
        model(x).float().logsumexp(1).sum().backward()
        sum(float(p.grad.sum()) for p in model.parameters() if p.grad is not None)
        step.append(time.perf_counter() - begun)
        if step[-1] > PATIENCE:
            break
    return min(forward) / pictures, min(step) / pictures
