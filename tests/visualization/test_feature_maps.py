"""Feature maps: the numbers that the layers put out, and a model that is left as it was found."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sightline.errors import SightlineError, UnknownName
from sightline.visualization.feature_maps import FeatureMap, feature_maps
from sightline.visualization.figures import draw_feature_map, strongest, viridis


class Net(nn.Module):
    """A convolution with an activation in place, a pooling that is run twice, batch norm and dropout."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(1, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.act = nn.ReLU(inplace=True)
        self.pool = nn.MaxPool2d(2)
        self.drop = nn.Dropout(0.5)
        self.head = nn.Linear(4 * 2 * 2, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.act(self.norm(self.conv(x)))
        return self.head(self.drop(self.pool(self.pool(x)).flatten(1)))


def test_the_maps_are_what_the_layers_put_out() -> None:
    model, x = Net(), torch.randn(1, 1, 8, 8)
    maps = feature_maps(model, x)
    assert [(one.layer, one.kind) for one in maps.maps] == [
        ("conv", "conv"),
        ("pool", "pool"),
        ("pool (2)", "pool"),
    ]
    model.eval()
    with torch.no_grad():
        conv = model.conv(x)
        first = F.max_pool2d(F.relu(model.norm(conv)), 2)
    assert np.allclose(maps["conv"].values, conv[0].numpy())
    assert np.allclose(maps["pool"].values, first[0].numpy())
    assert maps["pool (2)"].values.shape == (4, 2, 2)
    assert np.array_equal(maps.input, x[0].numpy())


@pytest.mark.parametrize("training", [True, False])
def test_the_model_is_left_as_it_was_found(training: bool) -> None:
    model = Net().train(training)
    model.norm.eval()  # frozen: a mode of its own
    model(torch.randn(2, 1, 8, 8)).sum().backward()
    state = {name: value.clone() for name, value in model.state_dict().items()}
    gradients = [p.grad.clone() for p in model.parameters() if p.grad is not None]
    feature_maps(model, torch.randn(1, 1, 8, 8))
    assert (model.training, model.drop.training, model.norm.training) == (training, training, False)
    assert not any(module._forward_hooks for module in model.modules())
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    assert all(
        p.grad is not None and torch.equal(p.grad, g)
        for p, g in zip(model.parameters(), gradients, strict=True)
    )
    assert all(p.requires_grad for p in model.parameters())


def test_the_model_is_left_as_it_was_found_when_it_fails() -> None:
    model = Net().train()
    with pytest.raises(RuntimeError):
        feature_maps(model, torch.randn(1, 3, 8, 8))
    assert model.training
    assert not any(module._forward_hooks for module in model.modules())


def test_layers_are_taken_by_name() -> None:
    maps = feature_maps(Net(), torch.randn(1, 1, 8, 8), layers=["act"])
    assert [one.layer for one in maps.maps] == ["act"]
    assert maps["act"].values.min() >= 0
    with pytest.raises(UnknownName, match="norm"):
        feature_maps(Net(), torch.randn(1, 1, 8, 8), layers=["nrm"])
    with pytest.raises(UnknownName):
        _ = maps["conv"]


class Subsampling(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return F.avg_pool2d(x, 2)


def test_a_layer_of_another_kind_counts_when_it_changes_the_planes() -> None:
    model = nn.Sequential(Subsampling(), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    maps = feature_maps(model, torch.randn(1, 2, 8, 8))
    assert [(one.layer, one.kind) for one in maps.maps] == [("0", "other")]  # a single pixel shows nothing


@pytest.mark.parametrize("shape", [(2, 1, 8, 8), (1, 8, 8), (0, 1, 8, 8)])
def test_only_one_picture_is_taken(shape: tuple[int, ...]) -> None:
    with pytest.raises(SightlineError, match="one picture"):
        feature_maps(Net(), torch.zeros(shape))


def test_a_network_without_planes_says_so() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
    with pytest.raises(SightlineError, match="no feature maps"):
        feature_maps(model, torch.zeros(1, 1, 2, 2))


def test_the_precision_of_the_model_is_kept() -> None:
    model = nn.Sequential(nn.Conv2d(1, 2, 3)).to(torch.bfloat16)
    assert feature_maps(model, torch.zeros(1, 1, 5, 5)).maps[0].values.dtype == np.float32


def test_the_planes_that_vary_most_are_drawn_in_their_own_order() -> None:
    values = np.zeros((4, 2, 2), np.float32)
    values[1, 0, 0], values[3, 0, 0], values[2, 0, 0] = 5.0, 9.0, 1.0
    assert strongest(values, 2).tolist() == [1, 3]
    image = draw_feature_map(FeatureMap("conv", "conv", values), planes=2, tile=2)
    assert image.size == (2 + 2 + 2, 2)
    assert image.getpixel((0, 1)) == (68, 1, 84, 255)  # the lowest colour of viridis
    assert image.getpixel((4, 0)) == (253, 231, 37, 255)  # and the highest


def test_viridis_grows_lighter_throughout() -> None:
    colours = viridis(np.linspace(0, 1, 200)).astype(float)
    lightness = colours @ [0.2126, 0.7152, 0.0722]
    assert (np.diff(lightness) > -0.6).all()  # rounding to 8 bits
    assert np.array_equal(viridis(np.array([0.0, 1.0])), [[68, 1, 84], [253, 231, 37]])


def test_a_flat_map_is_drawn() -> None:
    image = draw_feature_map(FeatureMap("conv", "conv", np.full((3, 4, 4), 7.0, np.float32)))
    assert image.getpixel((0, 0)) == (68, 1, 84, 255)
