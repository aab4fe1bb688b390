"""The training loop: what a step can touch is one visible state, and every number comes from the recipe."""

from __future__ import annotations

import copy
import hashlib
import math
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.parallel import DistributedDataParallel

from sightline.errors import SightlineError
from sightline.pipeline.loader import Batch, PlainPictures, TrainLoader
from sightline.pipeline.order import epoch_order
from sightline.training.choice import deviation_of_mean_recall
from sightline.training.interrupts import finishing_the_step
from sightline.training.memory import within_memory
from sightline.training.objective import Answers, Objective
from sightline.training.optim import averaged, make_optimizer
from sightline.training.processes import ALONE, Processes
from sightline.training.recipe import Recipe
from sightline.training.schedule import factor
from sightline.training.state import Best, Forgetful, Saver, Sums, TrainState, Watcher
from sightline.transforms.preprocess import Preprocess

# On a GPU figures are fetched after so many steps: each fetch makes the processor wait for the device.
FETCHED_TOGETHER = 16


@dataclass
class Trainer:
    """What a run is made of. `model` is on `device`; a frozen part has `requires_grad` False.

    `accumulate`: how many parts a batch is computed in, one after the other; it grows in the first steps where the
    batch does not fit into memory.
    """

    model: nn.Module
    recipe: Recipe
    preprocess: Preprocess
    train: TrainLoader
    val: PlainPictures
    targets: np.ndarray  # of the training pictures
    classes: int
    device: torch.device
    processes: Processes = ALONE
    accumulate: int = 1

    def __post_init__(self) -> None:
        self.parallel: nn.Module | None = None
        self.balanced = self.targets if self.recipe.balance == "sampling" else None
        self.objective = Objective(
            self.recipe, self.targets, self.classes, self.train.augment, self.device, self.processes
        )

    @property
    def steps_per_epoch(self) -> int:
        """Batches in an epoch: as few as hold every picture once. Their sizes differ by one at most."""
        return math.ceil(len(self.targets) / (self.recipe.batch_size or 1))

    def total_steps(self) -> int:
        """Steps of the whole run."""
        return self.recipe.steps or self.steps_per_epoch * (self.recipe.epochs or 1)

    def start(self) -> TrainState:
        """The state before the first step."""
        ema = averaged(self.model, self.recipe.ema) if self.recipe.ema else None
        return TrainState(self.model, make_optimizer(self.model, self.recipe), ema)

    def trained(self, model: nn.Module) -> nn.Module:
        """What of `model` a step calls."""
        return Answers(model)

    def merit(self, row: dict[str, Any]) -> float:
        """What epochs are compared by, the higher the better."""
        return float(row["val_balanced_accuracy"])

    def deviation(self, row: dict[str, Any], /) -> float:
        """Standard error of the merit."""
        return float(row["val_deviation"])

    def batches(self, epoch: int, first: int = 0) -> Iterator[tuple[np.ndarray, Batch]]:
        """The batches of `epoch` from number `first` on: positions of the global one, and this process's part."""
        whole = self.positions(epoch, first)
        yield from zip(whole, self.train.epoch(epoch, [self.processes.part(p) for p in whole]), strict=True)

    def positions(self, epoch: int, first: int = 0) -> list[np.ndarray]:
        """The positions in the training set of each global batch of `epoch`, from number `first` on."""
        order = epoch_order(len(self.targets), self.recipe.seed, epoch, self.balanced)
        return np.array_split(order, self.steps_per_epoch)[first:]

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

    def forward(self, network: Callable[..., Any], images: torch.Tensor, *more: torch.Tensor) -> Any:
        """What `network` answers to uint8 `images` (N, C, H, W) and `more`, in the recipe's precision."""
        x = self.preprocess.normalize(images.to(self.device, non_blocking=True))
        x = x.contiguous(memory_format=torch.channels_last)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.recipe.precision == "bf16"):
            return network(x, *more)

    def learn(
        self, state: TrainState, batch: Batch, rate: float, whole: np.ndarray | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """One step on this process's `batch` of the global batch at positions `whole` (default: `batch` is all of it).

        The gradient is that of the mean over the global batch, however many processes and parts compute it: each
        picture's loss is divided by what the pictures of the global batch weigh together. Returns, on the device,
        the sum of the losses of `batch` and how many were right before the step.
        """
        for group in state.optimizer.param_groups:
            group["lr"] = rate * group.get("share", 1.0)
        scale = self.processes.count / self.objective.weight(batch.indices if whole is None else whole)
        images, classes = batch.images, batch.targets
        if not len(classes):  # none could be read, but the other processes wait for this one's gradients
            images, classes = (
                torch.zeros(1, *self.shape, dtype=torch.uint8),
                torch.zeros(1, dtype=torch.int64),
            )
            scale = 0.0
        images, classes = (x.to(self.device, non_blocking=True) for x in (images, classes))
        images, targets = self.objective.mixed(state, images, classes)
        loss_sum, right = within_memory(
            self, state, len(images), lambda: self.differentiate(state, images, classes, targets, scale)
        )
        self.move(state)
        return loss_sum, right

    def move(self, state: TrainState) -> None:
        """Move the weights by their gradient, and their average after them."""
        if self.recipe.clip_grad:
            nn.utils.clip_grad_norm_(state.model.parameters(), self.recipe.clip_grad)
        state.optimizer.step()
        if state.ema is not None:
            state.ema.update_parameters(state.model)

    def differentiate(
        self,
        state: TrainState,
        images: torch.Tensor,
        classes: torch.Tensor,
        targets: torch.Tensor,
        scale: float,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The gradient of `scale` times the sum of the losses, `accumulate` parts one after the other; as `learn`."""
        # Dropout and drop path draw by the step: nothing to keep in a checkpoint.
        seed_generators(step_seed(self.recipe.seed, state.step, self.processes.rank), self.device)
        state.optimizer.zero_grad(set_to_none=True)
        loss_sum, right = torch.zeros((), device=self.device), torch.zeros((), device=self.device)
        network = self.parallel or self.trained(state.model)
        parts = list(zip(*(x.chunk(self.accumulate) for x in (images, classes, targets)), strict=True))
        for number, (part, truth, wanted) in enumerate(parts):
            with self.without_exchange(number + 1 < len(parts)):
                answers = self.forward(network, part)
                losses = self.objective.losses(answers, wanted)
                (losses.sum() * scale).backward()  # type: ignore[no-untyped-call]
            loss_sum += losses.detach().sum()
            right += (answers[0].detach().argmax(1) == truth).sum()
        return loss_sum, right

    @property
    def shape(self) -> tuple[int, int, int]:
        """(channels, height, width) of a picture as the network takes it."""
        return (self.preprocess.channels, *self.preprocess.size)

    def without_exchange(self, wanted: bool) -> AbstractContextManager[Any]:
        """Within, gradients are not yet averaged over the processes, where that is `wanted`."""
        if wanted and isinstance(self.parallel, DistributedDataParallel):
            return self.parallel.no_sync()
        return nullcontext()

    @torch.inference_mode()
    def validate(self, model: nn.Module) -> dict[str, float]:
        """Loss, accuracy, balanced accuracy and its standard error over the validation split, every picture once."""
        model.eval()
        self.processes.share_buffers(model)
        loss, right, seen = 0.0, np.zeros(self.classes), np.zeros(self.classes)
        for batch in self.val.batches(part=(self.processes.rank, self.processes.count)):
            if not len(batch.indices):
                continue
            logits = self.forward(model, batch.images).float().cpu()
            loss += float(F.cross_entropy(logits, batch.targets, reduction="sum"))
            hit = (logits.argmax(1) == batch.targets).numpy()
            truth = batch.targets.numpy()
            seen += np.bincount(truth, minlength=self.classes)
            right += np.bincount(truth[hit], minlength=self.classes)
        sums = self.processes.total(np.concatenate([[loss], right, seen]))
        loss, right, seen = float(sums[0]), sums[1 : 1 + self.classes], sums[1 + self.classes :]
        total = max(1.0, float(seen.sum()))
        right, seen = right[seen > 0], seen[seen > 0]
        return {
            "val_loss": loss / total,
            "val_accuracy": float(right.sum()) / total,
            "val_balanced_accuracy": float((right / seen).mean()) if len(seen) else 0.0,
            "val_deviation": deviation_of_mean_recall(right, seen) if len(seen) else 0.0,
        }

    def spare(self) -> Trainer:
        """The same run on a copy of the network, in this process alone: what it does leaves no trace."""
        return replace(self, model=copy.deepcopy(self.model), processes=ALONE)

    def run(
        self,
        watcher: Watcher,
        on_best: Callable[[TrainState], None] = lambda _: None,
        state: TrainState | None = None,
        saver: Saver | None = None,
    ) -> TrainState:
        """Train from `state` to the end, to the patience's end, or until interrupted.

        The first Ctrl-C (or SIGTERM) lets the step end, has `saver` keep the state and raises KeyboardInterrupt.
        """
        state, saver = state or self.start(), saver or Forgetful()
        total = self.total_steps()
        if self.processes.count > 1:
            place = [self.device] if self.device.type == "cuda" else None
            self.parallel = DistributedDataParallel(
                self.trained(state.model), device_ids=place, broadcast_buffers=False
            )
        with finishing_the_step() as asked:
            while self.goes_on(state):
                self.train_epoch(state, watcher, saver, asked, total)
                self.end_epoch(state, watcher, on_best)
                if self.goes_on(state):
                    self.pause(state, saver, asked)
            saver.save(state)
        if state.step < total:
            left = math.ceil((total - state.step) / self.steps_per_epoch)
            watcher.message(
                f"Stopped early: no better epoch in {self.recipe.patience}, {left} epochs before the planned end."
            )
        return state

    def goes_on(self, state: TrainState) -> bool:
        """Whether there are steps left, and patience."""
        patient = self.recipe.patience is None or state.choice.epochs_since < self.recipe.patience
        return state.step < self.total_steps() and patient

    def train_epoch(
        self, state: TrainState, watcher: Watcher, saver: Saver, asked: Callable[[], bool], total: int
    ) -> None:
        """What is left of one pass over the training pictures, or of the steps."""
        set_train_mode(state.model)
        first = state.step - state.epoch * self.steps_per_epoch
        pending: list[tuple[int, int, float, torch.Tensor, torch.Tensor]] = []
        begun = time.perf_counter() - state.sums.seconds

        def fetch() -> None:
            for step, count, rate, loss, right in pending:
                figures = loss.item(), right.item()
                self.check_loss(figures[0], step)
                sums = state.sums
                sums.loss, sums.right, sums.seen = (
                    sums.loss + figures[0],
                    sums.right + figures[1],
                    sums.seen + count,
                )
                sums.seconds = time.perf_counter() - begun
                watcher.record(
                    {"step": step, "epoch": state.epoch + 1, "lr": rate, "loss": figures[0] / count}
                )
                speed = sums.seen * self.processes.count / max(1e-9, sums.seconds)
                watcher.step(
                    state.epoch + 1, step, total, sums.loss / sums.seen, sums.right / sums.seen, speed
                )
            pending.clear()

        for whole, batch in self.batches(state.epoch, first) if state.step < total else ():
            for failure in batch.failures:
                state.failures[failure.ref] = failure
            if len(batch.indices) or self.processes.count > 1:
                rate = self.rate(state.step)
                loss, right = self.learn(state, batch, rate, whole)
                if len(batch.indices):
                    pending.append((state.step + 1, len(batch.indices), rate, loss, right))
            state.step += 1
            if self.device.type == "cpu" or len(pending) >= FETCHED_TOGETHER:
                fetch()
            if state.step >= total:
                break
            self.pause(state, saver, asked, fetch)
        fetch()

    def pause(
        self,
        state: TrainState,
        saver: Saver,
        asked: Callable[[], bool],
        fetch: Callable[[], None] = lambda: None,
    ) -> None:
        """Between two steps: keep the state if it is time, stop if that was asked for."""
        stop = self.processes.any(asked())
        if stop or saver.due():
            fetch()
            saver.save(state)
        if stop:
            raise KeyboardInterrupt

    def end_epoch(self, state: TrainState, watcher: Watcher, on_best: Callable[[TrainState], None]) -> None:
        """Validate, write the epoch down, and keep its weights if it is as good as the best."""
        begun = time.perf_counter()
        sums = state.sums
        loss, right, seen = self.processes.total(np.array([sums.loss, sums.right, sums.seen]))
        row: dict[str, Any] = {
            "epoch": state.epoch + 1,
            "step": state.step,
            "lr": self.rate(state.step - 1),
            "train_loss": float(loss) / max(1.0, seen),
            "train_accuracy": float(right) / max(1.0, seen),
            "images_per_second": float(seen) / max(1e-9, sums.seconds),
        }
        row |= self.validate(state.evaluated)
        self.check_loss(row["val_loss"], state.step)
        row["seconds"] = sums.seconds + time.perf_counter() - begun
        self.judge(state, row, on_best)
        state.epoch, state.sums = state.epoch + 1, Sums()
        state.history.append(row)
        watcher.epoch(row)

    def judge(self, state: TrainState, row: dict[str, Any], on_best: Callable[[TrainState], None]) -> None:
        """Keep the weights of the epoch that `row` tells of if it is as good as the best, and note that in `row`."""
        merit, loss = self.merit(row), row["val_loss"]
        row["best"] = state.choice.keeps(merit, loss, self.deviation(row))
        if row["best"]:
            weights = {k: v.detach().cpu().clone() for k, v in state.evaluated.state_dict().items()}
            state.best = Best(row["epoch"], merit, loss, weights)
            on_best(state)

    def check_loss(self, loss: float, step: int) -> None:
        """Raises SightlineError where the training has run away."""
        if not math.isfinite(loss):
            raise SightlineError(
                f"The loss became {loss} at step {step}; try a tenth of the learning rate "
                f"(--set optimizer.lr={self.recipe.optimizer.lr:g} now), or --set precision=fp32."
            )


def step_seed(seed: int, step: int, rank: int) -> int:
    """The seed of PyTorch's generator for one step of one process."""
    digest = hashlib.blake2b(f"{seed} {step} {rank}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def seed_generators(seed: int, device: torch.device) -> None:
    """`torch.manual_seed` for the processor and `device` alone: that takes a hundredth of the time."""
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        torch.cuda.manual_seed(seed)
    elif device.type == "mps":
        torch.mps.manual_seed(seed)


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
