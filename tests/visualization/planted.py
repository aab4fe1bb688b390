"""Pictures with one small patch that alone tells the class, at a place that is known; networks that learn it.

In pictures of noise the patch is the one thing that strikes the eye, that of a network that knows nothing included. So
there is a mosaic, too: six hues of one strength, evenly around the colour circle, yellow, cyan and magenta squares
everywhere and the patch red, green or blue. What an untrained network looks at there is not the patch.

Networks learn a class more, "nothing", of pictures without a patch. Without it one of the three would be what is left
when the other two are not seen: that class has the same logit with and without its patch, so that the patch is no
evidence for it, and a map that says so would count as wrong.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from sightline.models import create_model

SIDE, PATCH = 28, 6  # 36 of 784 pixels: 4.6 %
CLASSES = 3  # and NOTHING
NOTHING = CLASSES
TOKEN = 4
HUES = np.deg2rad(np.arange(6) * 60)  # red, yellow, green, cyan, blue, magenta
CIRCLE = np.stack([np.cos(HUES - shift) for shift in np.deg2rad((0, 120, 240))], 1).astype(np.float32)


@dataclass
class Planted:
    """pictures (N, 3, 28, 28) normalised, targets (N,), places (N, 2): top and left of each patch; of pictures
    without one they mean nothing."""

    pictures: Tensor
    targets: Tensor
    places: NDArray[np.int64]


def planted(count: int, seed: int, background: str, nothing: bool = False) -> Planted:
    """`count` pictures; background: "noise" or "mosaic"; nothing: whether some, a class's share, have no patch."""
    rng = np.random.default_rng(seed)
    tiles = -(-SIDE // PATCH) + 1
    hues = CIRCLE[rng.choice((1, 3, 5), (count, tiles, tiles))].repeat(PATCH, 1).repeat(PATCH, 2)
    pictures = np.empty((count, 3, SIDE, SIDE), np.float32)
    targets = rng.integers(0, CLASSES + nothing, count)
    places = rng.integers(0, SIDE - PATCH + 1, (count, 2))
    for picture, mosaic, target, (top, left) in zip(pictures, hues, targets, places, strict=True):
        down, right = rng.integers(0, PATCH, 2)
        picture[:] = mosaic[down : down + SIDE, right : right + SIDE].transpose(2, 0, 1) * (
            background == "mosaic"
        )
        if target != NOTHING:
            picture[:, top : top + PATCH, left : left + PATCH] = CIRCLE[2 * target, :, None, None]
    pictures += rng.normal(0, 0.2 if background == "mosaic" else 0.5, pictures.shape).astype(np.float32)
    return Planted(torch.from_numpy(pictures), torch.from_numpy(targets), places)


def cnn() -> nn.Module:
    """Three convolutions, strides to a map of 7x7, the mean over it, a linear layer."""
    layers: list[nn.Module] = []
    for before, after, pool in ((3, 16, True), (16, 24, True), (24, 32, False)):
        layers += [nn.Conv2d(before, after, 3, padding=1), nn.BatchNorm2d(after), nn.ReLU()]
        layers += [nn.MaxPool2d(2)] if pool else []
    return nn.Sequential(
        nn.Sequential(*layers), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, CLASSES + 1)
    )


def vit(class_token: bool = False) -> nn.Module:
    """A transformer on 7x7 tokens of 4x4 pixels that reads their mean, or its class token."""
    return create_model(
        "vit_tiny_patch16_224", patch_size=TOKEN, img_size=SIDE, embed_dim=32, depth=2, num_heads=2,
        class_token=class_token, global_pool="token" if class_token else "avg", num_classes=CLASSES + 1,
    )  # fmt: skip


def vit_class_token() -> nn.Module:
    return vit(class_token=True)


def trained(model: nn.Module, background: str, pictures: int, epochs: int, rate: float) -> nn.Module:
    torch.manual_seed(0)
    data = planted(pictures, 100, background, nothing=True)
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


def gap(values: NDArray[np.float32], place: NDArray[np.int64]) -> float:
    """Pixels between the cell with the largest value and the patch, by the larger axis; below 0 where they overlap."""
    cell = SIDE / np.array(values.shape)
    corner = np.array(np.unravel_index(int(values.argmax()), values.shape)) * cell
    return float(np.maximum(place - (corner + cell), corner - (place + PATCH)).max())


def chance(grid: tuple[int, int], places: NDArray[np.int64]) -> float:
    """The share of the cells that overlap the patch, on the mean over the pictures."""
    counts = np.ones(len(places))
    for axis in (0, 1):
        edges = np.arange(grid[axis]) * SIDE / grid[axis]
        low, high = places[:, axis, None], places[:, axis, None] + PATCH
        counts *= ((edges + SIDE / grid[axis] > low) & (edges < high)).sum(1)
    return float(counts.mean() / (grid[0] * grid[1]))
