"""Evidence against Captum, pytorch-grad-cam and arithmetic; on every family and on timm's; leaving no trace."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sightline.errors import SightlineError, UnknownName
from sightline.visualization.evidence import Evidence, cam, grad_cam, hires_cam
from sightline.visualization.pixel_evidence import (
    guided_backprop,
    integrated_gradients,
    occlusion,
    over_picture,
)
from tests.visualization.networks import (
    LINEAGE,
    POOLED_LINEAR,
    TIMM_NAMES,
    Plain,
    PlainWithModules,
    built,
    picture_for,
    same_state,
    state_of,
)

View = Callable[..., Evidence]
VIEWS: list[View] = [grad_cam, hires_cam, guided_backprop, integrated_gradients, occlusion]
PICTURE = torch.randn(1, 3, 16, 24, generator=torch.Generator().manual_seed(3))


@pytest.mark.parametrize("name", [*LINEAGE, *TIMM_NAMES])
def test_a_layer_and_its_grid_are_found_in_every_family(name: str) -> None:
    model, x = built(name), picture_for(name)
    found = grad_cam(model, x)
    height, width = found.values.shape
    assert height * width >= 4 and abs(height / width - x.shape[2] / x.shape[3]) < 0.01
    # The layer has a say: pushing its cells moves the score.
    moved: list[Tensor] = []

    def push(_module: nn.Module, _inputs: Any, output: Tensor) -> Tensor:
        return output + torch.randn(output.shape, generator=torch.Generator().manual_seed(0))

    handle = dict(model.named_modules())[found.layer].register_forward_hook(push)
    with torch.no_grad():
        moved.append(model(x)[0, found.target])
    handle.remove()
    assert float(moved[0]) != pytest.approx(found.score, rel=1e-6)
    assert (found.values >= 0).all()


@pytest.mark.parametrize(
    "name", ["resnet18", "vgg11_bn", "alexnet", "googlenet", "convnext", "efficientnet", "densenet"]
)
def test_grad_cam_is_captums(name: str) -> None:
    from captum.attr import LayerGradCam

    model, x = built(name), picture_for(name)
    ours = grad_cam(model, x, target=2)
    layer = dict(model.named_modules())[ours.layer]
    theirs = LayerGradCam(model, layer).attribute(x, target=2, relu_attributions=True)
    assert np.allclose(ours.values, theirs[0, 0].detach().numpy(), rtol=1e-4, atol=1e-9)


@pytest.mark.parametrize("name", ["resnet18", "convnext", "vit_registers", "swin", "vit_tiny_patch16_224"])
def test_grad_cam_resized_is_pytorch_grad_cams(name: str) -> None:
    from pytorch_grad_cam import GradCAM
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    model, x = built(name), picture_for(name)
    ours = grad_cam(model, x, target=1)
    grid, prefix = ours.values.shape, {"vit_registers": 5, "vit_tiny_patch16_224": 1}.get(name, 0)

    def fold(output: Tensor) -> Tensor:
        if output.ndim == 3:
            output = output[:, prefix:].reshape(1, *grid, -1)
        return output.permute(0, 3, 1, 2) if output.shape[1:3] == grid else output

    layer = dict(model.named_modules())[ours.layer]
    with GradCAM(model, [layer], reshape_transform=fold) as oracle:
        theirs = oracle(x, [ClassifierOutputTarget(1)])[0]
    values = ours.values - ours.values.min()
    values /= values.max() + 1e-7
    resized = F.interpolate(torch.from_numpy(values)[None, None], x.shape[2:], mode="bilinear")[0, 0].numpy()
    resized = (resized - resized.min()) / (resized.max() - resized.min() + 1e-7)
    theirs = (theirs - theirs.min()) / (theirs.max() - theirs.min() + 1e-7)
    assert np.abs(resized - theirs).max() < 0.02  # OpenCV's bilinear rounds its weights


@pytest.mark.parametrize("name", POOLED_LINEAR)
def test_pooled_linear_heads_tie_the_maps_together(name: str) -> None:
    """With z = W mean(A) + b, Grad-CAM is HiResCAM without what is below zero, and CAM's mean plus b is z."""
    model, x = built(name), picture_for(name)
    model.get_classifier().bias.data.normal_()  # type: ignore[operator]
    whole, fine, coarse = cam(model, x, target=3), hires_cam(model, x, target=3), grad_cam(model, x, target=3)
    logit = float(model(x)[0, 3].detach())
    assert whole.values.mean() + whole.bias == pytest.approx(logit, abs=1e-4)
    cells = whole.values.size
    assert np.allclose(coarse.values, fine.values.clip(min=0), rtol=1e-3, atol=1e-7)
    assert np.allclose(
        fine.values * cells, whole.values, rtol=1e-3, atol=1e-5 * max(1, np.abs(whole.values).max())
    )


