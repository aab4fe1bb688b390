"""What an augmentation makes of pictures: a grid of versions as data, drawn as one PNG or written as one page.

    nine_versions   one picture, nine times
    by_policy       one picture, a row for each of several policies
    by_class        a data set, a row for each class

Version k of a picture is drawn by the numbers that a training takes in its epoch k.
"""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont

from sightline.errors import SightlineError, UnreadableImage
from sightline.pipeline.order import MIX, uniforms
from sightline.transforms.augment import Augment
from sightline.transforms.preprocess import Preprocess, store_image, to_tensor
from sightline.transforms.step import to_pil

if TYPE_CHECKING:
    from sightline.data.dataset import ImageDataset

# Larger pictures are reduced before they are augmented, as they are for a network.
LARGEST = 224
VERSIONS, CLASSES = 6, 12
TRIES = 20
"""Pictures of a class that are tried until one can be read."""

GAP, MARGIN, TEXT = 4, 12, 13
WIDEST_LABEL = 150
INK, SOFT = (24, 27, 31), (96, 104, 114)


@dataclass(frozen=True, slots=True, eq=False)
class Row:
    """A picture as it is (None where it is not shown) and versions of it, under a label that may be empty."""

    label: str
    original: Image.Image | None
    versions: tuple[Image.Image, ...]


@dataclass(frozen=True, slots=True, eq=False)
class VersionGrid:
    """Rows of versions. `title` says which augmentation, `notes` whatever else there is to say."""

    title: str
    rows: tuple[Row, ...]
    notes: tuple[str, ...] = ()


def nine_versions(
    picture: Image.Image, augment: Augment, seed: int = 0, size: int | None = None
) -> VersionGrid:
    """Nine versions of `picture` in rows of three; `size` as in `by_class`, None keeps the picture's aspect."""
    (picture,) = as_trained([picture])
    versions = versions_of(picture, augment, seed, 9, size)
    rows = tuple(Row("", None, versions[k : k + 3]) for k in (0, 3, 6))
    return VersionGrid(str(augment), rows)


def by_policy(
    picture: Image.Image,
    policies: Mapping[str, Augment],
    seed: int = 0,
    size: int | None = None,
    count: int = VERSIONS,
) -> VersionGrid:
    """A row for each of `policies`, under its name: `picture` and `count` versions of it."""
    (picture,) = as_trained([picture])
    original = seen(picture, size)
    rows = tuple(
        Row(name, original, versions_of(picture, augment, seed, count, size))
        for name, augment in policies.items()
    )
    return VersionGrid(f"{len(rows)} augmentations", rows)


def by_class(
    dataset: ImageDataset, augment: Augment, seed: int = 0, size: int | None = None, count: int = VERSIONS
) -> VersionGrid:
    """A row for each class, of at most twelve evenly spaced ones: its first readable picture and `count` versions.

    The pictures are squares of `size` pixels, as a network sees them; None takes their median short side, at most
    224. Mixing steps mix the classes shown with each other, column by column.

    Raises SightlineError where no picture can be read.
    """
    chosen = np.unique(np.linspace(0, len(dataset.classes) - 1, CLASSES).round().astype(int)).tolist()
    found = {label: picture for label in chosen if (picture := first_of_class(dataset, label)) is not None}
    if not found:
        raise SightlineError(f"None of the pictures of {dataset.name} that were tried could be read.")
    found = dict(zip(found, as_trained([*found.values()]), strict=True))
    side = size or min(LARGEST, int(np.median([min(picture.size) for picture in found.values()])))
    versions = [versions_of(p, augment, seed, count, side, index) for index, p in enumerate(found.values())]
    if augment.mixing:
        versions = mixed(versions, augment, seed)
    rows = tuple(
        Row(dataset.classes[label], seen(picture, side), row)
        for (label, picture), row in zip(found.items(), versions, strict=True)
    )
    notes = []
    if len(chosen) < len(dataset.classes):
        notes.append(f"{len(chosen)} of the {len(dataset.classes):,} classes are shown.")
    notes += [
        f"No picture of {dataset.classes[label]} could be read." for label in chosen if label not in found
    ]
    return VersionGrid(str(augment), rows, tuple(notes))


