"""ResNet-9 against Page's network written out, and his number of parameters."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from sightline.errors import SightlineError
from sightline.models import create_model
from tests.models.parity import randomise

torch.set_num_threads(1)


def written_out(weights: dict[str, Tensor], x: Tensor) -> Tensor:
    """The network in evaluation, from the names of its weights alone."""

    def convolved(x: Tensor, name: str, pool: bool = False) -> Tensor:
        x = F.conv2d(x, weights[f"{name}.conv.weight"], padding=1)
        x = F.max_pool2d(x, 2) if pool else x
        norm = [weights[f"{name}.bn.{part}"] for part in ("running_mean", "running_var", "weight", "bias")]
        return F.batch_norm(x, *norm).clamp(min=0)

    def residual(x: Tensor, name: str) -> Tensor:
        return x + convolved(convolved(x, f"{name}.conv1"), f"{name}.conv2")

    x = convolved(x, "stem")
    x = residual(convolved(x, "layer1.0", pool=True), "layer1.1")
    x = convolved(x, "layer2.0", pool=True)
    x = residual(convolved(x, "layer3.0", pool=True), "layer3.1")
    return F.linear(x.amax((2, 3)) / 8, weights["fc.weight"], weights["fc.bias"])


def test_computes_what_pages_network_does() -> None:
    model = create_model("resnet9_small", num_classes=7).eval()
    randomise(model)
    x = torch.randn(3, 3, 32, 40, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        torch.testing.assert_close(model(x), written_out(model.state_dict(), x), rtol=1e-5, atol=1e-5)


def test_has_pages_parameters_at_his_widths() -> None:
    with torch.device("meta"):
        model = create_model("resnet9_small", widths=(64, 128, 256, 512))
    # 6,573,120 in cifar10-fast, whose last layer has no bias.
    assert sum(p.numel() for p in model.parameters()) == 6_573_120 + 10


@pytest.mark.parametrize(
    "wrong", [{"widths": (8, 8)}, {"widths": (8, 8, 0, 8)}, {"drop_rate": 1.0}, {"img_size": 7}]
)
def test_says_what_makes_no_network(wrong: dict[str, object]) -> None:
    with pytest.raises(SightlineError):
        create_model("resnet9_small", **wrong)
