"""How well each stage of a network tells classes apart: a ridge head on its features, leave-one-out."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sightline.data.dataset import ImageDataset
from sightline.data.image_io import ImageSource
from sightline.features.embedding_network import Layer, Network
from sightline.features.embedding_pictures import Features, features_of
from sightline.features.heads import RidgeHead


@dataclass(frozen=True, slots=True, eq=False)
class StageProbe:
    """One stage. layer: its name, None for what enters the classifier. length: numbers a picture.

    margins: (N,) by how much the decision value of each picture's class leads the highest other, of a head fitted on
    all other pictures: above 0 it is told right; accuracy: the share of those. penalty: the ridge penalty of least
    leave-one-out error.
    """

    layer: Layer
    length: int
    margins: NDArray[np.float64]
    penalty: float

    @property
    def accuracy(self) -> float:
        return float((self.margins > 0).mean())


def stage_features_of(
    network: Network,
    pictures: ImageDataset | Iterable[ImageSource],
    *,
    kept: bool = True,
    progress: Callable[[int], None] | None = None,
) -> tuple[list[Layer], Features]:
    """The layers, each stage of `network` in its order and last what enters the classifier (None), and their features,
    all from one pass: maps are averaged over their places, of tokens the class token is taken where there is one.
    """
    layers: list[Layer] = [*network.stages, None]
    return layers, features_of(network.taps(layers), pictures, kept=kept, progress=progress)


def probe_stages(layers: Iterable[Layer], features: Features, targets: ArrayLike) -> list[StageProbe]:
    """Leave-one-out accuracy by stage. targets: (N,) labels of the pictures at `features.indices`."""
    labels = np.asarray(targets)
    probes = []
    for layer, values in zip(layers, features.values, strict=True):
        head = RidgeHead().fit(values, labels)
        margins = margins_of(head.held_out_, np.searchsorted(head.classes_, labels))
        probes.append(StageProbe(layer, values.shape[1], margins, head.penalty_))
    return probes


def margins_of(decided: NDArray[np.float64], targets: NDArray[np.integer]) -> NDArray[np.float64]:
    """(N,): the decision value of the class `targets` (N,) of `decided` (N, K) less the highest of the others."""
    rows, others = np.arange(len(decided)), decided.copy()
    others[rows, targets] = -np.inf
    return np.asarray(decided[rows, targets] - others.max(1))
