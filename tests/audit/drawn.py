"""Pictures as cameras make them, drawn: clouds of all sizes, a bright top, and something of the class in the middle."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from PIL import Image, ImageEnhance

SIZE = (160, 120)


def scene(kind: int, rng: np.random.Generator, size: tuple[int, int] = SIZE) -> Image.Image:
    """A picture of class `kind`: a disc, a bar, a cross or a ring before 1/f noise, with the light from above."""
    width, height = size
    y, x = np.mgrid[:height, :width].astype(float)
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.fftfreq(width)[None])
    frequency[0, 0] = 1
    layers = []
    for _ in range(3):
        waves = np.fft.fft2(rng.standard_normal((height, width))) / frequency
        waves[0, 0] = 0
        cloud = np.fft.ifft2(waves).real
        layers.append(cloud / cloud.std())
    shared = layers[0]
    picture = np.stack([0.8 * shared + 0.4 * one for one in layers], axis=2) * 28 + 110
    picture += (40 - 80 * y / height)[..., None]
    cx, cy, r = width * rng.uniform(0.4, 0.6), height * rng.uniform(0.4, 0.6), height * rng.uniform(0.2, 0.3)
    dx, dy, far = abs(x - cx), abs(y - cy), np.hypot(x - cx, y - cy)
    shape = (
        far < r,
        (dx < r / 3) & (dy < r * 1.4),
        ((dx < r / 4) | (dy < r / 4)) & (far < r * 1.3),
        abs(far - r) < r / 4,
    )[kind]
    colour = rng.choice((40, 200)) + rng.uniform(-25, 25, 3)
    picture[shape] = 0.2 * picture[shape] + 0.8 * colour
    picture += rng.normal(0, 3, picture.shape)
    return Image.fromarray(picture.clip(0, 255).astype(np.uint8))


def changed(picture: Image.Image, how: str, rng: np.random.Generator) -> Image.Image:
    """The picture resized, recompressed, brightened (or darkened), or cropped by 5 % of its sides."""
    width, height = picture.size
    if how == "resized":
        scale = rng.choice([0.5, 0.75, 1.5])
        return picture.resize((round(width * scale), round(height * scale)), Image.Resampling.BICUBIC)
    if how == "recompressed":
        content = io.BytesIO()
        picture.save(content, "JPEG", quality=int(rng.integers(25, 60)))
        return Image.open(content).convert("RGB")
    if how == "brightened":
        return ImageEnhance.Brightness(picture).enhance(float(rng.choice([0.75, 1.25])))
    assert how == "cropped"
    # 5 % off each side, by even or uneven shares at the two ends.
    left, top = rng.integers(0, round(0.05 * width) + 1), rng.integers(0, round(0.05 * height) + 1)
    return picture.crop((left, top, left + round(0.95 * width), top + round(0.95 * height)))


CHANGES = ("resized", "recompressed", "brightened", "cropped")


def folder_of(root: Path, counts: dict[str, int], rng: np.random.Generator, **save: object) -> Path:
    """`root` with JPEGs of scenes, as many of each class as `counts` says; 'train/disc' will do as a class."""
    for kind, (name, count) in enumerate(counts.items()):
        (root / name).mkdir(parents=True)
        for number in range(count):
            scene(kind % 4, rng).save(root / name / f"{number:03}.jpg", **({"quality": 90} | save))  # type: ignore[arg-type]
    return root
