"""The transformer that both of CLIP's towers are made of, and the image tower that is a Vision Transformer.

    Radford, Kim, Hallacy, Ramesh, Goh, Agarwal, Sastry, Askell, Mishkin, Clark, Krueger, Sutskever: Learning
        Transferable Visual Models From Natural Language Supervision. ICML 2021, arXiv 2103.00020

Other than in `vit.py`: the first convolution has no bias, a norm stands before the first block, the last norm is
followed by a matrix that takes the class token to the space of pictures and words, and LayerNorm's eps is 1e-5.
OpenAI's weights want QuickGELU, x sigmoid(1.702 x), where most of open_clip's want the exact GELU. The two have no
parameters, so a file of tensors does not tell them apart; the features differ by about a hundredth.

Parameter names and shapes are open_clip's.
"""

# In PyTorch's stubs the call of a module is Any.
# mypy: disable-error-code="no-any-return"
from __future__ import annotations

from collections import OrderedDict

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sightline.errors import SightlineError
from sightline.models.attention import DotProductAttention
from sightline.models.checkpointing import Stage
from sightline.models.protocol import FeatureInfo, require


class QuickGELU(nn.Module):
    """x sigmoid(1.702 x), an approximation of GELU (Hendrycks, Gimpel 2016, arXiv 1606.08415, section 2)."""

    def forward(self, x: Tensor) -> Tensor:
        if torch.is_grad_enabled():
            return x * torch.sigmoid(1.702 * x)
        return torch.mul(x, 1.702).sigmoid_().mul_(x)  # a third of the memory to fetch


