"""Sentences to embeddings, each computed once.

A label's embedding is kept on disk below `SIGHTLINE_HOME/texts`, by a hash of the text tower's weights and one of the
label's tokens: another sentence or another weight has another name, so nothing there can be out of date.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from sightline.features.embedding_cache import KEY, FeatureCache
from sightline.home import home
from sightline.models.clip import CLIP

Progress = Callable[[int, int], None]
# Sentences of like length go together, as none is computed beyond the end of its batch's longest.
BATCH = 128


def label_embeddings(model: CLIP, tokens: Sequence[Tensor], progress: Progress | None = None) -> Tensor:
    """A row of length one for each label (C, embed_dim), float32 on the CPU, out of its sentences' tokens (S, T).

    Radford et al., section 3.1.4: each sentence's embedding is brought to length one, their mean is taken, and this is
    brought to length one again. progress: is told the number of sentences done, and of all.
    """
    cache = FeatureCache(tower_key(model), home() / "texts")
    keys = [hashlib.blake2b(rows.numpy().tobytes(), digest_size=KEY).digest() for rows in tokens]
    known: dict[bytes, NDArray[np.float32]] = cache.find(keys)
    fresh = [i for i, key in enumerate(keys) if key not in known]
    total = sum(len(tokens[i]) for i in fresh)
    done = 0

    def tell(more: int) -> None:
        nonlocal done
        done += more
        if progress:
            progress(done, total)

    # A few labels at a time, so that an interrupted run keeps what it has computed.
    for part in together(fresh, [len(rows) for rows in tokens]):
        embeddings = encode(model, torch.cat([tokens[i] for i in part]), tell)
        means = [each.mean(dim=0) for each in torch.split(embeddings, [len(tokens[i]) for i in part])]
        found = {keys[i]: F.normalize(mean, dim=0).numpy() for i, mean in zip(part, means, strict=True)}
        cache.keep(found)
        known |= found
    return torch.from_numpy(np.stack([known[key] for key in keys]))


def together(labels: Sequence[int], counts: Sequence[int], most: int = 8000) -> list[list[int]]:
    """`labels` in lists whose sentences are about `most`."""
    parts: list[list[int]] = []
    room = 0
    for label in labels:
        if room < counts[label] or not parts:
            parts.append([])
            room = most
        parts[-1].append(label)
        room -= counts[label]
    return parts


@torch.inference_mode()
def encode(model: CLIP, tokens: Tensor, progress: Callable[[int], None] | None = None) -> Tensor:
    """Tokens (N, T) to embeddings of length one (N, embed_dim), float32 on the CPU.

    progress: is told of each batch how many sentences it had.
    """
    order = tokens.argmax(dim=1).argsort(stable=True)
    out = torch.empty(len(tokens), model.text_projection.shape[1])
    for chosen in torch.split(order, BATCH):
        rows = tokens[chosen].to(model.text_projection.device)
        out[chosen] = model.encode_text(rows, normalize=True).float().cpu()
        if progress:
            progress(len(chosen))
    return out


def tower_key(model: CLIP) -> str:
    """A hash of the text tower: its weights, its heads and its GELU."""
    heads = [module.num_heads for module in model.transformer.modules() if hasattr(module, "num_heads")]
    digest = hashlib.blake2b(repr((heads, model.quick_gelu, model.context_length)).encode(), digest_size=16)
    for name, tensor in model.state_dict().items():
        if not name.startswith(("visual.", "head.", "logit_scale")):
            digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype} ".encode())
            digest.update(tensor.detach().cpu().contiguous().view(torch.uint8).numpy().data)
    return digest.hexdigest()
