"""Swin Transformers: attention in windows, on a pyramid of resolutions.

    Liu et al.: Swin Transformer: Hierarchical Vision Transformer using Shifted Windows. ICCV 2021,
        arXiv 2103.14030

What was new: tokens look only at the others of their window of 7x7, so the cost grows linearly with the number
of pixels and patches can be small (4x4). In every second block the windows stand half a window further right and
down, so that the next block's windows join what the last one's had kept apart. The shift is a cyclic one: what
leaves on one side comes in on the other, and a mask of -100 keeps it from attending to its new neighbours. In the
place of position embeddings each head has a learned bias for every offset between two tokens of a window.

Four stages, as in a ResNet: between them 2x2 tokens are laid side by side, normalised and projected from 4C to
2C ("patch merging"). LayerNorm's eps is PyTorch's 1e-5. The authors trained with a drop path of 0.2 (T), 0.3 (S)
and 0.5 (B).

Stages take and give maps (N, C, h, w); inside, channels stand last. Parameter names, shapes and start are
timm's; `convert_state_dict` reads the authors' and torchvision's.
"""

# In PyTorch's stubs the call of a module is Any.
# mypy: disable-error-code="no-any-return"
from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from itertools import islice

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sightline.models.attention import SelfAttention
from sightline.models.checkpointing import Stage, set_grad_checkpointing
from sightline.models.protocol import FeatureInfo, drop_path_rates, image_size, linear_head, require
from sightline.models.vit import Mlp, PatchEmbed, init_linear, renamed

Size = tuple[int, int]  # height, width


