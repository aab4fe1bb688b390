"""What the hand-crafted features see in a picture: data first, drawn by a function of its own.

hog_cells        for each cell, how strong the gradients of each direction are        draw_hog
sift_words       where the descriptors are, how large, and which visual word each is   draw_sift
colour_shares    the colours of the histogram and the share that each has              draw_colours
"""

from __future__ import annotations

import colorsys
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from sklearn.utils.validation import check_is_fitted

from sightline.data import read_image
from sightline.features.colour import ColorHistogram
from sightline.features.hog import HOG
from sightline.features.pictures import Bytes, PictureFeatures, fixed
from sightline.features.sift import BagOfSIFT

BACKGROUND, INK = (24, 24, 28), (255, 255, 255)


# Compared by identity: an array has no single truth value for ==.
@dataclass(frozen=True, slots=True, eq=False)
class HogCells:
    """strengths: (rows, columns, bins), the mean over the blocks that hold the cell. directions: (bins,) of the
    gradient, in radians, clockwise from the right. picture: (H, W[, 3]), as the features saw it. cell: its side."""

    picture: Bytes
    strengths: NDArray[np.float32]
    directions: NDArray[np.float64]
    cell: int


@dataclass(frozen=True, slots=True, eq=False)
class SiftWords:
    """m descriptors: places (m, 2) as (y, x) and sides (m,) in pixels, words (m,) the nearest of k.

    weights: (m,) in 0..1, how much nearer that word is than the mean one.
    """

    picture: Bytes
    places: NDArray[np.float64]
    sides: NDArray[np.float64]
    words: NDArray[np.intp]
    weights: NDArray[np.float32]
    k: int


@dataclass(frozen=True, slots=True, eq=False)
class ColourShares:
    """colours: (n, 3) uint8 RGB of the histogram's boxes that occur, the most frequent first; shares: (n,), sum 1.

    boxed: (H, W, 3), the picture in these colours alone.
    """

    picture: Bytes
    boxed: Bytes
    colours: Bytes
    shares: NDArray[np.float64]


def seen_by(features: PictureFeatures, picture: Any) -> Bytes:
    """`picture` as fitted `features` see it: (H, W) or (H, W, 3)."""
    check_is_fitted(features)
    return np.asarray(fixed(features.size_, features.mode).image(read_image(picture, features.mode)))


def hog_cells(hog: HOG, picture: Any) -> HogCells:
    """What a fitted `hog` sees in `picture`. Blocks must be a cell apart, as they are by default."""
    seen = seen_by(hog, picture)
    grid = hog.grid
    rows, columns = grid.along(seen.shape[0]), grid.along(seen.shape[1])
    blocks = hog.compute(seen[None])[0].reshape(columns, rows, grid.cells, grid.cells, grid.bins)
    step = grid.stride / grid.cell
    down, across = (int((count - 1) * step) + grid.cells for count in (rows, columns))
    total, count = np.zeros((down, across, grid.bins), np.float32), np.zeros((down, across, 1), np.float32)
    for x in range(columns):
        for y in range(rows):
            top, left = int(y * step), int(x * step)
            total[top : top + grid.cells, left : left + grid.cells] += blocks[x, y].transpose(1, 0, 2)
            count[top : top + grid.cells, left : left + grid.cells] += 1
    turn = 2 * np.pi if grid.signed else np.pi
    directions = (np.arange(grid.bins) + 0.5) * turn / grid.bins
    top, left = grid.margin(seen.shape[0]), grid.margin(seen.shape[1])
    cut = seen[top : top + down * grid.cell, left : left + across * grid.cell]
    return HogCells(cut, np.asarray(total / np.maximum(count, 1), np.float32), directions, grid.cell)


def sift_words(sift: BagOfSIFT, picture: Any) -> SiftWords:
    """What a fitted `sift` sees in `picture`: of dense descriptors the largest cells' alone, else every keypoint."""
    seen = seen_by(sift, picture)
    descriptors, places = next(iter(sift.described(seen[None])))
    if sift.dense:
        grid = sift.grids[-1]
        last = grid.along(seen.shape[0]) * grid.along(seen.shape[1])
        descriptors, places = descriptors[-last:], places[-last:]
        sides = np.full(last, float(grid.block))
    else:
        sides = np.array([point.size for point in sift.keypoints(seen)[0]], dtype=np.float64)
    distance = np.square(descriptors[:, None] - sift.vocabulary_).sum(-1) ** 0.5
    nearest = distance.min(1)
    weights = 1.0 - nearest / np.maximum(distance.mean(1), 1e-9)
    return SiftWords(
        seen,
        places * seen.shape,
        sides,
        distance.argmin(1),
        np.clip(weights, 0, 1).astype(np.float32),
        sift.k,
    )


