"""A transformer against its oracle: the same weights in, the same numbers out."""

from collections.abc import Callable

import torch
from torch import Tensor, nn


def randomise(model: nn.Module, seed: int = 0) -> None:
    """Weights that leave nothing at its start (zero biases, norms of one), so that equality means something."""
    generator = torch.Generator().manual_seed(seed)
    for name, tensor in model.named_parameters():
        if tensor.ndim == 1:
            middle = 1.0 if "norm" in name and name.endswith("weight") else 0.0
            tensor.data.uniform_(middle - 0.5, middle + 0.5, generator=generator)
        elif name.startswith(("cls_token", "pos_embed")) or "bias_table" in name:
            tensor.data.normal_(generator=generator)
        else:
            tensor.data.normal_(std=1.5 * tensor[0].numel() ** -0.5, generator=generator)


def distance(ours: Tensor, theirs: Tensor) -> float:
    """The difference's norm over the oracle's."""
    assert ours.shape == theirs.shape and theirs.norm() > 0
    ours, theirs = ours.detach(), theirs.detach()
    return float((ours - theirs).norm() / theirs.norm())


def outputs(model: nn.Module, stages: list[str], x: Tensor) -> list[Tensor]:
    """What the modules `stages` and then the network put out for `x`, in evaluation mode."""
    seen: dict[str, Tensor] = {}
    hooks = [
        model.get_submodule(stage).register_forward_hook(
            lambda _module, _inputs, out, stage=stage: seen.update({stage: out})
        )
        for stage in stages
    ]
    with torch.no_grad():
        logits = model.eval()(x)
    for hook in hooks:
        hook.remove()
    return [*(seen[stage] for stage in stages), logits]


def assert_same(
    ours: nn.Module,
    theirs: nn.Module,
    size: tuple[int, int],
    order: Callable[[Tensor], Tensor] = lambda x: x,
) -> None:
    """The oracle's weights go in, its numbers come out: stages and logits in float32 in evaluation mode, logits
    and input gradients in float64 in training mode. `order` brings the oracle's stages into our order.

    The two share their weights and keep no gradients of them, so that the largest fit into memory.
    """
    randomise(theirs)
    ours.load_state_dict(theirs.requires_grad_(False).state_dict(), strict=True, assign=True)
    x = torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(1))
    stages = [stage["module"] for stage in ours.feature_info]
    *mine, logits = outputs(ours.requires_grad_(False), stages, x)
    *yours, expected = outputs(theirs, stages, x)
    assert distance(logits, expected) < 1e-5
    for stage, a, b in zip(stages, mine, yours, strict=True):
        assert distance(a, order(b)) < 1e-5, stage

    theirs.double().train()
    ours.double().train().load_state_dict(theirs.state_dict(), strict=True, assign=True)
    results = []
    for model in (ours, theirs):
        pixels = x[:1].double().requires_grad_()
        out = model(pixels)
        (gradient,) = torch.autograd.grad(out.square().sum(), pixels)
        results.append((out.detach(), gradient))
    for a, b in zip(*results, strict=True):
        assert distance(a, b) < 1e-8
