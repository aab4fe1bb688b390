"""Residual networks, and the two families that widen them.

    He, Zhang, Ren, Sun: Deep Residual Learning for Image Recognition. CVPR 2016, arXiv 1512.03385
    Xie, Girshick, Dollár, Tu, He: Aggregated Residual Transformations for Deep Neural Networks (ResNeXt).
        CVPR 2017, arXiv 1611.05431
    Zagoruyko, Komodakis: Wide Residual Networks. BMVC 2016, arXiv 1605.07146

What was new: a block learns a residual, y = relu(F(x) + x). Batch normalisation stands after each convolution
and before the activation; the last ReLU stands after the sum. The shortcut is not gated.

Where the shape changes, x must be brought to that of F(x); the paper's options are
    A  every second pixel, new channels zero: no parameters
    B  a 1x1 convolution ("projection") where the shape changes, the identity elsewhere
    C  a projection in every block

ResNeXt splits the 3x3 convolution of the bottleneck into `groups` paths (its "cardinality") of `base_width`
channels each in the first stage; a wide network has one path, of twice the width.

Two placements of the stride: the paper has it in the first 1x1 convolution of a bottleneck (`resnet50_2015`
and the like: 3.86, 7.57 and 11.28 billion mult-adds, the paper's 3.8, 7.6 and 11.3); fb.resnet.torch, the
ResNeXt paper and torchvision in the 3x3 (`resnet50`: 4.09). The parameters are the same, the functions are
not.

Parameter names and shapes are torchvision's.
"""

# In PyTorch's stubs the call of a module is Any.
# mypy: disable-error-code="no-any-return"
from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sightline.models.activations import ReLU, add
from sightline.models.checkpointing import Stage, set_grad_checkpointing
from sightline.models.protocol import FeatureInfo, drop_path_rates, image_size, linear_head, require


def conv3x3(in_chans: int, out_chans: int, stride: int = 1, groups: int = 1) -> nn.Conv2d:
    return nn.Conv2d(in_chans, out_chans, 3, stride, padding=1, groups=groups, bias=False)


def conv1x1(in_chans: int, out_chans: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(in_chans, out_chans, 1, stride, bias=False)


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and the shortcut (the paper's Figure 5, left)."""

    expansion = 1

    def __init__(
        self, in_chans: int, width: int, stride: int, downsample: nn.Module, drop_path: nn.Module
    ) -> None:
        super().__init__()
        self.conv1 = conv3x3(in_chans, width, stride)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu1 = ReLU()
        self.conv2 = conv3x3(width, width)
        self.bn2 = nn.BatchNorm2d(width)
        self.drop_path = drop_path
        self.downsample = downsample
        self.relu2 = ReLU()

    def residual(self, x: Tensor) -> Tensor:
        x = self.relu1(self.bn1(self.conv1(x)))
        return self.bn2(self.conv2(x))

    def forward(self, x: Tensor) -> Tensor:
        return self.relu2(add(self.drop_path(self.residual(x)), self.downsample(x), self.training))


class Bottleneck(nn.Module):
    """1x1 down, 3x3, 1x1 up to four times the width, and the shortcut (the paper's Figure 5, right)."""

    expansion = 4

    def __init__(
        self,
        in_chans: int,
        width: int,
        stride: int,
        downsample: nn.Module,
        drop_path: nn.Module,
        *,
        groups: int = 1,
        base_width: int = 64,
        stride_in: str = "3x3",
    ) -> None:
        super().__init__()
        inner = width * base_width // 64 * groups
        out_chans = width * self.expansion
        self.conv1 = conv1x1(in_chans, inner, stride if stride_in == "1x1" else 1)
        self.bn1 = nn.BatchNorm2d(inner)
        self.relu1 = ReLU()
        self.conv2 = conv3x3(inner, inner, stride if stride_in == "3x3" else 1, groups)
        self.bn2 = nn.BatchNorm2d(inner)
        self.relu2 = ReLU()
        self.conv3 = conv1x1(inner, out_chans)
        self.bn3 = nn.BatchNorm2d(out_chans)
        self.drop_path = drop_path
        self.downsample = downsample
        self.relu3 = ReLU()

    def residual(self, x: Tensor) -> Tensor:
        x = self.conv1(x)  # step by step: a nested call would hold on to what it was given
        x = self.bn1(x)
        x = self.relu1(x)
        x = self.conv2(x)
        x = self.bn2(x)
        x = self.relu2(x)
        x = self.conv3(x)
        return self.bn3(x)

    def forward(self, x: Tensor) -> Tensor:
        return self.relu3(add(self.drop_path(self.residual(x)), self.downsample(x), self.training))


class PlainBlock(BasicBlock):
    """A BasicBlock without its shortcut: the plain networks that the paper compares with."""

    def forward(self, x: Tensor) -> Tensor:
        return self.relu2(self.residual(x))


class ZeroPad(nn.Module):
    """Shortcut A: every `stride`-th pixel, and zeros in the channels that x does not have."""

    def __init__(self, in_chans: int, out_chans: int, stride: int) -> None:
        super().__init__()
        self.stride, self.extra = stride, out_chans - in_chans

    def forward(self, x: Tensor) -> Tensor:
        return F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, 0, self.extra))


