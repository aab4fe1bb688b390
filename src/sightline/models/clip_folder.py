"""A CLIP that was trained here, as a folder: model.safetensors and model.json. No pickle.

model.json says the architecture and its arguments, how a picture is prepared and how a sentence becomes tokens.
`sightline fit --objective contrastive` writes it into its run; zero-shot and search read it from there.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from sightline.errors import SightlineError
from sightline.files import reason, write_beside
from sightline.models.clip import CLIP
from sightline.models.word_tokenizer import WordTokenizer
from sightline.transforms.preprocess import Preprocess

FORMAT, KIND = 1, "clip"
WEIGHTS_FILE, DESCRIPTION_FILE = "model.safetensors", "model.json"


@dataclass(frozen=True)
class KeptClip:
    """Both towers as data. architecture, arguments: what `create_model` takes, with no classes."""

    architecture: str
    arguments: dict[str, Any]
    preprocess: Preprocess
    tokenizer: WordTokenizer
    weights: dict[str, torch.Tensor] = field(repr=False)

    def save(self, folder: str | Path) -> None:
        """Write model.safetensors and model.json into `folder`, each beside and renamed."""
        from safetensors.torch import save

        description = {
            "format": FORMAT,
            "kind": KIND,
            "architecture": self.architecture,
            "arguments": self.arguments,
            "preprocess": self.preprocess.to_dict(),
            "tokenizer": self.tokenizer.to_dict(),
        }
        tensors = {name: tensor.contiguous() for name, tensor in self.weights.items()}
        write_beside(Path(folder) / WEIGHTS_FILE, save(tensors))
        text = json.dumps(description, indent=2, ensure_ascii=False)
        write_beside(Path(folder) / DESCRIPTION_FILE, text + "\n")

    @classmethod
    def load(cls, folder: str | Path) -> KeptClip:
        """Read such a folder. Raises SightlineError where it is none, or broken."""
        from safetensors import SafetensorError
        from safetensors.torch import load

        folder = Path(folder).expanduser()
        path = folder / DESCRIPTION_FILE
        try:
            description = json.loads(path.read_text(encoding="utf-8"))
            if not is_clip(description):
                raise SightlineError(
                    f"{folder} holds no CLIP; give a run made by `sightline fit --objective contrastive`."
                )
            return cls(
                architecture=str(description["architecture"]),
                arguments=dict(description["arguments"]),
                preprocess=Preprocess.from_dict(description["preprocess"]),
                tokenizer=WordTokenizer.from_dict(description["tokenizer"]),
                weights=load((folder / WEIGHTS_FILE).read_bytes()),
            )
        except OSError as error:
            raise SightlineError(f"There is no trained model in {folder}: {reason(error)}.") from None
        except (SafetensorError, KeyError, TypeError, ValueError, AttributeError) as error:
            raise SightlineError(f"The model in {folder} cannot be read: {reason(error)}.") from None

    def model(self) -> CLIP:
        """The network with the weights, in evaluation mode. Raises SightlineError where they do not fit."""
        from sightline.models import create_model

        model = create_model(self.architecture, num_classes=0, **self.arguments)
        assert isinstance(model, CLIP)
        try:
            model.load_state_dict(self.weights, strict=True)
        except RuntimeError as error:
            what = str(error).splitlines()[1].strip().rstrip(".")
            raise SightlineError(f"The weights do not fit {self.architecture}: {what}.") from None
        return model.eval()


def is_clip(description: Any) -> bool:
    """Whether the contents of a model.json are those of such a folder."""
    return isinstance(description, dict) and description.get("kind") == KIND


@torch.inference_mode()
def encode_texts(
    model: CLIP, tokenizer: WordTokenizer, texts: Sequence[str], size: int = 512
) -> torch.Tensor:
    """Embeddings of length one (N, embed_dim), float32, on the CPU."""
    device = model.logit_scale.device
    parts = [
        model.encode_text(tokenizer(texts[at : at + size]).to(device), normalize=True).float().cpu()
        for at in range(0, len(texts), size)
    ]
    return torch.cat(parts)
