"""Pictures and words trained into one space: the symmetric contrastive loss, and the Trainer that minimises it.

    Radford et al.: Learning Transferable Visual Models From Natural Language Supervision. ICML 2021, arXiv 2103.00020,
        section 2.3, figure 3

In a batch of N pairs each picture is to find its own caption among the N, and each caption its picture: two
cross-entropies over cosines times a learned scale, averaged. The scale never exceeds 100. With several processes the
N are those of the global batch: embeddings are gathered, with their gradients, and each process answers for its own
rows, so that the step is that of one process.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sightline.evaluation.retrieval import AT, RetrievalScores, retrieval_scores
from sightline.pipeline.loader import Batch
from sightline.pipeline.order import CAPTION, uniforms
from sightline.training.loop import Trainer, seed_generators, step_seed
from sightline.training.processes import ALONE, Processes, whole_rows
from sightline.training.state import TrainState

HIGHEST_SCALE = 100.0
# Captions are embedded so many at a time where no gradient is needed.
TEXTS = 512


@dataclass(frozen=True)
class CaptionTokens:
    """Captions of pictures 0, 1, ... as tokens: those of picture i are rows first[i] to first[i + 1]."""

    tokens: Tensor  # (M, context), whole numbers
    first: np.ndarray  # (N + 1,)

    def draw(self, seed: int, epoch: int, pictures: np.ndarray) -> Tensor:
        """One of the captions of each of `pictures` (n,): int64 (n, context). Keyed by (seed, epoch, picture)."""
        count = self.first[pictures + 1] - self.first[pictures]
        u = uniforms(seed, epoch, pictures, 1, CAPTION)[:, 0]
        rows = self.first[pictures] + (u * count).astype(np.int64)
        return self.tokens[torch.from_numpy(rows)].long()


def contrastive_losses(
    images: Tensor,
    texts: Tensor,
    scale: Tensor,
    sizes: Sequence[int] | None = None,
    processes: Processes = ALONE,
    label_smoothing: float = 0.0,
) -> tuple[Tensor, Tensor]:
    """The loss of each pair (n,), and whether its caption is the nearest to the picture (n,).

    images, texts: embeddings of length one (n, D), row by row the pairs of this process. sizes: how many pairs each
    process has. The mean of the losses over the pairs of all processes is the paper's loss.
    """
    images, texts = images.float(), texts.float()
    sizes = [len(images)] if sizes is None else sizes
    own = sum(sizes[: processes.rank]) + torch.arange(len(images), device=images.device)
    all_images, all_texts = (whole_rows(rows, sizes, processes) for rows in (images, texts))
    to_texts, to_images = scale * images @ all_texts.T, scale * texts @ all_images.T
    losses = sum(
        F.cross_entropy(logits, own, reduction="none", label_smoothing=label_smoothing)
        for logits in (to_texts, to_images)
    )
    assert isinstance(losses, Tensor)
    return losses / 2, to_texts.detach().argmax(1) == own if len(own) else own.bool()


def limit_scale(model: nn.Module) -> None:
    """Keep the scale of `model` at 100 or below."""
    with torch.no_grad():
        scale: Any = model.logit_scale
        scale.clamp_(max=math.log(HIGHEST_SCALE))


@dataclass
class ContrastiveTrainer(Trainer):
    """A Trainer whose model is a CLIP. captions: of the training pictures; val_texts, val_owners: every caption of the
    validation pictures, its tokens, and the picture that it belongs to."""

    captions: CaptionTokens = field(kw_only=True)
    val_texts: list[str] = field(kw_only=True)
    val_tokens: Tensor = field(kw_only=True)
    val_owners: np.ndarray = field(kw_only=True)

    def start(self) -> TrainState:
        """The state before the first step; the scale is limited after every step, before the average takes it."""
        state = super().start()
        model = state.model
        state.optimizer.register_step_post_hook(lambda *_: limit_scale(model))
        return state

    def trained(self, model: nn.Module) -> nn.Module:
        return model

    def learn(
        self, state: TrainState, batch: Batch, rate: float, whole: np.ndarray | None = None
    ) -> tuple[Tensor, Tensor]:
        """One step, as `Trainer.learn`: the sum of the losses of `batch`, and how many captions were the nearest."""
        for group in state.optimizer.param_groups:
            group["lr"] = rate
        seed_generators(step_seed(self.recipe.seed, state.step, self.processes.rank), self.device)
        state.optimizer.zero_grad(set_to_none=True)
        pairs = len(batch.indices)
        images = batch.images
        tokens = self.captions.draw(self.recipe.seed, state.epoch, batch.indices)
        if not pairs:  # none could be read, but the other processes wait for this one's part
            images, tokens = torch.zeros(1, *self.shape, dtype=torch.uint8), self.captions.tokens[:1].long()
        counts = np.zeros(self.processes.count)
        counts[self.processes.rank] = pairs
        sizes = self.processes.total(counts).astype(int).tolist()
        seen, said, scale = self.forward(self.parallel or state.model, images, tokens.to(self.device))
        losses, right = contrastive_losses(
            seen[:pairs], said[:pairs], scale, sizes, self.processes, self.recipe.label_smoothing or 0.0
        )
        share = self.processes.count / max(1, pairs if whole is None else len(whole))
        (losses.sum() * share).backward()  # type: ignore[no-untyped-call]
        self.move(state)
        return losses.detach().sum(), right.sum()

    def merit(self, row: dict[str, Any]) -> float:
        return float(row["val_recall"])

    def deviation(self, _: dict[str, Any]) -> float:
        """None, so that the epoch with the highest recall is kept, and of equal ones the latest."""
        return 0.0

    @torch.inference_mode()
    def validate(self, model: nn.Module) -> dict[str, float]:
        """Loss, and recall at 1, 5 and 10 both ways, over the validation split."""
        model.eval()
        self.processes.share_buffers(model)
        found, images = self.embed_pictures(model)
        texts = self.embed_texts(model)
        scale = float(self.scale_of(model))
        scores = scores_of(found, images, texts, self.val_texts, self.val_owners, "val")
        row = {"val_loss": self.loss_of(found, images, texts, scale), "val_recall": scores.mean_recall}
        for k in AT:
            row[f"val_image_to_text_{k}"] = scores.image_to_text.recall[k].value
            row[f"val_text_to_image_{k}"] = scores.text_to_image.recall[k].value
        return row | {"scale": scale}

    def embed_pictures(self, model: Any) -> tuple[np.ndarray, np.ndarray]:
        """(places in the validation split, embeddings) of its readable pictures, in order."""
        encode = partial(model.encode_image, normalize=True)
        mine = [
            (batch.indices, self.forward(encode, batch.images).float().cpu().numpy())
            for batch in self.val.batches(part=(self.processes.rank, self.processes.count))
            if len(batch.indices)
        ]
        parts = [part for gathered in self.processes.gather(mine) for part in gathered]
        indices = np.concatenate([part[0] for part in parts])
        order = np.argsort(indices)
        return indices[order], np.concatenate([part[1] for part in parts])[order]

    def embed_texts(self, model: Any) -> np.ndarray:
        """Embeddings of all captions of the validation split, in order."""
        parts = self.processes.part(np.arange(0, len(self.val_tokens), TEXTS))
        mine = []
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.recipe.precision == "bf16"):
            for start in parts.tolist():
                tokens = self.val_tokens[start : start + TEXTS].long().to(self.device)
                mine.append(model.encode_text(tokens, normalize=True).float().cpu().numpy())
        return np.concatenate([part for gathered in self.processes.gather(mine) for part in gathered])

    def scale_of(self, model: Any) -> float:
        """What cosines are multiplied by."""
        return float(model.logit_scale.exp())

    def loss_of(self, found: np.ndarray, images: np.ndarray, texts: np.ndarray, scale: float) -> float:
        """The loss of the validation pictures with one caption each, in batches as large as those of training."""
        first = np.searchsorted(self.val_owners, found)
        count = np.searchsorted(self.val_owners, found, side="right") - first
        own = texts[first + np.arange(len(found)) % count]
        batches = np.array_split(np.arange(len(found)), math.ceil(len(found) / (self.recipe.batch_size or 1)))
        pairs = [(torch.from_numpy(images[part]), torch.from_numpy(own[part])) for part in batches]
        return float(
            sum(contrastive_losses(*pair, torch.tensor(scale))[0].sum() for pair in pairs) / len(found)
        )


def scores_of(
    found: np.ndarray,
    images: np.ndarray,
    texts: np.ndarray,
    captions: list[str],
    owners: np.ndarray,
    split: str,
) -> RetrievalScores:
    """Recall among the pictures at places `found`, and their captions: those of unreadable pictures are left out."""
    there = np.isin(owners, found)
    chosen = np.flatnonzero(there)
    return retrieval_scores(
        images,
        texts[chosen],
        [captions[i] for i in chosen],
        np.searchsorted(found, owners[chosen]),
        split=split,
    )