def windows_of(x: Tensor, window: Size) -> Tensor:
    """(N, H, W, C) -> (N * windows, tokens of one, C), row by row."""
    n, height, width, chans = x.shape
    down, across = window
    x = x.reshape(n, height // down, down, width // across, across, chans)
    return x.transpose(2, 3).reshape(-1, down * across, chans)


def map_of(windows: Tensor, window: Size, size: Size) -> Tensor:
    """What `windows_of` took apart: (N * windows, tokens, C) -> (N, H, W, C)."""
    (down, across), (height, width) = window, size
    x = windows.reshape(-1, height // down, width // across, down, across, windows.shape[-1])
    return x.transpose(2, 3).reshape(-1, height, width, windows.shape[-1])


def relative_position_index(window: Size) -> Tensor:
    """For each two tokens of a window the row of the table that holds the bias of their offset."""
    down, across = window
    rows, columns = (axis.flatten() for axis in torch.meshgrid(*map(torch.arange, window), indexing="ij"))
    below = rows[:, None] - rows[None] + down - 1  # 0 .. 2 down - 2
    right = columns[:, None] - columns[None] + across - 1
    return below * (2 * across - 1) + right


def shift_mask(size: Size, window: Size, shift: Size) -> Tensor:
    """(windows, tokens, tokens): -100 where the cyclic shift has brought two together that lay far apart."""
    labels = []
    for side, length, step in zip(size, window, shift, strict=True):
        label = torch.zeros(side)
        if step:
            label[-length:], label[-step:] = 1, 2
        labels.append(label)
    regions = windows_of((labels[0][:, None] * 3 + labels[1])[None, :, :, None], window).squeeze(-1)
    return (regions[:, None, :] != regions[:, :, None]).float() * -100.0


class WindowAttention(SelfAttention):
    """Self-attention within windows, with a learned bias for each offset."""

    relative_position_index: Tensor

    def __init__(self, dim: int, num_heads: int, window: Size, attn_drop: float, proj_drop: float) -> None:
        super().__init__(dim, num_heads, attn_drop, proj_drop)
        self.window_size = window
        table = torch.empty((2 * window[0] - 1) * (2 * window[1] - 1), num_heads)
        self.relative_position_bias_table = nn.Parameter(nn.init.trunc_normal_(table, std=0.02))
        index = relative_position_index(window)
        self.register_buffer("relative_position_index", index, persistent=False)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """(N * windows, tokens, dim) -> the same; mask: (windows, tokens, tokens)."""
        tokens = x.shape[1]
        bias = self.relative_position_bias_table[self.relative_position_index.flatten()]
        bias = bias.view(1, tokens, tokens, -1).permute(0, 3, 1, 2)  # 1, heads, 49, 49
        if mask is not None:
            bias = (bias + mask[:, None]).repeat(len(x) // len(mask), 1, 1, 1)
        return super().forward(x, bias)


class SwinBlock(nn.Module):
    """x + attention(norm(x)) in windows, then x + mlp(norm(x)).

    size: of the maps. window: at most `size`; where it does not divide them, zeros stand right and below.
    shift: rows and columns by which the windows are moved.
    """

    attn_mask: Tensor | None

    def __init__(
        self,
        dim: int,
        num_heads: int,
        mlp_ratio: float,
        size: Size,
        window: Size,
        shift: Size,
        proj_drop: float,
        attn_drop: float,
        drop_path: nn.Module,
    ) -> None:
        super().__init__()
        self.size, self.window_size, self.shift_size = size, window, shift
        self.padded = (-size[0] % window[0] + size[0], -size[1] % window[1] + size[1])
        self.norm1 = nn.LayerNorm(dim)
        self.attn = WindowAttention(dim, num_heads, window, attn_drop, proj_drop)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = Mlp(dim, int(dim * mlp_ratio), proj_drop)
        self.drop_path = drop_path
        mask = shift_mask(self.padded, window, shift) if any(shift) else None
        self.register_buffer("attn_mask", mask, persistent=False)

    def attend(self, x: Tensor) -> Tensor:
        (height, width), (down, right) = self.size, self.shift_size
        if self.attn_mask is not None:
            x = x.roll((-down, -right), dims=(1, 2))
        if self.padded != self.size:
            x = F.pad(x, (0, 0, 0, self.padded[1] - width, 0, self.padded[0] - height))
        windows = self.attn(windows_of(x, self.window_size), self.attn_mask)
        x = map_of(windows, self.window_size, self.padded)[:, :height, :width]
        return x if self.attn_mask is None else x.roll((down, right), dims=(1, 2))

    def forward(self, x: Tensor) -> Tensor:
        """(N, H, W, dim) -> (N, H, W, dim)."""
        x = x + self.drop_path(self.attend(self.norm1(x)))
        return x + self.drop_path(self.mlp(self.norm2(x)))


class PatchMerging(nn.Module):
    """2x2 tokens become one of twice the width; an odd row or column is filled up with zeros."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(4 * dim)
        self.reduction = nn.Linear(4 * dim, 2 * dim, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(N, H, W, dim) -> (N, H / 2, W / 2, 2 dim)."""
        n, height, width, dim = x.shape
        x = F.pad(x, (0, 0, 0, width % 2, 0, height % 2))
        x = x.reshape(n, (height + 1) // 2, 2, (width + 1) // 2, 2, dim)
        return self.reduction(self.norm(x.permute(0, 1, 3, 4, 2, 5).flatten(3)))  # left column first


class SwinPatchEmbed(PatchEmbed):
    """The patches' tokens, normalised, as a map."""

    def __init__(self, img_size: Size, patch_size: int, in_chans: int, dim: int) -> None:
        super().__init__(img_size, patch_size, in_chans, dim)
        self.norm = nn.LayerNorm(dim)

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_chans, H, W) -> (N, dim, h, w)."""
        return self.norm(super().forward(x)).transpose(1, 2).unflatten(2, self.grid_size)


class SwinStage(nn.Module):
    """Patch merging in all stages but the first, then blocks of which every second one shifts its windows."""

    def __init__(
        self,
        downsample: nn.Module,
        block: Callable[..., SwinBlock],
        size: Size,
        window_size: int,
        drop_paths: Iterable[nn.Module],
    ) -> None:
        super().__init__()
        window = (min(window_size, size[0]), min(window_size, size[1]))
        half = tuple(window_size // 2 if side > window_size else 0 for side in size)
        self.downsample = downsample
        self.blocks = Stage(
            *(
                block(size=size, window=window, shift=half if i % 2 else (0, 0), drop_path=drop_path)
                for i, drop_path in enumerate(drop_paths)
            )
        )

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, h, w) -> (N, 2 C, h / 2, w / 2), in the first stage (N, C, h, w)."""
        return self.blocks(self.downsample(x.permute(0, 2, 3, 1))).permute(0, 3, 1, 2)


class SwinTransformer(nn.Module):
    """Patches, stages of blocks, the mean over the last map, a linear layer.

    patch_size: side of a patch in pixels. embed_dim: channels of the first stage; each one after doubles them.
    depths, num_heads: blocks, and heads in each of them, in each stage.
    window_size: a window's side in tokens. In a stage whose map is smaller the window is the map, unshifted.
    mlp_ratio: the MLP's hidden width over the tokens'.
    img_size: side or (height, width), multiples of the patch's; default: the size at which the last stage is one
        window. The windows, and so the parameters, stay as they are at any size that is not smaller.
    drop_rate: dropout before the classifier. proj_drop_rate, attn_drop_rate: after each linear layer of the
        blocks, and of the attention weights. drop_path_rate: stochastic depth of the last block, rising to it.
    Raises SightlineError where the arguments make no network.
    """

    def __init__(
        self,
        *,
        patch_size: int = 4,
        embed_dim: int = 96,
        depths: Sequence[int] = (2, 2, 6, 2),
        num_heads: Sequence[int] = (3, 6, 12, 24),
        window_size: int = 7,
        mlp_ratio: float = 4.0,
        num_classes: int = 1000,
        in_chans: int = 3,
        img_size: int | Sequence[int] | None = None,
        drop_rate: float = 0.0,
        proj_drop_rate: float = 0.0,
        attn_drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
    ) -> None:
        super().__init__()
        require(
            0 < len(depths) == len(num_heads),
            f"depths {list(depths)} and num_heads {list(num_heads)} must name the same stages.",
        )
        require(
            min(*depths, *num_heads, patch_size, embed_dim, window_size) >= 1 and mlp_ratio * embed_dim >= 1,
            "depths, num_heads, patch_size, embed_dim, window_size and the MLP are at least 1.",
        )
        widths = [embed_dim * 2**i for i in range(len(depths))]
        for width, heads in zip(widths, num_heads, strict=True):
            require(width % heads == 0, f"a stage of width {width} does not divide into {heads} heads.")
        rates = (drop_rate, proj_drop_rate, attn_drop_rate, drop_path_rate)
        require(0 <= min(rates) <= max(rates) < 1, "rates of dropout and drop path lie in [0, 1).")

        self.num_classes, self.in_chans = num_classes, in_chans
        self.num_features = self.head_hidden_size = widths[-1]
        default = patch_size * window_size * 2 ** (len(depths) - 1)
        pixels = image_size(img_size, default, minimum=patch_size)
        self.patch_embed = SwinPatchEmbed(pixels, patch_size, in_chans, embed_dim)  # B, 96, 56, 56

        drop_paths = drop_path_rates(drop_path_rate, sum(depths))
        size, stages = self.patch_embed.grid_size, []
        for i, (depth, width, heads) in enumerate(zip(depths, widths, num_heads, strict=True)):
            if i > 0:
                size = (-(-size[0] // 2), -(-size[1] // 2))
            merging = PatchMerging(width // 2) if i > 0 else nn.Identity()
            block = partial(
                SwinBlock, width, heads, mlp_ratio, proj_drop=proj_drop_rate, attn_drop=attn_drop_rate
            )
            stages.append(SwinStage(merging, block, size, window_size, islice(drop_paths, depth)))
        self.layers = nn.Sequential(*stages)  # B, 96, 56, 56 to B, 768, 7, 7
        self.feature_info = [
            FeatureInfo(num_chs=width, reduction=patch_size * 2**i, module=f"layers.{i}")
            for i, width in enumerate(widths)
        ]
        self.norm = nn.LayerNorm(self.num_features)
        classifier = linear_head(self.num_features, num_classes)
        self.head = nn.Sequential(OrderedDict(drop=nn.Dropout(drop_rate), fc=classifier))
        self.apply(init_linear)

    def forward_features(self, x: Tensor) -> Tensor:
        """(N, in_chans, H, W) -> (N, num_features, h, w)."""
        x = self.layers(self.patch_embed(x))
        return self.norm(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """(N, num_features, h, w) -> (N, num_classes), or (N, num_features) with `pre_logits`."""
        x = x.mean(dim=(2, 3))
        return self.head[0](x) if pre_logits else self.head(x)

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_chans, H, W) -> logits (N, num_classes)."""
        return self.forward_head(self.forward_features(x))

    def get_classifier(self) -> nn.Module:
        return self.head[1]

    def reset_classifier(self, num_classes: int) -> None:
        self.num_classes = num_classes
        self.head[1] = linear_head(self.num_features, num_classes)

    def no_weight_decay(self) -> set[str]:
        """Parameters that are places rather than weights."""
        return {name for name, _ in self.named_parameters() if name.endswith("relative_position_bias_table")}

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Whether training keeps only each block's input and computes the rest again on the way back."""
        set_grad_checkpointing(self, enable)


AUTHORS = {
    **{f"layers.{i}.downsample.": f"layers.{i + 1}.downsample." for i in (2, 1, 0)},  # no name meets another
    "head.": "head.fc.",
}
TORCHVISION = {
    "features.0.0.": "patch_embed.proj.",
    "features.0.2.": "patch_embed.norm.",
    **{f"features.{2 * i + 1}.": f"layers.{i}.blocks." for i in range(4)},
    **{f"features.{2 * i}.": f"layers.{i}.downsample." for i in range(1, 4)},
    ".mlp.0.": ".mlp.fc1.",
    ".mlp.3.": ".mlp.fc2.",
    "head.": "head.fc.",
}


def convert_state_dict(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """`state` of the authors' or torchvision's Swin Transformer under the names used here.

    The authors merge patches at a stage's end, timm at the next one's beginning. Offsets and masks, which
    follow from the sizes, are left out. Any other state is returned as it is.
    """
    buffers = ("relative_position_index", "attn_mask")
    kept = {key: value for key, value in state.items() if not key.endswith(buffers)}
    names: dict[str, str] = {}
    if "layers.0.downsample.reduction.weight" in state:
        names = AUTHORS
    elif "features.1.0.attn.qkv.weight" in state:
        names = TORCHVISION
    return {renamed(key, names): value for key, value in kept.items()}


tiny = partial(SwinTransformer, embed_dim=96, depths=(2, 2, 6, 2), num_heads=(3, 6, 12, 24))
small = partial(SwinTransformer, embed_dim=96, depths=(2, 2, 18, 2), num_heads=(3, 6, 12, 24))
base = partial(SwinTransformer, embed_dim=128, depths=(2, 2, 18, 2), num_heads=(4, 8, 16, 32))
large = partial(SwinTransformer, embed_dim=192, depths=(2, 2, 18, 2), num_heads=(6, 12, 24, 48))

VARIANTS: dict[str, Callable[..., SwinTransformer]] = {
    "swin_tiny_patch4_window7_224": tiny,
    "swin_small_patch4_window7_224": small,
    "swin_base_patch4_window7_224": base,
    "swin_base_patch4_window12_384": partial(base, window_size=12),
    "swin_large_patch4_window7_224": large,
}
