"""Training that starts from pretrained weights: the head first, then the rest; perhaps a part of it stays frozen.

    probe      the network stays as it is; a linear head is fitted on its features, with the penalty that held-out
               pictures choose, and folded into its last layer: no step of gradient descent
    finetune   the same head first; then everything, or everything from a stage on, from there. A random head would
               pull the features apart before it has learnt anything (Kumar et al. 2022, arXiv 2202.10054)

Learning rates fall with depth (`optimizer.layer_decay`). L2-SP (Li et al. 2018, arXiv 1802.01483) pulls the weights
towards where they started instead of towards zero.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from sightline.errors import SightlineError
from sightline.features.embedding_network import Network
from sightline.features.embedding_pictures import features_of
from sightline.pipeline.cache import Failure, fits
from sightline.pipeline.loader import Batch
from sightline.training.loop import Trainer
from sightline.training.optim import averaged, make_optimizer
from sightline.training.state import Forgetful, Saver, TrainState, Watcher
from sightline.training.transfer_frozen import FrozenPart, KeptPictures, Views
from sightline.training.transfer_order import order_of, rates_by_depth

if TYPE_CHECKING:
    from sightline.data.dataset import ImageDataset
    from sightline.features.heads import LinearHead
    from sightline.training.progress import Quiet

# Views of each picture that are kept where the recipe leaves it open and memory allows.
VIEWS = 4


@dataclass(frozen=True)
class FittedHead:
    """What is known of the head that training starts from, measured on the pictures that it was fitted on.

    temperature: what the network's logits are divided by; 1 where it is folded into them.
    """

    loss: float
    accuracy: float
    temperature: float
    seconds: float
    pictures: int
    failures: tuple[Failure, ...]
    said: str


@dataclass
class TransferTrainer(Trainer):
    """A Trainer whose network begins with pretrained weights."""

    head: FittedHead | None = None
    views: Views | None = None
    origin: dict[str, Tensor] = field(default_factory=dict, init=False)

    def total_steps(self) -> int:
        """Steps of the whole run; a probe takes none."""
        return 0 if self.recipe.strategy == "probe" else super().total_steps()

    def start(self) -> TrainState:
        """The state before the first step. What the weights are pulled towards is what they are now."""
        classifier: Any = self.model.get_classifier()  # type: ignore[operator]
        heads = classifier if isinstance(classifier, tuple | list) else [classifier]
        fresh = {id(parameter) for head in heads for parameter in head.parameters()}
        self.origin = {
            name: parameter.detach().clone()
            for name, parameter in self.model.named_parameters()
            if self.recipe.l2_sp and parameter.requires_grad and id(parameter) not in fresh
        }
        decay = self.recipe.optimizer.layer_decay or 1.0
        order = order_of(self.model, self.shape)
        shares = rates_by_depth(self.model, order, decay) if decay < 1 else None
        ema = averaged(self.model, self.recipe.ema) if self.recipe.ema else None
        return TrainState(self.model, make_optimizer(self.model, self.recipe, shares, self.origin), ema)

    def move(self, state: TrainState) -> None:
        """Move the weights by the gradient of the loss, and of the pull towards where they started."""
        if self.origin:
            with torch.no_grad():
                for name, parameter in state.model.named_parameters():
                    if name in self.origin and parameter.grad is not None:
                        parameter.grad.add_(parameter - self.origin[name], alpha=self.recipe.l2_sp)
        super().move(state)

    def batches(self, epoch: int, first: int = 0) -> Iterator[tuple[np.ndarray, Batch]]:
        """As a Trainer's; of kept views the activations in the place of pictures."""
        if self.views is None:
            yield from super().batches(epoch, first)
            return
        for whole in self.positions(epoch, first):
            yield whole, self.views.batch(epoch, self.processes.part(whole))

    def forward(self, network: Callable[..., Any], images: Tensor, *more: Tensor) -> Any:
        """What `network` answers to uint8 pictures (N, C, H, W), or to kept activations, which are floats."""
        if self.views is not None and images.is_floating_point():
            return self.views.part.rest(network, images.to(self.device, non_blocking=True))
        answers = super().forward(network, images, *more)
        return answers / self.head.temperature if self.recipe.strategy == "probe" and self.head else answers

    def run(
        self,
        watcher: Watcher,
        on_best: Callable[[TrainState], None] = lambda _: None,
        state: TrainState | None = None,
        saver: Saver | None = None,
    ) -> TrainState:
        """As a Trainer's; the fitted head is measured first, as epoch 0."""
        state = state or self.start()
        if self.head is not None and state.best is None:
            self.measure_head(state, watcher, on_best)
        return super().run(watcher, on_best, state, saver or Forgetful())

    def measure_head(
        self, state: TrainState, watcher: Watcher, on_best: Callable[[TrainState], None]
    ) -> None:
        """Validate before the first step, and write it down as epoch 0."""
        assert self.head is not None
        begun = time.perf_counter()
        row: dict[str, Any] = {
            "epoch": 0,
            "step": 0,
            "lr": 0.0,
            "train_loss": self.head.loss,
            "train_accuracy": self.head.accuracy,
            "images_per_second": self.head.pictures / max(1e-9, self.head.seconds),
        }
        row |= self.validate(state.evaluated)
        row["seconds"] = self.head.seconds + time.perf_counter() - begun
        self.judge(state, row, on_best)
        state.history.append(row)
        watcher.epoch(row)

    # ------------------------------------------------------------------------------------------ before the run
    def fit_head(self, train: ImageDataset, watcher: Quiet) -> None:
        """Fit the recipe's head on the features of `train`, unaugmented, and fold it into the network."""
        begun = time.perf_counter()
        precision = "fp32" if self.recipe.precision == "fp32" else "auto"
        network = Network(self.model.eval(), self.preprocess, self.device, precision)

        def compute() -> tuple[LinearHead, float, float, int, list[Failure]]:
            from sightline.features.heads import make_head

            found = features_of(
                network.taps([None]),
                train,
                progress=lambda done: watcher.reading(done, len(train), "training pictures"),
            )
            targets = train.targets[found.indices]
            if not len(targets):
                raise SightlineError(
                    f"None of the {len(train):,} training pictures of {train.name} could be read."
                )
            head = make_head(self.recipe.head or "softmax", self.recipe.penalty).fit(found.values[0], targets)
            said = head.predict_proba(found.values[0])
            right = float((head.classes_[said.argmax(1)] == targets).mean())
            places = np.searchsorted(head.classes_, targets)
            loss = float(-np.log(np.maximum(said[np.arange(len(targets)), places], 1e-12)).mean())
            return head, loss, right, len(targets), found.failures

        head, loss, right, count, failures = self.processes.on_main(compute)
        penalty, error = (
            head.penalty_,
            float(head.errors_[np.argmin(np.abs(head.penalties_ - head.penalty_))]),
        )
        widen(head, self.classes)
        if self.recipe.strategy == "finetune":  # training goes on from calibrated logits
            head.coef_, head.intercept_ = head.coef_ / head.temperature_, head.intercept_ / head.temperature_
            head.temperature_ = 1.0
        from sightline.features.heads import fold_head

        temperature = fold_head(self.model, head)
        self.head = FittedHead(
            loss, right, temperature, time.perf_counter() - begun, count, tuple(failures),
            f"Head: {self.recipe.head or 'softmax'} on frozen features, penalty {penalty:.3g}, error {error:.1%} on "
            "training pictures held out.",
        )  # fmt: skip

    def keep_views(self) -> tuple[int, str | None]:
        """Keep activations of the frozen part, where the recipe allows; the number of views, and what to say of it.

        Raises SightlineError where it asks for views that cannot be kept.
        """
        wanted, module = self.recipe.views, self.recipe.train_from
        if module is None or wanted == 0 or self.recipe.strategy != "finetune":
            return 0, None
        run = super().forward
        part = FrozenPart(module, self.shape, lambda network, images: run(network, images))
        holds, each = part.holds(self.model)
        count = len(self.targets) * (wanted or VIEWS) + len(self.val.dataset)
        why = None
        if self.train.augment.mixing:
            why = "mixing needs the pictures themselves"
        elif not holds:
            why = f"{self.recipe.model.name} cannot go on from what enters {module} alone"
        elif not fits(count, each):
            why = f"those of {count:,} pictures take {count * each / 2**30:.1f} GiB"
        if why and wanted:
            raise SightlineError(f"Activations before {module} cannot be kept: {why}; set views = 0.")
        if why:
            return 0, f"Activations before {module} are not kept: {why}."
        self.views = Views(part, self.model, self.train, self.targets, wanted or VIEWS)
        self.val = KeptPictures(self.val, part, self.model)
        return self.views.views, (
            f"Frozen before {module}: activations are computed once, for {self.views.views} augmented views of each "
            "picture."
        )


def widen(head: LinearHead, classes: int) -> None:
    """Give `head` a row for each of `classes`; one that no training picture had is never the answer."""
    if len(head.classes_) == classes:
        return
    coef = np.zeros((classes, head.coef_.shape[1]))
    intercept = np.full(classes, float(head.intercept_.min()) - 30.0 * head.temperature_)
    coef[head.classes_], intercept[head.classes_] = head.coef_, head.intercept_
    head.coef_, head.intercept_, head.classes_ = coef, intercept, np.arange(classes)
