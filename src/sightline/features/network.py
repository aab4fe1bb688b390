"""Hand-crafted features with a linear head as a network: `create_model("features/hog+color")`.

It speaks timm's protocol, so that a Bundle holds it like any other: what the features learned are buffers, the last
layer is an `nn.Linear`. The features are computed by OpenCV and numpy on the CPU; no gradient goes through them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from sightline.errors import SightlineError
from sightline.features.pictures import PictureFeatures
from sightline.features.sift import BagOfSIFT
from sightline.features.spelling import parse_features, restore, spell_features
from sightline.models.info import ModelInfo
from sightline.models.protocol import FeatureInfo, image_size, linear_head

SIDE = 128


class Handcrafted(nn.Module):
    """One kind of hand-crafted features, what it learned as buffers."""

    def __init__(self, part: PictureFeatures) -> None:
        super().__init__()
        self.part = part
        if isinstance(part, BagOfSIFT):
            self.register_buffer("vocabulary_", torch.zeros(part.k, 128))

    def take(self, fitted: PictureFeatures) -> None:
        """Take over what `fitted`, of the same parameters, learned."""
        for name in fitted.learned:
            cast(Tensor, getattr(self, name)).copy_(torch.from_numpy(getattr(fitted, name)))

    def forward(self, pictures: Tensor) -> Tensor:
        """uint8 (N, C, H, W) -> float32 (N, D)."""
        grey, wanted = pictures.shape[1] == 1, 1 if self.part.mode == "L" else 3
        batch = pictures.permute(0, 2, 3, 1).cpu().numpy()  # N, H, W, C
        if wanted == 1:
            batch = batch[..., 0] if grey else to_grey(batch)
        elif grey:
            batch = np.repeat(batch, 3, axis=3)
        restore(self.part, {name: getattr(self, name).cpu().numpy() for name in self.part.learned})
        return torch.from_numpy(self.part.compute(np.ascontiguousarray(batch)))

    def extra_repr(self) -> str:
        return repr(self.part)


class FeaturesNetwork(nn.Module):
    """The features spelled by `features`, side by side, and a linear layer.

    Takes pictures (N, in_chans, H, W) scaled to 0..1, with no mean or deviation: the 8-bit pixels come back from them.
    """

    def __init__(
        self,
        features: str,
        num_classes: int = 1000,
        in_chans: int = 3,
        img_size: int | Sequence[int] | None = None,
    ) -> None:
        super().__init__()
        if in_chans not in (1, 3):
            raise SightlineError(f"hand-crafted features take pictures of 1 or 3 channels, not {in_chans}.")
        size = image_size(img_size, SIDE)
        parts = parse_features(features)
        for part in parts:
            if part.size is not None and (wanted := image_size(cast(Any, part.size), SIDE)) != size:
                raise SightlineError(
                    f"all features of a network see the same picture, of {size[0]}x{size[1]} pixels here; leave out "
                    f"the size {wanted[0]}x{wanted[1]} of {spell_features([part])}."
                )
            part.settle(size, grey=in_chans == 1)
        self.in_chans, self.size = in_chans, size
        self.parts = nn.ModuleList(Handcrafted(part) for part in parts)
        self.num_features = self.head_hidden_size = sum(part._n_features_out for part in parts)
        self.feature_info = [FeatureInfo(num_chs=self.num_features, reduction=max(size), module="parts")]
        self.num_classes = num_classes
        self.head = linear_head(self.num_features, num_classes)

    def forward_features(self, x: Tensor) -> Tensor:
        """(N, in_chans, H, W) -> (N, num_features, 1, 1)."""
        if x.shape[1:] != (self.in_chans, *self.size):
            wanted, got = (self.in_chans, *self.size), tuple(x.shape[1:])
            raise SightlineError(f"These features take pictures of shape {wanted}, not {got}.")
        if x.is_meta:  # only shapes are asked for
            return x.new_empty(len(x), self.num_features, 1, 1)
        with torch.no_grad():
            pictures = (x.float() * 255.0).round_().clamp_(0, 255).to(torch.uint8)
            found = [part(pictures) for part in self.parts]
            return torch.cat(found, 1).to(x)[:, :, None, None]

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """(N, num_features, 1, 1) -> (N, num_classes), or with `pre_logits` (N, num_features)."""
        x = x.flatten(1)
        return x if pre_logits else cast(Tensor, self.head(x))

    def forward(self, x: Tensor) -> Tensor:
        return self.forward_head(self.forward_features(x))

    def get_classifier(self) -> nn.Module:
        return self.head

    def reset_classifier(self, num_classes: int) -> None:
        self.num_classes = num_classes
        self.head = linear_head(self.num_features, num_classes)


def to_grey(batch: np.ndarray) -> np.ndarray:
    """RGB (N, H, W, 3) -> grey (N, H, W), to the bit as Pillow's convert("L"), ITU-R 601."""
    red, green, blue = np.moveaxis(batch.astype(np.uint32), -1, 0)
    return np.asarray((red * 19595 + green * 38470 + blue * 7471 + 0x8000) >> 16, dtype=np.uint8)


def info(features: str) -> ModelInfo:
    """What is known of `features/...`. Raises SightlineError where the text spells no features."""
    parse_features(features)
    return ModelInfo(
        name=f"features/{features}",
        family="features",
        title="Hand-crafted features with a linear layer",
        reference="",
        year=None,
        input=(3, SIDE, SIDE),
        num_classes=1000,
        params=None,
        mult_adds=None,
        mean=(0.0, 0.0, 0.0),
        std=(1.0, 1.0, 1.0),
    )
