"""From pictures with captions and a recipe to a contrastive run that is ready to begin."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from sightline.data.captions import CaptionDataset, recorded_splits
from sightline.data.split import make_splits
from sightline.errors import SightlineError
from sightline.models.word_tokenizer import WordTokenizer
from sightline.training.build import build_model
from sightline.training.contrastive import CaptionTokens, ContrastiveTrainer
from sightline.training.plan import Facts, Planner, default_ema, default_shares, gather_facts
from sightline.training.prepare import Job, choose_device, read_pictures
from sightline.training.processes import ALONE, Processes, synchronised
from sightline.training.progress import Quiet
from sightline.training.recipe import Recipe
from sightline.transforms.augment import Augment

# The house network for training from scratch; it halves a picture five times.
NETWORK, GRAIN = "clip_small", 32
# Pictures up to this short side keep about their size; larger ones are reduced to PHOTO_SIDE.
SMALL_SIDE, PHOTO_SIDE = 80, 96
# Pairs seen in a whole run, and the most passes over them.
PAIRS_SEEN, MOST_EPOCHS = 250_000, 60
WARMUP_SHARE = 0.05


@dataclass(kw_only=True)
class ContrastiveJob(Job):
    """A contrastive run that is ready to begin. `dataset` are the pictures of `captions`."""

    captions: CaptionDataset
    tokenizer: WordTokenizer


def prepare_captions(
    captions: CaptionDataset,
    recipe: Recipe,
    watcher: Quiet,
    processes: Processes = ALONE,
    splits: Path | None = None,
) -> ContrastiveJob:
    """Split, plan, read and build, as `prepare`. `splits`: the file of a run that is resumed."""
    check(recipe)
    device = choose_device(recipe.device, processes.local)
    if splits is not None:
        captions = recorded_splits(captions, splits)
    else:
        shares = default_shares(len(captions), 1)
        made = make_splits(
            captions.pictures,
            seed=recipe.seed,
            val=recipe.val_share or shares[0],
            test=recipe.test_share or shares[1],
        )
        captions = captions.with_splits(made.splits)
    train, val = captions.split("train"), captions.split("val")
    captions.split("test")
    texts, _ = train.all_captions()
    tokenizer = WordTokenizer.fit(texts, recipe.model.arguments.get("context_length"))
    recipe, reasons = ContrastivePlanner(
        recipe, gather_facts(train.pictures), device.type, tokenizer, texts
    ).plan()
    if (recipe.batch_size or 1) < 2 * processes.count:
        raise SightlineError(
            f"A batch of {recipe.batch_size} cannot be compared pair with pair over {processes.count} process(es); "
            "set a larger batch_size."
        )
    torch.manual_seed(recipe.seed)
    model, _ = build_model(recipe, 0)
    if recipe.sync_batchnorm and processes.count > 1:
        model = synchronised(model)
    read = read_pictures(train.pictures, val.pictures, recipe, watcher, device, processes)
    kept = train.subset(read.kept)
    val_texts, val_owners = val.all_captions()
    trainer = ContrastiveTrainer(
        model.to(device, memory_format=torch.channels_last),  # type: ignore[call-overload]
        recipe,
        read.preprocess,
        read.train,
        read.val,
        kept.pictures.targets,
        1,
        device,
        processes,
        captions=caption_tokens(kept, tokenizer),
        val_texts=val_texts,
        val_tokens=tokenizer(val_texts),
        val_owners=val_owners,
    )
    return ContrastiveJob(
        captions.pictures, recipe, reasons, trainer, read.set_aside, captions=captions, tokenizer=tokenizer
    )


def caption_tokens(captions: CaptionDataset, tokenizer: WordTokenizer) -> CaptionTokens:
    """The captions of a data set as the trainer draws from them."""
    texts, owners = captions.all_captions()
    first = np.searchsorted(owners, np.arange(len(captions) + 1))
    return CaptionTokens(tokenizer(texts).to(torch.int32), first)


def check(recipe: Recipe) -> None:
    """Raises SightlineError, with all of them at once, for fields that do not go with captions."""
    problems = []
    if recipe.accumulate > 1:
        problems.append("accumulate: all pairs of a batch are compared at once; set a smaller batch_size")
    if recipe.strategy not in (None, "scratch"):
        problems.append("strategy: it starts from scratch; leave it out")
    fields = {"features": recipe.features, "head": recipe.head, "train_from": recipe.train_from}
    problems += [
        f"{key}: it goes with classes; leave it out" for key, value in fields.items() if value is not None
    ]
    if recipe.balance not in (None, "none"):
        problems.append("balance: captions have no classes to balance; leave it out")
    if recipe.augment is not None and Augment.parse(recipe.augment).mixing:
        problems.append("augment: mixed pictures have no caption; leave out mixup and cutmix")
    if recipe.model.weights not in (None, "auto", "none"):
        problems.append(
            "model.weights: it starts from scratch, with a vocabulary of its own; leave out --weights"
        )
    if problems:
        raise SightlineError(f"This does not go with objective = 'contrastive': {'; '.join(problems)}.")


class ContrastivePlanner(Planner):
    """Fills a contrastive recipe's open fields. `texts` are the captions that are trained on."""

    def __init__(
        self, recipe: Recipe, facts: Facts, device: str, tokenizer: WordTokenizer, texts: Sequence[str]
    ) -> None:
        super().__init__(recipe, facts, device)
        self.tokenizer, self.texts = tokenizer, texts

    def network(self) -> None:
        """Name, all its arguments (so that what is kept does not hang on their defaults), and the vocabulary."""
        from sightline.models import model_arguments, model_info

        name = self.recipe.model.name or NETWORK
        if "/" in name or model_info(name).family != "clip":
            raise SightlineError(
                f"{name} has no text tower; take {NETWORK} or another one of CLIP's for --objective contrastive."
            )
        known = len(self.tokenizer.words)
        cut = sum(map(self.tokenizer.truncated, self.texts))
        self.reasons += [
            f"Model {name}: from scratch on {self.facts.pictures:,} pictures with {len(self.texts):,} captions.",
            f"Vocabulary: the {known:,} words and marks that are in two captions or more; others are unknown words."
            + (f" {cut:,} captions are cut at {self.tokenizer.context_length} tokens." if cut else ""),
        ]
        given = self.recipe.model.arguments
        self.changes |= {f"model.{key}": value for key, value in (model_arguments(name) | given).items()}
        self.changes |= {
            "model.name": name,
            "model.weights": "none",
            "model.vocab_size": self.tokenizer.vocab_size,
            "model.context_length": self.tokenizer.context_length,
            "strategy": "scratch",
        }

    def input(self) -> None:
        """Size, channels and augmentation: no flips and turns, for captions may say left and right."""
        photos = self.facts.side > SMALL_SIDE
        side = PHOTO_SIDE if photos else max(GRAIN, GRAIN * round(self.facts.side / GRAIN))
        self.choose("input.channels", 1 if self.facts.grey else 3)
        self.choose("input.size", side)
        self.choose("input.fit", "squash")
        self.choose("input.interpolation", "bilinear")
        self.choose("input.store_size", self.value("input.size"))
        self.choose(
            "augment",
            "random_resized_crop(0.5)" if photos else "crop(4)",
            "Augmentation by cuts alone: captions may name colours and sides.",
        )

    def optimisation(self) -> None:
        """AdamW on a cosine with a warm-up, as in the paper."""
        pictures = self.facts.pictures
        self.choose("optimizer.name", "adamw")
        self.choose("batch_size", int(np.clip(2 ** round(math.log2(max(1, pictures) / 20)), 16, 64)))
        self.choose("optimizer.lr", 0.001)
        self.choose("optimizer.nesterov", False)
        self.choose("optimizer.weight_decay", 0.1)
        self.choose("epochs", int(np.clip(round(PAIRS_SEEN / pictures), 5, MOST_EPOCHS)))
        if self.value("schedule.name") is None:
            self.changes["schedule.name"] = "cosine"
            self.changes["schedule.warmup_epochs"] = round(WARMUP_SHARE * self.value("epochs"), 2)
        self.choose("label_smoothing", 0.0)
        self.choose("balance", "none")
        if self.recipe.steps or not self.recipe.minutes:
            batches = math.ceil(pictures / self.value("batch_size"))
            self.choose("ema", default_ema(self.recipe.steps or self.value("epochs") * batches))