class Attention(DotProductAttention):
    """Multi-head self-attention; if `causal`, a token sees itself and those before it alone."""

    def __init__(self, dim: int, num_heads: int, causal: bool) -> None:
        super().__init__()
        self.num_heads, self.causal = num_heads, causal
        self.in_proj_weight = nn.Parameter(torch.empty(3 * dim, dim))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * dim))
        self.out_proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        """(N, T, dim) -> (N, T, dim)."""
        n, tokens, dim = x.shape
        heads = F.linear(x, self.in_proj_weight, self.in_proj_bias)
        heads = heads.reshape(n, tokens, 3, self.num_heads, dim // self.num_heads)
        q, k, v = heads.permute(2, 0, 3, 1, 4).unbind(0)  # each N, heads, T, d
        later = q.new_full((tokens, tokens), -torch.inf).triu(1) if self.causal else None
        return self.out_proj(self.attend(q, k, v, later).transpose(1, 2).reshape(n, tokens, dim))


class Block(nn.Module):
    """x + attention(norm(x)), then x + mlp(norm(x))."""

    def __init__(self, dim: int, num_heads: int, causal: bool, quick_gelu: bool) -> None:
        super().__init__()
        self.ln_1 = nn.LayerNorm(dim)
        self.attn = Attention(dim, num_heads, causal)
        self.ln_2 = nn.LayerNorm(dim)
        self.mlp = nn.Sequential(
            OrderedDict(
                c_fc=nn.Linear(dim, 4 * dim),
                gelu=QuickGELU() if quick_gelu else nn.GELU(),
                c_proj=nn.Linear(4 * dim, dim),
            )
        )

    def forward(self, x: Tensor) -> Tensor:
        """(N, T, dim) -> (N, T, dim)."""
        x = x + self.attn(self.ln_1(x))
        return x + self.mlp(self.ln_2(x))


class Transformer(nn.Module):
    """`layers` blocks.

    Weights start normal: of deviation dim^-0.5 into attention, (2 dim)^-0.5 into the MLP, and dim^-0.5 (2 layers)^-0.5
    out of both, as in the authors' text tower; their image tower's start is not in their code.
    """

    def __init__(self, dim: int, layers: int, num_heads: int, *, causal: bool, quick_gelu: bool) -> None:
        super().__init__()
        require(min(dim, layers, num_heads) >= 1, "widths, layers and heads are at least 1.")
        require(dim % num_heads == 0, f"a width of {dim} does not divide into {num_heads} heads.")
        self.resblocks = Stage(*(Block(dim, num_heads, causal, quick_gelu) for _ in range(layers)))
        out_std = dim**-0.5 * (2 * layers) ** -0.5
        for block in self.resblocks.children():
            for name, parameter in block.named_parameters():
                if name.endswith("bias"):
                    nn.init.zeros_(parameter)
                elif name == "attn.in_proj_weight":
                    nn.init.normal_(parameter, std=dim**-0.5)
                elif name == "mlp.c_fc.weight":
                    nn.init.normal_(parameter, std=(2 * dim) ** -0.5)
                elif parameter.ndim == 2:
                    nn.init.normal_(parameter, std=out_std)

    def forward(self, x: Tensor) -> Tensor:
        """(N, T, dim) -> (N, T, dim)."""
        return self.resblocks(x)


class VisionTransformer(nn.Module):
    """Patches, a class token, positions, `layers` blocks, and a matrix behind the class token.

    img_size: (height, width), multiples of `patch_size`, the side of a patch in pixels. embed_dim: numbers in what
    comes out. head_width: of one head of attention; it divides `width`.
    Raises SightlineError where the arguments make no network.
    """

    num_prefix_tokens = 1  # the class token

    def __init__(
        self,
        img_size: tuple[int, int],
        patch_size: int,
        width: int,
        layers: int,
        head_width: int,
        embed_dim: int,
        in_chans: int,
        quick_gelu: bool,
    ) -> None:
        super().__init__()
        height, width_px = img_size
        require(patch_size >= 1, "patch_size is at least 1.")
        require(
            height % patch_size == width_px % patch_size == 0,
            f"patches of {patch_size}x{patch_size} do not fill pictures of {height}x{width_px}: "
            "a side is a multiple of the patch's.",
        )
        require(
            width >= head_width >= 1 and width % head_width == 0,
            f"a width of {width} does not divide into heads of {head_width}.",
        )
        self.img_size = img_size
        self.grid_size = (height // patch_size, width_px // patch_size)
        self.num_features, self.embed_dim = width, embed_dim

        self.conv1 = nn.Conv2d(in_chans, width, patch_size, stride=patch_size, bias=False)  # B, 768, 7, 7
        std = width**-0.5
        tokens = 1 + self.grid_size[0] * self.grid_size[1]
        self.class_embedding = nn.Parameter(torch.randn(width) * std)
        self.positional_embedding = nn.Parameter(torch.randn(tokens, width) * std)
        self.ln_pre = nn.LayerNorm(width)
        heads = width // head_width
        self.transformer = Transformer(width, layers, heads, causal=False, quick_gelu=quick_gelu)
        self.ln_post = nn.LayerNorm(width)
        self.proj = nn.Parameter(torch.randn(width, embed_dim) * std)
        self.feature_info = [
            FeatureInfo(num_chs=width, reduction=patch_size, module=f"transformer.resblocks.{i}")
            for i in range(layers)
        ]

    def forward_features(self, x: Tensor) -> Tensor:
        """(N, in_chans, H, W) -> the class token and the patches', normalised: (N, T, width)."""
        if x.shape[-2:] != self.img_size:
            made, given = ("x".join(map(str, size)) for size in (self.img_size, x.shape[-2:]))
            raise SightlineError(f"This network was built for pictures of {made}, not {given}; set img_size.")
        x = self.conv1(x).flatten(2).transpose(1, 2)  # B, 49, 768
        x = torch.cat([self.class_embedding.to(x.dtype).expand(x.shape[0], 1, -1), x], dim=1)  # B, 50, 768
        x = self.ln_pre(x + self.positional_embedding.to(x.dtype))
        return self.ln_post(self.transformer(x))

    def pool(self, x: Tensor) -> Tensor:
        """(N, T, width) -> (N, embed_dim)."""
        return x[:, 0] @ self.proj

    def forward(self, x: Tensor, pool: bool = True) -> Tensor:
        """(N, in_chans, H, W) -> (N, embed_dim); without `pool` the tokens that `forward_features` gives."""
        x = self.forward_features(x)
        return self.pool(x) if pool else x

    def no_weight_decay(self) -> set[str]:
        """Parameters that are places rather than weights."""
        return {"positional_embedding", "class_embedding"}
