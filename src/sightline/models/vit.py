"""Vision Transformers: a picture as a sentence of patches.

    Dosovitskiy et al.: An Image is Worth 16x16 Words: Transformers for Image Recognition at Scale.
        ICLR 2021, arXiv 2010.11929
    Touvron et al.: Training data-efficient image transformers & distillation through attention (DeiT).
        ICML 2021, arXiv 2012.12877

What was new: no convolution but the first, which cuts the picture into patches of 16x16 pixels and projects each
to a token. A position embedding tells where each lay, a class token stands before them, and a plain transformer
encoder lets every token look at every other from the first block on. With the 1.3 million pictures of
ImageNet-1k that is worse than a ResNet; with the 14 million of ImageNet-21k it is better. DeiT has the same
network and a training recipe (strong augmentation, stochastic depth) for which ImageNet-1k is enough.

Each block is x + attention(norm(x)), then x + mlp(norm(x)): the norm stands before its branch, not after the
sum as in the transformer of 2017. GELU is the exact one, as in timm; the authors' JAX code has its tanh
approximation. LayerNorm's eps is 1e-6.

Parameter names, shapes and start are timm's (DeiT's files have the same); `convert_state_dict` reads
torchvision's and the authors'.
"""

# In PyTorch's stubs the call of a module is Any.
# mypy: disable-error-code="no-any-return"
from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor, nn

from sightline.errors import SightlineError
from sightline.models.attention import SelfAttention
from sightline.models.checkpointing import Stage, set_grad_checkpointing
from sightline.models.protocol import FeatureInfo, drop_path_rates, image_size, linear_head, require


