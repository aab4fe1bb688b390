"""The features of every stage, of our networks, torchvision's and timm's."""

import math

import pytest
import torch
from torch import Tensor, nn

from sightline.errors import SightlineError
from sightline.models import create_model, list_models, model_info, stage_features
from tests.models.reduced import reduced, side

torch.set_num_threads(1)


def hooks(model: nn.Module) -> int:
    return sum(len(module._forward_hooks) for module in model.modules())


@pytest.mark.parametrize("name", list_models())
def test_maps_are_what_feature_info_says(name: str) -> None:
    with torch.device("meta"):
        model = reduced(name, in_chans=3).eval()
        features = stage_features(model, torch.empty(2, 3, side(name), side(name)))
    for features_of_one, stage in zip(features, model.feature_info, strict=True):
        count, chans, height, width = features_of_one.shape
        assert (count, chans) == (2, stage["num_chs"]) and height == width
        # Without padding a convolution loses its border: two cells of four pixels in the LeNets.
        lost = 7 if model_info(name).family == "lenet" else 1
        assert 0 <= math.ceil(side(name) / stage["reduction"]) - height <= lost
    assert hooks(model) == 0


@pytest.mark.parametrize(
    "name", ["resnet18", "tf_efficientnet_b0", "vit_tiny_patch16_224", "swin_tiny_patch4_window7_224"]
)
def test_maps_are_timms(name: str) -> None:
    """Of the same weights, by timm's own way to its features."""
    theirs = create_model(f"timm/{name}", img_size=64).eval()
    ours = create_model(name, img_size=64).eval()
    ours.load_state_dict(theirs.state_dict(), strict=True)
    x = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        mine, timms = stage_features(ours, x), stage_features(theirs, x)
    assert len(mine) == len(timms)
    for a, b in zip(mine, timms, strict=True):
        assert a.shape == b.shape and (a - b).norm() < 1e-5 * b.norm()


def test_square_maps_as_wide_as_channels() -> None:
    """Swin-T at 384 pixels has 96 x 96 x 96, where no size tells which dimension is which."""
    model = create_model("torchvision/swin_t", img_size=384).eval()
    found: list[Tensor] = []
    model.features[1].register_forward_hook(lambda _m, _i, out: found.append(out))
    with torch.no_grad():
        first = stage_features(model, torch.randn(1, 3, 384, 384))[0]
    assert first.shape == (1, 96, 96, 96) and torch.equal(first, found[0].permute(0, 3, 1, 2))


def test_tokens_stand_in_their_places() -> None:
    """A brighter corner of the picture shows in the same corner of the first map."""
    torch.manual_seed(0)
    model = create_model("vit_tiny_patch16_224", depth=1, img_size=64).eval()
    black = torch.zeros(1, 3, 64, 64)
    corner = black.clone()
    corner[:, :, :16, 48:] = 10.0
    changed = (stage_features(model, corner)[0] - stage_features(model, black)[0]).norm(dim=1)[0]
    assert divmod(int(changed.argmax()), 4) == (0, 3)


def test_networks_that_work_in_place_do_not_spoil_them() -> None:
    class InPlace(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.feature_info = [{"num_chs": 2, "reduction": 1, "module": "conv"}]
            self.conv = nn.Conv2d(1, 2, 1)

        def forward_features(self, x: Tensor) -> Tensor:
            return self.conv(x).relu_()

    model, x = InPlace(), torch.randn(1, 1, 4, 4)
    assert torch.equal(stage_features(model, x)[0], model.conv(x))


def test_gradients_reach_the_picture() -> None:
    model = create_model("resnet18", layers=(1, 1), widths=(8, 16)).eval()
    x = torch.randn(1, 3, 32, 32, requires_grad=True)
    stage_features(model, x)[-1].sum().backward()
    assert x.grad is not None and x.grad.abs().sum() > 0
    assert not model.training


def test_mistakes() -> None:
    model = create_model("resnet18", layers=(1,), widths=(8,))
    with pytest.raises(SightlineError, match="names no stages"):
        stage_features(nn.Linear(2, 2), torch.empty(1, 3, 32, 32))
    model.feature_info[0]["module"] = "nowhere"
    with pytest.raises(SightlineError, match="names stages that do not run: nowhere"):
        stage_features(model, torch.empty(1, 3, 32, 32))
    assert hooks(model) == 0
    with pytest.raises(RuntimeError):
        stage_features(create_model("resnet18"), torch.empty(1, 1, 32, 32))
