"""The two small networks that the lecture builds up its ideas with.

`lecture_net` is the slide's, in every number: two convolutions, two poolings, one linear layer on 28x28
digits. Its ReLU and pooling steps are modules, so that a layer table shows them.

`lecture_vit` is the toy on which the slides explain the Vision Transformer (Dosovitskiy et al., "An Image
is Worth 16x16 Words", ICLR 2021, arXiv 2010.11929).
    The slide fixes: 16 patches, a class token (17 tokens), width 64, a position embedding added to them,
        LayerNorm of 128 parameters, 4 heads of 16 concatenated to 64, an MLP head on the class token.
    We chose: the position embedding is learned; four blocks; the MLP is four times as wide as the tokens;
        LayerNorm before each branch and once more at the end, as in the paper.
    Where a slide slips, this follows the paper: scores are divided by sqrt(16), the width of one head, and
        not by sqrt(64); LayerNorm divides by sqrt(variance + eps), over the channels of one token and not
        over the batch; GELU stands between the two linear layers of the MLP.
    Its patches and blocks are those of the full networks, in `sightline.models.vit`.
"""

# In PyTorch's stubs the call of a module is Any.
# mypy: disable-error-code="no-any-return"
from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from sightline.models.protocol import FeatureInfo, image_size, linear_head, require
from sightline.models.vit import Block, PatchEmbed


class LectureNet(nn.Module):
    """conv - ReLU - pool, twice, then one linear layer: 416 + 12,832 + 15,690 = 28,938 parameters.

    kernel_size: side of the filters in both convolutions. Padding keeps the resolution, so it changes
        nothing but the filters; where it is even, the odd row and column of zeros stand right and below.
    widths: filters in the first and the second convolution.
    img_size: side or (height, width), at least 4; the linear layer's length follows from it.
    """

    def __init__(
        self,
        *,
        kernel_size: int = 5,
        widths: Sequence[int] = (16, 32),
        num_classes: int = 10,
        in_chans: int = 1,
        img_size: int | Sequence[int] | None = None,
    ) -> None:
        super().__init__()
        require(kernel_size >= 1, f"kernel_size is at least 1, not {kernel_size}.")
        require(
            len(widths) == 2 and min(widths) >= 1, f"widths are two counts of filters, not {list(widths)}."
        )
        height, width = image_size(img_size, 28, minimum=4)
        first, second = widths
        self.num_classes, self.in_chans = num_classes, in_chans
        self.conv1 = nn.Sequential(
            nn.Conv2d(in_chans, first, kernel_size, padding="same"),  # B, 16, 28, 28
            nn.ReLU(),
            nn.MaxPool2d(2),  # B, 16, 14, 14
        )
        self.conv2 = nn.Sequential(
            nn.Conv2d(first, second, kernel_size, padding="same"),  # B, 32, 14, 14
            nn.ReLU(),
            nn.MaxPool2d(2),  # B, 32, 7, 7
        )
        self.num_features = second
        self.head_hidden_size = second * (height // 4) * (width // 4)  # 1568
        self.out = linear_head(self.head_hidden_size, num_classes)
        self.feature_info = [
            FeatureInfo(num_chs=first, reduction=2, module="conv1"),
            FeatureInfo(num_chs=second, reduction=4, module="conv2"),
        ]

    def forward_features(self, x: Tensor) -> Tensor:
        """(N, in_chans, H, W) -> (N, 32, H // 4, W // 4)."""
        return self.conv2(self.conv1(x))

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """(N, 32, h, w) -> (N, num_classes), or the maps laid out flat (N, 1568) with `pre_logits`."""
        x = torch.flatten(x, 1)
        return x if pre_logits else self.out(x)

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_chans, H, W) -> logits (N, num_classes); no softmax, which the loss takes."""
        return self.forward_head(self.forward_features(x))

    def get_classifier(self) -> nn.Module:
        return self.out

    def reset_classifier(self, num_classes: int) -> None:
        self.num_classes = num_classes
        self.out = linear_head(self.head_hidden_size, num_classes)


class LectureViT(nn.Module):
    """The slides' toy Vision Transformer: a 4x4 grid of patches whatever the picture's size, 17 tokens of 64.

    embed_dim, num_heads: the slide's 64 and 4. depth: blocks. mlp_ratio: the MLP's hidden width over the tokens'.
    img_size: side or (height, width), multiples of 4.
    Parameter names are those of timm's Vision Transformer.
    """

    num_prefix_tokens = 1  # the class token, which stands before the patches

    def __init__(
        self,
        *,
        embed_dim: int = 64,
        num_heads: int = 4,
        depth: int = 4,
        mlp_ratio: float = 4.0,
        num_classes: int = 10,
        in_chans: int = 1,
        img_size: int | Sequence[int] | None = None,
    ) -> None:
        super().__init__()
        height, width = image_size(img_size, 28, minimum=4)
        require(
            height % 4 == width % 4 == 0,
            f"4x4 patches do not fill pictures of {height}x{width}: sides are multiples of 4.",
        )
        require(
            min(embed_dim, num_heads, depth) >= 1 and mlp_ratio * embed_dim >= 1,
            "embed_dim, num_heads, depth and the MLP are at least 1.",
        )
        require(embed_dim % num_heads == 0, f"embed_dim {embed_dim} does not divide into {num_heads} heads.")
        self.num_classes, self.in_chans = num_classes, in_chans
        self.num_features = self.head_hidden_size = embed_dim
        self.patch_embed = PatchEmbed((height, width), (height // 4, width // 4), in_chans, embed_dim)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, embed_dim))
        self.pos_embed = nn.Parameter(torch.empty(1, 17, embed_dim).normal_(std=0.02))
        self.blocks = nn.Sequential(*(Block(embed_dim, num_heads, mlp_ratio) for _ in range(depth)))
        self.norm = nn.LayerNorm(embed_dim, eps=1e-6)
        self.head = linear_head(embed_dim, num_classes)
        self.feature_info = [
            FeatureInfo(num_chs=embed_dim, reduction=max(height, width) // 4, module=f"blocks.{i}")
            for i in range(depth)
        ]

    def forward_features(self, x: Tensor) -> Tensor:
        """(N, in_chans, H, W) -> the class token and the patches' tokens, normalised: (N, 17, 64)."""
        x = self.patch_embed(x)  # B, 16, 64
        x = torch.cat([self.cls_token.expand(x.shape[0], -1, -1), x], dim=1)  # B, 17, 64
        return self.norm(self.blocks(x + self.pos_embed))

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """(N, 17, 64) -> (N, num_classes) from the class token, or that token (N, 64) with `pre_logits`."""
        x = x[:, 0]
        return x if pre_logits else self.head(x)

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_chans, H, W) -> logits (N, num_classes)."""
        return self.forward_head(self.forward_features(x))

    def get_classifier(self) -> nn.Module:
        return self.head

    def reset_classifier(self, num_classes: int) -> None:
        self.num_classes = num_classes
        self.head = linear_head(self.head_hidden_size, num_classes)


VARIANTS: dict[str, Callable[..., nn.Module]] = {
    "lecture_net": LectureNet,
    "lecture_vit": LectureViT,
}
