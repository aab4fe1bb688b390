"""The training loop: what a step can touch is one visible state, and every number comes from the recipe."""

from __future__ import annotations

import copy
import math
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F
from torch.optim.swa_utils import AveragedModel

from sightline.errors import SightlineError
from sightline.pipeline.cache import Failure
from sightline.pipeline.loader import Batch, PlainPictures, TrainLoader
from sightline.pipeline.order import epoch_order
from sightline.training.optim import averaged, make_optimizer
from sightline.training.recipe import Recipe
from sightline.training.schedule import factor
from sightline.transforms.preprocess import Preprocess

CALIBRATION_STEPS = 6
CALIBRATION_SECONDS = 12.0
# Of the time that was asked for, this share is planned; the rest is for what a calibration cannot foresee.
PLANNED_SHARE = 0.9


class Watcher(Protocol):
    """Who is told what happens: a progress line, a log, a test."""

    def message(self, text: str) -> None: ...

    def step(self, epoch: int, step: int, steps: int, loss: float, accuracy: float, rate: float) -> None: ...

    def epoch(self, row: dict[str, Any]) -> None: ...


@dataclass
class Best:
    """The best epoch so far, by balanced accuracy on the validation split; ties go to the lower loss."""

    epoch: int
    balanced_accuracy: float
    loss: float
    weights: dict[str, torch.Tensor]

    def beaten_by(self, balanced_accuracy: float, loss: float) -> bool:
        return (balanced_accuracy, -loss) > (self.balanced_accuracy, -self.loss)


@dataclass
class TrainState:
    """All that a step changes."""

    model: nn.Module
    optimizer: torch.optim.Optimizer
    ema: AveragedModel | None
    step: int = 0
    epoch: int = 0
    best: Best | None = None
    epochs_since_best: int = 0
    history: list[dict[str, Any]] = field(default_factory=list)
    failures: dict[str, Failure] = field(default_factory=dict)

    @property
    def evaluated(self) -> nn.Module:
        """The weights that are measured and kept: the averaged ones where there are."""
        return self.ema.module if self.ema is not None else self.model