def make_shortcut(kind: str, in_chans: int, out_chans: int, stride: int) -> nn.Module:
    """What brings x to the shape of F(x) by the paper's option A, B or C."""
    same = stride == 1 and in_chans == out_chans
    if kind == "C" or (kind == "B" and not same):
        return nn.Sequential(conv1x1(in_chans, out_chans, stride), nn.BatchNorm2d(out_chans))
    return nn.Identity() if same else ZeroPad(in_chans, out_chans, stride)


BLOCKS: dict[str, type[BasicBlock] | type[Bottleneck]] = {
    "basic": BasicBlock,
    "bottleneck": Bottleneck,
    "plain": PlainBlock,
}
STEMS = {"imagenet": 4, "half": 2, "cifar": 1}  # by how much each reduces the resolution
SHORTCUTS = ("A", "B", "C")


class ResNet(nn.Module):
    """A stem, stages of residual blocks, global average pooling, one linear layer.

    Every keyword is data, so any network made of these blocks is one row of `VARIANTS`.

    block: "basic", "bottleneck" or "plain".
    layers: blocks in each stage. Each stage but the first halves the resolution.
    widths: channels of each stage's 3x3 convolutions; a bottleneck stage puts out four times as many.
    stem: "imagenet", a 7x7 convolution and a 3x3 max pooling, both of stride 2 (a quarter of the
        resolution); "half", one 3x3 convolution of stride 2; or "cifar", one of stride 1. It is as wide as
        the first stage.
    shortcut: the paper's option "A", "B" or "C".
    groups, base_width, stride_in: of bottlenecks alone. The 3x3 convolution has `groups` paths of `base_width`
        channels where the stage's width is 64; the stride is in the "3x3" or in the first "1x1" convolution.
    img_size: only checked. Any size will do at which each stride still has two pixels to join.
    drop_rate: dropout before the classifier. drop_path_rate: stochastic depth of the last block, rising to it.
    zero_init_residual: each block starts as the identity (Goyal et al. 2017, arXiv 1706.02677).

    Weights of convolutions are drawn as He et al. 2015 propose (normal, fan-out), as torchvision does.
    Raises SightlineError where the arguments make no network.
    """

    def __init__(
        self,
        *,
        block: str = "basic",
        layers: Sequence[int] = (2, 2, 2, 2),
        widths: Sequence[int] = (64, 128, 256, 512),
        stem: str = "imagenet",
        shortcut: str = "B",
        groups: int = 1,
        base_width: int = 64,
        stride_in: str = "3x3",
        num_classes: int = 1000,
        in_chans: int = 3,
        img_size: int | Sequence[int] | None = None,
        drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
        zero_init_residual: bool = False,
    ) -> None:
        super().__init__()
        for what, value, known in (
            ("block", block, BLOCKS),
            ("stem", stem, STEMS),
            ("shortcut", shortcut, SHORTCUTS),
            ("stride_in", stride_in, ("1x1", "3x3")),
        ):
            require(value in known, f"{what} is {' or '.join(known)}, not {value}.")
        require(
            0 < len(layers) == len(widths),
            f"layers {list(layers)} and widths {list(widths)} must name the same stages.",
        )
        require(
            min(*layers, *widths, groups, base_width) >= 1,
            "layers, widths, groups and base_width are at least 1.",
        )
        grows = all(a <= b for a, b in pairwise(widths))
        require(grows or shortcut != "A", "with shortcut A widths cannot shrink.")
        require(0 <= drop_rate < 1 and 0 <= drop_path_rate < 1, "drop_rate and drop_path_rate lie in [0, 1).")
        require(
            block != "plain" or not (drop_path_rate or zero_init_residual),
            "plain blocks have no residual branch to drop or to start at zero.",
        )
        make: Callable[..., BasicBlock | Bottleneck] = BLOCKS[block]
        if block == "bottleneck":
            narrow = [w for w in widths if w * base_width < 64]
            require(not narrow, f"a stage of width {narrow} has no channel left at base_width {base_width}.")
            make = partial(Bottleneck, groups=groups, base_width=base_width, stride_in=stride_in)
        else:
            require((groups, base_width) == (1, 64), "groups and base_width are for bottleneck blocks.")

        stem_reduction = STEMS[stem]
        image_size(img_size, 224, minimum=stem_reduction * 2 ** (len(layers) - 1) // 2 + 1)
        self.num_classes, self.in_chans = num_classes, in_chans

        chans, reduction = widths[0], stem_reduction
        if stem == "imagenet":
            self.conv1 = nn.Conv2d(in_chans, chans, 7, stride=2, padding=3, bias=False)  # B, 64, 112, 112
        else:
            self.conv1 = conv3x3(in_chans, chans, stride=stem_reduction)  # B, 16, 32, 32 in the paper's
        self.bn1 = nn.BatchNorm2d(chans)
        self.relu = ReLU()
        pooled = stem == "imagenet"
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1) if pooled else nn.Identity()  # B, 64, 56, 56
        stem_info = FeatureInfo(num_chs=chans, reduction=2 if pooled else stem_reduction, module="relu")
        self.feature_info = [stem_info]

        drop_paths = drop_path_rates(drop_path_rate, sum(layers))
        self.stages = [f"layer{i}" for i in range(1, len(layers) + 1)]
        for stage, depth, width in zip(self.stages, layers, widths, strict=True):
            blocks: list[nn.Module] = []
            out_chans = width * BLOCKS[block].expansion
            for i in range(depth):
                stride = 2 if i == 0 and stage != "layer1" else 1
                downsample = (
                    nn.Identity() if block == "plain" else make_shortcut(shortcut, chans, out_chans, stride)
                )
                blocks.append(make(chans, width, stride, downsample, next(drop_paths)))
                chans, reduction = out_chans, reduction * stride
            # B, 64 x expansion, 56, 56 in the first stage to B, 512 x expansion, 7, 7 in the fourth
            self.add_module(stage, Stage(*blocks))
            self.feature_info.append(FeatureInfo(num_chs=chans, reduction=reduction, module=stage))

        self.num_features = self.head_hidden_size = chans
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.drop = nn.Dropout(drop_rate)
        self.fc = linear_head(chans, num_classes)

        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            elif zero_init_residual and isinstance(module, BasicBlock):
                nn.init.zeros_(module.bn2.weight)
            elif zero_init_residual and isinstance(module, Bottleneck):
                nn.init.zeros_(module.bn3.weight)

    def forward_features(self, x: Tensor) -> Tensor:
        """(N, in_chans, H, W) -> (N, num_features, h, w)."""
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        for stage in self.stages:
            x = self.get_submodule(stage)(x)
        return x

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """(N, num_features, h, w) -> (N, num_classes), or (N, num_features) with `pre_logits`."""
        x = self.drop(torch.flatten(self.avgpool(x), 1))
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


