"""A CLIP with what its use needs: its tokenizer and the map that brings pictures to it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sightline.errors import SightlineError
from sightline.models.clip import CLIP
from sightline.models.clip_classifier import ImageClassifier
from sightline.models.clip_text import BytePairs, Tokenizer
from sightline.transforms.preprocess import Preprocess

DEFAULT = "clip_vit_base_patch32"


@dataclass(frozen=True)
class OpenedClip:
    """architecture, arguments: what `create_model` takes, for the Bundle. licence: of the weights. note: to be said."""

    model: CLIP = field(repr=False)
    tokenizer: Tokenizer = field(repr=False)
    preprocess: Preprocess
    architecture: str
    arguments: dict[str, Any]
    licence: str | None = None
    note: str | None = None

    def image_tower(self) -> ImageClassifier:
        """The image tower alone, without classes; its weights are the model's own."""
        tower = ImageClassifier(self.model.visual, 0, self.model.in_chans, self.model.quick_gelu)
        return tower.train(self.model.training)


def open_clip(
    model: str | Path = DEFAULT,
    weights: str | Path = "auto",
    arguments: Mapping[str, Any] | None = None,
    device: str = "cpu",
) -> OpenedClip:
    """The CLIP that `model` names, in evaluation mode.

    model: one of the nine published sizes, or a folder that a CLIP trained here was written to.
    weights: of a published size. `auto` is the first published set that lies on this machine, else the recommended
        one, which is fetched; `none` a random start, the same each time; else a published name or a file.
    arguments: of `create_model`; `quick_gelu` where a file of weights does not say which GELU it wants.
    Raises SightlineError where the network, its weights or its vocabulary cannot be had.
    """
    from sightline.models.clip_folder import DESCRIPTION_FILE, KeptClip

    folder = Path(model).expanduser()
    if (folder / DESCRIPTION_FILE).is_file():
        if weights != "auto" or arguments:
            raise SightlineError(f"{folder} has its own weights and arguments; leave them out.")
        kept = KeptClip.load(folder)
        return OpenedClip(
            kept.model().to(device), kept.tokenizer, kept.preprocess, kept.architecture, kept.arguments
        )
    return open_published(str(model), weights, dict(arguments or {}), device)


def open_published(name: str, weights: str | Path, arguments: dict[str, Any], device: str) -> OpenedClip:
    """A CLIP of the lineage with weights; see `open_clip`."""
    import torch

    from sightline.models import create_model, load_weights, model_info, published_weights
    from sightline.models.weights import file_of, local_file, needed_arguments

    info = model_info(name)
    if info.family != "clip":
        raise SightlineError(
            f"{name} knows no words; give one of `sightline models 'clip*'`, or a run of such a one."
        )
    rows = published_weights(name)
    if weights == "auto":
        local = [row.name for row in rows if local_file(name, row) is not None]
        weights = local[0] if local else rows[0].name
    row = None
    if weights != "none":
        path = file_of(weights)
        row = next((row for row in rows if row.name == weights or (path and row.file == path.name)), None)
        needed = needed_arguments(name, weights)
        if path is not None and not needed and "quick_gelu" not in arguments:
            raise SightlineError(
                f"{path} does not say which GELU its weights want, and a guess would be wrong in silence; add "
                "quick_gelu=true for OpenAI's, quick_gelu=false for most of open_clip's."
            )
        arguments = needed | arguments
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = create_model(name, **arguments)
    assert isinstance(model, CLIP)
    if weights != "none":
        load_weights(model, weights)
    if model.in_chans not in (1, 3):
        raise SightlineError(f"Pictures have 1 or 3 channels, not {model.in_chans}.")
    grey = model.in_chans == 1
    preprocess = Preprocess(
        model.img_size,
        channels=1 if grey else 3,
        interpolation="bicubic",
        mean=info.mean[:1] if grey else info.mean,
        std=info.std[:1] if grey else info.std,
    )
    note = (
        "The weights are RANDOM: what follows means nothing. Give --weights." if weights == "none" else None
    )
    return OpenedClip(
        model.eval().to(device),
        BytePairs(model.context_length),
        preprocess,
        name,
        arguments | {"quick_gelu": model.quick_gelu},
        row.licence if row else None,
        note,
    )