class PatchEmbed(nn.Module):
    """Cuts the picture into patches and projects each to `dim` numbers, by a convolution of stride its side."""

    def __init__(
        self, img_size: tuple[int, int], patch_size: int | tuple[int, int], in_chans: int, dim: int
    ) -> None:
        super().__init__()
        self.proj = nn.Conv2d(in_chans, dim, patch_size, stride=patch_size)
        self.img_size = img_size
        self.patch_size: tuple[int, int] = (self.proj.kernel_size[0], self.proj.kernel_size[1])
        down, across = self.patch_size
        height, width = img_size
        require(
            height % down == width % across == 0,
            f"patches of {down}x{across} do not fill pictures of {height}x{width}: "
            "a side is a multiple of the patch's.",
        )
        self.grid_size = (height // down, width // across)

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_chans, H, W) -> (N, h * w, dim), row by row."""
        if x.shape[-2:] != self.img_size:
            made, given = ("x".join(map(str, size)) for size in (self.img_size, x.shape[-2:]))
            raise SightlineError(f"This network was built for pictures of {made}, not {given}; set img_size.")
        return self.proj(x).flatten(2).transpose(1, 2)


class Mlp(nn.Module):
    """Two linear layers with GELU between them."""

    def __init__(self, dim: int, hidden: int, drop: float = 0.0) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, hidden)
        self.act = nn.GELU()
        self.drop1 = nn.Dropout(drop)
        self.fc2 = nn.Linear(hidden, dim)
        self.drop2 = nn.Dropout(drop)

    def forward(self, x: Tensor) -> Tensor:
        return self.drop2(self.fc2(self.drop1(self.act(self.fc1(x)))))


class Block(nn.Module):
    """x + attention(norm(x)), then x + mlp(norm(x))."""

    def __init__(
        self,
        dim: int,
        num_heads: int,
        mlp_ratio: float,
        proj_drop: float = 0.0,
        attn_drop: float = 0.0,
        drop_path: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim, eps=1e-6)
        self.attn = SelfAttention(dim, num_heads, attn_drop, proj_drop)
        self.norm2 = nn.LayerNorm(dim, eps=1e-6)
        self.mlp = Mlp(dim, int(dim * mlp_ratio), proj_drop)
        self.drop_path = drop_path or nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """(N, T, dim) -> (N, T, dim)."""
        x = x + self.drop_path(self.attn(self.norm1(x)))
        return x + self.drop_path(self.mlp(self.norm2(x)))


class VisionTransformer(nn.Module):
    """Patches, positions, `depth` blocks, a linear layer on the class token or on the patches' mean.

    patch_size: side of a patch in pixels. embed_dim: numbers in a token, divided among `num_heads`.
    mlp_ratio: the MLP's hidden width over the tokens'.
    img_size: side or (height, width), multiples of the patch's. Positions have its grid, so another size is
        another network; weights are carried over by interpolating the positions (section 3.2).
    pos_embed: "learn", a parameter for each position; or "sincos", fixed ones (see `sincos_positions`).
    global_pool: "token", the class token classifies; or "avg", the mean over the patches does, and the last norm
        stands behind it (as in timm). class_token: whether there is one; it is needed for "token" alone.
    drop_rate: dropout before the classifier. pos_drop_rate, proj_drop_rate, attn_drop_rate: dropout of what
        enters the first block, after each linear layer of the blocks, and of the attention weights.
    drop_path_rate: stochastic depth of the last block, rising to it.
    Raises SightlineError where the arguments make no network.
    """

    def __init__(
        self,
        *,
        patch_size: int = 16,
        embed_dim: int = 768,
        depth: int = 12,
        num_heads: int = 12,
        mlp_ratio: float = 4.0,
        pos_embed: str = "learn",
        global_pool: str = "token",
        class_token: bool = True,
        num_classes: int = 1000,
        in_chans: int = 3,
        img_size: int | Sequence[int] | None = None,
        drop_rate: float = 0.0,
        pos_drop_rate: float = 0.0,
        proj_drop_rate: float = 0.0,
        attn_drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
    ) -> None:
        super().__init__()
        require(
            min(patch_size, embed_dim, depth, num_heads) >= 1 and mlp_ratio * embed_dim >= 1,
            "patch_size, embed_dim, depth, num_heads and the MLP are at least 1.",
        )
        require(embed_dim % num_heads == 0, f"embed_dim {embed_dim} does not divide into {num_heads} heads.")
        require(pos_embed in ("learn", "sincos"), f"pos_embed is learn or sincos, not {pos_embed}.")
        require(pos_embed == "learn" or embed_dim % 4 == 0, "sincos positions need an embed_dim in fours.")
        require(global_pool in ("token", "avg"), f"global_pool is token or avg, not {global_pool}.")
        require(class_token or global_pool == "avg", "without a class token global_pool is avg.")
        rates = (drop_rate, pos_drop_rate, proj_drop_rate, attn_drop_rate, drop_path_rate)
        require(0 <= min(rates) <= max(rates) < 1, "rates of dropout and drop path lie in [0, 1).")

        self.num_classes, self.in_chans = num_classes, in_chans
        self.num_features = self.head_hidden_size = self.embed_dim = embed_dim
        self.global_pool, self.num_prefix_tokens = global_pool, int(class_token)

        size = image_size(img_size, 224, minimum=patch_size)
        self.patch_embed = PatchEmbed(size, patch_size, in_chans, embed_dim)  # B, 196, 768
        height, width = self.patch_embed.grid_size
        tokens = self.num_prefix_tokens + height * width
        self.cls_token = nn.Parameter(torch.empty(1, 1, embed_dim).normal_(std=1e-6)) if class_token else None
        if pos_embed == "learn":
            self.pos_embed = nn.Parameter(torch.empty(1, tokens, embed_dim))
            nn.init.trunc_normal_(self.pos_embed, std=0.02)
        else:
            fixed = sincos_positions((height, width), embed_dim, self.num_prefix_tokens)
            self.register_buffer("pos_embed", fixed, persistent=False)
        self.pos_drop = nn.Dropout(pos_drop_rate)
        self.blocks = Stage(
            *(
                Block(embed_dim, num_heads, mlp_ratio, proj_drop_rate, attn_drop_rate, drop_path)
                for drop_path in drop_path_rates(drop_path_rate, depth)
            )
        )
        self.feature_info = [
            FeatureInfo(num_chs=embed_dim, reduction=patch_size, module=f"blocks.{i}") for i in range(depth)
        ]
        averaged = global_pool == "avg"
        self.norm = nn.Identity() if averaged else nn.LayerNorm(embed_dim, eps=1e-6)
        self.fc_norm = nn.LayerNorm(embed_dim, eps=1e-6) if averaged else nn.Identity()
        self.head_drop = nn.Dropout(drop_rate)
        self.head = linear_head(embed_dim, num_classes)
        self.apply(init_linear)

    def forward_features(self, x: Tensor) -> Tensor:
        """(N, in_chans, H, W) -> the class token, if there is one, and the patches' tokens: (N, T, embed_dim)."""
        x = self.patch_embed(x)
        if self.cls_token is not None:
            x = torch.cat([self.cls_token.expand(x.shape[0], -1, -1), x], dim=1)  # B, 197, 768
        x = self.pos_drop(x + self.pos_embed)  # rebound, so that the tokens before are not held on to
        x = self.blocks(x)
        return self.norm(x)

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """(N, T, embed_dim) -> (N, num_classes), or (N, embed_dim) with `pre_logits`."""
        x = x[:, 0] if self.global_pool == "token" else x[:, self.num_prefix_tokens :].mean(dim=1)
        x = self.head_drop(self.fc_norm(x))
        return x if pre_logits else self.head(x)

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_chans, H, W) -> logits (N, num_classes)."""
        return self.forward_head(self.forward_features(x))

    def get_classifier(self) -> nn.Module:
        return self.head

    def reset_classifier(self, num_classes: int) -> None:
        self.num_classes = num_classes
        self.head = linear_head(self.head_hidden_size, num_classes)

    def no_weight_decay(self) -> set[str]:
        """Parameters that are places rather than weights."""
        return {"pos_embed", "cls_token"}

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Whether training keeps only each block's input and computes the rest again on the way back."""
        set_grad_checkpointing(self, enable)


