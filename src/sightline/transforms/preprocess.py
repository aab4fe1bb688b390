"""The fixed map from a picture to the uint8 tensor that a network sees, and the normalisation after it.

It is Pillow's antialiased resize with torchvision's rounding, done in one call: resizing the short side and
cutting the centre are one `Image.resize(size, box=...)`, on photographs within 1 of 255 of torchvision's two steps.
Evaluation, prediction and serving use this map and nothing else; it is saved with the model.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    import torch

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

RESAMPLING = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}


@dataclass(frozen=True, slots=True)
class Preprocess:
    """A picture to a uint8 tensor of shape (channels, height, width), values 0 to 255.

    size: (height, width) of the result, in pixels.
    fit: `crop` resizes the short side to `resize` and cuts the centre; `squash` resizes to `size` whatever
        the aspect ratio, so that nothing of the picture is lost.
    resize: the short side before the cut, at least the longer of `size`; None takes just that. Only for `crop`.
    mean, std: per channel, on the scale 0..1, applied by `normalize`.
    """

    size: tuple[int, int]
    channels: Literal[1, 3] = 3
    fit: Literal["crop", "squash"] = "crop"
    resize: int | None = None
    interpolation: Literal["bilinear", "bicubic"] = "bilinear"
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD

    def __post_init__(self) -> None:
        if len(self.mean) != self.channels or len(self.std) != self.channels:
            raise ValueError(f"mean and std need {self.channels} values each, one per channel")
        if self.fit not in ("crop", "squash") or self.interpolation not in RESAMPLING:
            raise ValueError("fit is crop or squash, interpolation bilinear or bicubic")
        if min(self.size) < 1 or min(self.std) <= 0:
            raise ValueError("size and std must be positive")
        if self.resize is not None and (self.fit == "squash" or self.resize < max(self.size)):
            raise ValueError(
                f"resize={self.resize} must be at least {max(self.size)} and goes with fit='crop'"
            )

    @property
    def mode(self) -> Literal["L", "RGB"]:
        """Pillow's mode of the pictures that this map takes."""
        return "L" if self.channels == 1 else "RGB"

    def image(self, picture: Image.Image) -> Image.Image:
        """`picture`, of any size, as a Pillow image of this map's size and mode."""
        if picture.mode != self.mode:
            picture = picture.convert(self.mode)
        height, width = self.size
        box = None
        if self.fit == "crop":
            box = center_box(picture.size, self.resize or max(self.size), (width, height))
        if picture.size == (width, height) and box in (None, (0.0, 0.0, float(width), float(height))):
            return picture
        return picture.resize((width, height), RESAMPLING[self.interpolation], box=box)

    def __call__(self, picture: Image.Image) -> torch.Tensor:
        """`picture` as a uint8 tensor (channels, height, width)."""
        return to_tensor(self.image(picture))

    def normalize(self, batch: torch.Tensor) -> torch.Tensor:
        """uint8 (..., channels, height, width) to float32, scaled to 0..1, minus mean, over std; its layout is kept."""
        import torch

        mean = torch.tensor(self.mean, device=batch.device).view(-1, 1, 1) * 255.0
        scale = 1.0 / (torch.tensor(self.std, device=batch.device).view(-1, 1, 1) * 255.0)
        batch = batch.to(torch.float32, copy=True)
        if batch.stride(-3) == 1:
            # Colours last: constants that lie the same, or each pixel becomes a loop of three.
            last = (x.expand(batch.shape[-3:]).permute(1, 2, 0) for x in (mean, scale))
            mean, scale = (x.contiguous().permute(2, 0, 1) for x in last)
        return batch.sub_(mean).mul_(scale)

    def to_dict(self) -> dict[str, Any]:
        """Plain data that `from_dict` takes back."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Preprocess:
        """The inverse of `to_dict`; lists (as JSON has them) become tuples."""
        values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in data.items()}
        return cls(**values)


def center_box(
    source: tuple[int, int], resize: int, crop: tuple[int, int]
) -> tuple[float, float, float, float]:
    """The part of a (width, height) `source` that short-side `resize` and a centre `crop` would keep.

    The rounding is torchvision's: the long side is cut to an integer, the crop's corner rounded half to even.
    """
    width, height = source
    short = min(source)
    scaled = tuple(resize if side == short else int(resize * side / short) for side in source)
    left, top = (round((s - c) / 2.0) for s, c in zip(scaled, crop, strict=True))
    x, y = width / scaled[0], height / scaled[1]
    return left * x, top * y, min((left + crop[0]) * x, width), min((top + crop[1]) * y, height)


def stored_size(source: tuple[int, int], size: int, fit: str) -> tuple[int, int]:
    """The (width, height) to train on, from that of a picture: the short side (`crop`) or both are `size` pixels."""
    if fit == "squash":
        return size, size
    width, height = (size if side == min(source) else int(size * side / min(source)) for side in source)
    return width, height


def store_image(picture: Image.Image, size: int, fit: str, interpolation: str = "bilinear") -> Image.Image:
    """`picture` at the size at which it is trained on, by Pillow's resize."""
    target = stored_size(picture.size, size, fit)
    return picture if picture.size == target else picture.resize(target, RESAMPLING[interpolation])


def to_tensor(image: Image.Image) -> torch.Tensor:
    """An 8-bit Pillow image as a uint8 tensor (channels, height, width)."""
    import torch

    array = np.array(image)  # a copy: the tensor may be written to
    return torch.from_numpy(
        array[None] if array.ndim == 2 else np.ascontiguousarray(array.transpose(2, 0, 1))
    )
