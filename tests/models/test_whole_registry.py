"""Every network of the lineage goes through one test body; a new one is tested by being listed."""

import copy
import json
import math
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from sightline.errors import SightlineError
from sightline.models import create_model, list_models, model_arguments, model_info
from sightline.models.features import stage_features
from tests.models.reduced import ARGUMENTS, EACH_KIND, FIXED, classes, other_size, reduced, side

torch.set_num_threads(1)


@pytest.fixture(params=list_models(), scope="module")
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def model(name: str) -> nn.Module:
    """The reduced variant in evaluation mode. Read only."""
    torch.manual_seed(0)
    model = reduced(name, in_chans=3)
    settle(model, torch.randn(8, 3, side(name), side(name)))
    return model.eval()


def settle(model: nn.Module, x: Tensor) -> None:
    """Give batch norms the statistics of `x`: with those of a fresh start, deep networks put out next to nothing."""
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 1.0
    with torch.no_grad():
        model.train()(x)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum


@pytest.fixture(scope="module")
def x(name: str) -> Tensor:
    return torch.randn(2, 3, side(name), side(name), generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def logits(model: nn.Module, x: Tensor) -> Tensor:
    with torch.no_grad():
        return model(x)


def outputs(model: nn.Module, x: Tensor, training: bool = False) -> list[Tensor]:
    """The logits, those of auxiliary classifiers too."""
    if training and hasattr(model, "forward_auxiliary"):
        logits, said = model.forward_auxiliary(x)
        return [logits, *said]
    return [model(x)]


def test_every_network_has_a_reduced_variant() -> None:
    assert set(ARGUMENTS) == set(list_models())
    assert set(EACH_KIND) <= set(ARGUMENTS)
    assert {model_info(name).family for name in EACH_KIND} == {model_info(n).family for n in list_models()}


# ---------------------------------------------------------------------------------------- forward, features
def test_speaks_the_protocol(name: str, model: nn.Module, x: Tensor, logits: Tensor) -> None:
    assert (model.num_classes, model.in_chans, model.architecture) == (classes(name), 3, name)
    assert logits.shape == (2, classes(name)) and logits.dtype == torch.float32 and logits.isfinite().all()
    assert not torch.equal(logits[0], logits[1])  # it looks at the picture
    with torch.no_grad():
        features = model.forward_features(x)
        hidden = model.forward_head(features, pre_logits=True)
        assert channels(features, model.num_features)
        assert hidden.shape == (2, model.head_hidden_size)
        assert torch.equal(logits, model.forward_head(features))
        assert torch.equal(logits, model.get_classifier()(hidden))


def test_features_of_every_stage(name: str, model: nn.Module, x: Tensor) -> None:
    with torch.no_grad():
        features = stage_features(model, x)
    reductions = [stage["reduction"] for stage in model.feature_info]
    assert reductions == sorted(reductions) and len(features) == len(reductions)
    # Convolutions and poolings without padding lose a cell at the edge, LeNet-5's 5x5 windows up to seven.
    lost = 7 if model_info(name).family == "lenet" else 1
    for stage, maps in zip(model.feature_info, features, strict=True):
        assert maps.shape[:2] == (2, stage["num_chs"]) and maps.ndim == 4 and maps.isfinite().all()
        whole = math.ceil(side(name) / stage["reduction"])
        assert all(whole - lost <= n <= whole for n in maps.shape[2:]), (stage, maps.shape)


def channels(features: Tensor, count: int) -> bool:
    """Whether maps (N, C, h, w) or (N, h, w, C), or tokens (N, T, C), have `count` channels."""
    return count in ((features.shape[-1],) if features.ndim == 3 else (features.shape[1], features.shape[-1]))


# ------------------------------------------------------------------------------------------------- backward
def test_learns(name: str) -> None:
    """A step against the gradient lowers the loss, and the gradient reaches every parameter."""
    torch.manual_seed(0)
    model = reduced(name).train()
    for module in model.modules():  # the loss before and after the step is to be of one network
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    x = torch.randn(6, model.in_chans, side(name), side(name))
    y = torch.arange(6)

    def loss() -> Tensor:
        return sum(nn.functional.cross_entropy(out, y) for out in outputs(model, x, training=True))

    before = loss()
    before.backward()
    for key, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), key
    norm = torch.cat([p.grad.flatten() for p in model.parameters()]).norm()
    assert norm > 0
    with torch.no_grad():
        for parameter in model.parameters():
            parameter -= 1e-2 * parameter.grad / norm
    assert loss() < before


