"""The Pyramid Vision Transformer: attention over a pyramid of feature maps.

    Wang, Xie, Li, Fan, Song, Liang, Lu, Luo, Shao: Pyramid Vision Transformer: A Versatile Backbone for Dense
        Prediction without Convolutions. ICCV 2021, arXiv 2102.12122

What was new: a transformer whose maps shrink and widen from stage to stage, as a convolutional network's do.
Each stage cuts the map of the last into patches (4x4 pixels of the picture, then 2x2 cells), adds a learned
position to each and runs its blocks. Thousands of patches of 4x4 are too many to attend to one another, so in
each attention the keys and values come from a map that a convolution of side and stride `sr_ratio` has made
smaller: "spatial-reduction attention". A class token joins in the last stage and is what the classifier reads.

The paper writes the reduction as a reshape and a linear layer, which is that convolution.
LayerNorm has an epsilon of 1e-6 in blocks and at the end, of 1e-5 after patches and reductions, as in the
authors' code (whai362/PVT). Parameter names and shapes are theirs.
"""

# In PyTorch's stubs the call of a module is Any.
# mypy: disable-error-code="no-any-return"
from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from sightline.models.attention import DotProductAttention
from sightline.models.protocol import FeatureInfo, drop_path_rates, image_size, linear_head, require
from sightline.models.vit import Mlp, init_linear

Grid = tuple[int, int]  # rows and columns of patches


