"""Attention, the one step that all transformers share, and how to look at it.

    Vaswani et al.: Attention Is All You Need. NeurIPS 2017, arXiv 1706.03762, section 3.2

Each query q takes a weighted mean of the values v, the weights telling how well q matches each key k:

    attention(q, k, v) = softmax(q k^T / sqrt(d)) v        d: the width of one head

PyTorch's fused kernels compute this without ever writing the weights down, which is faster and takes memory
linear in the number of tokens. So every attention here goes through `DotProductAttention.attend`, which calls
them, except inside `attention_weights(model)`: there the formula is computed step by step and its weights are
kept.
"""

# In PyTorch's stubs the call of a module is Any.
# mypy: disable-error-code="no-any-return"
from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class DotProductAttention(nn.Module):
    """What every module that attends derives from: it calls `attend` with its queries, keys and values.

    attn_drop: dropout of the weights in training.
    """

    # Where `attention_weights` collects, and this module's name there; None while nobody looks.
    seen: tuple[dict[str, Tensor], str] | None = None

    def __init__(self, attn_drop: float = 0.0) -> None:
        super().__init__()
        self.attn_drop = attn_drop

    def attend(self, q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None = None) -> Tensor:
        """(N, heads, queries, d), (N, heads, keys, d), (N, heads, keys, e) -> (N, heads, queries, e).

        bias: added to the scores before the softmax; of any shape that broadcasts to (N, heads, queries, keys).
            Where it is -inf, the query does not see the key.
        """
        dropout = self.attn_drop if self.training else 0.0
        if self.seen is None:
            return F.scaled_dot_product_attention(q, k, v, attn_mask=bias, dropout_p=dropout)
        scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-2, -1)
        weights = torch.softmax(scores if bias is None else scores + bias, dim=-1)
        collected, name = self.seen
        collected[name] = weights
        return F.dropout(weights, dropout).to(v.dtype) @ v


@contextmanager
def attention_weights(model: nn.Module) -> Iterator[dict[str, Tensor]]:
    """Collect the attention weights of what `model` computes meanwhile.

        with torch.no_grad(), attention_weights(model) as seen:
            model(pictures)
        seen["blocks.0.attn"]  # (N, heads, queries, keys), each row summing to one

    Yields a dict that fills, in the order of computation, with one tensor for each attention module by its
    name in `model`; a module that runs again replaces what it gave. For Swin, N counts windows: all of the
    first picture, then all of the next. The weights are those before dropout, and part of the graph where
    gradients are recorded. The model computes what it always does, to rounding; afterwards it is as it was,
    also after an exception. Modules that are not of this library are not seen.
    """
    seen: dict[str, Tensor] = {}
    modules = [(n, m) for n, m in model.named_modules() if isinstance(m, DotProductAttention)]
    before = [module.seen for _, module in modules]
    try:
        for name, module in modules:
            module.seen = (seen, name)
        yield seen
    finally:
        for (_, module), previous in zip(modules, before, strict=True):
            module.seen = previous


class SelfAttention(DotProductAttention):
    """Multi-head self-attention: the tokens are queries, keys and values at once.

    dim: channels of a token, divided among `num_heads`. proj_drop: dropout after the projection.
    """

    def __init__(self, dim: int, num_heads: int, attn_drop: float = 0.0, proj_drop: float = 0.0) -> None:
        super().__init__(attn_drop)
        self.num_heads = num_heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)
        self.proj_drop = nn.Dropout(proj_drop)

    def forward(self, x: Tensor, bias: Tensor | None = None) -> Tensor:
        """(N, T, dim) -> (N, T, dim); `bias` as in `attend`."""
        n, tokens, dim = x.shape
        heads = self.qkv(x).reshape(n, tokens, 3, self.num_heads, dim // self.num_heads)
        q, k, v = heads.permute(2, 0, 3, 1, 4).unbind(0)  # each N, heads, T, d
        x = self.attend(q, k, v, bias).transpose(1, 2).reshape(n, tokens, dim)  # heads side by side
        return self.proj_drop(self.proj(x))