def as_trained(pictures: list[Image.Image]) -> list[Image.Image]:
    """`pictures` in grey if all of them are, as a training takes them: noise is then grey as well."""
    arrays = [np.asarray(picture) for picture in pictures]
    if all(array.ndim == 2 or (array == array[..., :1]).all() for array in arrays):
        return [picture.convert("L") for picture in pictures]
    return [picture.convert("RGB") for picture in pictures]


def first_of_class(dataset: ImageDataset, label: int) -> Image.Image | None:
    """The first picture of the class that can be read, of a training split where there is one."""
    train = dataset.split("train") if dataset.has_split("train") else dataset
    for index in np.flatnonzero(train.targets == label)[:TRIES].tolist():
        try:
            return train.read(index)
        except UnreadableImage:
            continue
    return None


def versions_of(
    picture: Image.Image, augment: Augment, seed: int, count: int, size: int | None, index: int = 0
) -> tuple[Image.Image, ...]:
    """`count` versions of `picture`, each drawn as that of sample `index` in epoch 0, 1, ..."""
    chain = augment.resized((size, size) if size else None)
    stored = stage(picture, size)
    draws = [uniforms(seed, epoch, np.array([index]), chain.draws)[0] for epoch in range(count)]
    return tuple(square(chain.apply(stored, u), size) for u in draws)


def seen(picture: Image.Image, size: int | None) -> Image.Image:
    """`picture` as it is without augmentation."""
    return square(stage(picture, size), size)


def stage(picture: Image.Image, size: int | None) -> Image.Image:
    """What is augmented: short side at `size`, or, left open, at no more than 224."""
    return store_image(picture, size or min(LARGEST, *picture.size), "crop")


def square(picture: Image.Image, size: int | None) -> Image.Image:
    """The centre of `picture` at `size` pixels, as the network gets it; None leaves it as it is."""
    return Preprocess((size, size)).image(picture.convert("RGB")) if size else picture


def mixed(rows: list[tuple[Image.Image, ...]], augment: Augment, seed: int) -> list[tuple[Image.Image, ...]]:
    """Each column of `rows` mixed as a batch."""
    labels = torch.eye(len(rows))
    columns = []
    for epoch, column in enumerate(zip(*rows, strict=True)):
        u = uniforms(seed, epoch, np.array([0]), augment.mixing_draws, MIX)[0]
        images, _ = augment.mix(torch.stack([to_tensor(picture) for picture in column]), labels, u)
        columns.append([to_pil(image) for image in images])
    return list(zip(*columns, strict=True))


