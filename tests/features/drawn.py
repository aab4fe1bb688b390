"""Pictures drawn for the tests: two kinds of stripes in two colours, plainly told apart."""

import numpy as np
from PIL import Image

CLASSES = ("blue", "red", "slanted")


def pictures(count: int, side: int = 32, seed: int = 0) -> tuple[list[np.ndarray], np.ndarray]:
    """`count` RGB pictures (side, side, 3) and their classes, 0..2."""
    rng = np.random.default_rng(seed)
    targets = np.arange(count) % 3
    y, x = np.mgrid[:side, :side]
    drawn = []
    for kind in targets:
        wave = 0.5 + 0.5 * np.sin((x + y if kind == 2 else x) * 0.8 + rng.uniform(0, 6))
        colour = np.array([(40, 60, 220), (220, 60, 40), (150, 150, 150)][kind])
        picture = wave[..., None] * colour + rng.normal(0, 8, (side, side, 3))
        drawn.append(np.clip(picture, 0, 255).astype(np.uint8))
    return drawn, targets


def folder(path, count: int = 60, side: int = 32):
    """The pictures as a folder of classes."""
    for i, (picture, kind) in enumerate(zip(*pictures(count, side), strict=True)):
        place = path / CLASSES[kind]
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture).save(place / f"{i}.png")
    return path
