"""A small run to report on: drawn pictures, made-up probabilities, a network as it comes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import nn

from sightline.evaluation import score
from sightline.report import ReportData
from sightline.transforms.preprocess import Preprocess


def network(classes: int, channels: int = 3) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(channels, 8, 3),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(8, 12, 3),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(12, classes),
    ).eval()


def history(epochs: int) -> list[dict[str, Any]]:
    return [
        {
            "epoch": e,
            "lr": 0.1 / e,
            "train_loss": 2.0 / e,
            "train_accuracy": 1 - 0.9 / e,
            "val_loss": 2.2 / e,
            "val_accuracy": 1 - 0.95 / e,
            "val_balanced_accuracy": 1 - 0.97 / e,
            "seconds": 1.5,
            "best": e == max(1, epochs - 1),
        }
        for e in range(1, epochs + 1)
    ]


def probabilities(targets: np.ndarray, called: np.ndarray, classes: int) -> np.ndarray:
    """Sure of what is called, with some left for the truth; a little different for each picture."""
    n = len(targets)
    rates = np.full((n, classes), 0.01)
    rates[np.arange(n), targets] += 0.2
    rates[np.arange(n), called] += 0.5 + 0.2 * np.arange(n) / n
    return rates / rates.sum(1, keepdims=True)


def draw(i: int, size: int = 40) -> Image.Image:
    """A picture of its own for each number, hard to compress."""
    return Image.fromarray(np.random.default_rng(i).integers(0, 256, (size, size, 3), np.uint8))


def sample(
    *,
    classes: Sequence[str] = ("ant", "bee", "wasp"),
    n: int = 60,
    wrong: int = 6,
    epochs: int = 4,
    picture: Callable[[int], Image.Image] = draw,
    refs: Sequence[str] | None = None,
    model: nn.Module | None = None,
    preprocess: Preprocess | None = None,
    **changes: Any,
) -> ReportData:
    """Targets go round the classes; the first `wrong` pictures are called the class after theirs."""
    count = len(classes)
    targets = np.arange(n) % count
    called = targets.copy()
    called[:wrong] = (called[:wrong] + 1) % count
    rates = probabilities(targets, called, count)
    per_class = np.bincount(targets, minlength=count).tolist()
    values: dict[str, Any] = {
        "title": "insects-20250102-1530",
        "created": "2025-01-02T15:30:00",
        "dataset": {
            "name": "insects",
            "source": "/data/insects",
            "classes": list(classes),
            "counts": {"train": [4 * c for c in per_class], "val": per_class, "test": per_class},
            "set_aside": [{"ref": "ant/broken.jpg", "reason": "it is truncated"}],
        },
        "recipe": {
            "model": {"name": "resnet18", "weights": None},
            "strategy": "scratch",
            "optimizer": {"lr": 0.05},
        },
        "reasons": ["The pictures are few, so the network is small."],
        "history": history(epochs),
        "scores": score(rates, targets, list(classes)),
        "probabilities": rates,
        "targets": targets,
        "refs": list(refs)
        if refs is not None
        else [f"test/{classes[t]}/{i:04d}.jpg" for i, t in enumerate(targets)],
        "picture": picture,
        "model": network(count) if model is None else model,
        "preprocess": preprocess or Preprocess(size=(24, 24)),
        "environment": {"torch": "2.15.0", "device": "cpu", "threads": 2, "seconds": 192.0},
    }
    return ReportData(**{**values, **changes})