def test_one_class_against_another() -> None:
    model, x = built("resnet18"), picture_for("resnet18")
    one, other = cam(model, x, target=1), cam(model, x, target=4)
    between = cam(model, x, target=1, versus=4)
    assert np.allclose(between.values, one.values - other.values, atol=1e-5)
    assert between.score == pytest.approx(one.score - other.score, abs=1e-5)
    assert between.bias == pytest.approx(one.bias - other.bias, abs=1e-6)
    fine = hires_cam(model, x, target=1, versus=4)
    assert fine.values.sum() + between.bias == pytest.approx(between.score, abs=1e-4)


def test_cam_where_each_class_has_its_map() -> None:
    from sightline.models import create_model

    model = create_model("torchvision/squeezenet1_1", num_classes=4).eval()
    x = picture_for("resnet18")
    found = cam(model, x, target=2)
    assert found.values.mean() == pytest.approx(float(model(x)[0, 2].detach()), abs=1e-5) and found.bias == 0


def test_cam_refuses_other_heads() -> None:
    with pytest.raises(SightlineError, match="one linear layer, which CAM needs"):
        cam(built("alexnet"), picture_for("alexnet"))


def test_guided_backprop_is_captums_and_follows_functions() -> None:
    from captum.attr import GuidedBackprop

    plain = Plain().eval()
    theirs = GuidedBackprop(PlainWithModules(plain).eval()).attribute(PICTURE, target=2)[0].detach().numpy()
    ours = guided_backprop(plain, PICTURE, target=2)
    assert np.allclose(ours.values, theirs, rtol=1e-4, atol=1e-7)
    x = PICTURE.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(plain(x)[0, 2], x)
    assert np.abs(ours.values - gradient[0].numpy()).max() > 0.1 * np.abs(ours.values).max()


@pytest.mark.parametrize("name", ["resnet18", "vgg11_bn", "alexnet", "resnet50"])
def test_guided_backprop_of_the_lineage_is_captums(name: str) -> None:
    from captum.attr import GuidedBackprop

    model, x = built(name), picture_for(name)
    ours = guided_backprop(model, x, target=1).values
    theirs = GuidedBackprop(model).attribute(x, target=1)[0].detach().numpy()
    assert np.allclose(ours, theirs, rtol=1e-3, atol=1e-6 * np.abs(theirs).max())


class Rectified(nn.Module):
    """conv, something that rectifies, mean, linear."""

    def __init__(self, rectify: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.rectify, self.fc = nn.Conv2d(3, 6, 3), rectify, nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.rectify(self.conv(x)).mean((2, 3)))


