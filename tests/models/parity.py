"""A network against its oracle: the same weights in, the same numbers out."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

Outputs = Callable[[nn.Module, Tensor], list[Tensor]]


def randomise(model: nn.Module) -> None:
    """Leaves no bias, scale or running statistic at its start, so that equality means something."""
    generator = torch.Generator().manual_seed(0)
    for tensor in (*model.parameters(), *model.buffers()):
        if tensor.ndim == 1:
            tensor.data.uniform_(0.5, 1.5, generator=generator)


def difference(ours: Tensor, theirs: Tensor) -> float:
    """The norm of the difference over that of the oracle's numbers, which are not all alike."""
    ours, theirs = ours.detach(), theirs.detach()
    assert ours.shape == theirs.shape and theirs.std() > 0
    return float((ours - theirs).norm() / theirs.norm())


def maps(model: nn.Module, names: list[str], x: Tensor) -> list[Tensor]:
    """What the modules `names` put out for `x`, in evaluation mode."""
    found: dict[str, Tensor] = {}
    hooks = [
        model.get_submodule(name).register_forward_hook(
            lambda _module, _inputs, out, name=name: found.update({name: out.clone()})
        )
        for name in names
    ]
    with torch.no_grad():
        model.eval()(x)
    for hook in hooks:
        hook.remove()
    return [found[name] for name in names]


def logits(model: nn.Module, x: Tensor) -> list[Tensor]:
    return [model(x)]


def same_in_evaluation(
    ours: nn.Module, theirs: nn.Module, x: Tensor, names: Mapping[str, str] | None = None
) -> None:
    """Logits and the maps of each stage agree to 1e-5; `names` are the oracle's where they are others than ours."""
    randomise(theirs)
    ours.load_state_dict(theirs.state_dict(), strict=True)
    stages = [stage["module"] for stage in ours.feature_info]
    mine = maps(ours, stages, x)
    yours = maps(theirs, [(names or {}).get(stage, stage) for stage in stages], x)
    for stage, a, b in zip(ours.feature_info, mine, yours, strict=True):
        assert a.shape[1] == stage["num_chs"]
        assert difference(a, b) < 1e-5, stage
    with torch.no_grad():
        assert difference(ours.eval()(x), theirs.eval()(x)) < 1e-5


def same_in_training(
    ours: nn.Module, theirs: nn.Module, x: Tensor, of_ours: Outputs = logits, of_theirs: Outputs = logits
) -> None:
    """All outputs, gradients and batch statistics of a training step in float64 agree to 1e-8."""
    randomise(theirs)
    ours.load_state_dict(theirs.state_dict(), strict=True)
    inputs, outputs = [], []
    for model, run in ((ours, of_ours), (theirs, of_theirs)):
        picture = x.double().requires_grad_()
        out = run(model.double().train(), picture)
        sum((i + 1) * o.square().mean() for i, o in enumerate(out)).backward()
        inputs.append(picture.grad)
        outputs.append(out)
    for a, b in zip(*outputs, strict=True):
        assert difference(a, b) < 1e-8
    assert difference(*inputs) < 1e-8
    theirs_by_name = dict(theirs.named_parameters())
    for name, parameter in ours.named_parameters():
        assert difference(parameter.grad, theirs_by_name[name].grad) < 1e-8, name
    buffers = dict(theirs.named_buffers())
    for name, buffer in ours.named_buffers():
        assert torch.allclose(buffer, buffers[name], rtol=1e-8, atol=0), name