def init_linear(module: nn.Module) -> None:
    """DeiT's start of linear layers: weights truncated normal of deviation 0.02, biases zero."""
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def sincos_positions(grid: tuple[int, int], dim: int, prefix: int) -> Tensor:
    """Fixed positions (1, prefix + h * w, dim) in two dimensions; those of the `prefix` tokens are zero.

    A quarter of the channels each: sin(x w), cos(x w), sin(y w), cos(y w) for column x and row y in patches, with
    the frequencies w = 10000^(-i / (dim / 4)) of "Attention Is All You Need", as in MAE (arXiv 2111.06377).
    """
    frequencies = 10000.0 ** -(torch.arange(dim // 4, dtype=torch.float64) / (dim // 4))
    y, x = torch.meshgrid(*(torch.arange(side).double() for side in grid), indexing="ij")
    angles = [axis.flatten()[:, None] * frequencies for axis in (x, y)]
    positions = torch.cat([wave(angle) for angle in angles for wave in (torch.sin, torch.cos)], dim=1)
    return torch.cat([torch.zeros(prefix, dim), positions.float()])[None]


TORCHVISION = {
    "class_token": "cls_token",
    "conv_proj.": "patch_embed.proj.",
    "encoder.pos_embedding": "pos_embed",
    "encoder.layers.encoder_layer_": "blocks.",
    "encoder.ln.": "norm.",
    ".ln_": ".norm",
    ".self_attention.in_proj_": ".attn.qkv.",
    ".self_attention.out_proj.": ".attn.proj.",
    ".mlp.linear_": ".mlp.fc",  # as the first files were written
    ".mlp.0.": ".mlp.fc1.",
    ".mlp.3.": ".mlp.fc2.",
    "heads.head.": "head.",
}
JAX = {
    "opt/target/": "",
    "Transformer/posembed_input/pos_embedding": "pos_embed",
    "Transformer/encoderblock_": "blocks.",
    "Transformer/encoder_norm": "norm",
    "/LayerNorm_0": ".norm1",
    "/LayerNorm_2": ".norm2",
    "/MultiHeadDotProductAttention_1/query": ".attn.qkv",
    "/MultiHeadDotProductAttention_1/out": ".attn.proj",
    "/MlpBlock_3/Dense_0": ".mlp.fc1",
    "/MlpBlock_3/Dense_1": ".mlp.fc2",
    "embedding/": "patch_embed.proj/",
    "/kernel": ".weight",
    "/scale": ".weight",
    "/bias": ".bias",
}


def convert_state_dict(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """`state` of torchvision's Vision Transformer, or of the authors' in JAX, under the names used here.

    Any other one is returned as it is.
    """
    if "encoder.pos_embedding" in state:
        return {renamed(key, TORCHVISION): value for key, value in state.items()}
    if not any(key.endswith("embedding/kernel") for key in state):
        return state
    converted = {}
    for key, value in state.items():
        if "/query/" in key:  # queries, keys and values are one layer here
            parts = [
                state.get(key.replace("/query/", f"/{part}/"), value) for part in ("query", "key", "value")
            ]
            converted[renamed(key, JAX)] = torch.cat([from_jax(key, part) for part in parts])
        elif "/key/" not in key and "/value/" not in key:
            converted["cls_token" if key.endswith("cls") else renamed(key, JAX)] = from_jax(key, value)
    return converted


def renamed(key: str, names: dict[str, str]) -> str:
    """`key` with each part that `names` has replaced, one after another."""
    for old, new in names.items():
        key = key.replace(old, new)
    return key


def from_jax(key: str, value: Tensor) -> Tensor:
    """A tensor in PyTorch's order: outputs before inputs, and heads side by side."""
    if not key.endswith("kernel"):
        return value.flatten() if key.endswith("bias") else value
    if value.ndim == 4:
        return value.permute(3, 2, 0, 1)  # rows, columns, in, out
    return (value.flatten(0, -2) if key.endswith("out/kernel") else value.flatten(1)).T


tiny = partial(VisionTransformer, embed_dim=192, num_heads=3)
small = partial(VisionTransformer, embed_dim=384, num_heads=6)
base = partial(VisionTransformer, embed_dim=768, num_heads=12)
large = partial(VisionTransformer, embed_dim=1024, depth=24, num_heads=16)
huge = partial(VisionTransformer, embed_dim=1280, depth=32, num_heads=16)

VARIANTS: dict[str, Callable[..., VisionTransformer]] = {
    "vit_tiny_patch16_224": partial(tiny, patch_size=16),
    "vit_small_patch32_224": partial(small, patch_size=32),
    "vit_small_patch16_224": partial(small, patch_size=16),
    "vit_base_patch32_224": partial(base, patch_size=32),
    "vit_base_patch16_224": partial(base, patch_size=16),
    "vit_large_patch32_224": partial(large, patch_size=32),
    "vit_large_patch16_224": partial(large, patch_size=16),
    "vit_large_patch14_224": partial(large, patch_size=14),
    "vit_huge_patch14_224": partial(huge, patch_size=14),
}