@dataclass
class Trainer:
    """What a run is made of. `model` is on `device`; a frozen part has `requires_grad` False."""

    model: nn.Module
    recipe: Recipe
    preprocess: Preprocess
    train: TrainLoader
    val: PlainPictures
    targets: np.ndarray  # of the training pictures
    classes: int
    device: torch.device

    def __post_init__(self) -> None:
        self.balanced = self.targets if self.recipe.balance == "sampling" else None
        self.class_weights = (
            class_weights(self.targets, self.classes) if self.recipe.balance == "loss" else None
        )
        if self.class_weights is not None:
            self.class_weights = self.class_weights.to(self.device)

    @property
    def steps_per_epoch(self) -> int:
        """Whole batches in an epoch; at least one."""
        return max(1, len(self.targets) // (self.recipe.batch_size or 1))

    def total_steps(self) -> int:
        """Steps of the whole run."""
        return self.recipe.steps or self.steps_per_epoch * (self.recipe.epochs or 1)

    def start(self) -> TrainState:
        """The state before the first step."""
        ema = averaged(self.model, self.recipe.ema) if self.recipe.ema else None
        return TrainState(self.model, make_optimizer(self.model, self.recipe), ema)

    def order(self, epoch: int) -> np.ndarray:
        """Positions of the training set in the order that `epoch` takes them."""
        return epoch_order(len(self.targets), self.recipe.seed, epoch, self.balanced)

    def rate(self, step: int) -> float:
        """The learning rate at `step`."""
        chosen, per_epoch = self.recipe.schedule, self.steps_per_epoch
        assert chosen.name is not None
        assert self.recipe.optimizer.lr is not None
        return self.recipe.optimizer.lr * factor(
            chosen.name,
            step,
            self.total_steps(),
            warmup=round(chosen.warmup_epochs * per_epoch),
            step_size=chosen.step_epochs * per_epoch,
            gamma=chosen.gamma,
            rise=chosen.rise,
            final=chosen.final,
        )

    def forward(self, model: nn.Module, images: torch.Tensor) -> torch.Tensor:
        """Logits (N, classes) in float32 of uint8 `images` (N, C, H, W), in the recipe's precision."""
        x = self.preprocess.normalize(images.to(self.device, non_blocking=True))
        x = x.contiguous(memory_format=torch.channels_last)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.recipe.precision == "bf16"):
            logits: torch.Tensor = model(x)
        return logits.float()

    def learn(self, state: TrainState, batch: Batch, rate: float) -> tuple[float, int]:
        """One step. Returns the loss and how many of the batch were right before it."""
        for group in state.optimizer.param_groups:
            group["lr"] = rate
        targets = batch.targets.to(self.device, non_blocking=True)
        logits = self.forward(state.model, batch.images)
        loss = F.cross_entropy(
            logits, targets, self.class_weights, label_smoothing=self.recipe.label_smoothing or 0.0
        )
        state.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        if self.recipe.clip_grad:
            nn.utils.clip_grad_norm_(state.model.parameters(), self.recipe.clip_grad)
        state.optimizer.step()
        if state.ema is not None:
            state.ema.update_parameters(state.model)
        return loss.item(), int((logits.argmax(1) == targets).sum())

    @torch.inference_mode()
    def validate(self, model: nn.Module) -> dict[str, float]:
        """Loss, accuracy and balanced accuracy over the validation split."""
        model.eval()
        loss, right, seen = 0.0, np.zeros(self.classes), np.zeros(self.classes)
        for batch in self.val.batches():
            if not len(batch.indices):
                continue
            logits = self.forward(model, batch.images).cpu()
            loss += float(F.cross_entropy(logits, batch.targets, reduction="sum"))
            hit = (logits.argmax(1) == batch.targets).numpy()
            truth = batch.targets.numpy()
            seen += np.bincount(truth, minlength=self.classes)
            right += np.bincount(truth[hit], minlength=self.classes)
        there = seen > 0
        total = max(1.0, float(seen.sum()))
        return {
            "val_loss": loss / total,
            "val_accuracy": float(right.sum()) / total,
            "val_balanced_accuracy": float((right[there] / seen[there]).mean()) if there.any() else 0.0,
        }

    def calibrate(self, seconds: float, at_least: int = 1) -> tuple[int, float]:
        """How many steps fit into `seconds`, validation included, and the seconds that one step took.

        Measured on copies: the run itself starts untouched.
        """
        spare = Trainer(
            copy.deepcopy(self.model), self.recipe, self.preprocess, self.train, self.val, self.targets,
            self.classes, self.device,
        )  # fmt: skip
        state = spare.start()
        set_train_mode(state.model)
        times = []
        begun = time.perf_counter()
        batches = self.train.epoch(0, self.order(0))
        for _ in range(CALIBRATION_STEPS):
            before = time.perf_counter()
            batch = next(batches, None)
            if batch is None:
                batches = self.train.epoch(0, self.order(0))
                continue
            if len(batch.indices):
                spare.learn(state, batch, 1e-6)
            times.append(time.perf_counter() - before)
            if time.perf_counter() - begun > CALIBRATION_SECONDS:
                break
        before = time.perf_counter()
        spare.validate(state.evaluated)
        validation = time.perf_counter() - before
        step = float(np.median(times[1:] or times))
        per_epoch = step * self.steps_per_epoch + validation
        budget = max(0.0, seconds * PLANNED_SHARE - (time.perf_counter() - begun))
        return max(at_least, int(budget / per_epoch * self.steps_per_epoch)), step

    def run(
        self,
        watcher: Watcher,
        on_best: Callable[[TrainState], None] = lambda _: None,
        state: TrainState | None = None,
    ) -> TrainState:
        """Train to the end, to the patience's end, or until interrupted (KeyboardInterrupt after the step's end)."""
        state = state or self.start()
        total, per_epoch = self.total_steps(), self.steps_per_epoch
        with finishing_the_step() as interrupted:
            while state.step < total:
                row = self.run_epoch(state, watcher, interrupted, total)
                better = state.best is None or state.best.beaten_by(
                    row["val_balanced_accuracy"], row["val_loss"]
                )
                row["best"] = better
                state.history.append(row)
                state.epochs_since_best = 0 if better else state.epochs_since_best + 1
                if better:
                    weights = {k: v.detach().cpu().clone() for k, v in state.evaluated.state_dict().items()}
                    state.best = Best(row["epoch"], row["val_balanced_accuracy"], row["val_loss"], weights)
                    on_best(state)
                watcher.epoch(row)
                if self.recipe.patience and state.epochs_since_best >= self.recipe.patience:
                    watcher.message(
                        f"Stopped early: no better epoch in {self.recipe.patience}, "
                        f"{math.ceil((total - state.step) / per_epoch)} epochs before the planned end."
                    )
                    break
        return state

    def check_loss(self, loss: float, state: TrainState) -> None:
        """Raises SightlineError where the training has run away."""
        if not math.isfinite(loss):
            raise SightlineError(
                f"The loss became {loss} at step {state.step + 1}; try a tenth of the learning rate "
                f"(--set optimizer.lr={self.recipe.optimizer.lr:g} now), or --set precision=fp32."
            )

    def run_epoch(
        self, state: TrainState, watcher: Watcher, interrupted: Callable[[], bool], total: int
    ) -> dict[str, Any]:
        """One pass over the training pictures (or what is left of the steps), then validation."""
        begun = time.perf_counter()
        set_train_mode(state.model)
        per_epoch = self.steps_per_epoch
        loss_sum = right = seen = 0.0
        rate = self.rate(state.step)
        first = state.step - state.epoch * per_epoch
        batches = self.train.epoch(state.epoch, self.order(state.epoch), first)
        for batch in batches:
            for failure in batch.failures:
                state.failures[failure.ref] = failure
            if len(batch.indices):
                rate = self.rate(state.step)
                loss, hits = self.learn(state, batch, rate)
                self.check_loss(loss, state)
                n = len(batch.indices)
                loss_sum, right, seen = loss_sum + loss * n, right + hits, seen + n
                speed = seen / max(1e-9, time.perf_counter() - begun)
                watcher.step(state.epoch + 1, state.step + 1, total, loss_sum / seen, right / seen, speed)
            state.step += 1
            if interrupted():
                raise KeyboardInterrupt
            if state.step >= total:
                break
        seconds = time.perf_counter() - begun
        state.epoch += 1
        row: dict[str, Any] = {
            "epoch": state.epoch,
            "step": state.step,
            "lr": rate,
            "train_loss": loss_sum / max(1.0, seen),
            "train_accuracy": right / max(1.0, seen),
            "images_per_second": seen / max(1e-9, seconds),
        }
        row |= self.validate(state.evaluated)
        self.check_loss(row["val_loss"], state)
        row["seconds"] = time.perf_counter() - begun
        return row


