"""The maps that torchvision lacks: crops and shifts by index, and noise from a drawn number.

Integer shifts are index arithmetic, so the same function serves one picture and a whole batch, bit for bit.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch

Fill = Literal["zero", "reflect"]


def source_indices(start: np.ndarray, length: int, size: int, fill: Fill) -> tuple[np.ndarray, np.ndarray]:
    """Where each of `length` cells from `start` (N,) lies in a row of `size`: indices, inside, both (N, length).

    Cells outside the row are reflected at its ends (the end itself is not repeated) or, for `zero`, clamped and
    marked as outside.
    """
    cells = start[:, None] + np.arange(length)[None, :]
    inside = (cells >= 0) & (cells < size)
    if fill == "reflect" and size > 1:
        period = 2 * (size - 1)
        cells = np.abs(cells) % period
        return np.where(cells >= size, period - cells, cells), np.ones_like(inside)
    return cells.clip(0, size - 1), inside


def crop_batch(
    images: torch.Tensor, top: np.ndarray, left: np.ndarray, size: tuple[int, int], fill: Fill
) -> torch.Tensor:
    """Cut (height, width) `size` out of each of `images` (N, C, H, W) at its own corner, which may lie outside."""
    n, channels, height, width = images.shape
    rows, rows_in = source_indices(top, size[0], height, fill)
    cols, cols_in = source_indices(left, size[1], width, fill)
    # One gather over flattened pixels: the index of every wanted pixel in its own picture.
    pixels = torch.from_numpy(rows[:, :, None] * width + cols[:, None, :]).to(images.device)
    flat = images.reshape(n, channels, height * width)
    index = pixels.reshape(n, 1, -1).expand(n, channels, -1)
    out = flat.gather(2, index).reshape(n, channels, *size)
    if fill == "zero" and not (rows_in.all() and cols_in.all()):
        inside = torch.from_numpy(rows_in[:, :, None] & cols_in[:, None, :]).to(images.device)
        out = out * inside[:, None]
    return out


def gaussian_noise(image: np.ndarray, std: float, draw: float) -> np.ndarray:
    """uint8 `image` plus Gaussian noise of `std` (1 is the whole range); `draw` in [0, 1) seeds the noise."""
    rng = np.random.Generator(np.random.Philox(key=int(draw * 2**32)))
    noise: np.ndarray = rng.standard_normal(image.shape, dtype=np.float32) * np.float32(std * 255.0)
    return np.asarray(np.rint(image + noise).clip(0, 255), dtype=np.uint8)
