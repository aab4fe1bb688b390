"""EfficientNet: a small network that a search has found, made larger in depth, width and resolution at once.

    Tan, Le: EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks. ICML 2019,
        arXiv 1905.11946
    Sandler, Howard, Zhu, Zhmoginov, Chen: MobileNetV2. CVPR 2018, arXiv 1801.04381 (the block)
    Hu, Shen, Sun: Squeeze-and-Excitation Networks. CVPR 2018, arXiv 1709.01507

What was new: compound scaling. One coefficient phi makes a network 1.2^phi times deeper, 1.1^phi times wider
and its pictures 1.15^phi times larger; since 1.2 * 1.1^2 * 1.15^2 = 1.92, a step of phi about doubles the
mult-adds. The published networks have rounded coefficients (`COEFFICIENTS`), no exact powers. Widths are
rounded to multiples of 8, depths up.

The block is MobileNetV2's: 1x1 convolution to six times the width, depthwise convolution, a gate for each
channel ("squeeze and excitation"), and a 1x1 convolution back, with nothing behind its batch norm. The
shortcut joins the narrow ends. SiLU, x * sigmoid(x), called "swish" there, takes the place of ReLU.

There are two of each, equal in size and not the same function:
    efficientnet_b0     torchvision's. Convolutions pad alike on all sides; batch norm has torch's constants
                        up to b4, eps 1e-3 and momentum 0.01 from b5 on.
    tf_efficientnet_b0  the paper's, which the authors' weights need. At stride 2 TensorFlow's SAME padding
                        depends on the size of the picture and has its odd pixel below and to the right; eps
                        is 1e-3. Momentum is timm's 0.1, the authors' 0.01.
Names and shapes of parameters are torchvision's and timm's respectively; `convert_state_dict` turns timm's
into torchvision's.
"""

# In PyTorch's stubs the call of a module is Any.
# mypy: disable-error-code="no-any-return"
from __future__ import annotations

import math
import re
from collections import OrderedDict
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sightline.models.activations import SiLU, add
from sightline.models.checkpointing import Stage, set_grad_checkpointing
from sightline.models.protocol import FeatureInfo, drop_path_rates, image_size, linear_head, require

# The paper's Table 1, stages 2 to 8: kernel, stride, expansion, channels, blocks.
STAGES = (
    (3, 1, 1, 16, 1),
    (3, 2, 6, 24, 2),
    (5, 2, 6, 40, 2),
    (3, 2, 6, 80, 3),
    (5, 1, 6, 112, 3),
    (5, 2, 6, 192, 4),
    (3, 1, 6, 320, 1),
)
# Width and depth against b0, resolution, dropout.
COEFFICIENTS = {
    "b0": (1.0, 1.0, 224, 0.2),
    "b1": (1.0, 1.1, 240, 0.2),
    "b2": (1.1, 1.2, 260, 0.3),
    "b3": (1.2, 1.4, 300, 0.3),
    "b4": (1.4, 1.8, 380, 0.4),
    "b5": (1.6, 2.2, 456, 0.4),
    "b6": (1.8, 2.6, 528, 0.5),
    "b7": (2.0, 3.1, 600, 0.5),
}

Norm = Callable[[int], nn.Module]
Layers = Sequence[nn.Module]


