"""Records of `sightline.visualization` drawn as Pillow images: tiles, enlarged by whole numbers, gaps clear.

Drawn with numpy alone: plotting libraries smooth pixels that are meant to be seen, and take a second to load.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sightline.errors import SightlineError
from sightline.visualization.feature_maps import FeatureMap
from sightline.visualization.filters import Filters

Bytes = NDArray[np.uint8]

# Ten points of viridis (van der Walt and Smith, CC0): evenly lighter from low to high, also without colour.
_VIRIDIS = np.array(
    [
        (68, 1, 84),
        (72, 40, 120),
        (62, 73, 137),
        (49, 104, 142),
        (38, 130, 142),
        (31, 158, 137),
        (53, 183, 121),
        (110, 206, 88),
        (181, 222, 43),
        (253, 231, 37),
    ]
)


def draw_filters(
    record: Filters, *, columns: int | None = None, tile: int = 48, limit: int = 256
) -> Image.Image:
    """The filters as tiles of at least about `tile` pixels: grey is 0, white and black are `record.scale`.

    Filters on three planes are drawn in colour, as RGB weights. Other than on one or three, each input plane
    is a tile in grey: a row per output plane, at most `limit` tiles in all.
    """
    values = record.values
    outputs, inputs = values.shape[:2]
    if inputs == 3:
        tiles = values.transpose(0, 2, 3, 1)[:limit]  # O, h, w, 3
    elif inputs == 1:
        tiles = values[:limit, 0]  # O, h, w
    else:
        across = min(inputs, int(np.sqrt(limit)))
        tiles = values[: limit // across, :across].reshape(-1, *values.shape[2:])
        columns = across
    unit = tiles / record.scale if record.scale > 0 else np.zeros_like(tiles)
    shades = np.rint(127.5 + 127.5 * unit).astype(np.uint8)
    return mosaic(shades, columns or _columns(outputs), zoom=_zoom(shades, tile), gap=_gap(tile))


def draw_feature_map(
    record: FeatureMap, *, planes: int = 16, columns: int | None = None, tile: int = 48
) -> Image.Image:
    """The `planes` planes that vary most, in their own order, from dark (low) to bright (high).

    All share one range, the middle 99 % of the values: a plane that found little in the picture looks it.
    Planes larger than `tile` pixels are reduced to that.
    """
    shown = _reduced(record.values[strongest(record.values, planes)], tile)
    low, high = np.percentile(shown, (0.5, 99.5))
    unit = np.clip((shown - low) / (high - low), 0, 1) if high > low else np.zeros_like(shown)
    return mosaic(viridis(unit), columns or _columns(len(shown)), zoom=_zoom(shown, tile), gap=_gap(tile))


def strongest(values: NDArray[np.float32], planes: int) -> NDArray[np.intp]:
    """The indices of the `planes` planes of (C, h, w) with the greatest variance, in ascending order."""
    order = np.argsort(-values.reshape(len(values), -1).var(1), kind="stable")
    return np.sort(order[:planes])


def viridis(unit: NDArray[Any]) -> Bytes:
    """Values in 0..1 of any shape as RGB in a new last axis, in 256 steps."""
    steps, at = np.linspace(0, 1, 256), np.linspace(0, 1, len(_VIRIDIS))
    table = np.stack([np.interp(steps, at, _VIRIDIS[:, channel]) for channel in range(3)], -1)
    rgb: Bytes = np.rint(table).astype(np.uint8)[np.rint(unit * 255).astype(np.uint8)]
    return rgb


def mosaic(tiles: Bytes, columns: int, *, zoom: int = 1, gap: int = 2) -> Image.Image:
    """Tiles (N, h, w) or (N, h, w, 3), row by row, each pixel `zoom` pixels wide, with transparent gaps."""
    if not tiles.size:
        raise SightlineError("There are no tiles to draw.")
    count, height, width = tiles.shape[:3]
    colour = tiles.ndim == 4
    columns = min(columns, count)
    rows = -(-count // columns)
    big = tiles.repeat(zoom, 1).repeat(zoom, 2)
    step_y, step_x = height * zoom + gap, width * zoom + gap
    canvas = np.zeros((rows * step_y - gap, columns * step_x - gap, 4 if colour else 2), np.uint8)
    for i, tile in enumerate(big):
        top, left = i // columns * step_y, i % columns * step_x
        part = canvas[top : top + height * zoom, left : left + width * zoom]
        part[..., :-1] = tile if colour else tile[..., None]
        part[..., -1] = 255
    return Image.fromarray(canvas, "RGBA" if colour else "LA")


def _columns(count: int) -> int:
    """Wider than high, and without a lonely last row where that can be had: 6 is 3 x 2, 16 is 8 x 2."""
    for columns in (16, 12, 10, 8):
        if count > columns and count % columns == 0:
            return columns
    return count if count <= 8 else 12


def _zoom(tiles: NDArray[Any], tile: int) -> int:
    """Integer enlargement that takes the longer side of a tile to about `tile` pixels."""
    height, width = tiles.shape[1:3]
    return max(1, round(tile / max(int(height), int(width))))


def _reduced(planes: NDArray[np.float32], side: int) -> NDArray[np.float32]:
    """Planes (N, h, w) with the longer side at most `side`, each new pixel the mean of those it covers."""
    height, width = planes.shape[1:]
    scale = side / max(height, width)
    if scale >= 1:
        return planes
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return np.stack([np.asarray(Image.fromarray(p).resize(size, Image.Resampling.BOX)) for p in planes])


def _gap(tile: int) -> int:
    return max(2, tile // 20)
