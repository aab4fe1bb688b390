"""Networks run with another backward rule for their ReLUs, wherever these stand.

Guided backpropagation and the deconvnet are the gradient but for what a ReLU does to the signal on its way back.
Libraries put that in by hooks on modules of class `nn.ReLU`, so a `F.relu` in a forward method, or a ReLU that is
written in place, is passed over, and what comes out is the plain gradient under another name. Here each call is
caught as PyTorch dispatches it (`TorchFunctionMode`), whoever makes it; what cannot be caught is found in the graph
of the backward pass and refused.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import BackwardCFunction
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from sightline.errors import SightlineError

# (signal on its way back, where the ReLU let through on the way in) -> the signal before the ReLU.
Rule = Callable[[Tensor, Tensor], Tensor]

RELU = {F.relu, F.relu_, torch.relu, torch.relu_, Tensor.relu, Tensor.relu_}
CLAMP = {torch.clamp, Tensor.clamp, Tensor.clamp_, torch.clip, Tensor.clip, Tensor.clip_}
CLAMP_MIN = {torch.clamp_min, Tensor.clamp_min, Tensor.clamp_min_}
IN_PLACE = {F.relu_, torch.relu_, Tensor.relu_, Tensor.clamp_, Tensor.clip_, Tensor.clamp_min_}


def guided(signal: Tensor, passed: Tensor) -> Tensor:
    """Springenberg et al. 2015 (arXiv 1412.6806), figure 1: what came through on the way in, and is positive."""
    return signal.clamp(min=0) * passed


def deconvnet(signal: Tensor, _passed: Tensor) -> Tensor:
    """Zeiler & Fergus 2014 (arXiv 1311.2901), section 2.1: what is positive, whatever came through on the way in."""
    return signal.clamp(min=0)


class _Ruled(torch.autograd.Function):
    """ReLU (up to `top`) whose backward pass follows a rule."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, top: float | None, rule: Rule) -> Tensor:
        output = x.clamp(min=0, max=top)
        # Where a ReLU6 is full nothing comes through either.
        ctx.save_for_backward(output > 0 if top is None else (output > 0) & (output < top))
        ctx.rule = rule
        return output

    @staticmethod
    def backward(ctx: Any, *signals: Tensor) -> tuple[Tensor, None, None]:
        return ctx.rule(signals[0], ctx.saved_tensors[0]), None, None


class ReluRule(TorchFunctionMode):
    """A context in which every ReLU and ReLU6 goes back by `rule`, as modules, functions and in place alike.

        with ReluRule(guided) as ruled:
            score = model(x)[0, target]
        ruled.check(model, score)
        values = torch.autograd.grad(score, x)

    count: how many were met so far.
    """

    def __init__(self, rule: Rule) -> None:
        super().__init__()
        self.rule = rule
        self.count = 0

    def __torch_function__(self, func: Any, _types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        found, top = rectifier(func, args, kwargs)
        if not found:
            return func(*args, **kwargs)
        self.count += 1
        x: Tensor = args[0] if args else kwargs["input"]
        output = _Ruled.apply(x, top, self.rule)
        # Who wrote over the input may go on to use it.
        return x.copy_(output) if func in IN_PLACE or kwargs.get("inplace", False) else output

    def check(self, model: nn.Module, score: Tensor) -> None:
        """Raise SightlineError unless all that rectifies on the way to `score` was met, and something was."""
        missed = sorted(unruled(score))
        name = type(model).__name__
        if missed:
            raise SightlineError(
                f"{name} has rectifiers that cannot be traced ({', '.join(missed)}), so this would silently be the "
                "plain gradient; give the network uncompiled and with PyTorch's own ReLU."
            )
        if not self.count:
            kinds = {type(m).__name__ for m in model.modules() if type(m).__module__.endswith("activation")}
            others = f" (it has {', '.join(sorted(kinds))})" if kinds else ""
            raise SightlineError(
                f"{name} has no ReLU{others}, so this would be the plain gradient; integrated_gradients and "
                "occlusion work on any network."
            )


def rectifier(func: Any, args: Any, kwargs: dict[str, Any]) -> tuple[bool, float | None]:
    """Whether a call is a ReLU, and where it ends on top (6 in a ReLU6)."""

    def argument(place: int, *names: str) -> Any:
        given = args[place] if len(args) > place else None
        return next((kwargs[name] for name in names if name in kwargs), given)

    if func in RELU:
        return True, None
    if func is F.relu6:
        return True, 6.0
    if func is F.hardtanh:
        low, high = argument(1, "min_val"), argument(2, "max_val")
        return low == 0, high
    if func in CLAMP:
        low, high = argument(1, "min"), argument(2, "max")
        return is_zero(low) and high is None, None
    return func in CLAMP_MIN and is_zero(argument(1, "min")), None


def is_zero(value: Any) -> bool:
    return isinstance(value, int | float) and value == 0


def unruled(score: Tensor) -> set[str]:
    """The names of the steps in the graph of `score` that rectify by PyTorch's own rule, or hide what they do."""
    found: set[str] = set()
    seen: set[Any] = set()
    waiting: list[Any] = [score.grad_fn]
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        name = type(node).__name__
        if rectifies(node, name):
            found.add(name.split("Backward")[0])
        waiting += [following for following, _ in node.next_functions]
    return found


def rectifies(node: Any, name: str) -> bool:
    """Whether a step of the backward pass is a ReLU's, or one within which a ReLU could be hidden."""
    if isinstance(node, _Ruled._backward_cls):
        return False
    if name.startswith(("ReluBackward", "CompiledFunction", "DifferentiableGraph")):
        return True
    if name.startswith("ThresholdBackward"):
        return bool(node._saved_threshold == 0)
    if name.startswith("HardtanhBackward"):
        return bool(node._saved_min_val == 0)
    if name.startswith("ClampMinBackward"):
        return bool(node._saved_min == 0)
    if name.startswith("ClampBackward"):
        return node._saved_min is not None and bool(node._saved_min == 0) and node._saved_max is None
    if name.startswith("MaximumBackward"):
        return any(
            not bool(saved.any()) for saved in (node._saved_self, node._saved_other) if saved is not None
        )
    return isinstance(node, BackwardCFunction) and "relu" in name.lower()  # somebody's own
