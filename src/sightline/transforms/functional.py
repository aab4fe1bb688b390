"""The maps that torchvision lacks or is slow at: cuts and shifts by index, smoothing, noise from a drawn number.

Integer shifts are index arithmetic, so one picture and a whole batch get the same bits.
"""

from __future__ import annotations

import math
import warnings
from typing import Literal

import numpy as np
import torch
from PIL import Image
from torch.nn import functional as F

Fill = Literal["zero", "reflect"]

# Pillow's pixels come in memory that may not be written to, which nobody here does. (Not only for the time of a call:
# filters that come and go are not safe where several threads work.)
warnings.filterwarnings("ignore", message="The given NumPy array is not writable")


def resized(pixels: np.ndarray, size: tuple[int, int], interpolation: str = "bilinear") -> np.ndarray:
    """uint8 `pixels` (H, W) or (H, W, 1 to 4), a view or not, antialiased to (height, width) `size`.

    torch's kernel for 8 bits: within 1 of 255 of Pillow's, and two to three times as fast.
    """
    if pixels.shape[:2] == size:
        return pixels
    # The batch of one is made before colours are moved: so torch sees that they are last in memory, and leaves them so.
    batch = torch.from_numpy(pixels if pixels.ndim == 3 else pixels[:, :, None])[None].permute(0, 3, 1, 2)
    done = F.interpolate(batch, size, mode=interpolation, antialias=True, align_corners=False)
    last: np.ndarray = np.ascontiguousarray(done.permute(0, 2, 3, 1).numpy())[0]
    return last if pixels.ndim == 3 else last[:, :, 0]


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
    if images.device.type == "cpu" and len(images):
        return cut_out(images, top, left, size, fill)
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


def cut_out(
    images: torch.Tensor, top: np.ndarray, left: np.ndarray, size: tuple[int, int], fill: Fill
) -> torch.Tensor:
    """`crop_batch` on the processor, where copying a window of each padded picture is the fastest way."""
    n, channels, height, width = images.shape
    above, before = max(0, -int(top.min())), max(0, -int(left.min()))
    below = max(0, int(top.max()) + size[0] - height)
    after = max(0, int(left.max()) + size[1] - width)
    pixels = images.permute(0, 2, 3, 1).numpy()  # a row is one piece of memory where colours are last
    if fill == "zero":  # by hand: np.pad takes as long as all the copies below
        padded = np.zeros((n, above + height + below, before + width + after, channels), dtype=pixels.dtype)
        padded[:, above : above + height, before : before + width] = pixels
        pixels = padded
    else:
        pixels = np.pad(pixels, ((0, 0), (above, below), (before, after), (0, 0)), mode="reflect")
    out = np.empty((n, *size, channels), dtype=pixels.dtype)
    for k, (y, x) in enumerate(zip((top + above).tolist(), (left + before).tolist(), strict=True)):
        out[k] = pixels[k, y : y + size[0], x : x + size[1]]
    return torch.from_numpy(out).permute(0, 3, 1, 2)


def crop_picture(image: Image.Image, top: int, left: int, size: tuple[int, int], fill: Fill) -> Image.Image:
    """The same cut out of one Pillow image."""
    height, width = size
    bottom, right = top + height, left + width
    outside = min(top, left, image.height - bottom, image.width - right) < 0
    if fill == "zero" or not outside:
        return image.crop((left, top, right, bottom))  # Pillow fills with black
    import cv2

    above, before = max(0, -top), max(0, -left)
    below, after = max(0, bottom - image.height), max(0, right - image.width)
    padded = cv2.copyMakeBorder(np.asarray(image), above, below, before, after, cv2.BORDER_REFLECT_101)
    top, left = top + above, left + before
    return Image.fromarray(np.asarray(padded[top : top + height, left : left + width], np.uint8))


def map_batch(images: torch.Tensor, maps: np.ndarray) -> torch.Tensor:
    """uint8 `images` (N, C, H, W), each with its linear map about the centre; what enters is black.

    maps: float64 (N, 2, 2), from where (x, y) a pixel comes. Bilinear; to the bit what torchvision's `rotate` and
    `affine` make of each tensor alone, which map a whole batch alike.
    """
    n, _, height, width = images.shape
    places = torch.ones(1, height, width, 3)
    places[..., 0] = torch.linspace((1 - width) / 2, (width - 1) / 2, width)
    places[..., 1] = torch.linspace((1 - height) / 2, (height - 1) / 2, height)[:, None]
    # The third column moves nothing; with it the sums are rounded as torchvision's are.
    columns = torch.from_numpy(np.concatenate([maps, np.zeros((n, 2, 1))], 2).astype(np.float32)).mT
    scaled = columns / torch.tensor([0.5 * width, 0.5 * height])
    grid = places.view(1, -1, 3).expand(n, -1, -1).bmm(scaled).view(n, height, width, 2).to(images.device)
    mapped = F.grid_sample(images.float(), grid, "bilinear", "zeros", align_corners=False)
    return mapped.round_().to(torch.uint8)


def kernel_size(sigma: float, height: int, width: int) -> int:
    """How wide a Gaussian of `sigma` pixels is made: three sigma either way, as far as a picture can be reflected."""
    return min(2 * math.ceil(3 * sigma) + 1, 2 * min(height, width) - 1)


def smooth(array: np.ndarray, sigma: float, kernel: int) -> np.ndarray:
    """`array` (H, W) or (H, W, C) under a Gaussian of `sigma` over `kernel` pixels, reflected at the borders; float32.

    torchvision's `gaussian_blur` before its rounding, but one axis after the other: a fraction of the time.
    """
    import cv2

    cells = np.arange(kernel) - kernel // 2
    weights = np.exp(-((cells / sigma) ** 2) / 2)
    weights = (weights / weights.sum()).astype(np.float32)
    return np.asarray(
        cv2.sepFilter2D(array, cv2.CV_32F, weights, weights, borderType=cv2.BORDER_REFLECT_101), np.float32
    )


def generator(draw: float) -> np.random.Generator:
    """Where a map needs many numbers, or other than uniform ones, one number in [0, 1) is the key of them all."""
    return np.random.Generator(np.random.Philox(key=int(draw * 2**32)))


def gaussian_noise(image: np.ndarray, std: float, draw: float) -> np.ndarray:
    """uint8 `image` plus Gaussian noise of `std` (1 is the whole range); `draw` in [0, 1) is its key."""
    noise: np.ndarray = generator(draw).standard_normal(image.shape, dtype=np.float32)
    noise *= np.float32(std * 255.0)
    return np.asarray(np.rint(image + noise).clip(0, 255), dtype=np.uint8)


def salt_and_pepper(image: np.ndarray, amount: float, draw: float) -> np.ndarray:
    """uint8 `image` (H, W) or (H, W, C) with a share `amount` of its pixels white or black, each as likely."""
    which = generator(draw).random(image.shape[:2], dtype=np.float32)
    out = image.copy()
    out[which < amount / 2] = 0
    out[which >= 1 - amount / 2] = 255
    return out
