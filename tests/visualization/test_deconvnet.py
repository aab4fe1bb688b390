"""The deconvnet against Captum's where that is right, and against arithmetic where it is not."""

from __future__ import annotations

import gc
import warnings
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sightline.errors import SightlineError, UnknownName
from sightline.models import create_model
from sightline.visualization.deconvnet import Projection, deconvolve
from sightline.visualization.figures import draw_projection
from sightline.visualization.relu import ReluRule
from tests.models.reduced import reduced


def captums(model: nn.Module, x: Tensor, layer: str, unit: tuple[int, ...]) -> Tensor:
    """Captum's projection of a unit, which starts at 1 whatever the activation."""
    from captum.attr import NeuronDeconvolution

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        oracle = NeuronDeconvolution(model.eval(), model.get_submodule(layer))
        return oracle.attribute(x.clone().requires_grad_(), unit).detach()[0]


def with_modules(name: str) -> nn.Module:
    """A network whose ReLUs are modules of their own, out of place, as Captum needs them."""
    torch.manual_seed(0)
    model = reduced(name)
    for module in model.modules():
        if isinstance(module, nn.ReLU):
            module.inplace = False
    return model.eval()


@pytest.mark.parametrize(
    ("name", "layer"),
    [
        (n, layer)
        for n in ("vgg11", "alexnet")
        for layer in ("features.3", "features.8", "features.10", "features")
    ],
)
def test_it_is_captums_deconvolution_times_the_activation(name: str, layer: str) -> None:
    model, x = with_modules(name), torch.randn(1, 3, 64, 64)
    view = deconvolve(model, x, layer=layer)
    theirs = captums(model, x, layer, (view.channel, *view.position)) * view.activation
    assert theirs.abs().max() > 0
    assert np.abs(view.values - theirs.numpy()).max() <= 1e-5 * float(theirs.abs().max())
    assert view.scale == pytest.approx(float(theirs.abs().max()), rel=1e-5)


@pytest.mark.full
@pytest.mark.parametrize("name", ["vgg11", "alexnet"])
def test_so_it_is_at_full_size(name: str) -> None:
    torch.manual_seed(0)
    model, x = create_model(name).eval(), torch.randn(1, 3, 224, 224)
    view = deconvolve(model, x, layer="features")  # in place, as it comes
    for module in model.modules():
        if isinstance(module, nn.ReLU):
            module.inplace = False
    theirs = captums(model, x, "features", (view.channel, *view.position)) * view.activation
    assert np.abs(view.values - theirs.numpy()).max() <= 1e-5 * float(theirs.abs().max())


@pytest.mark.parametrize("name", ["vgg11", "alexnet", "googlenet", "resnet18", "resnet50"])
def test_relus_in_place_give_the_same(name: str) -> None:
    """Ours work in place where they may; the oracle is the same weights with every ReLU out of place."""
    x = torch.randn(1, 3, 64, 64)
    model = with_modules(name)
    layer = model.feature_info[-1]["module"]
    plain = deconvolve(model, x, layer=layer)
    for module in model.modules():
        if isinstance(module, nn.ReLU):
            module.inplace = True
    again = deconvolve(model, x, layer=layer)
    assert np.array_equal(plain.values, again.values)
    assert np.abs(plain.values).max() > 0


