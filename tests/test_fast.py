"""Fast copies: folded exactly, only where it is right; the same decisions; the slower way where a faster fails."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

from sightline import fast
from sightline.bundle import Bundle, Classifier
from sightline.errors import SightlineError
from sightline.fast import FastNetwork, fast_copy, fold, foldable
from sightline.models import create_model, list_models, model_info
from tests.models.reduced import reduced, side

torch.set_num_threads(1)
BF16 = fast.cpu_has_bf16()
needs_bf16 = pytest.mark.skipif(not BF16, reason="bf16: this processor multiplies it only by emulation")


def unsettled(model: nn.Module) -> nn.Module:
    """Norms with statistics and weights that make a difference."""
    torch.manual_seed(0)
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            for tensor, low, high in (
                (module.running_mean, -0.5, 0.5), (module.running_var, 0.5, 2.0),
                (module.weight, 0.5, 1.5), (module.bias, -0.5, 0.5),
            ):  # fmt: skip
                nn.init.uniform_(tensor, low, high)
    return model.eval()


def norms(model: nn.Module) -> int:
    return sum(isinstance(module, nn.BatchNorm2d) for module in model.modules())


@pytest.mark.parametrize("name", [n for n in list_models() if norms(reduced(n))])
def test_folding_is_exact(name: str) -> None:
    """In float64 to rounding, and no batch norm behind a convolution is left; the network is as it was."""
    model = unsettled(reduced(name, in_chans=3)).double()
    before = copy.deepcopy(model.state_dict())
    x = torch.randn(2, 3, side(name), side(name), dtype=torch.float64)
    folded = fold(model, x.shape[1:])
    with torch.no_grad():
        torch.testing.assert_close(folded(x), model(x), rtol=1e-9, atol=1e-9)
    assert norms(model) > norms(folded)
    family = model_info(name).family
    if family != "googlenet":  # two of its norms are in classifiers that pictures do not pass
        # Three of ResNet-9's stand behind a maximum, where a negative scale could not be moved before it.
        assert norms(folded) == (3 if family == "resnet9" else 0)
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())
    assert all(p.requires_grad for p in model.parameters())


@pytest.mark.parametrize(
    "name", ["torchvision/densenet121", "torchvision/mobilenet_v3_small", "timm/resnet18"]
)
def test_others_networks_fold_too(name: str) -> None:
    model = unsettled(create_model(name, num_classes=5))
    x = torch.randn(2, 3, 64, 64)
    folded = fold(model, (3, 64, 64))
    assert norms(folded) < norms(model)
    with torch.no_grad():
        torch.testing.assert_close(folded(x), model(x), rtol=1e-3, atol=1e-4)


class Tangled(nn.Module):
    """Convolutions whose norms must stay: one's output is read twice, one runs twice, one's norm comes after a ReLU."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2, self.conv3, self.conv4 = (nn.Conv2d(4, 4, 3, padding=1) for _ in range(4))
        self.bn1, self.bn2, self.bn3, self.bn4, self.bn5 = (nn.BatchNorm2d(4) for _ in range(5))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.conv1(x)
        x = x + self.bn1(x)
        x = self.bn3(self.conv2(self.bn2(self.conv2(x))))
        x = self.bn4(self.conv3(x).relu())
        return self.bn5(self.conv4(x)).mean((2, 3))


def test_only_what_alone_follows_a_convolution_is_folded() -> None:
    model = unsettled(Tangled())
    assert foldable(model, (4, 8, 8)) == [("conv4", "bn5")]
    x = torch.randn(2, 4, 8, 8)
    with torch.no_grad():
        torch.testing.assert_close(fold(model, (4, 8, 8))(x), model(x), rtol=1e-4, atol=1e-5)


