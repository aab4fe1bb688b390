"""A network that is looked into, opened from a run or by its name."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sightline.bundle import DESCRIPTION_FILE, Bundle
from sightline.errors import SightlineError, UnknownName
from sightline.transforms.preprocess import Preprocess

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True, slots=True, eq=False)
class Subject:
    """A network that is looked into: what it is, how pictures are prepared for it, and its classes' names."""

    name: str
    model: nn.Module
    preprocess: Preprocess
    classes: tuple[str, ...]
    note: str = ""

    def class_number(self, text: str | None) -> int | None:
        """The number of a class given by name, or by number where none has that name; None for none."""
        if text is None:
            return None
        if text in self.classes:
            return self.classes.index(text)
        if text.isdecimal() and text.isascii():
            if int(text) < len(self.classes):
                return int(text)
            last = len(self.classes) - 1
            raise SightlineError(
                f"There is no class {text}; {self.name} has {last + 1}, numbered 0 to {last}."
            )
        raise UnknownName("class", text, self.classes)


def open_subject(name: str, weights: str | Path | None = None) -> Subject:
    """The network of a run's folder, or of a name of the lineage, of timm's or of torchvision's.

    weights: a file or a published set for a named network; without them they are random, and the note says so.
    Raises SightlineError where there is no such network, or the weights do not fit.
    """
    folder = Path(name).expanduser()
    if (folder / DESCRIPTION_FILE).exists():
        if weights is not None:
            raise SightlineError(f"{name} is a run and has its own weights; leave --weights out.")
        bundle = Bundle.load(folder)
        return Subject(
            name, bundle.model(), bundle.preprocess, bundle.classes, f"{bundle.architecture}, as trained."
        )
    from sightline.models import create_model, model_info, published_weights

    if folder.is_dir():
        Bundle.load(folder)  # says what is missing
    info = model_info(name)
    if not info.num_classes:
        raise SightlineError(
            f"{name} has no classes of its own to answer with; give it some by `sightline zero-shot PICTURES --labels "
            "'cat, dog' --out FOLDER`, and look into FOLDER."
        )
    model = create_model(name, weights=weights).eval()
    rows = published_weights(name)
    row = next((row for row in rows if row.name == str(weights)), rows[0] if rows else None)
    channels, height, width = info.input
    fitting = row is not None and (row.size, row.size) == (height, width)
    preprocess = Preprocess(
        (height, width),
        channels=1 if channels == 1 else 3,
        resize=max(row.resize, height) if row is not None and fitting else None,
        interpolation="bicubic" if row is not None and row.interpolation == "bicubic" else "bilinear",
        mean=tuple(info.mean),
        std=tuple(info.std),
    )
    count = info.num_classes
    classes = tuple(f"class {number}" for number in range(count))
    if weights is None:
        note = "Its weights are RANDOM: what is shown here is what the architecture alone does. Give --weights FILE."
        return Subject(name, model, preprocess, classes, note)
    return Subject(
        name, model, preprocess, imagenet_classes() if count == 1000 else classes, f"Weights: {weights}."
    )


def imagenet_classes() -> tuple[str, ...]:
    """The names of ImageNet-1k's classes, in its order."""
    from torchvision.models import ResNet50_Weights

    return tuple(ResNet50_Weights.DEFAULT.meta["categories"])