class Functional(nn.Module):
    """Two layers with a ReLU between them that no hook on a module can see."""

    def __init__(self, relu: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.a, self.b, self.relu = nn.Conv2d(1, 4, 3), nn.Conv2d(4, 2, 3), relu

    def forward(self, x: Tensor) -> Tensor:
        return self.b(self.relu(self.a(x)))


@pytest.mark.parametrize(
    "relu",
    [F.relu, F.relu_, torch.relu, torch.relu_, Tensor.relu, Tensor.relu_, lambda x: F.relu(x, inplace=True),
     lambda x: x.clamp(min=0), lambda x: torch.clamp_min(x, 0)],
)  # fmt: skip
def test_functional_relus_are_taken_the_papers_way(relu: Callable[[Tensor], Tensor]) -> None:
    model, x = Functional(relu).eval(), torch.randn(1, 1, 8, 8)
    view = deconvolve(model, x, layer="b", channel=1, position=(1, 2))
    # By hand: filters of b transposed, what is negative to zero, filters of a transposed.
    with torch.no_grad():
        one = torch.zeros(1, 2, 4, 4)
        one[0, 1, 1, 2] = 1
        back = F.conv_transpose2d(F.conv_transpose2d(one, model.b.weight).clamp(min=0), model.a.weight)
        activation = model.b(F.relu(model.a(x)))[0, 1, 1, 2]
    assert view.activation == pytest.approx(float(activation), rel=1e-5)
    assert np.allclose(view.values, (back * activation)[0].numpy(), atol=1e-6)
    x = x.requires_grad_()
    (gradient,) = torch.autograd.grad(model(x)[0, 1, 1, 2], x)
    assert not torch.allclose(gradient, back, atol=1e-4)


@pytest.mark.parametrize(
    ("activation", "said"),
    [(nn.GELU(), "Gelu"), (nn.SiLU(), "Silu"), (nn.LeakyReLU(), "LeakyRelu"), (nn.Tanh(), "Tanh"),
     (nn.Threshold(0.0, 0.0), "Threshold"), (nn.Hardswish(), "Hardswish")],
)  # fmt: skip
def test_other_activations_are_refused_by_name(activation: nn.Module, said: str) -> None:
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Conv2d(2, 2, 3), activation, nn.Conv2d(2, 2, 1))
    x = torch.randn(1, 1, 8, 8)
    with pytest.raises(SightlineError, match=f"before 4, Sequential has {said}"):
        deconvolve(model, x, layer="4")
    assert deconvolve(model, x, layer="2").scale > 0  # before them it works


@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "efficientnet_b0", "lenet5_1998"])
def test_networks_without_relu_are_refused(name: str) -> None:
    model = reduced(name)
    layer = {"vit_tiny_patch16_224": "head", "efficientnet_b0": "features.2", "lenet5_1998": "c3"}[name]
    x = torch.randn(1, model.in_chans, *((32, 32) if model.in_chans == 1 else (64, 64)))
    with pytest.raises(SightlineError, match="integrated_gradients and occlusion"):
        deconvolve(model, x, layer=layer)


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_what_compiled_code_hides_is_refused() -> None:
    model = torch.jit.trace(
        nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Conv2d(2, 1, 3)), torch.rand(1, 1, 8, 8)
    )
    whole = nn.Sequential(model, nn.Flatten(), nn.Linear(16, 2))
    with pytest.raises(SightlineError, match="Relu"):
        deconvolve(whole, torch.rand(1, 1, 8, 8), layer="2")


def test_where_pools_overlap_contributions_add_up() -> None:
    """A row of five pixels, windows of three with a step of two: the middle pixel is the maximum of both.

    conv (1x1, weight 1), ReLU, pool, then a unit that sums both cells: 4 + 4 = 8. Each sends 1 to the middle
    pixel, which gets 2, times the activation 8. F.max_unpool2d would write one over the other: 1.
    """
    conv, last = nn.Conv2d(1, 1, 1, bias=False), nn.Conv2d(1, 1, (1, 2), bias=False)
    nn.init.ones_(conv.weight)
    nn.init.ones_(last.weight)
    model = nn.Sequential(conv, nn.ReLU(inplace=True), nn.MaxPool2d((1, 3), (1, 2)), last)
    view = deconvolve(model, torch.tensor([[[[1.0, 2.0, 4.0, 3.0, 0.5]]]]), layer="3")
    assert view.activation == 8
    assert view.values.tolist() == [[[0, 0, 16, 0, 0]]]
    assert (view.channel, view.position, view.scale) == (0, (0, 0), 16)


def test_a_network_that_begins_in_place_does_not_touch_the_picture() -> None:
    model, x = (
        nn.Sequential(nn.ReLU(inplace=True), nn.Conv2d(1, 2, 3)),
        torch.linspace(-1, 1, 25).view(1, 1, 5, 5),
    )
    view = deconvolve(model, x, layer="1")
    assert torch.equal(x, torch.linspace(-1, 1, 25).view(1, 1, 5, 5))
    assert np.array_equal(view.input, x[0].numpy())


