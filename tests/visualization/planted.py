"""Pictures of noise with one small patch that alone tells the class, at a place that is known; networks that learn it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from sightline.models import create_model

SIDE, PATCH = 24, 5  # 25 of 576 pixels: 4.3 %
CLASSES = 3  # a red, a green and a blue one


@dataclass
class Planted:
    """pictures (N, 3, 24, 24) normalised, targets (N,), places (N, 2): top and left of each patch."""

    pictures: Tensor
    targets: Tensor
    places: NDArray[np.int64]


def planted(count: int, seed: int) -> Planted:
    rng = np.random.default_rng(seed)
    pictures = rng.normal(0, 0.5, (count, 3, SIDE, SIDE)).astype(np.float32)
    targets = rng.integers(0, CLASSES, count)
    places = rng.integers(0, SIDE - PATCH + 1, (count, 2))
    for picture, target, (top, left) in zip(pictures, targets, places, strict=True):
        picture[target, top : top + PATCH, left : left + PATCH] += 2.0
    return Planted(torch.from_numpy(pictures), torch.from_numpy(targets), places)


def cnn() -> nn.Module:
    """Three convolutions, strides to a map of 6x6, the mean over it, a linear layer."""
    layers: list[nn.Module] = []
    for before, after, pool in ((3, 16, True), (16, 24, True), (24, 32, False)):
        layers += [nn.Conv2d(before, after, 3, padding=1), nn.BatchNorm2d(after), nn.ReLU()]
        layers += [nn.MaxPool2d(2)] if pool else []
    return nn.Sequential(nn.Sequential(*layers), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, CLASSES))


def vit() -> nn.Module:
    """A transformer on 6x6 tokens of 4x4 pixels that reads its class token."""
    return create_model(
        "vit_tiny_patch16_224", patch_size=4, img_size=SIDE, embed_dim=32, depth=2, num_heads=2, num_classes=CLASSES
    )


def trained(model: nn.Module, pictures: int, epochs: int, rate: float, seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    data = planted(pictures, seed=100 + seed)
    optimizer = torch.optim.AdamW(model.parameters(), rate, weight_decay=0.01)
    steps = epochs * (pictures // 64)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=steps)
    model.train()
    for _ in range(epochs):
        for some in torch.randperm(pictures).split(64)[: pictures // 64]:
            optimizer.zero_grad()
            F.cross_entropy(model(data.pictures[some]), data.targets[some]).backward()
            optimizer.step()
            schedule.step()
    return model.eval()


def accuracy(model: nn.Module, data: Planted) -> float:
    with torch.no_grad():
        return float((model(data.pictures).argmax(1) == data.targets).float().mean())


def distance(values: NDArray[np.float32], place: NDArray[np.int64]) -> float:
    """Pixels between the cell with the largest value and the patch, by the larger axis; 0 where they overlap.

    Where several are largest, as in a map without evidence, the first one is as good as any.
    """
    cell = SIDE / np.array(values.shape)
    top, left = np.array(np.unravel_index(int(values.argmax()), values.shape)) * cell
    gaps = [
        max(0.0, place[axis] - (corner + cell[axis]), corner - (place[axis] + PATCH))
        if corner + cell[axis] <= place[axis] or corner >= place[axis] + PATCH
        else -1.0
        for axis, corner in enumerate((top, left))
    ]
    return max(0.0, max(gaps)) if max(gaps) >= 0 else -1.0


def chance(grid: tuple[int, int], places: NDArray[np.int64]) -> float:
    """The share of the cells that overlap the patch, on the mean over the pictures."""
    counts = np.ones(len(places))
    for axis in (0, 1):
        edges = np.arange(grid[axis]) * SIDE / grid[axis]
        low, high = places[:, axis, None], places[:, axis, None] + PATCH
        counts *= ((edges + SIDE / grid[axis] > low) & (edges < high)).sum(1)
    return float(counts.mean() / (grid[0] * grid[1]))