class OwnReLU(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x.clamp(min=0)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        return grads[0] * (ctx.saved_tensors[0] > 0)


@pytest.mark.parametrize(
    "rectify",
    [
        F.relu, torch.relu, nn.ReLU(), nn.ReLU(inplace=True), F.relu_, torch.relu_, lambda x: x.relu(),
        lambda x: x.relu_(), lambda x: F.relu(x, inplace=True), lambda x: x.clamp(min=0), lambda x: x.clamp_min(0),
        lambda x: x.clamp_(0), lambda x: torch.clip(x, min=0), lambda x: F.relu(input=x),
    ],
)  # fmt: skip
def test_every_spelling_of_relu_is_followed(rectify: Callable[[Tensor], Tensor]) -> None:
    expected = guided_backprop(Rectified(F.relu), PICTURE, target=1).values
    x = PICTURE.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(Rectified(F.relu)(x)[0, 1], x)
    assert not np.allclose(expected, gradient[0].numpy())
    assert np.array_equal(guided_backprop(Rectified(rectify), PICTURE, target=1).values, expected)


def test_relu6_is_closed_where_it_is_full() -> None:
    model = nn.Sequential(nn.ReLU6(), nn.Flatten(), nn.Linear(3, 2, bias=False))
    model[2].weight.data = torch.tensor([[1.0, 1, 1], [-1, 1, 1]])
    x = torch.tensor([-1.0, 3, 9]).view(1, 3, 1, 1)
    assert guided_backprop(model, x, target=0).values.ravel().tolist() == [0, 1, 0]


@pytest.mark.parametrize(
    ("rectify", "said"),
    [
        (OwnReLU.apply, "cannot be traced"),
        (lambda x: F.threshold(x, 0, 0), "cannot be traced"),
        (lambda x: torch.maximum(x, torch.zeros(())), "cannot be traced"),
        (torch.jit.script(nn.Sequential(nn.ReLU())), "cannot be traced"),
        (nn.GELU(), "has no ReLU"),
    ],
)  # fmt: skip
def test_what_cannot_be_followed_is_refused(rectify: Callable[[Tensor], Tensor], said: str) -> None:
    with pytest.raises(SightlineError, match=said):
        guided_backprop(Rectified(rectify), PICTURE, target=1)


@pytest.mark.parametrize(
    "name", ["resnet18", "alexnet", "vit_tiny_patch16_224", "swin", "efficientnet", "dpt_tiny"]
)
def test_integrated_gradients_are_complete(name: str) -> None:
    model, x = built(name), picture_for(name)
    for versus in (None, 0):
        found = integrated_gradients(model, x, target=2, versus=versus)
        with torch.no_grad():
            ends = [model(one)[0] for one in (x, torch.zeros_like(x))]
        scores = [float(one[2] - (0 if versus is None else one[versus])) for one in ends]
        gained = scores[0] - scores[1]
        spread = float(ends[0].max() - ends[0].min())
        assert abs(found.values.sum(dtype=np.float64) - gained) <= 0.011 * max(abs(gained), 0.01 * spread)
        assert found.score == pytest.approx(scores[0], rel=1e-4, abs=1e-6)


def test_integrated_gradients_are_captums() -> None:
    from captum.attr import IntegratedGradients

    model = Plain().eval()
    theirs = IntegratedGradients(PlainWithModules(model)).attribute(PICTURE, target=1, n_steps=50)
    ours = integrated_gradients(model, PICTURE, target=1, steps=50)
    assert np.allclose(ours.values, theirs[0].detach().numpy(), rtol=1e-3, atol=1e-7)
    with pytest.raises(SightlineError, match="of the same shape"):
        integrated_gradients(model, PICTURE, baseline=torch.zeros(1, 3, 8, 8))


def test_occlusion_is_the_difference_of_logits() -> None:
    model = built("resnet18")
    x = picture_for("resnet18")[:, :, :40, :56]
    found = occlusion(model, x, target=1, versus=3, patch=12, stride=8, value=0.5)
    assert found.tops == (0, 8, 16, 24, 28) and found.lefts == (0, 8, 16, 24, 32, 40, 44)
    with torch.no_grad():
        for i, top in enumerate(found.tops):
            for j, left in enumerate(found.lefts):
                covered = x.clone()
                covered[:, :, top : top + 12, left : left + 12] = 0.5
                whole, less = model(x)[0], model(covered)[0]
                expected = float((whole[1] - whole[3]) - (less[1] - less[3]))
                assert found.values[i, j] == pytest.approx(expected, abs=1e-5)
    with pytest.raises(SightlineError, match="does not fit a picture of 40x56"):
        occlusion(model, x, patch=41)


def test_occlusion_over_the_picture_is_the_mean_of_the_squares() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(9, 2, bias=False))
    model[1].weight.data = torch.tensor([[float(i) for i in range(9)], [0.0] * 9])
    found = occlusion(model, torch.ones(1, 1, 3, 3), target=0, patch=2, stride=1)
    assert found.values.tolist() == [[0 + 1 + 3 + 4, 1 + 2 + 4 + 5], [3 + 4 + 6 + 7, 4 + 5 + 7 + 8]]
    assert over_picture(found)[1, 1] == pytest.approx((8 + 12 + 20 + 24) / 4)
    assert over_picture(found)[0, 0] == 8


