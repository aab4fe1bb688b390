"""HOG: histograms of oriented gradients (Dalal and Triggs, CVPR 2005)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sightline.features.gradients import Grid, blocks, normalised
from sightline.features.pictures import Bytes, PictureFeatures, Single

ROOTS = np.sqrt(np.arange(256, dtype=np.float32))


class HOG(PictureFeatures):
    """Histograms of oriented gradients, number for number what OpenCV 4's HOGDescriptor gives.

    cell: side of a cell in pixels; block: cells along a block; stride: between blocks, in pixels, None for a cell;
    bins: of the direction, over half a turn, or over a whole one if `signed`; gamma: of the square roots of the
    pixels. Of colour pictures each pixel's strongest channel counts. What is left of a picture's sides after the
    last whole block is cut off evenly.

    D = blocks x block^2 x bins, in OpenCV's order: blocks and cells column by column.
    """

    def __init__(
        self,
        cell: int = 8,
        block: int = 2,
        bins: int = 9,
        stride: int | None = None,
        signed: bool = False,
        gamma: bool = True,
        size: int | Sequence[int] | None = None,
    ) -> None:
        self.cell = cell
        self.block = block
        self.bins = bins
        self.stride = stride
        self.signed = signed
        self.gamma = gamma
        self.size = size

    @property
    def grid(self) -> Grid:
        """Where the histograms are taken. OpenCV's Gaussian is about the pixel after the block's middle."""
        side = self.cell * self.block
        return Grid(
            self.cell, self.block, self.stride or self.cell, self.bins, self.signed, side / 4, centre=side / 2
        )

    def _length(self) -> int:
        height, width = self.size_
        return self.grid.along(height) * self.grid.along(width) * self.grid.length

    def compute(self, batch: Bytes) -> Single:
        pictures = ROOTS[batch] if self.gamma else batch.astype(np.float32)
        grid = self.grid
        height, width = self.size_
        # What the blocks do not reach is cut off first: its border is where gradients end.
        top, left = grid.margin(height), grid.margin(width)
        bottom = top + grid.block + (grid.along(height) - 1) * grid.stride
        right = left + grid.block + (grid.along(width) - 1) * grid.stride
        return normalised(blocks(pictures[:, top:bottom, left:right], grid)).reshape(len(batch), -1)