class PatchEmbed(nn.Module):
    """Cuts a map into patches, projects each to `dim` numbers and normalises them."""

    def __init__(self, in_chans: int, dim: int, patch_size: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(in_chans, dim, patch_size, stride=patch_size)
        self.norm = nn.LayerNorm(dim)

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_chans, H, W) -> (N, patches, dim)."""
        return self.norm(self.proj(x).flatten(2).transpose(1, 2))


class Attention(DotProductAttention):
    """Multi-head attention of all tokens to a map smaller by `sr_ratio` on each side."""

    def __init__(self, dim: int, num_heads: int, sr_ratio: int, drop_rate: float) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.q = nn.Linear(dim, dim)
        self.kv = nn.Linear(dim, 2 * dim)
        self.proj = nn.Linear(dim, dim)
        self.proj_drop = nn.Dropout(drop_rate)
        self.sr_ratio = sr_ratio
        if sr_ratio > 1:
            self.sr = nn.Conv2d(dim, dim, sr_ratio, stride=sr_ratio)
            self.norm = nn.LayerNorm(dim)

    def forward(self, x: Tensor, grid: Grid) -> Tensor:
        """(N, T, dim) -> (N, T, dim); T is rows x columns of `grid`, and one more where nothing is reduced."""
        n, tokens, dim = x.shape
        seen = x  # B, 3136, 64 in the first stage
        if self.sr_ratio > 1:
            seen = self.sr(x.transpose(1, 2).reshape(n, dim, *grid))  # B, 64, 7, 7
            seen = self.norm(seen.flatten(2).transpose(1, 2))  # B, 49, 64
        heads = dim // self.num_heads
        q = self.q(x).reshape(n, tokens, self.num_heads, heads).transpose(1, 2)
        k, v = self.kv(seen).reshape(n, -1, 2, self.num_heads, heads).permute(2, 0, 3, 1, 4).unbind(0)
        x = self.attend(q, k, v).transpose(1, 2).reshape(n, tokens, dim)
        return self.proj_drop(self.proj(x))


class Block(nn.Module):
    """x + attention(norm(x)), then x + mlp(norm(x))."""

    def __init__(
        self,
        dim: int,
        num_heads: int,
        mlp_ratio: float,
        sr_ratio: int,
        drop_rate: float,
        drop_path: nn.Module,
    ) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim, eps=1e-6)
        self.attn = Attention(dim, num_heads, sr_ratio, drop_rate)
        self.norm2 = nn.LayerNorm(dim, eps=1e-6)
        self.mlp = Mlp(dim, int(dim * mlp_ratio), drop_rate)
        self.drop_path = drop_path

    def forward(self, x: Tensor, grid: Grid) -> Tensor:
        x = x + self.drop_path(self.attn(self.norm1(x), grid))
        return x + self.drop_path(self.mlp(self.norm2(x)))


class Stage(nn.ModuleList):
    """The blocks of one stage. With `checkpointing` the backward pass computes their insides again."""

    checkpointing = False

    def forward(self, x: Tensor, grid: Grid) -> Tensor:
        """Tokens (N, T, C) -> their map (N, C, rows, columns); where a class token leads them, tokens."""
        for block in self:
            if self.checkpointing and torch.is_grad_enabled():
                x = checkpoint(block, x, grid, use_reentrant=False)
            else:
                x = block(x, grid)
        n, tokens, dim = x.shape
        return x.transpose(1, 2).reshape(n, dim, *grid) if tokens == grid[0] * grid[1] else x


class PyramidVisionTransformer(nn.Module):
    """Four stages of patches and blocks, LayerNorm, one linear layer on the class token.

    depths, embed_dims, num_heads, mlp_ratios, sr_ratios: of each stage, its blocks, the width of its tokens,
        the heads that this is divided among, the MLP's hidden width over the tokens', and how much smaller on
        each side the map of keys and values is (1 in the last stage, where the class token is among them).
    img_size: side or (height, width), at least 32 with the paper's ratios. The positions are learned for it;
        for a picture of another size they are interpolated (bilinearly, as by the authors).
    drop_rate: dropout of the tokens once their positions are added, and in each attention and MLP.
    drop_path_rate: stochastic depth of the last block, rising to it. The authors train tiny and small with 0.1,
        medium and large with 0.3.

    Linear layers, positions and the class token start from a normal distribution of deviation 0.02.
    Raises SightlineError where the arguments make no network.
    """

    num_prefix_tokens = 1  # the class token, in the last stage alone

    def __init__(
        self,
        *,
        depths: Sequence[int] = (2, 2, 2, 2),
        embed_dims: Sequence[int] = (64, 128, 320, 512),
        num_heads: Sequence[int] = (1, 2, 5, 8),
        mlp_ratios: Sequence[float] = (8.0, 8.0, 4.0, 4.0),
        sr_ratios: Sequence[int] = (8, 4, 2, 1),
        num_classes: int = 1000,
        in_chans: int = 3,
        img_size: int | Sequence[int] | None = None,
        drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
    ) -> None:
        super().__init__()
        settings = (depths, embed_dims, num_heads, mlp_ratios, sr_ratios)
        require(
            len(depths) > 0 and len({len(s) for s in settings}) == 1,
            "depths, embed_dims, num_heads, mlp_ratios and sr_ratios must name the same stages.",
        )
        require(
            min(min(s) for s in settings) >= 1,
            "depths, embed_dims, num_heads, mlp_ratios and sr_ratios are at least 1.",
        )
        for dim, heads in zip(embed_dims, num_heads, strict=True):
            require(dim % heads == 0, f"embed_dim {dim} does not divide into {heads} heads.")
        require(sr_ratios[-1] == 1, "the last of sr_ratios is 1, for the class token stands on no map.")
        require(0 <= drop_rate < 1 and 0 <= drop_path_rate < 1, "drop_rate and drop_path_rate lie in [0, 1).")
        smallest = max(2 ** (i + 2) * ratio for i, ratio in enumerate(sr_ratios))
        size = image_size(img_size, 224, minimum=smallest)
        self.num_classes, self.in_chans = num_classes, in_chans
        self.num_features = self.head_hidden_size = embed_dims[-1]

        drop_paths = drop_path_rates(drop_path_rate, sum(depths))
        self.position_grids: dict[str, Grid] = {}  # what the positions of each stage are learned for
        self.feature_info: list[FeatureInfo] = []
        chans = in_chans
        for i, (depth, dim, heads, mlp_ratio, sr_ratio) in enumerate(zip(*settings, strict=True), start=1):
            patch_size, reduction = (4 if i == 1 else 2), 2 ** (i + 1)
            grid = (size[0] // reduction, size[1] // reduction)
            tokens = grid[0] * grid[1] + (i == len(depths))
            self.add_module(f"patch_embed{i}", self.make_patch_embed(i, chans, dim, patch_size, grid))
            self.register_parameter(f"pos_embed{i}", nn.Parameter(torch.zeros(1, tokens, dim)))
            blocks = [
                Block(dim, heads, mlp_ratio, sr_ratio, drop_rate, next(drop_paths)) for _ in range(depth)
            ]
            self.add_module(f"block{i}", Stage(blocks))
            self.position_grids[f"pos_embed{i}"] = grid
            self.feature_info.append(FeatureInfo(num_chs=dim, reduction=reduction, module=f"block{i}"))
            chans = dim
        self.pos_drop = nn.Dropout(drop_rate)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, chans))
        self.norm = nn.LayerNorm(chans, eps=1e-6)
        self.head = linear_head(chans, num_classes)
        self.init_weights()

    def make_patch_embed(
        self,
        stage: int,  # noqa: ARG002
        in_chans: int,
        dim: int,
        patch_size: int,
        grid: Grid,  # noqa: ARG002
    ) -> nn.Module:
        """What turns the map that enters `stage` (from 1) into the tokens of `grid`."""
        return PatchEmbed(in_chans, dim, patch_size)

    def init_weights(self) -> None:
        for name, parameter in self.named_parameters():
            if name == "cls_token" or name.startswith("pos_embed"):
                nn.init.trunc_normal_(parameter, std=0.02)
        self.apply(init_linear)

    def positions(self, stage: int, grid: Grid) -> Tensor:
        """The positions of `stage` (from 1) on `grid`, the class token's first in the last stage."""
        name = f"pos_embed{stage}"
        positions, learned = self.get_parameter(name), self.position_grids[name]
        if grid == learned:
            return positions
        special = positions.shape[1] - learned[0] * learned[1]
        patches = positions[:, special:].transpose(1, 2).reshape(1, -1, *learned)
        patches = F.interpolate(patches, size=grid, mode="bilinear")
        return torch.cat([positions[:, :special], patches.flatten(2).transpose(1, 2)], dim=1)

    def forward_stage(self, stage: int, x: Tensor) -> Tensor:
        """The map that enters `stage` (from 1) -> its own; of the last stage, the tokens (N, 1 + patches, C)."""
        patch_size = 4 if stage == 1 else 2
        grid = (x.shape[2] // patch_size, x.shape[3] // patch_size)
        x = self.get_submodule(f"patch_embed{stage}")(x)
        if stage == len(self.feature_info):
            x = torch.cat([self.cls_token.expand(x.shape[0], -1, -1), x], dim=1)
        x = self.pos_drop(x + self.positions(stage, grid))
        return self.get_submodule(f"block{stage}")(x, grid)

    def forward_features(self, x: Tensor) -> Tensor:
        """(N, in_chans, H, W) -> the class token and the last stage's patches, normalised: (N, 50, 512)."""
        # B, 64, 56, 56; B, 128, 28, 28; B, 320, 14, 14; B, 50, 512
        for stage in range(1, len(self.feature_info) + 1):
            x = self.forward_stage(stage, x)
        return self.norm(x)

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """(N, 50, 512) -> (N, num_classes) from the class token, or that token (N, 512) with `pre_logits`."""
        x = x[:, 0]
        return x if pre_logits else self.head(x)

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_chans, H, W) -> logits (N, num_classes)."""
        return self.forward_head(self.forward_features(x))

    def get_classifier(self) -> nn.Module:
        return self.head

    def reset_classifier(self, num_classes: int) -> None:
        self.num_classes = num_classes
        self.head = linear_head(self.num_features, num_classes)

    def no_weight_decay(self) -> set[str]:
        """What the authors do not let decay; the positions do."""
        return {"cls_token"}

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Keep no block's insides for the backward pass but compute them again: less memory, more time."""
        for module in self.modules():
            if isinstance(module, Stage):
                module.checkpointing = enable


VARIANTS: dict[str, Callable[..., nn.Module]] = {
    "pvt_tiny": partial(PyramidVisionTransformer, depths=(2, 2, 2, 2)),
    "pvt_small": partial(PyramidVisionTransformer, depths=(3, 4, 6, 3)),
    "pvt_medium": partial(PyramidVisionTransformer, depths=(3, 4, 18, 3)),
    "pvt_large": partial(PyramidVisionTransformer, depths=(3, 8, 27, 3)),
}
