"""How alike two pictures are once one is laid over the other, whatever was done to its light or its edges.

Thumbnails are normalised locally, so that a frame, a vignette or a change of exposure says nothing, and every part
of the picture counts alike. Then one is moved and stretched onto the other (Baker and Matthews, Lucas-Kanade 20 Years
On, 2004: inverse compositional, here with a shift and a scale for each axis), which undoes a crop of some percent.
What is left is the correlation of the parts that both show: 1 for the same picture, about 0.1 for two photographs.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray

SIDE = 32
"""Side of a thumbnail in pixels."""

Floats = NDArray[np.float32]

WINDOW = 9
# In grey levels: below such a contrast a part of a picture is noise and compression, and is not blown up.
CONTRAST = 4.0
# What a crop of 5 % at every edge needs: scale 1 / 0.9; a shift when only one edge is cut. As shares of a side.
MOST_SCALE, MOST_SHIFT = 0.13, 0.075
STEPS = 6
# After so many steps a pair that is this far from alike is given up.
FIRST_STEPS, HOPELESS = 2, 0.35
CHUNK = 128
# The middle of a thumbnail leaves so many pixels at each edge; with less than this share of a picture's contrast
# there is nothing in it.
EDGE, EMPTY = 7, 0.1


def local_normalised(pictures: NDArray[Any], window: int = WINDOW, contrast: float = CONTRAST) -> Floats:
    """(N, S, S) grey pictures less their local mean, over their local deviation; windows of `window` pixels."""
    grey = pictures.astype(np.float32)
    mean = _local_mean(grey, window)
    variance = np.maximum(_local_mean(grey * grey, window) - mean * mean, 0.0)
    return np.asarray((grey - mean) / np.sqrt(variance + contrast**2), dtype=np.float32)


def _local_mean(pictures: Floats, window: int) -> Floats:
    """The mean over windows; beyond an edge the picture goes on as in a mirror."""
    size = pictures.shape[1]
    places = np.abs(np.arange(-(window // 2), size + window // 2))
    mirrored = np.where(places >= size, 2 * (size - 1) - places, places)
    weights = np.zeros((size, size), np.float32)
    for row in range(size):
        np.add.at(weights[row], mirrored[row : row + window], 1 / window)
    return np.asarray(weights @ pictures @ weights.T)


def similarity(first: NDArray[Any], second: NDArray[Any]) -> tuple[Floats, Floats]:
    """Correlations in -1..1 of P pairs of thumbnails, uint8 (P, S, S) each, after alignment: (P,) and (P,).

    The first are of the whole pictures, the second of their middles alone, which a common frame leaves different; 1
    where both middles are empty.
    """
    with ThreadPoolExecutor(os.cpu_count()) as pool:  # the arithmetic of arrays releases the interpreter lock
        parts = list(
            pool.map(
                lambda chunk: _aligned(local_normalised(first[chunk]), local_normalised(second[chunk])),
                (slice(start, start + CHUNK) for start in range(0, len(first), CHUNK)),
            )
        )
    if not parts:
        return np.zeros(0, np.float32), np.zeros(0, np.float32)
    return np.concatenate([whole for whole, _ in parts]), np.concatenate([middle for _, middle in parts])


def _aligned(still: Floats, moving: Floats) -> tuple[Floats, Floats]:
    """The correlations, of the whole and of the middle, at the best place met.

    `moving` is laid onto `still`, both (P, S, S).
    """
    size = still.shape[1]
    places = np.arange(size, dtype=np.float32) - (size - 1) / 2
    whole = np.ones((len(still), size, size), np.float32)
    template = _standardised(still, whole)
    down, across = np.gradient(template, axis=(1, 2))
    # The change of the picture with (scale, shift) of the rows, then of the columns: P, S * S, 4
    slopes = np.stack((down * places[:, None], down, across * places, across), axis=-1).reshape(
        len(still), -1, 4
    )
    square = np.swapaxes(slopes, 1, 2) @ slopes
    square += (
        np.eye(4, dtype=np.float32) * (1e-3 * np.trace(square, axis1=1, axis2=2) / 4 + 1e-8)[:, None, None]
    )
    inverse = np.linalg.inv(square)

    best = np.full(len(still), -1.0, np.float32)
    middle = np.ones(len(still), np.float32)
    scale = np.ones((len(still), 2), np.float32)  # of rows and columns
    shift = np.zeros((len(still), 2), np.float32)
    going = np.arange(len(still))
    for step in range(STEPS):
        rows, columns = (scale[going, axis, None] * places + shift[going, axis, None] for axis in (0, 1))
        seen = (np.abs(rows) <= size / 2)[:, :, None] * (np.abs(columns) <= size / 2)[:, None, :]
        both = seen.astype(np.float32)
        warped = _standardised(_sampled(moving[going], rows + (size - 1) / 2, columns + (size - 1) / 2), both)
        target = _standardised(still[going], both)
        reached = (warped * target).sum((1, 2)) / both.sum((1, 2))
        better = reached > best[going]
        best[going[better]] = reached[better]
        middle[going[better]] = _of_middles(warped[better], target[better])
        if step == STEPS - 1:
            break
        if step == FIRST_STEPS:
            hopeful = best[going] > HOPELESS
            going, warped, target = going[hopeful], warped[hopeful], target[hopeful]
            if not len(going):
                break
        error = (warped - target).reshape(len(going), -1, 1)
        change = (inverse[going] @ (np.swapaxes(slopes[going], 1, 2) @ error))[..., 0]
        # The template was moved by `change`; the other picture is moved back by it.
        factor = scale[going] / (1 + change[:, ::2]).clip(0.5, 2)
        shift[going] = (shift[going] - factor * change[:, 1::2]).clip(-MOST_SHIFT * size, MOST_SHIFT * size)
        scale[going] = factor.clip(1 - MOST_SCALE, 1 + MOST_SCALE)
    return best, middle


def _of_middles(first: Floats, second: Floats) -> Floats:
    """(P,) correlations of the middles of standardised pictures; 1 where both are empty."""
    inner = slice(EDGE, -EDGE)
    one, other = (
        part[:, inner, inner] - part[:, inner, inner].mean((1, 2), keepdims=True) for part in (first, second)
    )
    energies = (one * one).mean((1, 2)), (other * other).mean((1, 2))
    correlation = (one * other).mean((1, 2)) / np.sqrt(np.maximum(energies[0] * energies[1], 1e-6))
    return np.where(np.maximum(*energies) < EMPTY, np.float32(1), correlation)


def _standardised(pictures: Floats, weights: Floats) -> Floats:
    """Mean 0 and deviation 1 over where the weights, 0 or 1, are 1; and 0 elsewhere."""
    counts = weights.sum((1, 2), keepdims=True)
    centred = (pictures - (pictures * weights).sum((1, 2), keepdims=True) / counts) * weights
    deviation = np.sqrt((centred * centred).sum((1, 2), keepdims=True) / counts)
    return np.asarray(centred / np.maximum(deviation, 1e-3), dtype=np.float32)


def _sampled(pictures: Floats, rows: Floats, columns: Floats) -> Floats:
    """(P, S, S) pictures at the crossings of `rows` and `columns`, (P, S) each, by linear interpolation."""
    for places in (rows, columns):
        # Rows first; then the columns, which the turn has made the rows.
        inside = places.clip(0, pictures.shape[1] - 1.001)
        before = inside.astype(np.int64)
        share = (inside - before)[:, :, None]
        pair = np.arange(len(pictures))[:, None]
        mixed = pictures[pair, before] * (1 - share) + pictures[pair, before + 1] * share
        pictures = np.swapaxes(mixed, 1, 2)
    return pictures
