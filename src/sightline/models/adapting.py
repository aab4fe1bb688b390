"""Tensors of a file in the shape that a network has them: where that has one sensible meaning."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

POSITIONS = ("pos_embed", "pos_embedding")


def adapt_stem(weight: Tensor, in_chans: int) -> Tensor:
    """A first convolution's weight (out, c, h, w) for `in_chans` channels.

    One channel: the sum over the old ones, which gives on a grey picture what they gave on its three equal
    channels. More: the old ones over and over, scaled by old / new so that responses keep their size.
    """
    old = weight.shape[1]
    if in_chans == 1:
        return weight.float().sum(dim=1, keepdim=True)
    repeats = -(-in_chans // old)
    return weight.float().repeat(1, repeats, 1, 1)[:, :in_chans] * (old / in_chans)


def side_of(cells: int) -> int:
    """The side of the square that has so many cells; 0 if none has."""
    side = round(cells**0.5)
    return side if side * side == cells else 0


def grid_of(model: nn.Module, key: str, mine: Tensor) -> tuple[int, int] | None:
    """Rows and columns of patches that the network's positions `key` are for; None for anything else."""
    grid = getattr(model, "position_grids", {}).get(key)  # of networks that say so
    if grid is None and (not key.rstrip("0123456789").endswith(POSITIONS) or mine.ndim != 3):
        return None
    grid = grid or getattr(getattr(model, "patch_embed", None), "grid_size", None)
    side = side_of(mine.shape[1] - getattr(model, "num_prefix_tokens", 1))
    return cast(tuple[int, int], grid or (side, side))


def are_positions(theirs: Tensor, mine: Tensor, prefix: int) -> bool:
    """Whether `theirs` are positions as `mine`, (1, T, D) or (T, D), of a square of patches behind `prefix` tokens."""
    alike = theirs.ndim == mine.ndim in (2, 3) and theirs.shape[-1] == mine.shape[-1]
    return alike and side_of(theirs.shape[-2] - prefix) > 0


def adapt_positions(positions: Tensor, grid: tuple[int, int], prefix: int) -> Tensor:
    """Position embeddings (1, T, D) or (T, D) of a square of patches for another `grid`, by bicubic interpolation.

    The first `prefix` of them belong to class tokens and stay as they are.
    """
    old = side_of(positions.shape[-2] - prefix)
    special, places = positions[..., :prefix, :].float(), positions[..., prefix:, :].float()
    places = places.reshape(1, old, old, -1).permute(0, 3, 1, 2)
    places = F.interpolate(places, size=grid, mode="bicubic", align_corners=False, antialias=True)
    places = places.permute(0, 2, 3, 1).reshape(*special.shape[:-2], -1, special.shape[-1])
    return torch.cat([special, places], dim=-2)


def adapt_window_bias(table: Tensor, window: tuple[int, int]) -> Tensor:
    """A square window's biases (offsets, heads) for a window of another size.

    A smaller one has fewer offsets, each with the bias it had; a larger one is interpolated (bicubic), as the
    authors of Swin do.
    """
    old = side_of(len(table))
    size = [2 * side - 1 for side in window]
    places = table.float().T.reshape(1, -1, old, old)
    if max(size) <= old:
        top, left = ((old - side) // 2 for side in size)
        places = places[:, :, top : top + size[0], left : left + size[1]]
    else:
        places = F.interpolate(places, size=size, mode="bicubic", align_corners=False)
    return places.flatten(2)[0].T
