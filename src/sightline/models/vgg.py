"""VGG: depth, from nothing but 3x3 convolutions.

    Simonyan, Zisserman: Very Deep Convolutional Networks for Large-Scale Image Recognition. ICLR 2015,
        arXiv 1409.1556

What was new: two 3x3 convolutions see as far as one of 5x5 and three as far as one of 7x7, with fewer weights
and more ReLUs between them (section 2.3), so a network can be made deep by repeating a single kind of layer.
Its configurations are A, B, D and E of Table 1: 11, 13, 16 and 19 layers with weights, of which three are
fully connected.

`vgg16_bn` and the like have batch normalisation behind each convolution, which is not in the paper.

The paper draws weights from N(0, 0.01), 0.01 being the variance, and starts its deeper networks from
parts of the trained A. Here convolutions begin as He et al. 2015 propose and linear layers with a deviation
of 0.01, as in torchvision, so that each depth can be trained from scratch. Parameter names and shapes
are torchvision's.
"""

# In PyTorch's stubs the call of a module is Any.
# mypy: disable-error-code="no-any-return"
from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise

import torch
from torch import Tensor, nn

from sightline.models.checkpointing import checkpointed
from sightline.models.protocol import FeatureInfo, image_size, linear_head, require


class VGG(nn.Module):
    """Stages of 3x3 convolutions, each ending in a 2x2 max pooling; then three fully connected layers.

    layers, widths: convolutions of each stage, and their channels. batch_norm: behind each convolution.
    hidden: units of the first two fully connected layers. drop_rate: dropout behind each of them.
    img_size: only checked. Any size will do that can be halved by each stage (32 and more for five); the last
        maps are averaged to 7x7.
    Raises SightlineError where the arguments make no network.
    """

    def __init__(
        self,
        *,
        layers: Sequence[int] = (2, 2, 3, 3, 3),
        widths: Sequence[int] = (64, 128, 256, 512, 512),
        batch_norm: bool = False,
        hidden: int = 4096,
        num_classes: int = 1000,
        in_chans: int = 3,
        img_size: int | Sequence[int] | None = None,
        drop_rate: float = 0.5,
    ) -> None:
        super().__init__()
        require(
            0 < len(layers) == len(widths),
            f"layers {list(layers)} and widths {list(widths)} must name the same stages.",
        )
        require(min(*layers, *widths, hidden) >= 1, "layers, widths and hidden are at least 1.")
        require(0 <= drop_rate < 1, "drop_rate lies in [0, 1).")
        image_size(img_size, 224, minimum=2 ** len(layers))
        self.num_classes, self.in_chans = num_classes, in_chans
        self.grad_checkpointing = False

        features: list[nn.Module] = []
        self.ends = [0]  # of the stages, in `features`
        self.feature_info = []
        chans, reduction = in_chans, 1
        for depth, width in zip(layers, widths, strict=True):
            for _ in range(depth):
                norm = [nn.BatchNorm2d(width)] if batch_norm else []
                features += [nn.Conv2d(chans, width, 3, padding=1), *norm, nn.ReLU(inplace=True)]
                chans = width
            # B, 64, 224, 224 in the first stage to B, 512, 14, 14 in the fifth
            self.feature_info.append(feature(chans, reduction, len(features) - 1))
            features.append(nn.MaxPool2d(2))
            reduction *= 2
            self.ends.append(len(features))
        self.feature_info.append(feature(chans, reduction, len(features) - 1))  # B, 512, 7, 7
        self.features = nn.Sequential(*features)
        self.num_features, self.head_hidden_size = chans, hidden
        self.avgpool = nn.AdaptiveAvgPool2d(7)
        self.classifier = nn.Sequential(
            nn.Linear(chans * 7 * 7, hidden),
            nn.ReLU(inplace=True),
            nn.Dropout(drop_rate),
            nn.Linear(hidden, hidden),
            nn.ReLU(inplace=True),
            nn.Dropout(drop_rate),
            linear_head(hidden, num_classes),
        )

        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            elif isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=0.01)
            if isinstance(module, nn.Conv2d | nn.Linear) and module.bias is not None:
                nn.init.zeros_(module.bias)

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Keep one map a stage for the backward pass, which computes the others again."""
        self.grad_checkpointing = enable

    def forward_features(self, x: Tensor) -> Tensor:
        """(N, in_chans, H, W) -> (N, 512, H // 32, W // 32)."""
        if not (self.grad_checkpointing and torch.is_grad_enabled()):
            return self.features(x)
        for begin, end in pairwise(self.ends):
            x = checkpointed(self.features[begin:end], x)
        return x

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """(N, 512, h, w) -> logits (N, num_classes), or what enters the last layer (N, 4096) with `pre_logits`."""
        x = torch.flatten(self.avgpool(x), 1)
        *body, out = self.classifier
        for layer in body:
            x = layer(x)
        return x if pre_logits else out(x)

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_chans, H, W) -> logits (N, num_classes)."""
        return self.forward_head(self.forward_features(x))

    def get_classifier(self) -> nn.Module:
        return self.classifier[-1]

    def reset_classifier(self, num_classes: int) -> None:
        self.num_classes = num_classes
        self.classifier[-1] = linear_head(self.head_hidden_size, num_classes)


def feature(chans: int, reduction: int, index: int) -> FeatureInfo:
    return FeatureInfo(num_chs=chans, reduction=reduction, module=f"features.{index}")


A, B, D, E = (1, 1, 2, 2, 2), (2, 2, 2, 2, 2), (2, 2, 3, 3, 3), (2, 2, 4, 4, 4)

VARIANTS: dict[str, Callable[..., VGG]] = {
    "vgg11": partial(VGG, layers=A),
    "vgg13": partial(VGG, layers=B),
    "vgg16": partial(VGG, layers=D),
    "vgg19": partial(VGG, layers=E),
    "vgg11_bn": partial(VGG, layers=A, batch_norm=True),
    "vgg13_bn": partial(VGG, layers=B, batch_norm=True),
    "vgg16_bn": partial(VGG, layers=D, batch_norm=True),
    "vgg19_bn": partial(VGG, layers=E, batch_norm=True),
}
