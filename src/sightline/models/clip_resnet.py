"""The image tower of CLIP that is a residual network.

    Radford et al.: Learning Transferable Visual Models From Natural Language Supervision. ICML 2021, arXiv 2103.00020,
        section 2.4

Other than in `resnet.py`: three 3x3 convolutions and an average pooling stand for the stem ("ResNet-D", He et al.
2019); where the resolution halves, an average pooling does it, behind the block's 3x3 convolution and in the shortcut,
so that no pixel is left out (Zhang 2019); and attention pools the last map: the mean over all cells asks, and
what it is told is the picture's embedding.

Parameter names and shapes are open_clip's.
"""

# In PyTorch's stubs the call of a module is Any.
# mypy: disable-error-code="no-any-return"
from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from sightline.errors import SightlineError
from sightline.models.activations import ReLU, add
from sightline.models.attention import DotProductAttention
from sightline.models.checkpointing import Stage
from sightline.models.protocol import FeatureInfo, require
from sightline.models.resnet import conv1x1, conv3x3


class Bottleneck(nn.Module):
    """1x1 down, 3x3, average pooling if the stride is 2, 1x1 up to four times the width, and the shortcut."""

    expansion = 4

    def __init__(self, in_chans: int, width: int, stride: int) -> None:
        super().__init__()
        out_chans = width * self.expansion
        self.conv1 = conv1x1(in_chans, width)
        self.bn1 = nn.BatchNorm2d(width)
        self.act1 = ReLU()
        self.conv2 = conv3x3(width, width)
        self.bn2 = nn.BatchNorm2d(width)
        self.act2 = ReLU()
        self.avgpool = nn.AvgPool2d(stride) if stride > 1 else nn.Identity()
        self.conv3 = conv1x1(width, out_chans)
        self.bn3 = nn.BatchNorm2d(out_chans)
        self.downsample: nn.Module = nn.Identity()
        if stride > 1 or in_chans != out_chans:
            shortcut = {
                "-1": nn.AvgPool2d(stride) if stride > 1 else nn.Identity(),
                "0": conv1x1(in_chans, out_chans),
                "1": nn.BatchNorm2d(out_chans),
            }
            self.downsample = nn.Sequential(OrderedDict(shortcut))
        self.act3 = ReLU()

    def residual(self, x: Tensor) -> Tensor:
        x = self.conv1(x)  # step by step: a nested call would hold on to what it was given
        x = self.bn1(x)
        x = self.act1(x)
        x = self.conv2(x)
        x = self.bn2(x)
        x = self.act2(x)
        x = self.avgpool(x)
        x = self.conv3(x)
        return self.bn3(x)

    def forward(self, x: Tensor) -> Tensor:
        return self.act3(add(self.residual(x), self.downsample(x), self.training))