def test_subclasses_that_do_more_are_left() -> None:
    """A convolution that changes its weight, and a norm that also activates."""

    class Standardised(nn.Conv2d):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return nn.functional.conv2d(x, self.weight - self.weight.mean(), self.bias)

    class NormAct(nn.BatchNorm2d):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward(x).relu()

    model = nn.Sequential(Standardised(3, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, 4, 3), NormAct(4))
    assert foldable(model, (3, 8, 8)) == []


@needs_bf16
@pytest.mark.parametrize(
    "name", ["resnet18", "vit_tiny_patch16_224", "swin_tiny_patch4_window7_224", "googlenet"]
)
def test_large_networks_answer_in_bf16(name: str) -> None:
    model = unsettled(create_model(name, num_classes=10, img_size=224))
    quick = fast_copy(model, (3, 224, 224))
    assert quick.dtype == torch.bfloat16 and next(model.parameters()).dtype == torch.float32
    x = torch.randn(2, 3, 224, 224)
    with torch.inference_mode():
        logits, expected = quick.logits(x), model(x)
        features = quick.features(x)
        assert (logits - expected).norm() < 0.03 * expected.norm()
    assert logits.dtype == features.dtype == torch.float32
    assert features.shape == (2, model.head_hidden_size)


@needs_bf16
def test_where_places_are_computed_they_stay_in_float32() -> None:
    model = create_model("dpt_tiny", num_classes=4, img_size=64, depths=(1, 1, 1, 1)).eval()
    quick = fast_copy(model, (3, 64, 64))
    assert quick.autocast and quick.dtype == torch.float32


def test_what_gains_nothing_or_is_too_small_answers_itself() -> None:
    small = create_model("lenet5").eval()
    assert fast_copy(small, (1, 32, 32)).network is small
    exact = create_model("resnet18", num_classes=3).eval()
    assert fast_copy(exact, (3, 64, 64), "fp32").network is exact
    # last maps of a single pixel: folded, but in float32
    quick = fast_copy(exact, (3, 32, 32))
    assert quick.dtype == torch.float32 and norms(quick.network) == 0
    with pytest.raises(SightlineError, match="precision is auto or fp32, not int8"):
        fast_copy(exact, (3, 64, 64), "int8")


def test_a_copy_that_does_not_agree_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    model = unsettled(create_model("resnet18", num_classes=3))

    def wrong(network: nn.Module, size: object) -> nn.Module:
        folded = fold(network, (3, 64, 64))
        nn.init.zeros_(folded.fc.weight)
        return folded

    monkeypatch.setattr(fast, "fold", wrong)
    assert fast_copy(model, (3, 64, 64)).network is model


def test_it_can_be_made_while_gradients_are_off_for_good() -> None:
    model = unsettled(create_model("resnet20"))
    with torch.inference_mode():
        quick = fast_copy(model, (3, 32, 32))
        assert norms(quick.network) == 0
        assert quick.logits(torch.randn(1, 3, 32, 32)).isfinite().all()


def test_answers_are_repeatable(trained) -> None:
    """Bit for bit, and in a second copy: what is served is what was tested."""
    pictures = [np.random.default_rng(k).integers(0, 256, (24, 24, 3), dtype=np.uint8) for k in range(8)]
    first = trained.classifier.predict_proba(pictures)
    assert np.array_equal(first, trained.classifier.predict_proba(pictures))
    assert np.array_equal(first, Classifier(Bundle.load(trained.path)).predict_proba(pictures))


def test_decisions_of_a_trained_network_are_equal(shapes, trained) -> None:
    from sightline.data import open_dataset

    dataset = open_dataset(shapes)
    exact = Classifier(Bundle.load(trained.path), precision="fp32")
    _, fp32, _ = exact.probabilities_of(dataset)
    _, quick, _ = trained.classifier.probabilities_of(dataset)
    assert isinstance(trained.classifier.answering, FastNetwork)
    assert (fp32.argmax(1) == quick.argmax(1)).mean() >= 0.98
    assert np.abs(fp32 - quick).max() < 0.05
