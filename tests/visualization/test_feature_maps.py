"""Feature maps: the numbers that the layers put out, and a model that is left as it was found."""

from __future__ import annotations

import gc

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sightline.errors import SightlineError, UnknownName
from sightline.models import create_model, stage_features
from sightline.visualization.feature_maps import FeatureMap, feature_maps
from sightline.visualization.figures import draw_feature_map, draw_strip, spread, strongest, viridis
from tests.models.reduced import ARGUMENTS, EACH_KIND, reduced, side


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
    maps = feature_maps(Net(), torch.randn(1, 1, 8, 8), layer=["act"])
    assert [one.layer for one in maps.maps] == ["act"]
    assert maps["act"].values.min() >= 0
    with pytest.raises(UnknownName, match="norm"):
        feature_maps(Net(), torch.randn(1, 1, 8, 8), layer=["nrm"])
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


def test_one_layer_is_a_record_of_its_own() -> None:
    model, x = Net(), torch.randn(1, 1, 8, 8)
    everything = feature_maps(model, x)
    assert list(everything.values) == ["conv", "pool", "pool (2)"]
    for name, values in everything.values.items():
        one = feature_maps(model, x, layer=name)
        assert one.layer == name and np.array_equal(one.values, values)
    with pytest.raises(SightlineError, match=r"pool \(3\)|does not run"):
        feature_maps(model, x, layer="pool (3)")
    with pytest.raises(SightlineError, match=r"head puts out \(1, 3\)"):
        feature_maps(model, x, layer="head")


def a_picture(model: nn.Module, size: tuple[int, int]) -> Tensor:
    torch.manual_seed(1)
    return torch.randn(1, model.in_chans, *size)


@pytest.mark.parametrize(
    "name",
    [n if n in EACH_KIND else pytest.param(n, marks=pytest.mark.full) for n in ARGUMENTS],
)
def test_every_family_of_the_lineage_shows_its_stages(name: str) -> None:
    """Every stage's map, cell for cell as `stage_features` has it, is found by the stage's name."""
    model = reduced(name).eval()
    x = a_picture(model, (side(name), side(name)))
    with torch.no_grad():
        stages = stage_features(model, x)
    assert feature_maps(model, x).maps
    for info, expected in zip(model.feature_info, stages, strict=True):
        if expected.shape[2:].numel() > 1:
            found = feature_maps(model, x, layer=info["module"])
            assert np.allclose(found.values, expected[0].numpy(), atol=1e-6), info


@pytest.mark.parametrize(
    ("name", "arguments", "prefix"),
    [
        ("timm/vit_tiny_patch16_224", {"depth": 2}, 1),
        ("timm/vit_small_patch14_reg4_dinov2", {"depth": 2}, 5),
        ("timm/deit_tiny_distilled_patch16_224", {}, 2),
        ("timm/swin_tiny_patch4_window7_224", {}, 0),
        ("timm/pvt_v2_b0", {}, 0),
        ("timm/convnext_atto", {}, 0),
        ("timm/efficientnet_b0", {}, 0),
    ],
)
def test_timms_networks_show_theirs(name: str, arguments: dict[str, int], prefix: int) -> None:
    """timm's own `forward_intermediates` is the oracle, on pictures that are not square; class tokens come apart."""
    size = (112, 168) if "patch14" in name else (64, 96)
    fixed = {"img_size": size} if "patch" in name else {}
    model = create_model(name, **fixed, **arguments).eval()
    x = a_picture(model, size)
    with torch.no_grad():
        stages = model.forward_intermediates(x, intermediates_only=True)
    for info, expected in zip(model.feature_info, stages, strict=True):
        found = feature_maps(model, x, layer=info["module"])
        assert np.allclose(found.values, expected[0].numpy(), atol=1e-5), info
        assert (0 if found.prefix is None else len(found.prefix)) == prefix
    found = feature_maps(model, x)
    if "vit" in name or "deit" in name:
        assert [one.layer for one in found.maps] == [
            "patch_embed.proj",
            *(f"blocks.{i}" for i in range(len(model.blocks))),
        ]
        with torch.no_grad():
            tokens = model.blocks[0](model.norm_pre(model._pos_embed(model.patch_embed(x))))
        assert np.allclose(found["blocks.0"].prefix, tokens[0, :prefix].numpy(), atol=1e-5)


def test_a_swins_windows_are_not_taken_for_pictures() -> None:
    model = reduced("swin_tiny_patch4_window7_224")
    blocks = [
        one.layer for one in feature_maps(model, a_picture(model, (64, 64))).maps if one.kind == "block"
    ]
    assert blocks == [f"layers.{i}.blocks.{j}" for i, depth in enumerate((2, 1, 2, 1)) for j in range(depth)]
    with pytest.raises(SightlineError, match="neither planes nor tokens"):
        feature_maps(model, a_picture(model, (64, 64)), layer="layers.0.blocks.0.attn")


def test_a_thousand_calls_leave_nothing() -> None:
    model, x = Net().train(), torch.randn(1, 1, 8, 8)
    feature_maps(model, x)
    gc.collect()
    count = sum(issubclass(type(o), Tensor) for o in gc.get_objects())
    for _ in range(1000):
        feature_maps(model, x)
    gc.collect()
    assert sum(issubclass(type(o), Tensor) for o in gc.get_objects()) <= count
    assert model.training and not any(module._forward_hooks for module in model.modules())


def test_an_interrupted_view_leaves_the_model_as_it_was() -> None:
    class Interrupted(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            raise KeyboardInterrupt

    model = nn.Sequential(nn.Conv2d(1, 2, 3), Interrupted()).train()
    with pytest.raises(KeyboardInterrupt):
        feature_maps(model, torch.randn(1, 1, 8, 8))
    assert all(module.training and not module._forward_hooks for module in model.modules())
    assert torch.is_grad_enabled()


def test_a_network_that_begins_in_place_does_not_touch_the_picture() -> None:
    model, x = nn.Sequential(nn.ReLU(inplace=True), nn.Conv2d(1, 2, 3)), torch.full((1, 1, 5, 5), -1.0)
    assert (feature_maps(model, x).input == -1).all()
    assert (x == -1).all()


def test_a_strip_has_a_column_for_the_picture_and_for_each_layer() -> None:
    record = feature_maps(Net(), torch.randn(1, 1, 8, 8))
    image = np.array(draw_strip(record, planes=2, tile=16, layers=2))
    gap = 4
    assert image.shape == (32 + 2 * 16 + gap, 3 * 16 + 2 * gap, 4)
    first = image[32:48, 20:36, :3]  # `conv`, 8x8 pixels enlarged twice, one colour each
    assert (first.reshape(8, 2, 8, 2, 3) == first[::2, None, ::2, None].reshape(8, 1, 8, 1, 3)).all()
    assert (image[48:52, 20:36, 3] == 0).all() and (image[32:48, 16:20, 3] == 0).all()
    assert [one.layer for one in spread(record.maps, 2)] == ["conv", "pool (2)"]


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
