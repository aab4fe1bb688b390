"""Records of evidence, attention and boxes drawn over the picture.

A colour has a meaning that can be read off: it is laid over the picture in grey as strongly as the value is large
against the record's scale, so that where there is nothing one sees the picture and no colour, and a map without
evidence is the plain picture. Red speaks for the class, blue against it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from sightline.visualization.attention import Attention, PositionSimilarity, Rollout
from sightline.visualization.evidence import Evidence
from sightline.visualization.figures import mosaic, viridis
from sightline.visualization.patch_boxes import PatchBoxes
from sightline.visualization.pixel_evidence import enlarged, over_picture

FOR, AGAINST = (214, 40, 20), (25, 90, 220)
STRENGTH = 0.85  # how opaque the fullest colour is: the picture shows through
UNIFORM = 4.0
"""Attention of so many times an even share is drawn full, or the largest one if that is more: an even one is pale."""
Floats = NDArray[np.float32]


def draw_evidence(record: Evidence, picture: Image.Image, *, side: int = 448) -> Image.Image:
    """`record` over `picture` (as the network saw it, of the record's size), the longer side about `side` pixels.

    A guided gradient is drawn by itself, in the picture's colours: grey is zero.
    """
    if record.view == "guided_backprop":
        scale = full_colour(record)
        values = np.clip(record.values / scale, -1, 1) if scale > 0 else np.zeros_like(record.values)
        shades = np.rint(127.5 + 127.5 * values).astype(np.uint8).transpose(1, 2, 0)
        colour = shades.shape[2] == 3
        return sized(Image.fromarray(shades if colour else shades[..., 0]).convert("RGB"), side)
    return tinted(picture, over_picture(record), full_colour(record), side)


def full_colour(record: Evidence) -> float:
    """The magnitude that `draw_evidence` draws as full, in the record's unit.

    It is the record's scale; in maps of single pixels, whose largest value is an outlier, the 99.5th percentile.
    """
    if record.values.ndim == 2:
        return record.scale
    shown = record.values if record.view == "guided_backprop" else over_picture(record)
    return max(float(np.percentile(np.abs(shown), 99.5)), record.floor)


def tinted(picture: Image.Image, values: Floats, scale: float, side: int) -> Image.Image:
    """`picture` in grey under the colours of values (H, W), full where one is `scale`."""
    grey = sized(picture.convert("L").convert("RGB"), side)
    unit = np.clip(values / scale, -1, 1) if scale > 0 else np.zeros_like(values)
    strength = Image.fromarray(np.rint(np.abs(unit) * 255).astype(np.uint8)).resize(grey.size)
    signs = Image.fromarray(np.where(unit < 0, 255, 0).astype(np.uint8)).resize(
        grey.size, Image.Resampling.NEAREST
    )
    opaque = np.asarray(strength, np.float32)[..., None] / 255 * STRENGTH
    colours = np.where(np.asarray(signs)[..., None] > 127, AGAINST, FOR)
    # Lighter and flatter, so that what is laid over it is seen.
    base = 70 + 0.62 * np.asarray(grey, np.float32)
    return Image.fromarray(np.rint(base * (1 - opaque) + colours * opaque).clip(0, 255).astype(np.uint8))


def sized(picture: Image.Image, side: int) -> Image.Image:
    """Enlarged or reduced so that the longer side is about `side`; small pictures keep their pixels visible."""
    longest = max(picture.size)
    if longest <= 64:
        zoom = max(1, side // longest)
        return picture.resize((picture.width * zoom, picture.height * zoom), Image.Resampling.NEAREST)
    width, height = (max(1, round(length * side / longest)) for length in picture.size)
    return picture.resize((width, height), Image.Resampling.BICUBIC)


def scale_text(record: Evidence) -> str:
    """What the fullest colour stands for, in words."""
    ends = (
        "blue speaks against, red for"
        if record.signed and record.view != "guided_backprop"
        else "red speaks for"
    )
    if record.view == "guided_backprop":
        ends = "grey is none"
    return f"{ends}; full colour is {full_colour(record):.3g} ({record.unit})"


def draw_attention(
    record: Attention,
    picture: Image.Image,
    *,
    patch: tuple[int, int] | None = None,
    side: int = 224,
    columns: int = 4,
) -> Image.Image:
    """A tile for each head: how much of each patch the patch at (row, column) takes.

    Without `patch` it is the class token that asks, or where there is none the mean of all patches. The patch that
    asks is framed, and so are the windows of a layer that has them.
    """
    values = record.mean() if patch is None else record.from_patch(*patch)
    scale = attention_scale(values, None if patch is None else record.values.shape[-1])
    tiles = []
    for head in values:
        tile = tinted(picture, enlarged(head, record.picture), scale, side)
        pen = ImageDraw.Draw(tile)
        if record.places is not None:
            for line in borders(window_numbers(record), tile.size):
                pen.line(line, fill=(255, 255, 255), width=2)
        if patch is not None:
            rows, across = record.grid
            down, right = tile.height / rows, tile.width / across
            box = (patch[1] * right, patch[0] * down, (patch[1] + 1) * right, (patch[0] + 1) * down)
            pen.rectangle(box, outline=(0, 0, 0), width=3)
            pen.rectangle(
                tuple(edge + 1 for edge in box[:2]) + tuple(edge - 1 for edge in box[2:]), outline="white"
            )
        tiles.append(np.asarray(tile))
    return mosaic(np.stack(tiles), columns=columns, gap=8)


def attention_scale(values: Floats, keys: int | None = None) -> float:
    """The share of attention that is drawn full: `UNIFORM` times an even one, or the largest there is.

    keys: among how many it is shared out; by default the cells, of one patch's in a window those of the window.
    """
    cells = values.shape[-2] * values.shape[-1]
    return max(float(values.max(initial=0.0)), float(UNIFORM / (keys or cells)))


def window_numbers(record: Attention) -> NDArray[np.int64]:
    """(h, w): the number of the window that each patch is in."""
    assert record.places is not None
    numbers = np.zeros(record.grid[0] * record.grid[1], np.int64)
    for number, places in enumerate(record.places):
        numbers[places[places >= 0]] = number
    return numbers.reshape(record.grid)


def borders(numbers: NDArray[np.int64], size: tuple[int, int]) -> list[tuple[float, float, float, float]]:
    """Lines (x0, y0, x1, y1) between cells of other numbers, on a tile of `size` (width, height)."""
    rows, columns = numbers.shape
    right, down = size[0] / columns, size[1] / rows
    found = []
    for i, j in np.argwhere(numbers[:, 1:] != numbers[:, :-1]).tolist():
        found.append(((j + 1) * right, i * down, (j + 1) * right, (i + 1) * down))
    for i, j in np.argwhere(numbers[1:] != numbers[:-1]).tolist():
        found.append((j * right, (i + 1) * down, (j + 1) * right, (i + 1) * down))
    return found


def draw_rollout(record: Rollout, picture: Image.Image, *, side: int = 448) -> Image.Image:
    """What the token that is classified has of each patch, over the picture."""
    values = record.over_patches()
    return tinted(picture, enlarged(values, record.picture), attention_scale(values), side)


def draw_position_similarity(record: PositionSimilarity, *, side: int = 560) -> Image.Image:
    """A tile for each position, at its place: its likeness to every other, dark -1, bright 1."""
    rows, columns = record.values.shape[:2]
    tiles = viridis((record.values.reshape(rows * columns, rows, columns) + 1) / 2)
    return mosaic(
        tiles, columns=columns, zoom=max(1, side // (max(rows, columns) * (max(rows, columns) + 1)))
    )


def draw_patch_boxes(
    record: PatchBoxes, picture: Image.Image, *, side: int = 448, most: int = 49
) -> Image.Image:
    """Boxes over the picture, of at most about `most` patches evenly over it, each with a line from its patch."""
    canvas = sized(picture.convert("RGB"), side)
    pen = ImageDraw.Draw(canvas)
    (rows, columns), (height, width) = record.grid, record.picture
    across, down = canvas.width / width, canvas.height / height
    every = max(1, round((rows * columns / most) ** 0.5))
    for i in range(every // 2, rows, every):
        for j in range(every // 2, columns, every):
            x0, y0, x1, y1 = (record.values[i * columns + j] * (across, down, across, down)).tolist()
            home = ((j + 0.5) * canvas.width / columns, (i + 0.5) * canvas.height / rows)
            pen.line((*home, (x0 + x1) / 2, (y0 + y1) / 2), fill=(255, 255, 255), width=1)
            # Dark around light, to be seen on any ground; a box may also be a line or a point.
            pen.rectangle((x0 - 1, y0 - 1, x1 + 1, y1 + 1), outline=(0, 0, 0), width=3)
            pen.rectangle((x0, y0, x1, y1), outline=(255, 200, 60), width=1)
    return canvas


def captioned(image: Image.Image, title: str, lines: list[str]) -> Image.Image:
    """`image` on white under a title and over lines of text, as it is saved by itself."""
    from sightline.visualization.augmentations import wrapped

    bold, font = ImageFont.load_default(18), ImageFont.load_default(14)
    width = max(image.width, 360) + 32
    text = [line for paragraph in lines for line in wrapped(paragraph, font, width - 32)]
    head = wrapped(title, bold, width - 32)
    top = 14 + 24 * len(head)
    canvas = Image.new("RGB", (width, top + image.height + 20 * len(text) + 30), "white")
    pen = ImageDraw.Draw(canvas)
    for k, line in enumerate(head):
        pen.text((16, 10 + 24 * k), line, "#15181c", bold)
    canvas.paste(image, (16, top), image if image.mode in ("RGBA", "LA") else None)
    for k, line in enumerate(text):
        pen.text((16, top + image.height + 10 + 20 * k), line, "#5a636e", font)
    return canvas
