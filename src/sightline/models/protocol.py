"""What every network here speaks, and the few parts that several families share.

The language is timm's, so that any timm model drops in where ours does and ours drop into tools made for
timm. A network is a plain `nn.Module` over normalised float tensors (N, C, H, W) with

    num_classes  in_chans     the classes it tells apart, the channels it takes
    num_features              channels of what `forward_features` returns
    head_hidden_size          length of what `forward_head(x, pre_logits=True)` returns
    feature_info              a dict per stage: num_chs, reduction (pixels that a cell spans), module (its name)
    forward_features(x)       the body: feature maps (N, num_features, h, w), or tokens (N, T, num_features)
    forward_head(x, pre_logits=False)
                              pooling and classifier: logits (N, num_classes), or what enters the classifier
    forward(x)                the head of the body
    get_classifier()          the last layer
    reset_classifier(n)       puts a fresh last layer for n classes, `nn.Identity` for none
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Any, TypedDict, cast

import torch
from torch import Tensor, nn

from sightline.errors import SightlineError


class FeatureInfo(TypedDict):
    """One stage of a network: its channels, its stride against the picture, and the module it ends in."""

    num_chs: int
    reduction: int
    module: str


def require(condition: bool, sentence: str) -> None:
    """Raise `SightlineError(sentence)` unless `condition` holds."""
    if not condition:
        raise SightlineError(sentence)


def image_size(value: int | Sequence[int] | None, default: int, minimum: int = 1) -> tuple[int, int]:
    """(height, width) from one side, a pair, or `default`; SightlineError below `minimum` on a side."""
    size = (default, default) if value is None else (value, value) if isinstance(value, int) else tuple(value)
    require(
        len(size) == 2 and all(isinstance(s, int) for s in size),
        f"img_size is one or two whole numbers, not {value}.",
    )
    height, width = size
    require(
        min(size) >= minimum,
        f"pictures of {height}x{width} pixels are too small, it needs at least {minimum} on each side.",
    )
    return height, width


def linear_head(num_features: int, num_classes: int) -> nn.Module:
    """A fresh `nn.Linear`, or `nn.Identity` where no classes are asked for."""
    return nn.Linear(num_features, num_classes) if num_classes > 0 else nn.Identity()


class DropPath(nn.Module):
    """Stochastic depth (Huang et al. 2016, arXiv 1603.09382).

    In training a sample skips the branch with probability `drop_prob`; those that take it are scaled by
    1 / (1 - drop_prob), so that nothing changes in the mean.
    """

    def __init__(self, drop_prob: float) -> None:
        super().__init__()
        self.drop_prob = drop_prob

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.drop_prob == 0.0:
            return x
        keep = 1.0 - self.drop_prob
        mask = x.new_empty((x.shape[0],) + (1,) * (x.ndim - 1)).bernoulli_(keep)
        return x * mask / keep

    def extra_repr(self) -> str:
        return f"{self.drop_prob:g}"


def drop_path_rates(rate: float, blocks: int) -> Iterator[DropPath | nn.Identity]:
    """A DropPath for each block in turn, its rate rising linearly from 0 to `rate` in the last."""
    for i in range(blocks):
        p = rate * i / max(blocks - 1, 1)
        yield DropPath(p) if p > 0 else nn.Identity()


def first_conv(model: nn.Module) -> tuple[str, nn.Conv2d] | None:
    """The convolution that sees the picture, with its name; None in a network without one."""
    return next(((n, m) for n, m in model.named_modules() if isinstance(m, nn.Conv2d)), None)


def classifier_names(model: nn.Module) -> list[str]:
    """The names of the module (or modules, in a distilled network) that `get_classifier` returns."""
    head = cast(Any, model).get_classifier()
    heads = head if isinstance(head, tuple | list) else [head]
    return [name for name, module in model.named_modules() if any(module is h for h in heads)]


def meta_copy(model: nn.Module) -> nn.Module:
    """A copy of `model` in eval mode whose tensors have shapes but no data: running it costs nothing.

    The weights of the original are never copied, so this is cheap for the largest network.
    """
    memo: dict[int, Tensor] = {}
    for tensor in chain(model.parameters(), model.buffers()):
        empty = torch.empty_like(tensor, device="meta")
        memo[id(tensor)] = (
            nn.Parameter(empty, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else empty
        )
    return copy.deepcopy(model, memo).eval()


def first_line(error: BaseException) -> str:
    """What a library says of an error, short enough for a sentence."""
    return (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
