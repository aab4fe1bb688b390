"""What is minimised: the cross-entropy of each picture, of mixed ones, and of auxiliary classifiers."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from sightline.pipeline.order import MIX, uniforms
from sightline.training.processes import Processes
from sightline.training.recipe import Recipe
from sightline.training.state import TrainState
from sightline.transforms.augment import Augment


class Answers(nn.Module):
    """A network as it is trained: its logits, and those of its auxiliary classifiers where it has such."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, list[torch.Tensor], float]:
        """(logits, [logits of each auxiliary classifier], what their loss counts)."""
        model: Any = self.model
        if hasattr(model, "forward_auxiliary"):
            logits, auxiliary = model.forward_auxiliary(x)
            return logits, auxiliary, model.aux_weight
        return model(x), [], 0.0


class Objective:
    """The loss of a run. `targets`: of the training pictures; `augment`: whose mixing steps act on a whole batch."""

    def __init__(
        self,
        recipe: Recipe,
        targets: np.ndarray,
        classes: int,
        augment: Augment,
        device: torch.device,
        processes: Processes,
    ) -> None:
        self.recipe, self.targets, self.classes, self.augment = recipe, targets, classes, augment
        self.device, self.processes = device, processes
        self.class_weights = class_weights(targets, classes).to(device) if recipe.balance == "loss" else None

    def weight(self, positions: np.ndarray) -> float:
        """What the training pictures at `positions` weigh together in the loss."""
        if self.class_weights is None:
            return float(max(1, len(positions)))
        return float(self.class_weights[torch.from_numpy(self.targets[positions]).long()].sum()) or 1.0

    def losses(
        self, answers: tuple[torch.Tensor, list[torch.Tensor], float], targets: torch.Tensor
    ) -> torch.Tensor:
        """The loss of each picture (N,); `targets` are classes (N,), or shares of them (N, classes)."""
        logits, auxiliary, share = answers
        loss = self.cross_entropy(logits, targets)
        for side in auxiliary:
            loss = loss + share * self.cross_entropy(side, targets)
        return loss

    def cross_entropy(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Of each picture (N,), with the recipe's class weights and label smoothing, in float32."""
        smoothing = self.recipe.label_smoothing or 0.0
        return F.cross_entropy(
            logits.float(), targets, self.class_weights, label_smoothing=smoothing, reduction="none"
        )

    def mixed(
        self, state: TrainState, images: torch.Tensor, classes: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Pictures and targets after MixUp and CutMix, whose partners come from the whole of the global batch."""
        augment = self.augment
        if not augment.mixing:
            return images, classes
        draws = uniforms(self.recipe.seed, state.epoch, np.array([state.step]), augment.mixing_draws, MIX)[0]
        gathered = self.processes.gather((images, classes))
        first = sum(len(part[1]) for part in gathered[: self.processes.rank])
        whole, all_classes = (torch.cat([part[k].to(self.device) for part in gathered]) for k in (0, 1))
        whole, targets = augment.mix(whole, F.one_hot(all_classes, self.classes).float(), draws)
        own = slice(first, first + len(classes))
        return whole[own], targets[own]


def class_weights(targets: np.ndarray, classes: int) -> torch.Tensor:
    """Weights that give every class the same say in the loss: N / (classes * count), 0 for an absent class."""
    counts = np.bincount(targets, minlength=classes).astype(np.float64)
    weights = np.where(counts > 0, len(targets) / (classes * np.maximum(counts, 1)), 0.0)
    return torch.tensor(weights, dtype=torch.float32)
