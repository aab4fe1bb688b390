"""What is kept and served: a network with everything that its use needs, as safetensors and JSON. No pickle.

A Bundle is the data; a Classifier is a Bundle in memory that answers. Both read pictures through the one door and
prepare them with the saved Preprocess, so that what is served computes what was tested.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from sightline.errors import SightlineError, UnreadableImage, near
from sightline.files import reason, write_beside
from sightline.transforms.preprocess import Preprocess

if TYPE_CHECKING:
    import torch

    from sightline.data.dataset import ImageDataset
    from sightline.fast import FastNetwork

Source = str | Path | bytes | np.ndarray | Image.Image

FORMAT = 1
WEIGHTS_FILE, DESCRIPTION_FILE = "model.safetensors", "model.json"


@dataclass(frozen=True)
class Bundle:
    """A trained classifier as data.

    architecture: the name that `create_model` takes, and its `arguments`. classes: names, in the order of the
    logits. temperature: what logits are divided by before the softmax. licence: of the weights that training
    started from, where there were any.
    """

    architecture: str
    arguments: dict[str, Any]
    classes: tuple[str, ...]
    preprocess: Preprocess
    weights: dict[str, torch.Tensor] = field(repr=False)
    temperature: float = 1.0
    licence: str | None = None

    def save(self, folder: str | Path) -> None:
        """Write model.safetensors and model.json into `folder`, each beside and renamed."""
        from safetensors.torch import save

        folder = Path(folder)
        tensors = {name: tensor.contiguous() for name, tensor in self.weights.items()}
        description = {
            "format": FORMAT,
            "architecture": self.architecture,
            "arguments": self.arguments,
            "classes": list(self.classes),
            "preprocess": self.preprocess.to_dict(),
            "temperature": self.temperature,
            "licence": self.licence,
        }
        write_beside(folder / WEIGHTS_FILE, save(tensors))
        write_beside(folder / DESCRIPTION_FILE, json.dumps(description, indent=2, ensure_ascii=False) + "\n")

    @classmethod
    def load(cls, folder: str | Path) -> Bundle:
        """Read a folder with model.safetensors and model.json. Raises SightlineError where one is missing or broken."""
        from safetensors import SafetensorError
        from safetensors.torch import load

        folder = Path(folder).expanduser()
        description = read_description(folder)
        weights_file = folder / WEIGHTS_FILE
        try:
            weights = load(weights_file.read_bytes())
        except FileNotFoundError:
            raise SightlineError(
                f"{folder} has no {WEIGHTS_FILE}; the run did not get as far as a model."
            ) from None
        except (SafetensorError, OSError) as error:
            why = reason(error).removeprefix("Error while deserializing: ")
            raise SightlineError(f"{weights_file} cannot be read as safetensors: {why}.") from None
        try:
            bundle = cls(
                architecture=str(description["architecture"]),
                arguments=dict(description["arguments"]),
                classes=tuple(map(str, description["classes"])),
                preprocess=Preprocess.from_dict(description["preprocess"]),
                weights=weights,
                temperature=float(description["temperature"]),
                licence=description.get("licence"),
            )
            if len(set(bundle.classes)) < max(1, len(bundle.classes)):
                raise ValueError("its classes are none, or some of one name")
            if not 0 < bundle.temperature < float("inf"):
                raise ValueError(f"its temperature is {bundle.temperature}")
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            what = f"it lacks {error}" if isinstance(error, KeyError) else error
            raise SightlineError(f"{folder / DESCRIPTION_FILE} is not a model description: {what}.") from None
        return bundle

    def model(self) -> torch.nn.Module:
        """The network with the weights, in evaluation mode. Raises SightlineError where they do not fit."""
        from sightline.models import create_model

        try:
            model = create_model(self.architecture, num_classes=len(self.classes), **self.arguments)
        except TypeError as error:
            raise SightlineError(
                f"The arguments in {DESCRIPTION_FILE} do not fit {self.architecture}: {error}."
            ) from None
        own = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
        kept = {name: tuple(tensor.shape) for name, tensor in self.weights.items()}
        wrong = sorted(name for name in own | kept if own.get(name) != kept.get(name))
        if wrong:
            there, here = (found.get(wrong[0], "missing") for found in (kept, own))
            raise SightlineError(
                f"The weights in {WEIGHTS_FILE} do not fit {self.architecture} with {len(self.classes)} classes "
                f"as {DESCRIPTION_FILE} has it: {wrong[0]} is {there} there and {here} here"
                + (f", and {len(wrong) - 1} more." if len(wrong) > 1 else ".")
            )
        model.load_state_dict(self.weights, strict=True)
        return model.eval()


def read_description(folder: Path) -> dict[str, Any]:
    """model.json of `folder`, checked for its format."""
    path = folder / DESCRIPTION_FILE
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        if not folder.exists():
            raise SightlineError(f"There is no folder {folder}; {near_folders(folder)}") from None
        raise SightlineError(
            f"There is no trained model in {folder}; give a run made by `sightline fit`."
        ) from None
    except NotADirectoryError:
        raise SightlineError(f"{folder} is not a folder; give a run made by `sightline fit`.") from None
    except (OSError, ValueError) as error:
        raise SightlineError(f"{path} cannot be read: {reason(error)}.") from None
    if isinstance(data, dict) and data.get("kind") == "clip":
        raise SightlineError(
            f"{folder} holds pictures and words in one space, and no classes; name them with "
            f'`sightline zero-shot PICTURES --labels "cat, dog" --model {folder}`.'
        )
    if not isinstance(data, dict) or data.get("format") != FORMAT:
        found = data.get("format") if isinstance(data, dict) else None
        raise SightlineError(f"{path} has format {found!r}; this version of sightline reads format {FORMAT}.")
    return data


def near_folders(path: Path) -> str:
    """What to do where `path` is not there: another folder beside it with a name like that, or a run."""
    try:
        close = near(path.name, [entry.name for entry in path.parent.iterdir() if entry.is_dir()])
    except OSError:
        close = []
    return f"did you mean {path.parent / close[0]}?" if close else "give a run made by `sightline fit`."


class Classifier:
    """A Bundle that answers. Pictures may be paths, bytes, arrays or Pillow images, one or a sequence of them.

    `network` is the plain module. What answers is a copy of it made fast (`sightline.fast`), from the first question
    on: batch norm folded, and bf16 where the device has it and the network is large enough to gain. It decides as
    the network does, its probabilities differ in the third digit. With precision="fp32" the network itself answers.
    Raises UnreadableImage where a picture cannot be read, SightlineError where the Bundle is broken.
    """

    def __init__(self, bundle: Bundle, device: str = "cpu", precision: str = "auto") -> None:
        import torch

        self.bundle = bundle
        self.device = torch.device(device)
        self.precision = precision
        self.network = bundle.model().to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]

    def __repr__(self) -> str:
        return f"Classifier({self.bundle.architecture}, {len(self.classes)} classes)"

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names, in the order of the probabilities' columns."""
        return self.bundle.classes

    @cached_property
    def answering(self) -> FastNetwork:
        """What computes the answers: the network, or its copy made fast."""
        from sightline.fast import fast_copy

        size = (self.preprocess.channels, *self.preprocess.size)
        return fast_copy(self.network, size, self.precision)

    @property
    def preprocess(self) -> Preprocess:
        """The map from a picture to the network's input."""
        return self.bundle.preprocess

    def predict(self, pictures: Source | Sequence[Source]) -> str | list[str]:
        """The most probable class name; a list of them for a sequence of pictures."""
        single, items = one_or_many(pictures)
        names = [self.classes[i] for i in self._probabilities(items).argmax(1)]
        return names[0] if single else names

    def predict_proba(self, pictures: Source | Sequence[Source]) -> np.ndarray:
        """Probabilities in the order of `classes`: shape (C,), or (N, C) for a sequence."""
        single, items = one_or_many(pictures)
        probabilities = self._probabilities(items)
        return probabilities[0] if single else probabilities

    def embed(self, pictures: Source | Sequence[Source]) -> np.ndarray:
        """The features before the last layer: shape (F,), or (N, F) for a sequence."""
        single, items = one_or_many(pictures)
        parts = [self._embed_batch(self.prepare(items[i : i + 64])) for i in range(0, len(items), 64)]
        features = np.concatenate(parts) if parts else np.empty((0, 0), dtype=np.float32)
        return features[0] if single else features

    def prepare(self, pictures: Sequence[Source]) -> torch.Tensor:
        """Pictures as the network's uint8 input (N, C, H, W)."""
        import torch

        from sightline.data.image_io import read_image

        return torch.stack([self.preprocess(read_image(p, mode=self.preprocess.mode)) for p in pictures])

    def probabilities(self, images: torch.Tensor) -> np.ndarray:
        """Softmax probabilities (N, C), float64, of prepared uint8 `images` (N, C, H, W)."""
        import torch

        with torch.inference_mode():
            logits = self.answering.logits(self._normalized(images)).double() / self.bundle.temperature
            return np.asarray(logits.softmax(1).cpu().numpy())

    def probabilities_of(
        self, dataset: ImageDataset, progress: Any = None, size: int = 128
    ) -> tuple[np.ndarray, np.ndarray, list[UnreadableImage]]:
        """(indices, probabilities) of the readable pictures of `dataset`, in order, and the unreadable ones."""
        from sightline.pipeline.loader import PlainPictures

        indices: list[np.ndarray] = []
        rows: list[np.ndarray] = []
        failures: list[UnreadableImage] = []
        done = 0
        for batch in PlainPictures(dataset, self.preprocess).batches(size):
            failures += [UnreadableImage(f.ref, f.reason) for f in batch.failures]
            if len(batch.indices):
                indices.append(batch.indices)
                rows.append(self.probabilities(batch.images))
            done += len(batch.indices) + len(batch.failures)
            if progress:
                progress(done)
        if not rows:
            return np.empty(0, dtype=np.int64), np.empty((0, len(self.classes))), failures
        return np.concatenate(indices), np.concatenate(rows), failures

    def _probabilities(self, items: Sequence[Source]) -> np.ndarray:
        parts = [self.probabilities(self.prepare(items[i : i + 64])) for i in range(0, len(items), 64)]
        return np.concatenate(parts) if parts else np.empty((0, len(self.classes)))

    def _embed_batch(self, images: torch.Tensor) -> np.ndarray:
        import torch

        with torch.inference_mode():
            return np.asarray(self.answering.features(self._normalized(images)).cpu().numpy())

    def _normalized(self, images: torch.Tensor) -> torch.Tensor:
        return self.preprocess.normalize(images.to(self.device))


def one_or_many(pictures: Source | Sequence[Source] | Iterable[Source]) -> tuple[bool, list[Source]]:
    """Whether `pictures` is a single one, and a list of them. An array of shape (N, H, W, C) is many."""
    if isinstance(pictures, np.ndarray) and pictures.ndim == 4:
        return False, list(pictures)
    if isinstance(pictures, (str, Path, bytes, np.ndarray, Image.Image)):
        return True, [pictures]
    return False, list(pictures)
