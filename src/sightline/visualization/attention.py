"""What each patch looks at: attention by head and layer, rollout through all layers, likeness of positions.

    Vaswani et al.: Attention Is All You Need. NeurIPS 2017, arXiv 1706.03762
    Abnar & Zuidema: Quantifying Attention Flow in Transformers. ACL 2020, arXiv 2005.00928
    Dosovitskiy et al.: An Image is Worth 16x16 Words. ICLR 2021, arXiv 2010.11929, figure 7

Attention says where values come from, not what they do for an answer: it is no evidence for a class.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sightline.errors import SightlineError, UnknownName
from sightline.visualization.attention_trace import traced_attention
from sightline.visualization.evidence import as_array
from sightline.visualization.places import Grid, token_grid
from sightline.visualization.probe import as_found, picture_of, run
from sightline.visualization.windows import window_places


@dataclass(frozen=True, slots=True, eq=False)
class Attention:
    """The attention weights of one layer on one picture; each row of `values` sums to one.

    values: float32 (heads, queries, keys); where a layer attends within windows (windows, heads, queries, keys).
    grid: rows and columns of the patches among the queries, (0, 0) where only other tokens ask; key_grid: of those
    among the keys. prefix, key_prefix: how many other tokens (class token, registers) stand before them.
    places: (windows, tokens) the patch, counted row by row over `grid`, that each token of a window is, -1 for
    padding; None without windows. reads: "class" where the classifier reads the first token, else "patches".
    picture: its (height, width).
    """

    layer: str
    values: NDArray[np.float32]
    grid: Grid
    key_grid: Grid
    prefix: int
    key_prefix: int
    places: NDArray[np.int64] | None
    reads: str
    picture: tuple[int, int]

    @property
    def heads(self) -> int:
        """How many heads the layer has."""
        return int(self.values.shape[-3])

    def from_patch(self, row: int, column: int) -> NDArray[np.float32]:
        """(heads, h, w): how much of each patch the patch at `row` and `column` takes; 0 beyond its window.

        What is missing to one goes to the tokens before the patches, or to padding.

        Raises SightlineError for a patch that is not there.
        """
        rows, columns = self.grid
        if not (0 <= row < rows and 0 <= column < columns):
            having = f"{rows} rows and {columns} columns" if rows else "no patches that ask"
            raise SightlineError(
                f"There is no patch at row {row}, column {column}; {self.layer} has {having}."
            )
        number = row * columns + column
        if self.places is None:
            return self._over_patches(self.values[:, self.prefix + number])
        window, token = np.argwhere(self.places == number)[0]
        there = self.places[window] >= 0
        found = np.zeros((self.heads, rows * columns), np.float32)
        found[:, self.places[window][there]] = self.values[window, :, token][:, there]
        return found.reshape(self.heads, rows, columns)

    def from_token(self, number: int = 0) -> NDArray[np.float32]:
        """(heads, h, w): how much of each patch token `number` of those before the patches takes.

        Raises SightlineError where there is no such token.
        """
        if not 0 <= number < self.prefix:
            raise SightlineError(
                f"{self.layer} has {self.prefix} tokens before its patches, so none of number {number}."
            )
        return self._over_patches(self.values[:, number])

    def mean(self) -> NDArray[np.float32]:
        """(heads, h, w): how much of each patch the token that is classified takes, or the mean of all patches."""
        if self.reads == "class":
            return self.from_token(0)
        if self.places is None:
            return self._over_patches(self.values[:, self.prefix :].mean(1))
        rows, columns = self.grid
        found = np.zeros((self.heads, rows * columns), np.float32)
        for window, places in zip(self.values, self.places, strict=True):
            there = places >= 0
            # Padding asks, too, in the network, but for nobody.
            found[:, places[there]] += window[:, there][:, :, there].sum(1)
        return np.asarray(found / (rows * columns), np.float32).reshape(self.heads, rows, columns)

    def _over_patches(self, rows: NDArray[np.float32]) -> NDArray[np.float32]:
        return rows[:, self.key_prefix :].reshape(len(rows), *self.key_grid)


def attention(model: nn.Module, x: Tensor, *, layer: str | None = None) -> Attention:
    """The attention weights of `layer` (by default the last one that attends) on a normalised picture (1, C, H, W).

    Works on any network whose attention goes through PyTorch's functions; see `attention_trace`.
    Raises SightlineError for a network or a layer without attention, and where it cannot be told what lies where.
    """
    x = picture_of(model, x)
    seen = weights_by_layer(model, x)
    if layer is None:
        layer = list(seen)[-1]
    elif layer not in seen:
        raise UnknownName("layer that attends", layer, seen, f"Those that attend are {some_of(list(seen))}.")
    weights, size = seen[layer], (x.shape[2], x.shape[3])
    windows, _, queries, keys = weights.shape
    if windows > 1:
        grid, places = window_places(model, x, layer, windows, queries)
        return Attention(layer, as_array(weights), grid, grid, 0, 0, places, "patches", size)
    asking, answering = (token_grid(model, size, count) for count in (queries, keys))
    if answering is None:
        raise SightlineError(
            f"{layer} attends to {keys} tokens, which are no grid over a picture of {size[0]}x{size[1]}."
        )
    grid, prefix = asking or ((0, 0), queries)
    reads = "class" if prefix and reads_class_token(model) else "patches"
    return Attention(layer, as_array(weights[0]), grid, answering[0], prefix, answering[1], None, reads, size)


def weights_by_layer(model: nn.Module, x: Tensor) -> dict[str, Tensor]:
    """The weights (N, heads, queries, keys) of every layer that attends. Raises SightlineError where none does."""
    with as_found(model), torch.no_grad(), traced_attention(model) as seen:
        run(model, x)
    if not seen:
        kinds = list(dict.fromkeys(type(m).__name__ for m in model.children()))
        raise SightlineError(
            f"{type(model).__name__} has no attention to look at; it is made of {', '.join(kinds[:6])}."
        )
    return seen


def some_of(names: list[str]) -> str:
    """Names for a sentence."""
    return ", ".join(names) if len(names) <= 8 else f"{', '.join(names[:4])}, ... {names[-1]}"


@dataclass(frozen=True, slots=True, eq=False)
class Rollout:
    """Attention through all layers: row i of `values` (T, T) is what token i at the end has of each at the start.

    Each row sums to one. grid, prefix: of the patches, and the tokens before them. layers: those multiplied, the
    first one first. reads: "class" where the classifier reads the first token, else "patches".
    """

    values: NDArray[np.float32]
    grid: Grid
    prefix: int
    layers: tuple[str, ...]
    reads: str
    picture: tuple[int, int]

    def over_patches(self) -> NDArray[np.float32]:
        """(h, w): what the token that is classified, or the mean of all patches that are, has of each patch."""
        asking = self.values[:1] if self.reads == "class" else self.values[self.prefix :]
        return np.asarray(asking.mean(0)[self.prefix :], np.float32).reshape(self.grid)


def attention_rollout(model: nn.Module, x: Tensor) -> Rollout:
    """Attention rollout on a normalised picture (1, C, H, W).

    In each layer the mean A over the heads is mixed with what the shortcut hands on, (A + I) / 2, and the layers are
    multiplied (Abnar & Zuidema, section 3). What the MLPs do is not in it.
    Raises SightlineError unless all layers attend over one and the same row of tokens.
    """
    x = picture_of(model, x)
    seen, size = weights_by_layer(model, x), (x.shape[2], x.shape[3])
    shapes = {tuple(weights.shape[:1] + weights.shape[2:]) for weights in seen.values()}
    windows, queries, keys = next(iter(shapes))
    places = token_grid(model, size, keys) if len(shapes) == 1 and windows == 1 and queries == keys else None
    if places is None:
        raise SightlineError(
            f"The layers of {type(model).__name__} do not attend over one row of tokens (they have windows, or maps "
            "of several sizes), so there is nothing to multiply; `attention` shows each by itself."
        )
    eye = torch.eye(queries, dtype=torch.float64)
    total = eye
    for weights in seen.values():
        mixed = (weights[0].double().mean(0).cpu() + eye) / 2
        total = mixed / mixed.sum(-1, keepdim=True) @ total
    grid, prefix = places
    reads = "class" if prefix and reads_class_token(model) else "patches"
    return Rollout(as_array(total), grid, prefix, tuple(seen), reads, size)


def reads_class_token(model: nn.Module) -> bool:
    """Whether a transformer classifies by its first token rather than by the mean of its patches."""
    pooling = getattr(
        model, "global_pool", "token"
    )  # of timm's and ours; a module of this name is another thing
    return pooling == "token" or not isinstance(pooling, str)


@dataclass(frozen=True, slots=True, eq=False)
class PositionSimilarity:
    """How alike the embeddings of any two positions are: `values` (h, w, h, w), cosines, 1 for the same position.

    layer: the parameter's name.
    """

    layer: str
    values: NDArray[np.float32]


def position_similarity(
    model: nn.Module, *, layer: str | None = None, picture: Grid | None = None
) -> PositionSimilarity:
    """The cosine between the embeddings of each two patches' positions.

    layer: the name of the position embedding, where a network has several; by default the first.
    picture: (height, width), needed only where neither the network nor the number of positions tells the grid.
    Raises SightlineError for a network without position embeddings.
    """
    tensors = dict(model.named_parameters()) | dict(model.named_buffers())
    known = {name: t for name, t in tensors.items() if "pos_emb" in name and t.ndim in (3, 4) and len(t) == 1}
    if not known:
        relative = next((name for name in tensors if "relative_position" in name or "rel_pos" in name), None)
        instead = f" (it has biases for offsets, {relative})" if relative else ""
        raise SightlineError(f"{type(model).__name__} has no position embeddings{instead}.")
    if layer is None:
        layer = next(iter(known))
    elif layer not in known:
        raise UnknownName("position embedding", layer, known)
    embedding = known[layer].detach().double().cpu()
    if embedding.ndim == 4:  # a map, channels first or last
        first = embedding.shape[1] >= embedding.shape[3]
        folded = embedding[0].movedim(0, -1) if first else embedding[0]
    else:
        size = picture or own_size(model)
        found = token_grid(model, size, embedding.shape[1]) if size else None
        if found is None:
            raise SightlineError(
                f"The {embedding.shape[1]} positions of {layer} are no grid over a picture of {size}; give picture="
                "(height, width)."
            )
        folded = embedding[0, found[1] :].reshape(*found[0], -1)
    unit = folded / folded.norm(dim=-1, keepdim=True).clamp(min=1e-12)
    return PositionSimilarity(layer, as_array(torch.einsum("ijc,klc->ijkl", unit, unit)))


def own_size(model: nn.Module) -> Grid | None:
    """The (height, width) of pictures that a transformer was built for, where it says so."""
    embed = getattr(model, "patch_embed", None)
    size = (
        getattr(embed, "img_size", None)
        or getattr(model, "img_size", None)
        or getattr(model, "image_size", None)
    )
    if size is None:
        return (1, 1)  # as many rows as columns
    return (size, size) if isinstance(size, int) else (int(size[0]), int(size[1]))