def test_no_evidence_is_not_full_evidence() -> None:
    from PIL import Image

    from sightline.visualization.evidence_figures import draw_evidence

    model = built("resnet18")
    model.fc.weight.data[2] = 0  # nothing of the picture speaks for class 2
    x = picture_for("resnet18")
    picture = Image.fromarray(np.tile(np.arange(64, dtype=np.uint8)[:, None] * 3, (1, 64)))
    nothing, something = grad_cam(model, x, target=2), hires_cam(model, x, target=1)
    assert nothing.empty and nothing.scale > 0 and not something.empty
    drawn, coloured = (np.asarray(draw_evidence(one, picture)).astype(int) for one in (nothing, something))
    assert np.ptp(drawn, axis=2).max() == 0  # grey
    assert np.ptp(coloured, axis=2).max() > 100


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("training", [False, True])
def test_the_model_is_left_as_it_was(view: View, training: bool) -> None:
    model, x = built("resnet18").train(training), picture_for("resnet18")
    model.conv1.requires_grad_(False)
    model.fc.weight.grad = torch.ones_like(model.fc.weight)
    before = state_of(model)
    first = view(model, x, target=1)
    assert same_state(before, state_of(model))
    assert np.array_equal(first.values, view(model, x, target=1).values)


@pytest.mark.parametrize("view", [*VIEWS, cam])
def test_an_interrupted_view_leaves_the_model_as_it_was(view: View) -> None:
    model, x = built("resnet18").train(), picture_for("resnet18")
    before = state_of(model)

    def interrupt(_module: nn.Module, _inputs: Any, _output: Any) -> None:
        raise KeyboardInterrupt

    handle = model.layer3.register_forward_hook(interrupt)
    with pytest.raises(KeyboardInterrupt):
        view(model, x, target=1)
    handle.remove()
    assert same_state(before, state_of(model)) and torch.is_grad_enabled()


def test_frozen_networks_and_no_grad_are_taken() -> None:
    model, x = built("resnet18").requires_grad_(False), picture_for("resnet18")
    with torch.no_grad():
        assert grad_cam(model, x).values.any() and guided_backprop(model, x).values.any()
        assert not torch.is_grad_enabled()


@pytest.mark.parametrize("view", [*VIEWS, cam])
def test_classes_that_are_not_there(view: View) -> None:
    model, x = built("resnet18"), picture_for("resnet18")
    with pytest.raises(SightlineError, match="There is no class 7; the network tells 7 apart, 0 to 6"):
        view(model, x, target=7)
    with pytest.raises(SightlineError, match="There is no class -1"):
        view(model, x, target=1, versus=-1)
    with pytest.raises(SightlineError, match="set against itself"):
        view(model, x, target=1, versus=1)
    with pytest.raises(SightlineError, match="of one picture"):
        view(model, x[0])
    with pytest.raises(SightlineError, match="cannot take a picture of 5x64x64"):
        view(model, torch.zeros(1, 5, 64, 64))


def test_layers_that_are_not_there() -> None:
    model, x = built("resnet18"), picture_for("resnet18")
    with pytest.raises(UnknownName, match="did you mean layer4"):
        grad_cam(model, x, layer="layer44")
    with pytest.raises(SightlineError, match=r"fc puts out \(1, 7\), which has no places .* layer4"):
        grad_cam(model, x, layer="fc")
    with pytest.raises(SightlineError, match="no layer with places"):
        grad_cam(nn.Sequential(nn.Flatten(), nn.Linear(12, 3)), torch.zeros(1, 3, 2, 2))


def test_a_layer_is_taken_before_what_follows_works_in_place() -> None:
    model = Rectified(lambda x: F.relu(x, inplace=True)).eval()
    found = hires_cam(model, PICTURE, layer="conv", target=0)
    out = model.conv(PICTURE)[0]
    weight = model.fc.weight[0] / out[0].numel()
    expected = (out * weight[:, None, None] * (out > 0)).sum(0)
    assert np.allclose(found.values, expected.detach().numpy(), atol=1e-6)


def test_a_thousand_calls_leave_nothing() -> None:
    """No hook, no gradient, and no tensor more than after the first few."""
    import gc

    from sightline.visualization.attention import attention

    plain, transformer = Plain().eval(), built("lecture_vit")
    small, digit = PICTURE[:, :, :8, :8], picture_for("lecture_vit")
    before = state_of(plain), state_of(transformer)

    def tensors() -> int:
        gc.collect()
        return sum(isinstance(one, Tensor) for one in gc.get_objects())

    counts = []
    for calls in (5, 200):
        for _ in range(calls):
            grad_cam(plain, small)
            guided_backprop(plain, small)
            occlusion(plain, small, patch=4)
            grad_cam(transformer, digit)
            attention(transformer, digit)
        counts.append(tensors())
    assert counts[0] == counts[1]
    assert same_state(before[0], state_of(plain)) and same_state(before[1], state_of(transformer))