bottleneck = partial(ResNet, block="bottleneck")
plain = partial(ResNet, block="plain")
# The paper's section 4.2: 6n + 2 layers.
cifar = partial(ResNet, stem="cifar", shortcut="A", widths=(16, 32, 64), num_classes=10)
# Ours, for a few hundred to some ten thousand pictures on a laptop: the paper's basic blocks, one a stage.
small = partial(ResNet, layers=(1, 1, 1, 1), widths=(32, 64, 128, 256), num_classes=10)

VARIANTS: dict[str, Callable[..., ResNet]] = {
    "resnet18": partial(ResNet, layers=(2, 2, 2, 2)),
    "resnet34": partial(ResNet, layers=(3, 4, 6, 3)),
    "resnet50": partial(bottleneck, layers=(3, 4, 6, 3)),
    "resnet101": partial(bottleneck, layers=(3, 4, 23, 3)),
    "resnet152": partial(bottleneck, layers=(3, 8, 36, 3)),
    "resnet50_2015": partial(bottleneck, layers=(3, 4, 6, 3), stride_in="1x1"),
    "resnet101_2015": partial(bottleneck, layers=(3, 4, 23, 3), stride_in="1x1"),
    "resnet152_2015": partial(bottleneck, layers=(3, 8, 36, 3), stride_in="1x1"),
    "resnet18_a": partial(ResNet, layers=(2, 2, 2, 2), shortcut="A"),
    "resnet34_a": partial(ResNet, layers=(3, 4, 6, 3), shortcut="A"),
    "resnet34_c": partial(ResNet, layers=(3, 4, 6, 3), shortcut="C"),
    "plain18": partial(plain, layers=(2, 2, 2, 2)),
    "plain34": partial(plain, layers=(3, 4, 6, 3)),
    "resnext50_32x4d": partial(bottleneck, layers=(3, 4, 6, 3), groups=32, base_width=4),
    "resnext101_32x4d": partial(bottleneck, layers=(3, 4, 23, 3), groups=32, base_width=4),
    "resnext101_32x8d": partial(bottleneck, layers=(3, 4, 23, 3), groups=32, base_width=8),
    "resnext101_64x4d": partial(bottleneck, layers=(3, 4, 23, 3), groups=64, base_width=4),
    "wide_resnet50_2": partial(bottleneck, layers=(3, 4, 6, 3), base_width=128),
    "wide_resnet101_2": partial(bottleneck, layers=(3, 4, 23, 3), base_width=128),
    "resnet20": partial(cifar, layers=(3, 3, 3)),
    "resnet32": partial(cifar, layers=(5, 5, 5)),
    "resnet44": partial(cifar, layers=(7, 7, 7)),
    "resnet56": partial(cifar, layers=(9, 9, 9)),
    "resnet110": partial(cifar, layers=(18, 18, 18)),
    "resnet10_small": partial(small, stem="cifar"),
    "resnet10_photo": partial(small, stem="half"),
}
