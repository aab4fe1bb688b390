"""Bags of SIFT: local descriptors (Lowe, IJCV 2004) named by a vocabulary and counted (Csurka et al. 2004).

The counts are taken over the parts of a spatial pyramid (Lazebnik, Schmid and Ponce, CVPR 2006), of the square roots
of descriptors (Arandjelovic and Zisserman, CVPR 2012).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from sightline.errors import SightlineError
from sightline.features.gradients import Grid, blocks, normalised
from sightline.features.pictures import Bytes, Mode, PictureFeatures, Pictures, Single, spread

# Pictures, and descriptors in all, that the vocabulary is learned from.
PICTURES, DESCRIPTORS = 2_000, 60_000
# A cell of SIFT is three times the scale, and the picture's own blur is half a pixel.
MAGNIFICATION, OWN_BLUR = 3.0, 0.5


class BagOfSIFT(PictureFeatures):
    """How much of each visual word there is, in the picture and in the parts of a spatial pyramid.

    k: words of the vocabulary, which `fit` learns by k-means. dense: descriptors on a grid, `step` pixels apart, with
    cells of each of the sides `cells` (a descriptor has 4 x 4 of them), upright; else at OpenCV's keypoints, turned.
    levels: 1 is the whole picture, 2 its quarters, ... soft: a descriptor counts for all words that are nearer to it
    than the mean one, by how much (Coates, Lee and Ng, AISTATS 2011); else for the nearest alone.

    D = (sum of levels^2) x k: per part, from the top left row by row. The rows are square roots of shares.
    After `fit`: vocabulary_ (k, 128) float32.
    """

    learned = ("vocabulary_",)

    def __init__(
        self,
        k: int = 256,
        dense: bool = True,
        step: int = 4,
        cells: Sequence[int] = (3, 4, 6),
        levels: Sequence[int] = (1, 2),
        soft: bool = True,
        size: int | Sequence[int] | None = None,
        seed: int = 0,
    ) -> None:
        self.k = k
        self.dense = dense
        self.step = step
        self.cells = cells
        self.levels = levels
        self.soft = soft
        self.size = size
        self.seed = seed

    @property
    def mode(self) -> Mode:
        return "L"

    @property
    def grids(self) -> list[Grid]:
        """Where dense descriptors are taken, one grid a cell size: 4 x 4 cells, 8 directions over a whole turn."""
        return [
            Grid(cell, 4, self.step, 8, True, sigma=2.0 * cell, centre=(4 * cell - 1) / 2, first=0.0)
            for cell in self.cells
        ]

    def _length(self) -> int:
        height, width = self.size_
        fits = (
            all(min(g.along(height), g.along(width)) for g in self.grids)
            if self.dense
            else min(self.size_) > 7
        )
        return sum(level**2 for level in self.levels) * self.k if fits else 0

    def _learn(self, pictures: Pictures) -> None:
        from sklearn.cluster import MiniBatchKMeans

        chosen = list(spread(len(pictures), PICTURES))
        share = max(1, DESCRIPTORS // len(chosen))
        rng = np.random.default_rng(self.seed)
        found = []
        for place in chosen:
            batch = pictures.read(place, self.mode, self.size_)[None]
            descriptors = next(iter(self.described(batch)))[0]
            found.append(rng.permutation(descriptors)[:share])
        sample = np.concatenate(found)
        if len(sample) < self.k:
            raise SightlineError(
                f"A vocabulary of {self.k} words needs as many descriptors; these {len(pictures):,} pictures gave "
                f"{len(sample)}. Set a smaller k, or dense descriptors."
            )
        means = MiniBatchKMeans(self.k, random_state=self.seed, batch_size=4096, n_init=1, max_iter=50)
        self.vocabulary_: Single = means.fit(sample).cluster_centers_.astype(np.float32)

    def described(self, batch: Bytes) -> Iterator[tuple[Single, NDArray[np.float64]]]:
        """For each grey picture of `batch` (n, H, W): m descriptors (m, 128) of length 1, and their places (m, 2).

        Places are (y, x) as shares of the height and the width.
        """
        if not self.dense:
            yield from map(self._at_keypoints, batch)
            return
        parts, places = [], []
        for grid in self.grids:
            scale = grid.cell / MAGNIFICATION
            blur = np.sqrt(max(0.0, scale**2 - OWN_BLUR**2))
            smooth = np.stack([cv2.GaussianBlur(p.astype(np.float32), (0, 0), blur or 1e-3) for p in batch])
            found = normalised(blocks(smooth, grid))  # n, columns, rows, 128
            parts.append(found.reshape(len(batch), -1, grid.length))
            y, x = (
                (grid.margin(s) + np.arange(grid.along(s)) * grid.stride + grid.block / 2) / s
                for s in batch.shape[1:]
            )
            places.append(np.stack([np.tile(y, len(x)), np.repeat(x, len(y))], 1))
        where = np.concatenate(places)
        for descriptors in rooted(np.concatenate(parts, 1)):
            yield descriptors, where

    def keypoints(self, picture: Bytes) -> tuple[Any, Single]:
        """OpenCV's keypoints in a grey picture (H, W), and their descriptors (m, 128)."""
        points, descriptors = cv2.SIFT.create().detectAndCompute(picture, None)
        found = np.empty((0, 128)) if descriptors is None else descriptors
        return points, np.asarray(found, dtype=np.float32)

    def _at_keypoints(self, picture: Bytes) -> tuple[Single, NDArray[np.float64]]:
        points, descriptors = self.keypoints(picture)
        height, width = picture.shape
        places = np.array([(p.pt[1] / height, p.pt[0] / width) for p in points], dtype=np.float64).reshape(
            -1, 2
        )
        return rooted(descriptors), places

    def words(self, descriptors: Single) -> Single:
        """(m, k): how much each of the descriptors (m, 128) counts for each word."""
        lengths = np.square(self.vocabulary_).sum(1)
        distance = np.square(descriptors).sum(1)[:, None] + lengths - 2.0 * descriptors @ self.vocabulary_.T
        if self.soft:
            distance = np.sqrt(np.maximum(distance, 0.0, out=distance), out=distance)
            return np.asarray(np.maximum(0.0, distance.mean(1, keepdims=True) - distance))
        counted = np.zeros_like(distance)
        counted[np.arange(len(distance)), distance.argmin(1)] = 1.0
        return np.asarray(counted, dtype=np.float32)

    def compute(self, batch: Bytes) -> Single:
        rows = []
        for descriptors, places in self.described(batch):
            counts = self.words(descriptors)
            found = []
            for level in self.levels:
                down, across = np.minimum((places * level).astype(np.intp), level - 1).T
                member = np.zeros((level**2, len(counts)), dtype=np.float32)
                member[down * level + across, np.arange(len(counts))] = 1.0
                found.append(member @ counts)
            rows.append(np.concatenate(found).ravel())
        return rooted(np.stack(rows))


def rooted(rows: Single) -> Single:
    """Square roots of rows (..., d) of numbers from 0 on, made to sum to 1: their length is then 1, or 0."""
    total = rows.sum(-1, keepdims=True)
    return np.asarray(np.sqrt(np.maximum(rows, 0.0) / np.where(total > 0, total, 1.0)), dtype=np.float32)
