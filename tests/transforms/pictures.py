"""Pictures that the tests draw, and the ways in which one is held."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st
from PIL import Image

from sightline.transforms.preprocess import to_tensor

SEEDS = st.integers(0, 2**32 - 1)


def picture(height=20, width=24, channels=3, seed=0):
    """Noise: the hardest for every kernel, as no pixel is like its neighbour."""
    shape = (height, width, 3) if channels == 3 else (height, width)
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8))


@st.composite
def pictures(draw, smallest=1, largest=40):
    """Noise of any size, grey or in colour."""
    height, width = draw(st.integers(smallest, largest)), draw(st.integers(smallest, largest))
    return picture(height, width, draw(st.sampled_from([1, 3])), draw(st.integers(0, 99)))


def both(image):
    """The same pixels as a Pillow image and as a tensor."""
    return image, to_tensor(image)


def pixels(image):
    """uint8 (C, H, W) of either, signed so that differences can be taken."""
    return (to_tensor(image) if isinstance(image, Image.Image) else image).numpy().astype(int)


def numbers(augment, seed):
    """A row of uniform numbers for `augment` or one of its steps."""
    return np.random.default_rng(seed).random(augment.draws)
