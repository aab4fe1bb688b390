"""The attention weights of any network, as it computes them.

Fused kernels never write the weights down; libraries that look at attention by hooks therefore find nothing, or ask
for the kernels to be switched off by an attribute that each family spells its own way. Here the calls themselves
are caught as PyTorch dispatches them, wherever they are made:

    F.scaled_dot_product_attention    the weights are recomputed from the queries and keys that it is given
    F.multi_head_attention_forward    (nn.MultiheadAttention, in torchvision's ViT) is asked for its weights
    softmax over the last axis        of scores (N, heads, queries, keys) that a network writes out itself

The network goes on with what the call returns, so it computes what it always does.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

SOFTMAX = {F.softmax, torch.softmax, Tensor.softmax}


class AttentionTrace(TorchFunctionMode):
    """Collects weights (N, heads, queries, keys) in `seen` by the name of the module that attends."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: dict[str, Tensor] = {}
        self.active: list[tuple[str, nn.Module]] = []

    def __torch_function__(self, func: Any, _types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is F.scaled_dot_product_attention:
            self.keep(weights_of(*args, **kwargs))
        elif func is F.multi_head_attention_forward:
            wanted = kwargs.get("need_weights", True)
            asked = kwargs | {"need_weights": True, "average_attn_weights": False}
            output, weights = cast(tuple[Tensor, Tensor], func(*args, **asked))
            self.keep(weights if weights.ndim == 4 else weights[None])
            return output, weights.mean(-3) if wanted else None
        result = func(*args, **kwargs)
        if func in SOFTMAX and isinstance(result, Tensor) and result.ndim == 4:
            axis = kwargs.get("dim", args[1] if len(args) > 1 else None)
            if axis in (-1, 3):
                self.keep(result)
        return result

    def keep(self, weights: Tensor) -> None:
        # A softmax may be a module of its own: the one that attends is the one around it.
        whole = [name for name, module in self.active if next(module.children(), None) is not None]
        self.seen[whole[-1] if whole else ""] = weights


def weights_of(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """The weights that `F.scaled_dot_product_attention`, given the same, would take the mean of the values with."""
    del value, dropout_p  # weights are those before dropout
    if enable_gqa:
        key = key.repeat_interleave(query.shape[-3] // key.shape[-3], -3)
    scores = (query * (query.shape[-1] ** -0.5 if scale is None else scale)) @ key.transpose(-2, -1)
    if is_causal:
        later = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).triu(1)
        scores = scores.masked_fill(later, float("-inf"))
    if attn_mask is not None and attn_mask.dtype == torch.bool:
        scores = scores.masked_fill(~attn_mask, float("-inf"))
    elif attn_mask is not None:
        scores = scores + attn_mask
    return torch.softmax(scores, dim=-1)


@contextmanager
def traced_attention(model: nn.Module) -> Iterator[dict[str, Tensor]]:
    """Collect the attention weights (N, heads, queries, keys) of what `model` computes meanwhile, by module.

    They fill a dict in the order of computation; a module that runs again replaces what it gave. Where attention
    is within windows, N counts windows. Afterwards the model is as it was.
    """
    trace = AttentionTrace()

    def enter(name: str, module: nn.Module) -> Any:
        return lambda _module, _inputs: trace.active.append((name, module))

    def leave(_module: nn.Module, _inputs: Any, _output: Any) -> None:
        trace.active.pop()

    hooks = []
    for name, module in model.named_modules():
        hooks += [
            module.register_forward_pre_hook(enter(name, module)),
            module.register_forward_hook(leave, always_call=True),
        ]
    try:
        with trace:
            yield trace.seen
    finally:
        for hook in hooks:
            hook.remove()
