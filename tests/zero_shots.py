"""A small CLIP in a file, drawn at random, with what opens it; and pictures of one colour each."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file

from tests.models.clips import SIZES, theirs

NAME = "clip_vit_base_patch32"
ARGUMENTS: dict[str, Any] = {**SIZES[NAME], "quick_gelu": True}


def write_weights(folder: Path) -> Path:
    """open_clip's network of that shape as safetensors, without any description beside."""
    path = folder / "small.safetensors"
    save_file({key: value.contiguous() for key, value in oracle().state_dict().items()}, path)
    return path


def oracle() -> torch.nn.Module:
    return theirs(NAME)


def write_pictures(folder: Path, count: int = 6, start: int = 0) -> list[Path]:
    """Noise of another colour in each."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for number in range(start, start + count):
        rng = np.random.default_rng(number)
        pixels = rng.integers(0, 100, (80, 72, 3)) + rng.integers(0, 150, 3)
        paths.append(folder / f"{number:02}.png")
        Image.fromarray(pixels.astype(np.uint8)).save(paths[-1])
    return paths