class AttentionPool(DotProductAttention):
    """One multi-head attention from the mean over all cells to the cells and itself.

    The authors compute what every cell would be told and keep what the mean was; here only the mean asks.
    """

    def __init__(self, grid: tuple[int, int], dim: int, num_heads: int, embed_dim: int) -> None:
        super().__init__()
        cells, std = grid[0] * grid[1], dim**-0.5
        self.num_heads = num_heads
        self.positional_embedding = nn.Parameter(torch.randn(1 + cells, dim) * std)
        self.k_proj = nn.Linear(dim, dim)
        self.q_proj = nn.Linear(dim, dim)
        self.v_proj = nn.Linear(dim, dim)
        self.c_proj = nn.Linear(dim, embed_dim)
        for layer in (self.k_proj, self.q_proj, self.v_proj, self.c_proj):
            nn.init.normal_(layer.weight, std=std)
            nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor) -> Tensor:
        """(N, dim, h, w) -> (N, embed_dim)."""
        x = x.flatten(2).transpose(1, 2)  # B, 49, 2048
        x = torch.cat([x.mean(dim=1, keepdim=True), x], dim=1) + self.positional_embedding.to(x.dtype)
        n, _, dim = x.shape
        q, k, v = (
            layer(seen).reshape(n, -1, self.num_heads, dim // self.num_heads).transpose(1, 2)
            for layer, seen in ((self.q_proj, x[:, :1]), (self.k_proj, x), (self.v_proj, x))
        )
        return self.c_proj(self.attend(q, k, v).reshape(n, dim))


class ModifiedResNet(nn.Module):
    """A stem of three convolutions, four stages of bottlenecks, attention pooling.

    img_size: (height, width), multiples of 32. layers: blocks in each stage. width: channels of the stem and of the
    first stage's 3x3 convolutions. head_width: of one head of the pooling. embed_dim: numbers in what comes out.
    The last norm of each block starts at zero, so that the block starts as the identity.
    Raises SightlineError where the arguments make no network.
    """

    num_prefix_tokens = 0

    def __init__(
        self,
        img_size: tuple[int, int],
        width: int,
        layers: Sequence[int],
        head_width: int,
        embed_dim: int,
        in_chans: int,
    ) -> None:
        super().__init__()
        height, width_px = img_size
        require(
            height % 32 == width_px % 32 == 0,
            f"pictures of {height}x{width_px} do not halve five times: a side is a multiple of 32.",
        )
        require(
            len(layers) == 4 and min(layers) >= 1, f"four stages of at least a block, not {list(layers)}."
        )
        require(width >= 2 and width % 2 == 0, f"the width is even, not {width}.")
        chans = 8 * width * Bottleneck.expansion
        require(
            head_width >= 1 and chans % head_width == 0,
            f"{chans} channels do not divide into heads of {head_width}.",
        )
        self.img_size = img_size
        self.grid_size = (height // 32, width_px // 32)
        self.num_features, self.embed_dim = chans, embed_dim

        self.conv1 = conv3x3(in_chans, width // 2, stride=2)  # B, 32, 112, 112
        self.bn1 = nn.BatchNorm2d(width // 2)
        self.act1 = ReLU()
        self.conv2 = conv3x3(width // 2, width // 2)
        self.bn2 = nn.BatchNorm2d(width // 2)
        self.act2 = ReLU()
        self.conv3 = conv3x3(width // 2, width)
        self.bn3 = nn.BatchNorm2d(width)
        self.act3 = ReLU()
        self.avgpool = nn.AvgPool2d(2)  # B, 64, 56, 56
        self.feature_info = [FeatureInfo(num_chs=width, reduction=2, module="act3")]
        entering = width
        for i, depth in enumerate(layers):  # B, 256, 56, 56 to B, 2048, 7, 7
            stride = 1 if i == 0 else 2
            blocks: list[nn.Module] = []
            for j in range(depth):
                blocks.append(Bottleneck(entering, width * 2**i, stride if j == 0 else 1))
                entering = width * 2**i * Bottleneck.expansion
            self.add_module(f"layer{i + 1}", Stage(*blocks))
            self.feature_info.append(
                FeatureInfo(num_chs=entering, reduction=2 ** (i + 2), module=f"layer{i + 1}")
            )
        self.attnpool = AttentionPool(self.grid_size, chans, chans // head_width, embed_dim)
        for module in self.modules():
            if isinstance(module, Bottleneck):
                nn.init.zeros_(module.bn3.weight)

    def forward_features(self, x: Tensor) -> Tensor:
        """(N, in_chans, H, W) -> (N, num_features, h, w)."""
        if x.shape[-2:] != self.img_size:  # the pooling has a position for each cell
            made, given = ("x".join(map(str, size)) for size in (self.img_size, x.shape[-2:]))
            raise SightlineError(f"This network was built for pictures of {made}, not {given}; set img_size.")
        x = self.act1(self.bn1(self.conv1(x)))
        x = self.act2(self.bn2(self.conv2(x)))
        x = self.act3(self.bn3(self.conv3(x)))
        x = self.avgpool(x)
        for i in range(1, 5):
            x = self.get_submodule(f"layer{i}")(x)
        return x

    def pool(self, x: Tensor) -> Tensor:
        """(N, num_features, h, w) -> (N, embed_dim)."""
        return self.attnpool(x)

    def forward(self, x: Tensor, pool: bool = True) -> Tensor:
        """(N, in_chans, H, W) -> (N, embed_dim); without `pool` the map that `forward_features` gives."""
        x = self.forward_features(x)
        return self.pool(x) if pool else x

    def no_weight_decay(self) -> set[str]:
        """Parameters that are places rather than weights."""
        return {"attnpool.positional_embedding"}
