"""A data set in two dimensions, as a network sees it: alike what it takes to be alike.

PCA keeps the two directions in which the features differ most: distances in it are real, but most of what there is
may lie in the others (`explained`). t-SNE (van der Maaten & Hinton, JMLR 2008) keeps who is whose neighbour: groups in
it are real, their sizes and the distances between them are not.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from torch import Tensor, nn

from sightline.errors import SightlineError
from sightline.visualization.probe import as_found, run

Method = Literal["pca", "tsne"]
# Okabe and Ito's colours, told apart by all eyes.
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#D55E00", "#56B4E9", "#F0E442", "#000000")


@dataclass(frozen=True, slots=True, eq=False)
class EmbeddingMap:
    """values: float32 (N, 2), a point for each picture. method: pca or tsne.

    explained: the share of the features' variance that the two axes hold; None for t-SNE, whose axes mean nothing.
    """

    values: NDArray[np.float32]
    method: Method
    explained: float | None


def embedding_map(
    model: nn.Module, pictures: Iterable[Tensor], *, method: Method = "pca", seed: int = 0
) -> EmbeddingMap:
    """Features of pictures, what enters the classifier, laid out in two dimensions.

    pictures: batches (N, C, H, W), normalised; only the features are kept. seed: of t-SNE.
    Raises SightlineError for fewer than three pictures, another method, or a network that ends in no linear layer.
    """
    if method not in ("pca", "tsne"):
        raise SightlineError(f"A map of embeddings is laid out by pca or tsne, not by {method!r}.")
    parameter = next(model.parameters(), None)
    rows = []
    with as_found(model), torch.no_grad():
        for batch in pictures:
            given = batch if parameter is None else batch.to(parameter.device, parameter.dtype)
            rows.append(features(model, given).float().cpu().numpy())
    table = np.concatenate(rows) if rows else np.empty((0, 0), np.float32)
    if len(table) < 3:
        raise SightlineError(f"A map needs at least three pictures; got {len(table)}.")
    if method == "pca":
        from sklearn.decomposition import PCA

        pca = PCA(2, svd_solver="full")
        values = pca.fit_transform(table)
        explained = float(pca.explained_variance_ratio_.sum())
        return EmbeddingMap(values.astype(np.float32), method, explained)
    from sklearn.manifold import TSNE

    perplexity = min(30.0, (len(table) - 1) / 3)
    values = TSNE(2, perplexity=perplexity, init="pca", random_state=seed).fit_transform(table)
    return EmbeddingMap(values.astype(np.float32), method, None)


def features(model: nn.Module, pictures: Tensor) -> Tensor:
    """(N, F): what enters the classifier."""
    if hasattr(model, "forward_head") and hasattr(model, "forward_features"):
        speaking = cast(Any, model)
        return cast(
            Tensor, speaking.forward_head(speaking.forward_features(pictures), pre_logits=True)
        ).flatten(1)
    linear = [module for module in model.modules() if isinstance(module, nn.Linear)]
    kept: list[Tensor] = []
    hooks = [m.register_forward_hook(lambda _m, inputs, _o: kept.append(inputs[0].detach())) for m in linear]
    try:
        run(model, pictures)
    finally:
        for hook in hooks:
            hook.remove()
    if not kept:
        raise SightlineError(f"{type(model).__name__} has no linear layer whose input could be its features.")
    return kept[-1].flatten(1)


def draw_embedding_map(
    record: EmbeddingMap,
    thumbnails: Sequence[Image.Image],
    *,
    targets: Sequence[int] | None = None,
    side: int = 1200,
    tile: int = 40,
) -> Image.Image:
    """The points of a map as thumbnails with a border in the colour of their class, on a square of `side` pixels.

    Where there is no room for a thumbnail its point is a dot, so that none hides another.
    Raises SightlineError unless there is a thumbnail for each point.
    """
    if len(thumbnails) != len(record.values):
        raise SightlineError(f"{len(record.values)} points need as many thumbnails; got {len(thumbnails)}.")
    low, high = record.values.min(0), record.values.max(0)
    # One scale for both axes: a distance is as long down as across.
    scale = (side - 2 * tile) / max(float((high - low).max()), 1e-12)
    centres = (record.values - (low + high) / 2) * scale * (1, -1) + side / 2
    canvas = Image.new("RGB", (side, side), "white")
    pen = ImageDraw.Draw(canvas)
    border = max(2, tile // 16)
    taken: list[tuple[float, float]] = []
    shown: list[int] = []
    dots: list[int] = []
    for number, (x, y) in enumerate(centres):
        free = all(max(abs(x - a), abs(y - b)) >= tile for a, b in taken)
        (shown if free else dots).append(number)
        if free:
            taken.append((x, y))
    colours = (
        [COLOURS[t % len(COLOURS)] for t in targets] if targets is not None else ["#5a636e"] * len(centres)
    )
    for number in shown:
        x, y = centres[number]
        left, top = round(x - tile / 2), round(y - tile / 2)
        pen.rectangle((left, top, left + tile - 1, top + tile - 1), fill=colours[number])
        inner = tile - 2 * border
        small = thumbnails[number].convert("RGB").resize((inner, inner), Image.Resampling.LANCZOS)
        canvas.paste(small, (left + border, top + border))
    for number in dots:
        x, y = centres[number]
        pen.ellipse((x - 3, y - 3, x + 3, y + 3), fill=colours[number], outline="white")
    return canvas