def round_channels(channels: float) -> int:
    """The nearest multiple of 8, but never less than nine tenths of `channels`."""
    rounded = max(8, int(channels + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * channels else rounded


class SameConv2d(nn.Conv2d):
    """A convolution that puts out ceil(size / stride) pixels, as TensorFlow's SAME padding has it."""

    def forward(self, x: Tensor) -> Tensor:
        kernel, stride = self.kernel_size[0], self.stride[0]
        height, width = (max((-(-n // stride) - 1) * stride + kernel - n, 0) for n in x.shape[2:])
        x = F.pad(x, (width // 2, width - width // 2, height // 2, height - height // 2))
        return F.conv2d(x, self.weight, self.bias, self.stride, groups=self.groups)


def conv(in_chans: int, out_chans: int, kernel: int = 1, stride: int = 1, groups: int = 1) -> nn.Conv2d:
    return nn.Conv2d(in_chans, out_chans, kernel, stride, padding=kernel // 2, groups=groups, bias=False)


def same_conv(in_chans: int, out_chans: int, kernel: int = 1, stride: int = 1, groups: int = 1) -> nn.Conv2d:
    if stride == 1:  # where SAME is alike on all sides
        return conv(in_chans, out_chans, kernel, groups=groups)
    return SameConv2d(in_chans, out_chans, kernel, stride, groups=groups, bias=False)


class SqueezeExcitation(nn.Sequential):
    """Each channel times a gate in 0..1 that is computed from the means of all channels.

    reduce, expand: what its two convolutions are called.
    """

    def __init__(self, chans: int, squeezed: int, reduce: str, expand: str) -> None:
        layers: dict[str, nn.Module] = {
            "avgpool": nn.AdaptiveAvgPool2d(1),
            reduce: nn.Conv2d(chans, squeezed, 1),
            "activation": nn.SiLU(),
            expand: nn.Conv2d(squeezed, chans, 1),
            "scale_activation": nn.Sigmoid(),
        }
        super().__init__(OrderedDict(layers))

    def forward(self, x: Tensor) -> Tensor:
        gate = x
        for layer in self:
            gate = layer(gate)
        return x * gate


class MBConv(nn.Module):
    """The inverted residual block, laid out as torchvision does.

    The gate's middle has a quarter of the block's input channels, not of the expanded ones.
    """

    conv: Callable[..., nn.Conv2d] = staticmethod(conv)
    gate_names = ("fc1", "fc2")

    def __init__(
        self, chans: int, out: int, kernel: int, stride: int, expansion: int, norm: Norm, drop: nn.Module
    ) -> None:
        super().__init__()
        inner = chans * expansion
        expand = [self.conv(chans, inner), norm(inner), SiLU()] if expansion > 1 else []
        depthwise = [self.conv(inner, inner, kernel, stride, inner), norm(inner), SiLU()]
        gate = SqueezeExcitation(inner, max(1, chans // 4), *self.gate_names)
        project = [self.conv(inner, out), norm(out)]
        self.lay_out(expand, depthwise, gate, project)
        self.drop_path = drop
        self.shortcut = stride == 1 and chans == out

    def lay_out(self, expand: Layers, depthwise: Layers, gate: nn.Module, project: Layers) -> None:
        convolutions = [nn.Sequential(*layers) for layers in (expand, depthwise) if layers]
        self.block = nn.Sequential(*convolutions, gate, nn.Sequential(*project))

    def residual(self, x: Tensor) -> Tensor:
        return self.block(x)

    def forward(self, x: Tensor) -> Tensor:
        y = self.residual(x)
        return add(self.drop_path(y), x, self.training) if self.shortcut else y


class SameMBConv(MBConv):
    """The same block with SAME padding, laid out as timm does: flat, with other names where nothing expands."""

    conv = staticmethod(same_conv)
    gate_names = ("conv_reduce", "conv_expand")

    def lay_out(self, expand: Layers, depthwise: Layers, gate: nn.Module, project: Layers) -> None:
        names = (
            "conv_pw bn1 act1 conv_dw bn2 act2 se conv_pwl bn3"
            if expand
            else "conv_dw bn1 act1 se conv_pw bn2"
        )
        self.order = names.split()
        for name, layer in zip(self.order, [*expand, *depthwise, gate, *project], strict=True):
            self.add_module(name, layer)

    def residual(self, x: Tensor) -> Tensor:
        for name in self.order:
            x = self.get_submodule(name)(x)
        return x


class EfficientNet(nn.Module):
    """A 3x3 convolution of stride 2, seven stages of blocks, a 1x1 convolution, global pooling, one linear layer.

    width_mult, depth_mult: channels and blocks against b0; below 1 the network is smaller than b0.
    img_size: only checked. Any size will do at which each stride still has two pixels to join.
    drop_rate: dropout before the classifier. drop_path_rate: stochastic depth; block i of n has i / n of it.
    bn_eps, bn_momentum: of every batch norm.

    Convolutions are drawn normal by fan-out, where a depthwise one counts all channels here, as torchvision
    does, and its own one in `tf_efficientnet_*`, as the authors do. The classifier is uniform in
    +-1 / sqrt(classes), as published, but never wider than for the 1000 classes that was published for: +-0.7
    for two classes would drown what training has to learn.
    Raises SightlineError where the arguments make no network.
    """

    block = MBConv
    stages_at, first_stage = "features", 1  # the module that holds the stages; the first one's place in it
    classifier_name = "classifier.1"
    counts_all_channels = True
    classifier: nn.Module

    def __init__(
        self,
        *,
        width_mult: float = 1.0,
        depth_mult: float = 1.0,
        num_classes: int = 1000,
        in_chans: int = 3,
        img_size: int | Sequence[int] | None = None,
        drop_rate: float = 0.2,
        drop_path_rate: float = 0.2,
        bn_eps: float = 1e-5,
        bn_momentum: float = 0.1,
    ) -> None:
        super().__init__()
        require(min(width_mult, depth_mult) > 0, "width_mult and depth_mult are greater than 0.")
        require(0 <= drop_rate < 1 and 0 <= drop_path_rate < 1, "drop_rate and drop_path_rate lie in [0, 1).")
        require(bn_eps > 0 and 0 <= bn_momentum <= 1, "bn_eps is greater than 0, bn_momentum lies in [0, 1].")
        image_size(img_size, 224, minimum=17)
        self.num_classes, self.in_chans = num_classes, in_chans
        norm = partial(nn.BatchNorm2d, eps=bn_eps, momentum=bn_momentum)
        depths = [math.ceil(blocks * depth_mult) for *_, blocks in STAGES]
        n = sum(depths)
        drop_paths = drop_path_rates(drop_path_rate * (n - 1) / n, n)

        chans, reduction = round_channels(32 * width_mult), 2
        stem = [self.block.conv(in_chans, chans, 3, stride=2), norm(chans), SiLU()]  # B, 32, 112, 112
        stages: list[nn.Module] = []
        self.feature_info: list[FeatureInfo] = []
        for i, ((kernel, stride, expansion, width, _), depth) in enumerate(zip(STAGES, depths, strict=True)):
            stage, out_chans = Stage(), round_channels(width * width_mult)
            for j in range(depth):
                first = stride if j == 0 else 1
                stage.append(self.block(chans, out_chans, kernel, first, expansion, norm, next(drop_paths)))
                chans = out_chans
            stages.append(stage)  # B, 16, 112, 112 and 24, 56, 56 to 192, 7, 7 and 320, 7, 7
            reduction *= stride
            if stride == 1 and i > 0:  # this one goes on at the resolution of the one before
                self.feature_info.pop()
            name = f"{self.stages_at}.{self.first_stage + i}"
            self.feature_info.append(FeatureInfo(num_chs=chans, reduction=reduction, module=name))
        wide = self.num_features = self.head_hidden_size = 4 * chans
        head = [self.block.conv(chans, wide), norm(wide), SiLU()]  # B, 1280, 7, 7
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.drop = nn.Dropout(drop_rate)
        self.lay_out(stem, stages, head, linear_head(wide, num_classes))

        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                filters = module.out_channels // (1 if self.counts_all_channels else module.groups)
                nn.init.normal_(module.weight, std=math.sqrt(2 / (filters * module.weight[0, 0].numel())))
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
            elif isinstance(module, nn.Linear):
                bound = max(num_classes, 1000) ** -0.5
                nn.init.uniform_(module.weight, -bound, bound)
                nn.init.zeros_(module.bias)

    def lay_out(self, stem: Layers, stages: Layers, head: Layers, classifier: nn.Module) -> None:
        self.features = nn.Sequential(nn.Sequential(*stem), *stages, nn.Sequential(*head))
        self.classifier = nn.Sequential(nn.Identity(), classifier)  # torchvision's has its dropout inside

    def forward_features(self, x: Tensor) -> Tensor:
        """(N, in_chans, H, W) -> (N, num_features, H / 32, W / 32), rounded up."""
        return self.features(x)

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """(N, num_features, h, w) -> (N, num_classes), or (N, num_features) with `pre_logits`."""
        x = self.drop(torch.flatten(self.avgpool(x), 1))
        return x if pre_logits else self.classifier(x)

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_chans, H, W) -> logits (N, num_classes)."""
        return self.forward_head(self.forward_features(x))

    def get_classifier(self) -> nn.Module:
        return self.get_submodule(self.classifier_name)

    def reset_classifier(self, num_classes: int) -> None:
        self.num_classes = num_classes
        self.set_submodule(self.classifier_name, linear_head(self.num_features, num_classes))

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Compute each block again for the gradient instead of keeping what is inside it."""
        set_grad_checkpointing(self, enable)


class SameEfficientNet(EfficientNet):
    """The same network with SAME padding, laid out as timm does."""

    block = SameMBConv
    stages_at, first_stage = "blocks", 0
    classifier_name = "classifier"
    counts_all_channels = False

    def lay_out(self, stem: Layers, stages: Layers, head: Layers, classifier: nn.Module) -> None:
        self.conv_stem, self.bn1, self.act1 = stem
        self.blocks = nn.Sequential(*stages)
        self.conv_head, self.bn2, self.act2 = head
        self.classifier = classifier

    def forward_features(self, x: Tensor) -> Tensor:
        """(N, in_chans, H, W) -> (N, num_features, H / 32, W / 32), rounded up."""
        x = self.blocks(self.act1(self.bn1(self.conv_stem(x))))
        return self.act2(self.bn2(self.conv_head(x)))


# timm's layers, and below them their places in torchvision's layout: outside of blocks, in blocks that expand, in
# the others.
LAYOUTS = (
    "conv_stem    bn1          conv_head    bn2          classifier",
    "features.0.0 features.0.1 features.8.0 features.8.1 classifier.1",
    "conv_pw bn1 conv_dw bn2 se.conv_reduce se.conv_expand conv_pwl bn3",
    "0.0     0.1 1.0     1.1 2.fc1          2.fc2          3.0      3.1",
    "conv_dw bn1 se.conv_reduce se.conv_expand conv_pw bn2",
    "0.0     0.1 1.fc1          1.fc2          2.0     2.1",
)
OUTSIDE, EXPANDING, PLAIN = (
    dict(zip(timm.split(), torchvision.split(), strict=True))
    for timm, torchvision in zip(LAYOUTS[::2], LAYOUTS[1::2], strict=True)
)


def convert_state_dict(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """`state` of timm's `efficientnet_b0` to `b7` under torchvision's names. Any other is returned as it is.

    The paper's weights (timm's `tf_`) fit in name and shape as well, but their numbers are right only in
    `tf_efficientnet_*`, which has timm's names.
    """
    return {renamed(key): value for key, value in state.items()} if "conv_stem.weight" in state else state


def renamed(key: str) -> str:
    layer, _, leaf = key.rpartition(".")
    inside = re.fullmatch(r"blocks\.(\d+)\.(\d+)\.(.+)", layer)
    if not inside:
        return f"{OUTSIDE.get(layer, layer)}.{leaf}"
    stage, block, part = inside.groups()
    place = (PLAIN if stage == "0" else EXPANDING).get(part, part)
    return f"features.{int(stage) + 1}.{block}.block.{place}.{leaf}"


VARIANTS: dict[str, Callable[..., EfficientNet]] = {}
for size, (width, depth, _, dropout) in COEFFICIENTS.items():
    scale: dict[str, Any] = {"width_mult": width, "depth_mult": depth, "drop_rate": dropout}
    late: dict[str, Any] = {"bn_eps": 1e-3, "bn_momentum": 0.01} if size >= "b5" else {}
    VARIANTS[f"efficientnet_{size}"] = partial(EfficientNet, **scale, **late)
    VARIANTS[f"tf_efficientnet_{size}"] = partial(SameEfficientNet, **scale, bn_eps=1e-3)