def test_the_same_seed_repeats_training_to_the_bit(name: str) -> None:
    """With dropout, in training mode: the same weights, gradients and statistics."""

    def run() -> dict[str, Tensor]:
        torch.manual_seed(3)
        model = reduced(name).train()
        x = torch.randn(3, model.in_chans, side(name), side(name))
        sum(out.square().sum() for out in outputs(model, x, training=True)).backward()
        return {**model.state_dict(), **{f"grad {key}": p.grad for key, p in model.named_parameters()}}

    first, second = run(), run()
    assert first.keys() == second.keys()
    assert [key for key in first if not torch.equal(first[key], second[key])] == []


# ------------------------------------------------------------------------------------ head, channels, sizes
def test_the_head_can_be_replaced(name: str, model: nn.Module, x: Tensor) -> None:
    model = copy.deepcopy(model)
    if name == FIXED:
        with pytest.raises(SightlineError, match="ten digits"):
            model.reset_classifier(3)
        return
    before = {key: value.clone() for key, value in model.state_dict().items()}
    with torch.no_grad():
        hidden = model.forward_head(model.forward_features(x), pre_logits=True)
        model.reset_classifier(3)
        assert model(x).shape == (2, 3) and model.num_classes == 3
        after = model.state_dict()
        fresh = [key for key in before if after[key].shape != before[key].shape]
        assert 0 < len(fresh) <= 6  # weight and bias, of auxiliary classifiers too
        assert all(torch.equal(before[key], after[key]) for key in before if key not in fresh)
        model.reset_classifier(0)
        assert torch.equal(model(x), hidden) and model.num_classes == 0
        model.reset_classifier(5)
        assert model(x).shape == (2, 5)
        assert reduced(name, in_chans=3, num_classes=0).eval()(x).shape == hidden.shape


@pytest.mark.parametrize("in_chans", [1, 4])
def test_other_channels(name: str, in_chans: int) -> None:
    model = reduced(name, in_chans=in_chans).eval()
    with torch.no_grad():
        out = model(torch.randn(1, in_chans, side(name), side(name)))
    assert model.in_chans == in_chans and out.shape == (1, classes(name)) and out.isfinite().all()


def test_other_sizes(name: str) -> None:
    height, width = other_size(name)
    if name == FIXED:
        with pytest.raises(SightlineError, match="32x32 pixels"):
            reduced(name, img_size=(height, width))
        return
    model = reduced(name, img_size=(height, width), in_chans=3).eval()
    with torch.no_grad():
        out = model(torch.randn(1, 3, height, width))
    assert out.shape == (1, classes(name)) and out.isfinite().all()


# ------------------------------------------------------------------------------------ save, repeat, export
def test_saved_and_loaded_it_is_the_same(
    name: str, model: nn.Module, x: Tensor, logits: Tensor, tmp_path: Path
) -> None:
    state = {key: value.contiguous() for key, value in model.state_dict().items()}
    save_file(state, tmp_path / "model.safetensors")
    torch.manual_seed(5)  # another start
    other = reduced(name, in_chans=3).eval()
    other.load_state_dict(load_file(tmp_path / "model.safetensors"), strict=True)
    with torch.no_grad():
        assert torch.equal(other(x), logits)
        assert torch.equal(other(x), logits)  # nothing is left behind by the first
        assert torch.equal(copy.deepcopy(model)(x), logits)


ONE_BY_ONE = [pytest.param(n, marks=() if n in EACH_KIND else pytest.mark.full) for n in list_models()]


@pytest.mark.parametrize("name", ONE_BY_ONE, scope="module")
def test_export(name: str, model: nn.Module, x: Tensor) -> None:
    """The whole forward pass is one graph (so compiles without breaks), for any number of pictures."""
    batch = torch.export.Dim("batch", min=1, max=64)
    program = torch.export.export(model, (x,), dynamic_shapes=({0: batch},), strict=True)
    more = torch.randn(5, *x.shape[1:])
    with torch.no_grad():
        torch.testing.assert_close(program.module()(more), model(more), rtol=1e-5, atol=1e-5)


# ---------------------------------------------------------------------------------- what is known beforehand
def test_arguments_are_plain_and_complete(name: str) -> None:
    """What `model_arguments` lists, sent through JSON, builds the same network."""
    arguments = json.loads(json.dumps(model_arguments(name)))
    with torch.device("meta"):
        full = create_model(name, **arguments)
    assert sum(p.numel() for p in full.parameters()) == model_info(name).params


def test_info_is_plain(name: str) -> None:
    info = model_info(name)
    assert json.loads(json.dumps(info.to_dict()))["name"] == info.name == name
    assert len(info.mean) == len(info.std) == info.input[0]
    assert not info.reference or info.reference.startswith("https://")