def draw_grid(grid: VersionGrid, tile: int = 112) -> Image.Image:
    """The grid on white: small pictures enlarged by a whole number to about `tile` pixels, large ones reduced to it."""
    rows = [[*([row.original] if row.original else []), *row.versions] for row in grid.rows]
    longest = max(max(picture.size) for row in rows for picture in row)
    tiles = [[shown(picture, longest, tile) for picture in row] for row in rows]
    width = max(picture.width for row in tiles for picture in row)
    heights = [max(picture.height for picture in row) for row in tiles]
    font = ImageFont.load_default(TEXT)
    widest = max(font.getlength(row.label) for row in grid.rows)
    label = min(WIDEST_LABEL, round(widest) + MARGIN) if widest else 0
    first = MARGIN + label
    own = grid.rows[0].original is not None
    across = max(MARGIN * 2 + label + len(tiles[0]) * (width + GAP) + (GAP * 2 if own else 0) - GAP, 240)
    heading = [
        line for text in (grid.title, *grid.notes) for line in wrapped(text, font, across - 2 * MARGIN)
    ]
    line = TEXT + 5
    top = MARGIN + line * len(heading) + 6
    canvas = Image.new("RGB", (across, top + sum(heights) + GAP * (len(heights) - 1) + MARGIN), "white")
    pen = ImageDraw.Draw(canvas)
    for k, text in enumerate(heading):
        pen.text((MARGIN, MARGIN + k * line), text, INK, font)
    for row, pictures, height in zip(grid.rows, tiles, heights, strict=True):
        lines = wrapped(row.label, font, label - MARGIN + 1)[: max(1, height // line)]
        for k, text in enumerate(lines):
            pen.text((MARGIN, top + (height - line * len(lines)) // 2 + k * line), text, SOFT, font)
        for k, picture in enumerate(pictures):
            gap = GAP * 2 if own and k else 0  # the original stands apart
            canvas.paste(picture, (first + k * (width + GAP) + gap, top))
        top += height + GAP
    return canvas


def shown(picture: Image.Image, longest: int, tile: int) -> Image.Image:
    """`picture` on the scale at which one of `longest` pixels fills `tile`."""
    if longest <= tile:
        zoom = max(1, tile // longest)
        return picture.resize((picture.width * zoom, picture.height * zoom), Image.Resampling.NEAREST)
    width, height = (max(1, round(side * tile / longest)) for side in picture.size)
    return picture.resize((width, height), Image.Resampling.LANCZOS)


def wrapped(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int) -> list[str]:
    """`text` in lines of at most `width` pixels; a word that is too long for one is cut."""
    lines: list[str] = []
    for word in text.split():
        longer = f"{lines[-1]} {word}" if lines else word
        if lines and font.getlength(longer) <= width:
            lines[-1] = longer
        else:
            while font.getlength(word) > width:
                word = word[:-2] + "…" if word[-1] == "…" else word[:-1] + "…"
            lines.append(word)
    return lines


PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>{title}</title>
<style>
:root {{ color-scheme: light dark }}
body {{ font: 15px/1.5 system-ui, sans-serif; margin: 2rem }}
h1 {{ font-size: 1.25rem; font-family: ui-monospace, monospace; overflow-wrap: anywhere }}
table {{ border-spacing: 4px; margin-left: -4px }}
th {{ text-align: left; font-weight: normal; padding-right: .75rem }}
th[scope] {{ min-width: 5rem; max-width: 14rem; overflow-wrap: break-word }}
thead th {{ color: GrayText }}
td.own {{ padding-right: .75rem }}
img {{ display: block; max-width: 11rem; image-rendering: {rendering} }}
</style>
<h1>{title}</h1>
{notes}
<table>
{head}
{rows}
</table>
</html>
"""


def grid_page(grid: VersionGrid, tile: int = 160) -> str:
    """The grid as one HTML page that needs nothing else."""
    pictures = [p for row in grid.rows for p in (row.original, *row.versions) if p is not None]
    longest = max(max(picture.size) for picture in pictures)

    def cell(picture: Image.Image, what: str, kind: str = "") -> str:
        small = shown(picture, longest, tile)
        return f'<td{kind}><img src="{uri(small)}" alt="{html.escape(what)}" width="{small.width}"></td>'

    lines = []
    for row in grid.rows:
        cells = [f'<th scope="row">{html.escape(row.label)}</th>'] if row.label else []
        if row.original is not None:
            cells.append(cell(row.original, f"{row.label}, as it is".strip(", "), ' class="own"'))
        cells += [cell(p, f"{row.label} version {k}".strip()) for k, p in enumerate(row.versions, 1)]
        lines.append(f"<tr>{''.join(cells)}</tr>")
    first = grid.rows[0]
    head = ""
    if first.original is not None:
        head = f"<thead><tr><th></th><th>as it is</th><th colspan={len(first.versions)}>versions</th></tr></thead>"
    return PAGE.format(
        title=html.escape(grid.title),
        notes="\n".join(f"<p>{html.escape(note)}</p>" for note in grid.notes),
        head=head,
        rows="\n".join(lines),
        rendering="pixelated" if longest <= 64 else "auto",
    )


def uri(picture: Image.Image) -> str:
    """A picture as a data URI: exact where it is small and plain, as digits are, else a JPEG."""
    buffer = io.BytesIO()
    kind = "png" if picture.getcolors(256) else "jpeg"
    picture.save(buffer, kind.upper(), **({"optimize": True} if kind == "png" else {"quality": 88}))
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"
