"""Records of `sightline.visualization` drawn as Pillow images: tiles, enlarged by whole numbers, gaps clear.

Drawn with numpy alone: plotting libraries smooth pixels that are meant to be seen, and take a second to load.
"""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from sightline.errors import SightlineError
from sightline.files import write_beside
from sightline.visualization.feature_maps import FeatureMap, FeatureMaps
from sightline.visualization.filters import Filters

if TYPE_CHECKING:
    from sightline.transforms.preprocess import Preprocess
    from sightline.visualization.deconvnet import Projection
    from sightline.visualization.units import TopActivations

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


CAPTION = (128, 128, 128, 255)  # can be read on white and on black


def save_png(image: Image.Image, path: str | Path) -> None:
    """Write `image` to `path`: the whole file or none. Raises SightlineError where the disk says no."""
    data = BytesIO()
    image.save(data, "PNG", optimize=True)
    write_beside(Path(path), data.getvalue())


def draw_filters(
    record: Filters, *, each: bool = False, columns: int | None = None, tile: int = 48, limit: int = 256
) -> Image.Image:
    """The filters as tiles of at least about `tile` pixels: grey is 0, white and black are `record.scale`.

    each: white and black are the largest magnitude in each tile instead, so that what a weak filter looks for is
    seen as well as a strong one's, and their strengths can no longer be compared.
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
    scale = np.abs(tiles).max(tuple(range(1, tiles.ndim)), keepdims=True) if each else record.scale
    shades = signed(tiles, scale)
    return mosaic(shades, columns or _columns(outputs), zoom=_zoom(shades, tile), gap=_gap(tile))


def draw_feature_map(
    record: FeatureMap, *, planes: int = 16, columns: int | None = None, tile: int = 48
) -> Image.Image:
    """The `planes` planes that vary most, in their own order, from dark (low) to bright (high).

    All share one range, the middle 99 % of the values: a plane that found little in the picture looks it.
    Planes larger than `tile` pixels are reduced to that.
    """
    shown = _reduced(record.values[strongest(record.values, planes)], tile)
    return mosaic(
        viridis(_ranged(shown)), columns or _columns(len(shown)), zoom=_zoom(shown, tile), gap=_gap(tile)
    )


def draw_strip(record: FeatureMaps, *, layers: int = 11, planes: int = 4, tile: int = 112) -> Image.Image:
    """The way through the network: the picture, then `layers` of its layers, evenly from the first to the last.

    Under each name and shape (planes, height, width) stand the `planes` planes that vary most, as in
    `draw_feature_map`: one range for each layer, none across them.
    """
    gap = _gap(tile) * 2
    shown = spread(record.maps, layers)
    columns = [("input", record.input.shape, as_picture(record.input)[None])]
    for one in shown:
        tiles = _reduced(one.values[strongest(one.values, planes)], tile)
        columns.append((one.layer, one.values.shape, viridis(_ranged(tiles))))
    caption = 32
    canvas = Image.new("RGBA", (len(columns) * (tile + gap) - gap, caption + planes * (tile + gap) - gap))
    draw, font = ImageDraw.Draw(canvas), ImageFont.load_default(size=11)
    for i, (name, shape, tiles_) in enumerate(columns):
        left = i * (tile + gap)
        while draw.textlength(name, font) > tile + gap - 4 and len(name) > 2:
            name = "…" + name.lstrip("…")[1:]
        draw.text((left, 0), name, CAPTION, font)
        draw.text((left, 14), "x".join(str(n) for n in shape), CAPTION, font)
        for row, pixels in enumerate(tiles_):
            canvas.paste(_fitted(Image.fromarray(pixels), tile), (left, caption + row * (tile + gap)))
    return canvas


def draw_projection(record: Projection, *, tile: int = 224) -> Image.Image:
    """What the unit responds to, at least about `tile` pixels wide: grey is 0, white and black `record.scale`."""
    pixels = signed(record.values, record.scale).transpose(1, 2, 0)
    pixels = pixels[..., 0] if pixels.shape[2] != 3 else pixels
    return mosaic(pixels[None], 1, zoom=_zoom(pixels[None], tile))


def draw_top(
    record: TopActivations, channel: int, *, preprocess: Preprocess | None = None, tile: int = 72
) -> Image.Image:
    """A channel's strongest patches, the best first, row by row; beside them, where made, their projections.

    preprocess: of the network, to show the pictures' own colours; without it each patch is spread from its darkest
    to its brightest. In projections grey is 0 and white and black are each one's own largest magnitude.
    """
    row = record.row(channel)
    sides = [[as_picture(patch, preprocess) for patch in record.patches(channel)]]
    if record.projections:
        made = record.projections[row]
        sides.append([_colour(signed(one, float(np.abs(one).max(initial=0.0)))) for one in made])
    gap = _gap(tile)
    across = int(np.ceil(np.sqrt(len(sides[0]))))
    down = -(-len(sides[0]) // across)
    side = across * (tile + gap) + 2 * gap
    canvas = Image.new("RGBA", (len(sides) * side - 3 * gap, down * (tile + gap) - gap))
    for i, tiles in enumerate(sides):
        for j, pixels in enumerate(tiles):
            at = (i * side + j % across * (tile + gap), j // across * (tile + gap))
            canvas.paste(_fitted(_in_field(pixels, record, row, j), tile), at)
    return canvas


def _in_field(pixels: Bytes, record: TopActivations, row: int, rank: int) -> Image.Image:
    """A patch where it lies in the unit's receptive field, of which the picture's edge may have cut a part."""
    image = Image.fromarray(pixels).convert("RGBA")
    field = record.field
    if field is None:
        return image
    size, offset = [], []
    for axis in (1, 0):  # width before height
        at = int(record.boxes[row, rank, axis])
        first = field.start[axis] + int(record.positions[row, rank, axis]) * field.stride[axis]
        whole = field.size[axis] > field.picture[axis]  # then the picture is the frame
        size.append(field.picture[axis] if whole else field.size[axis])
        offset.append(at - (0 if whole else first))
    frame = Image.new("RGBA", (size[0], size[1]))
    frame.paste(image, (offset[0], offset[1]))
    return frame


def as_picture(values: NDArray[np.float32], preprocess: Preprocess | None = None) -> Bytes:
    """A normalised picture (C, h, w) as it was, (h, w, 3) or (h, w); without `preprocess` from its range."""
    if preprocess is None:
        return _colour(np.rint(_ranged(values, 0.0) * 255).astype(np.uint8))
    mean, std = (np.array(v).reshape(-1, 1, 1) for v in (preprocess.mean, preprocess.std))
    return _colour(np.rint(np.clip(values * std + mean, 0, 1) * 255).astype(np.uint8))


def signed(values: NDArray[Any], scale: NDArray[Any] | float) -> Bytes:
    """Values of either sign as shades: grey (128) is 0, white and black are `scale`; all grey where it is 0."""
    scale = np.asarray(scale)
    unit = np.where(scale > 0, values / np.where(scale > 0, scale, 1), 0)
    shades: Bytes = np.rint(127.5 + 127.5 * unit).astype(np.uint8)
    return shades


def spread(items: Sequence[FeatureMap], count: int) -> list[FeatureMap]:
    """At most `count` of them, evenly from the first to the last."""
    if len(items) <= count:
        return list(items)
    places = np.rint(np.linspace(0, len(items) - 1, count)).astype(int)
    return [items[i] for i in places]


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


def _ranged(values: NDArray[np.float32], left_out: float = 0.5) -> NDArray[np.float32]:
    """Values from their lowest to their highest as 0..1, `left_out` percent at either end; 0 where all are alike."""
    low, high = np.percentile(values, (left_out, 100 - left_out))
    unit: NDArray[np.float32] = np.clip((values - low) / (high - low), 0, 1) if high > low else values * 0
    return unit


def _colour(planes: Bytes) -> Bytes:
    """(C, h, w) as (h, w, 3), or (h, w): of other numbers of channels than three the first one."""
    return planes.transpose(1, 2, 0) if len(planes) == 3 else planes[0]


def _fitted(image: Image.Image, tile: int) -> Image.Image:
    """`image` with its longer side at most `tile`: enlarged by a whole number, or reduced by the mean."""
    longer = max(image.size)
    if longer <= tile:
        zoom = max(1, tile // longer)
        return image.resize((image.width * zoom, image.height * zoom), Image.Resampling.NEAREST)
    size = (max(1, round(image.width * tile / longer)), max(1, round(image.height * tile / longer)))
    return image.resize(size, Image.Resampling.BOX)


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