def test_a_projection_is_drawn_around_grey() -> None:
    values = np.array([[[0.0, 2.0], [-2.0, 1.0]]], np.float32)
    image = draw_projection(Projection("conv", 0, (0, 0), 1.0, values, 2.0, values), tile=2)
    assert np.array(image)[..., 0].tolist() == [[128, 255], [0, 191]]
    nothing = Projection("conv", 0, (0, 0), 0.0, values * 0, 0.0, values)
    assert set(np.array(draw_projection(nothing, tile=2))[..., 0].ravel()) == {128}


def test_a_unit_is_chosen_by_its_strength_or_by_name() -> None:
    model, x = with_modules("alexnet"), torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        maps = model.features[:5](x)[0]
    free = deconvolve(model, x, layer="features.4")
    assert (free.channel, *free.position) == np.unravel_index(int(maps.argmax()), maps.shape)
    third = deconvolve(model, x, layer="features.4", channel=3)
    assert third.activation == pytest.approx(float(maps[3].max()), rel=1e-5)
    here = deconvolve(model, x, layer="features.4", channel=-1, position=(0, 1))
    assert (here.channel, here.position) == (15, (0, 1))
    assert here.activation == pytest.approx(float(maps[15, 0, 1]), abs=1e-6)
    assert deconvolve(model, x, layer="classifier.6", channel=2).position == ()


def test_what_is_not_there_is_said() -> None:
    model, x = with_modules("alexnet"), torch.randn(1, 3, 64, 64)
    with pytest.raises(UnknownName, match=r"features\.4"):
        deconvolve(model, x, layer="features.44")
    with pytest.raises(SightlineError, match="channels 0 to 15, not 16"):
        deconvolve(model, x, layer="features.4", channel=16)
    with pytest.raises(SightlineError, match="rows 0 to 6 and columns 0 to 6"):
        deconvolve(model, x, layer="features.4", channel=0, position=(7, 0))
    with pytest.raises(SightlineError, match="stand at no place"):
        deconvolve(model, x, layer="classifier.6", channel=0, position=(0, 0))
    with pytest.raises(SightlineError, match="one picture"):
        deconvolve(model, torch.zeros(2, 3, 64, 64), layer="features.4")


def test_a_thousand_calls_leave_nothing() -> None:
    model = nn.Sequential(
        nn.Conv2d(1, 2, 3), nn.ReLU(inplace=True), nn.MaxPool2d(2), nn.Dropout(), nn.Conv2d(2, 2, 1)
    )
    model.train()
    x = torch.randn(1, 1, 8, 8)
    first = deconvolve(model, x, layer="4").values
    gc.collect()
    tensors = sum(issubclass(type(o), Tensor) for o in gc.get_objects())
    for _ in range(1000):
        again = deconvolve(model, x, layer="4").values
    gc.collect()
    assert np.array_equal(first, again)
    assert sum(issubclass(type(o), Tensor) for o in gc.get_objects()) <= tensors
    assert all(module.training and not module._forward_hooks for module in model.modules())
    assert all(p.grad is None and p.requires_grad for p in model.parameters())
    assert x.grad is None and not x.requires_grad


class Interrupted(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        raise KeyboardInterrupt


def test_an_interrupted_view_leaves_the_model_as_it_was() -> None:
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), Interrupted(), nn.Conv2d(2, 2, 1)).train()
    with pytest.raises(KeyboardInterrupt):
        deconvolve(model, torch.randn(1, 1, 8, 8), layer="3")
    assert all(module.training and not module._forward_hooks for module in model.modules())
    # Nor does the rule stay behind: this is the plain gradient again.
    x = torch.tensor([-1.0, 2.0], requires_grad=True)
    (gradient,) = torch.autograd.grad(F.relu(x).sum(), x)
    assert gradient.tolist() == [0, 1]
    assert not any(isinstance(o, ReluRule) for o in torch.overrides._get_current_function_mode_stack())


def test_the_lectures_network_works_as_it_is() -> None:
    torch.manual_seed(0)
    view = deconvolve(create_model("lecture_net"), torch.rand(1, 1, 28, 28), layer="conv2.1")
    assert view.values.shape == (1, 28, 28) and view.activation > 0