def class_weights(targets: np.ndarray, classes: int) -> torch.Tensor:
    """Weights that give every class the same say in the loss: N / (classes * count), 0 for an absent class."""
    counts = np.bincount(targets, minlength=classes).astype(np.float64)
    weights = np.where(counts > 0, len(targets) / (classes * np.maximum(counts, 1)), 0.0)
    return torch.tensor(weights, dtype=torch.float32)


def set_train_mode(model: nn.Module) -> None:
    """`train()` for what learns; a module whose own and inner parameters are all frozen goes to `eval()`.

    Frozen is frozen: the batch-norm statistics of a frozen part must not move.
    """
    model.train()
    if all(p.requires_grad for p in model.parameters()):
        return
    for module in model.modules():
        inner = list(module.parameters())
        if inner and not any(p.requires_grad for p in inner):
            module.eval()


@contextmanager
def finishing_the_step() -> Iterator[Callable[[], bool]]:
    """Within, a first Ctrl-C is remembered (ask the yielded function), a second stops at once."""
    asked = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield asked.is_set
        return

    def ask(signum: int, frame: object) -> None:  # noqa: ARG001
        if asked.is_set():
            raise KeyboardInterrupt
        asked.set()

    before = signal.signal(signal.SIGINT, ask)
    try:
        yield asked.is_set
    finally:
        signal.signal(signal.SIGINT, before)