def colour_shares(histogram: ColorHistogram, picture: Any) -> ColourShares:
    """What a fitted `histogram` sees in the whole of `picture`; a box's colour is the mean of its pixels."""
    seen = seen_by(histogram, picture)
    _, place, count = np.unique(histogram.codes(seen), return_inverse=True, return_counts=True)
    place = place.ravel()
    sums = np.stack([np.bincount(place, weights=seen[..., c].ravel()) for c in range(3)], 1)
    colours = np.round(sums / count[:, None]).astype(np.uint8)
    order = np.argsort(-count, kind="stable")
    return ColourShares(seen, colours[place].reshape(seen.shape), colours[order], count[order] / count.sum())


def draw_hog(record: HogCells, *, tile: int = 24) -> Image.Image:
    """Glyphs beside the picture: in each cell a stroke along the edges of each direction that is above the cell's
    mean, the brighter the more."""
    rows, columns, _ = record.strengths.shape
    above = np.maximum(0.0, record.strengths - record.strengths.mean(2, keepdims=True))
    canvas = np.zeros((rows * tile, columns * tile), dtype=np.float32)
    largest = max(float(above.max()), 1e-9)
    for bin_ in range(len(record.directions)):
        along = record.directions[bin_] + np.pi / 2  # an edge runs across its gradient
        reach = np.array([np.cos(along), np.sin(along)]) * (tile / 2 - 1)
        for y in range(rows):
            for x in range(columns):
                stroke = np.zeros((tile, tile), dtype=np.float32)
                middle = np.array([tile, tile]) / 2
                begin, end = (np.round(middle + way * reach).astype(int).tolist() for way in (-1, 1))
                cv2.line(stroke, begin, end, float(above[y, x, bin_] / largest), 1, cv2.LINE_AA)
                part = canvas[y * tile : (y + 1) * tile, x * tile : (x + 1) * tile]
                np.maximum(part, stroke, out=part)
    glyphs = Image.fromarray(np.uint8(255 * np.sqrt(np.clip(canvas, 0, 1)))).convert("RGB")
    return side_by_side(record.picture, glyphs)


def draw_sift(record: SiftWords, *, side: int = 384, limit: int = 150) -> Image.Image:
    """The picture, and over it the `limit` descriptors that are surest of their word: a circle each, a hue a word."""
    shown = Image.fromarray(record.picture).convert("RGB")
    zoom = max(1, side // max(shown.size))
    shown = shown.resize((shown.width * zoom, shown.height * zoom))
    over = Image.blend(shown, Image.new("RGB", shown.size), 0.35)  # darker, so that the circles stand out
    draw = ImageDraw.Draw(over)
    for i in np.argsort(-record.weights, kind="stable")[:limit]:
        (y, x), radius = record.places[i] * zoom, record.sides[i] * zoom / 4
        # Neighbouring numbers get distant hues: steps of the golden ratio.
        hue = colorsys.hsv_to_rgb(record.words[i] * 0.618034 % 1.0, 0.75, 1.0)
        colour = tuple(round(255 * part) for part in hue)
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), outline=colour, width=2)
    return side_by_side(record.picture, over)


def draw_colours(record: ColourShares, *, side: int = 384, limit: int = 12) -> Image.Image:
    """The picture, the picture in its boxes' colours, and bars of the `limit` most frequent ones."""
    height, width = record.boxed.shape[:2]
    zoom = max(1, side // max(height, width))
    boxed = Image.fromarray(record.boxed).resize((width * zoom, height * zoom), Image.Resampling.NEAREST)
    shares, colours = record.shares[:limit], record.colours[:limit]
    bars = Image.new("RGB", (boxed.width // 2, boxed.height), BACKGROUND)
    draw = ImageDraw.Draw(bars)
    step = boxed.height / limit
    for i, (share, colour) in enumerate(zip(shares, colours, strict=True)):
        length = 4 + (bars.width - 8) * share / shares[0]
        draw.rectangle(
            (4, i * step + 2, length, (i + 1) * step - 2), fill=tuple(colour.tolist()), outline=(90, 90, 96)
        )
    return side_by_side(record.picture, boxed, bars)


def side_by_side(picture: Bytes, *others: Image.Image) -> Image.Image:
    """`picture`, made as high as the first of the others, and these to its right."""
    height = others[0].height
    first = Image.fromarray(picture).convert("RGB")
    first = first.resize((round(first.width * height / first.height), height), Image.Resampling.NEAREST)
    tiles = [first, *others]
    canvas = Image.new("RGB", (sum(t.width for t in tiles) + 8 * (len(tiles) - 1), height), INK)
    left = 0
    for tile in tiles:
        canvas.paste(tile, (left, 0))
        left += tile.width + 8
    return canvas
