"""ResNet-9: a small residual network made to be trained on CIFAR-10 quickly.

    Page: How to Train Your ResNet. 2018, https://github.com/davidcpage/cifar10-fast (Stanford's DAWNBench, CIFAR-10)

What was new: next to nothing in the network, much in the cost of a point of accuracy. A residual network that is to
be trained within minutes does best with few, wide layers: three stages that begin with a plain convolution and a
pooling in place of a stride, and a residual block in the first and the last of them alone. Pooling stands in front
of batch normalisation and ReLU, which then see a quarter of the places. The last maps are pooled by their maximum, and
what enters the classifier is an eighth of it, so that the loss begins small.

`resnet9_small` has half of Page's widths, and a bias in its last layer, where his has none.
"""

# In PyTorch's stubs the call of a module is Any.
# mypy: disable-error-code="no-any-return"
from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor, nn

from sightline.models.activations import ReLU, add
from sightline.models.checkpointing import Stage, set_grad_checkpointing
from sightline.models.protocol import FeatureInfo, image_size, linear_head, require
from sightline.models.resnet import conv3x3

# Of what enters the classifier.
SCALE = 0.125


class Convolution(nn.Module):
    """A 3x3 convolution, 2x2 max pooling if asked for, batch normalisation, ReLU."""

    def __init__(self, in_chans: int, out_chans: int, pool: bool = False) -> None:
        super().__init__()
        self.conv = conv3x3(in_chans, out_chans)
        self.pool = nn.MaxPool2d(2) if pool else nn.Identity()
        self.bn = nn.BatchNorm2d(out_chans)
        self.relu = ReLU()

    def forward(self, x: Tensor) -> Tensor:
        return self.relu(self.bn(self.pool(self.conv(x))))


class Residual(nn.Module):
    """x and what two convolutions make of it; no ReLU stands behind the sum."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = Convolution(width, width)
        self.conv2 = Convolution(width, width)

    def forward(self, x: Tensor) -> Tensor:
        # In training nothing is added in place: the second ReLU needs what it put out for its gradient.
        return add(self.conv2(self.conv1(x)), x, training=False)


class ResNet9(nn.Module):
    """A convolution, three stages that halve the resolution, global max pooling, one linear layer.

    widths: channels of the first convolution and of each stage.
    img_size: only checked. Any size of 8 and more pixels will do.
    drop_rate: dropout before the classifier.

    Weights are drawn by PyTorch's default, as Page's are.
    Raises SightlineError where the arguments make no network.
    """

    def __init__(
        self,
        *,
        widths: Sequence[int] = (64, 128, 256, 512),
        num_classes: int = 10,
        in_chans: int = 3,
        img_size: int | Sequence[int] | None = None,
        drop_rate: float = 0.0,
    ) -> None:
        super().__init__()
        require(
            len(widths) == 4 and min(widths) >= 1,
            f"widths are four numbers of at least 1, not {list(widths)}.",
        )
        require(0 <= drop_rate < 1, "drop_rate lies in [0, 1).")
        image_size(img_size, 32, minimum=8)
        self.num_classes, self.in_chans = num_classes, in_chans
        first, second, third, fourth = widths

        self.stem = Convolution(in_chans, first)  # B, 64, 32, 32
        self.layer1 = Stage(Convolution(first, second, pool=True), Residual(second))  # B, 128, 16, 16
        self.layer2 = Stage(Convolution(second, third, pool=True))  # B, 256, 8, 8
        self.layer3 = Stage(Convolution(third, fourth, pool=True), Residual(fourth))  # B, 512, 4, 4
        self.feature_info = [
            FeatureInfo(num_chs=width, reduction=2**i, module=name)
            for i, (width, name) in enumerate(
                zip(widths, ("stem", "layer1", "layer2", "layer3"), strict=True)
            )
        ]
        self.num_features = self.head_hidden_size = fourth
        self.maxpool = nn.AdaptiveMaxPool2d(1)
        self.drop = nn.Dropout(drop_rate)
        self.fc = linear_head(fourth, num_classes)

    def forward_features(self, x: Tensor) -> Tensor:
        """(N, in_chans, H, W) -> (N, num_features, H // 8, W // 8)."""
        return self.layer3(self.layer2(self.layer1(self.stem(x))))

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """(N, num_features, h, w) -> (N, num_classes), or (N, num_features) with `pre_logits`."""
        x = self.drop(torch.flatten(self.maxpool(x), 1) * SCALE)
        return x if pre_logits else self.fc(x)

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_chans, H, W) -> logits (N, num_classes)."""
        return self.forward_head(self.forward_features(x))

    def get_classifier(self) -> nn.Module:
        return self.fc

    def reset_classifier(self, num_classes: int) -> None:
        self.num_classes = num_classes
        self.fc = linear_head(self.num_features, num_classes)

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Compute each block again for the gradient instead of keeping what is inside it."""
        set_grad_checkpointing(self, enable)


VARIANTS: dict[str, Callable[..., ResNet9]] = {
    "resnet9_small": partial(ResNet9, widths=(32, 64, 128, 256)),
}
