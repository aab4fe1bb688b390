"""Histograms of gradient directions over blocks of cells: what HOG and dense SIFT are both made of.

    gradients    of every pixel: how strong, and in which direction
    votes        the strength shared between the two nearest bins of direction
    blocks       the votes shared between the nearest cells of each block, weighted by a Gaussian over the block
    normalised   each block to length 1, its largest values clipped, and to length 1 again (Lowe's)

The weight of a pixel in a cell is a product of one number for its row and one for its column, so that the
histograms of all blocks of a picture are two matrix products.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

Single = NDArray[np.float32]

CLIP = 0.2


@dataclass(frozen=True, slots=True)
class Grid:
    """Where the histograms are taken, lengths in pixels.

    cell: side of a cell; cells: of them along a block; stride: between two blocks; bins: of the direction, over half
    a turn or, if `signed`, a whole one; sigma: of the Gaussian over a block; centre: its middle, from the block's
    first pixel; first: the middle of the first bin, in bins.
    """

    cell: int
    cells: int
    stride: int
    bins: int
    signed: bool
    sigma: float
    centre: float
    first: float = 0.5

    @property
    def block(self) -> int:
        """Side of a block."""
        return self.cell * self.cells

    @property
    def length(self) -> int:
        """Numbers in a block's histogram."""
        return self.cells * self.cells * self.bins

    def along(self, side: int) -> int:
        """How many blocks fit along a side; 0 if none does."""
        return max(0, (side - self.block) // self.stride + 1)

    def margin(self, side: int) -> int:
        """Pixels left over before the first block, with the blocks in the middle."""
        return (side - self.block - (self.along(side) - 1) * self.stride) // 2

    def weights(self, side: int) -> Single:
        """(blocks * cells, side): each pixel's weight in each cell of each block along one side."""
        pixel = np.arange(self.block)
        place = (pixel + 0.5) / self.cell - 0.5
        near = np.maximum(0.0, 1.0 - np.abs(place - np.arange(self.cells)[:, None]))
        near *= np.exp(-((pixel - self.centre) ** 2) / (2 * self.sigma**2))
        found = np.zeros((self.along(side), self.cells, side), dtype=np.float32)
        for i in range(len(found)):
            begin = self.margin(side) + i * self.stride
            found[i, :, begin : begin + self.block] = near
        return found.reshape(-1, side)


def gradients(pictures: Single) -> tuple[Single, Single]:
    """(strength, direction in radians), each (n, H, W), of float32 pictures (n, H, W) or (n, H, W, 3).

    Central differences, 0 at the border; of a colour picture the strongest channel's.
    """
    dx, dy = np.zeros_like(pictures), np.zeros_like(pictures)
    dx[:, :, 1:-1] = pictures[:, :, 2:] - pictures[:, :, :-2]
    dy[:, 1:-1] = pictures[:, 2:] - pictures[:, :-2]
    if pictures.ndim == 4:
        strongest = (dx**2 + dy**2).argmax(-1)[..., None]  # the first of those that are equal
        dx = np.take_along_axis(dx, strongest, -1)[..., 0]
        dy = np.take_along_axis(dy, strongest, -1)[..., 0]
    shape = dx.shape
    flat = (-1, shape[-1])
    size, angle = cv2.cartToPolar(
        np.ascontiguousarray(dx.reshape(flat)), np.ascontiguousarray(dy.reshape(flat))
    )
    return np.asarray(size.reshape(shape), np.float32), np.asarray(angle.reshape(shape), np.float32)


def votes(strength: Single, direction: Single, grid: Grid) -> Single:
    """(n, H, bins, W): the strength of each pixel, in the two bins next to its direction."""
    n, height, width = strength.shape
    turn = 2 * np.pi if grid.signed else np.pi
    place = direction * np.float32(grid.bins / turn) - np.float32(grid.first)
    lower = np.floor(place)
    share = place - lower
    bin_ = lower.astype(np.intp) % grid.bins
    found = np.zeros((n, height, grid.bins, width), dtype=np.float32)
    first = np.arange(n * height)[:, None] * (grid.bins * width) + np.arange(width)
    flat, bin_ = found.reshape(-1), bin_.reshape(n * height, width)
    upper = strength * share
    flat[first + bin_ * width] = (strength - upper).reshape(n * height, width)
    flat[first + (bin_ + 1) % grid.bins * width] += upper.reshape(n * height, width)
    return found


def blocks(pictures: Single, grid: Grid) -> Single:
    """The histograms (n, columns, rows, length) of float32 pictures (n, H, W) or (n, H, W, 3).

    Blocks, and cells within them, go column by column, as OpenCV's.
    """
    n, height, width = pictures.shape[:3]
    voted = votes(*gradients(pictures), grid)
    across, down = grid.weights(width), grid.weights(height)
    rows, columns, cells, bins = grid.along(height), grid.along(width), grid.cells, grid.bins
    # A product for each picture: what becomes of it does not depend on those beside it, to the bit.
    pooled = (voted.reshape(n, -1, width) @ across.T).reshape(n, height, -1)
    pooled = down @ pooled  # n, rows * cells, bins * columns * cells
    pooled = pooled.reshape(n, rows, cells, bins, columns, cells).transpose(0, 4, 1, 5, 2, 3)
    return np.ascontiguousarray(pooled).reshape(n, columns, rows, grid.length)


def normalised(histograms: Single) -> Single:
    """Each histogram (..., length) to length 1, clipped at 0.2, and to length 1 again; nothing stays nothing."""
    length = np.sqrt(np.square(histograms).sum(-1, keepdims=True))
    histograms = np.minimum(histograms / (length + np.float32(0.1 * histograms.shape[-1])), np.float32(CLIP))
    length = np.sqrt(np.square(histograms).sum(-1, keepdims=True))
    return np.asarray(histograms / (length + np.float32(1e-3)), dtype=np.float32)
