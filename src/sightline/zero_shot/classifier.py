"""A classifier out of words alone.

Radford et al.: Learning Transferable Visual Models From Natural Language Supervision. ICML 2021, arXiv 2103.00020,
    section 3.1
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sightline.bundle import Bundle, Classifier, Source
from sightline.errors import SightlineError
from sightline.files import disk_errors
from sightline.models.clip_text import BytePairs
from sightline.zero_shot.opened import DEFAULT, OpenedClip, open_clip
from sightline.zero_shot.prompts import Label, foreign, read_labels, read_templates, sentences
from sightline.zero_shot.texts import Progress, label_embeddings


class ZeroShotClassifier:
    """Tells `labels` apart that it has never seen a picture of. Nothing is fitted.

        dogs = ZeroShotClassifier("cat, dog, a rusty screw")
        dogs.predict("picture.jpg"), dogs.predict_proba(["one.jpg", "two.jpg"])
        dogs.save("zero-shot")  # from then on a classifier like any other

    labels: names, text with commas between them, or a file; see `prompts.read_labels`. templates: `imagenet` (the 80
    published ones), `photo`, `none`, a file or sentences; see `prompts.read_templates`.
    model, weights, arguments, device: see `open_clip`; or an OpenedClip. precision: as of `Classifier`.
    progress: is told how many of the sentences are embedded; with the same weights each is embedded once.

    classes: the labels' names. embeddings: (C, embed_dim), each of length one. notes: sentences about what was
    cut or is not to be expected to work. Raises SightlineError for labels that cannot be told apart.
    """

    def __init__(
        self,
        labels: str | Path | Sequence[str | Label],
        templates: str | Path | Sequence[str] = "imagenet",
        *,
        model: str | Path | OpenedClip = DEFAULT,
        weights: str | Path = "auto",
        arguments: Mapping[str, Any] | None = None,
        device: str = "cpu",
        precision: str = "auto",
        progress: Progress | None = None,
    ) -> None:
        wanted, filled = read_labels(labels), read_templates(templates)
        self.clip = model if isinstance(model, OpenedClip) else open_clip(model, weights, arguments, device)
        self.device, self.precision = device, precision
        self.classes = tuple(label.name for label in wanted)
        self.notes = [self.clip.note] if self.clip.note else []
        tokens = self._tokens(wanted, filled)
        self.embeddings = label_embeddings(self.clip.model, tokens, progress)

    def __repr__(self) -> str:
        return f"ZeroShotClassifier({self.clip.architecture}, {len(self.classes)} labels)"

    def _tokens(self, labels: Sequence[Label], templates: Sequence[str]) -> list[Tensor]:
        """The tokens (S, T) of each label's sentences; what is odd about them goes into the notes."""
        tokenizer, rows, seen = self.clip.tokenizer, list[Tensor](), dict[bytes, str]()
        for label in labels:
            texts = sentences(label, templates)
            tokens = tokenizer(texts)
            twin = seen.setdefault(tokens.numpy().tobytes(), label.name)
            if twin != label.name:
                unknown = tokenizer.unknown(label.name)
                why = f", which does not know the word {unknown[0]}" if unknown else ""
                raise SightlineError(
                    f"{twin} and {label.name} are the same to this model{why}; change one of them."
                )
            # Only a row that is full to its end can have been cut.
            cut = [
                text for text, row in zip(texts, tokens, strict=True) if row[-1] and tokenizer.truncated(text)
            ]
            if cut:
                self.notes.append(
                    f"{label.name}: {len(cut)} of {len(texts)} sentences are longer than the "
                    f"{tokenizer.context_length - 2} tokens that the model reads; the rest of them is cut off."
                )
            if isinstance(tokenizer, BytePairs) and foreign(label.name):
                self.notes.append(
                    f"{label.name}: it is not in Latin letters; the published CLIPs learnt from English captions, "
                    "so expect little."
                )
            elif unknown := tokenizer.unknown(label.name):
                self.notes.append(f"{label.name}: the model has not learnt the word {', '.join(unknown)}.")
            rows.append(tokens)
        return rows

    @cached_property
    def bundle(self) -> Bundle:
        """The image tower with the embeddings, times the learned scale, as its linear layer."""
        with torch.inference_mode(False):
            tower = self.clip.image_tower()
            tower.fold(self.embeddings, float(self.clip.model.logit_scale.detach().exp()))
        weights = {name: tensor.detach().cpu() for name, tensor in tower.state_dict().items()}
        return Bundle(
            self.clip.architecture,
            self.clip.arguments,
            self.classes,
            self.clip.preprocess,
            weights,
            licence=self.clip.licence,
        )

    @cached_property
    def classifier(self) -> Classifier:
        """The Bundle in memory."""
        return Classifier(self.bundle, self.device, self.precision)

    def predict(self, pictures: Source | Sequence[Source]) -> str | list[str]:
        """The most probable label; a list of them for a sequence of pictures."""
        return self.classifier.predict(pictures)

    def predict_proba(self, pictures: Source | Sequence[Source]) -> np.ndarray:
        """Probabilities in the order of `classes`: shape (C,), or (N, C) for a sequence. They sum to one over the
        labels: what is none of them gets the most fitting one all the same."""
        return self.classifier.predict_proba(pictures)

    def save(self, folder: str | Path) -> None:
        """Write the Bundle into `folder`, which evaluate, predict, look and fit take as any classifier."""
        folder = Path(folder).expanduser()
        with disk_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
        self.bundle.save(folder)
