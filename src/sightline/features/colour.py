"""Colour histograms (Swain and Ballard, IJCV 1991), over the picture and over parts of it."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from sightline.errors import SightlineError
from sightline.features.pictures import Bytes, Mode, PictureFeatures, Single, cells_of

SPACES = {"hsv": cv2.COLOR_RGB2HSV_FULL, "lab": cv2.COLOR_RGB2LAB}


class ColorHistogram(PictureFeatures):
    """The share of the pixels that each colour has, in the picture and in the parts of a spatial pyramid.

    space: `hsv` (hue, saturation, value) or `lab` (lightness, green to red, blue to yellow), each channel 0..255;
    bins: along each of its three channels; levels: 1 is the whole picture, 2 its quarters, ...; root: of the square
    roots of the shares, so that the plain product of two rows is their Hellinger likeness.

    D = (sum of levels^2) x the product of `bins`: per part, from the top left row by row, the first channel slowest.
    """

    def __init__(
        self,
        space: str = "hsv",
        bins: Sequence[int] = (8, 4, 4),
        levels: Sequence[int] = (1, 2),
        root: bool = True,
        size: int | Sequence[int] | None = None,
    ) -> None:
        self.space = space
        self.bins = bins
        self.levels = levels
        self.root = root
        self.size = size

    @property
    def mode(self) -> Mode:
        return "RGB"

    def _length(self) -> int:
        if self.space not in SPACES:
            raise SightlineError(f"The colour space is hsv or lab, not {self.space!r}.")
        if len(self.bins) != 3 or min(self.bins) < 1 or max(self.bins) > 256:
            raise SightlineError(f"bins are three numbers of 1 to 256, one a channel, not {self.bins!r}.")
        if min(self.size_) < max(self.levels):
            return 0
        return sum(level**2 for level in self.levels) * int(np.prod(self.bins))

    def codes(self, picture: Bytes) -> NDArray[np.intp]:
        """(H, W): the place of each pixel's colour in the histogram, of an RGB picture (H, W, 3)."""
        channels = cv2.cvtColor(np.ascontiguousarray(picture), SPACES[self.space])
        places = channels.astype(np.intp) * np.asarray(self.bins) >> 8
        first, second, third = np.moveaxis(places, -1, 0)
        return np.asarray((first * self.bins[1] + second) * self.bins[2] + third)

    def compute(self, batch: Bytes) -> Single:
        height, width = self.size_
        count = int(np.prod(self.bins))
        parts = [
            level * down[:, None] + across
            for level, down, across in zip(
                self.levels, cells_of(height, self.levels), cells_of(width, self.levels), strict=True
            )
        ]
        rows = []
        for picture in batch:
            codes = self.codes(picture)
            counted = [
                np.bincount((part * count + codes).ravel(), minlength=level**2 * count).reshape(-1, count)
                for level, part in zip(self.levels, parts, strict=True)
            ]
            rows.append(np.concatenate([c / c.sum(1, keepdims=True) for c in counted]).ravel())
        shares = np.stack(rows).astype(np.float32)
        return np.sqrt(shares) if self.root else shares
