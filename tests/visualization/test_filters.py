"""Filters as data and as tiles: the very weights, drawn pixel for pixel."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from sightline.errors import SightlineError, UnknownName
from sightline.models import create_model
from sightline.visualization.figures import draw_filters, mosaic, save_png
from sightline.visualization.filters import Filters, filters


def net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 8, 5), nn.ReLU(), nn.Sequential(nn.Conv2d(8, 4, 3, groups=2)))


def test_the_first_convolution_is_taken_and_any_other_by_name() -> None:
    model = net()
    first = filters(model)
    assert first.layer == "0"
    assert first.values.shape == (8, 3, 5, 5)
    assert np.array_equal(first.values, model[0].weight.detach().numpy())
    assert first.scale == pytest.approx(model[0].weight.abs().max().item())
    assert filters(model, "2.0").values.shape == (4, 4, 3, 3)  # grouped: input planes of one group


def test_the_record_does_not_follow_the_model() -> None:
    model = net()
    before = filters(model)
    kept = before.values.copy()
    with torch.no_grad():
        model[0].weight.zero_()
    assert np.array_equal(before.values, kept)


def test_bfloat16_weights_are_shown() -> None:
    assert filters(net().to(torch.bfloat16)).values.dtype == np.float32


def test_a_network_without_convolutions_says_so() -> None:
    with pytest.raises(SightlineError, match="Linear has no convolution"):
        filters(nn.Linear(3, 3))


def test_an_unknown_layer_is_told_the_near_ones() -> None:
    with pytest.raises(UnknownName, match=r"2\.0"):
        filters(net(), "2.1")


def test_grey_is_zero_white_the_largest_and_gaps_are_clear() -> None:
    values = np.array([[[[1.0, 0.0]]], [[[-1.0, 0.5]]]], np.float32)  # two filters of one row and two columns
    image = draw_filters(Filters("conv", values, 1.0), columns=1, tile=4)
    assert image.mode == "LA"
    pixels = np.array(image)
    assert pixels.shape == (2 + 2 + 2, 4, 2)  # zoomed twice, a gap of two between
    assert pixels[0, :, 0].tolist() == [255, 255, 128, 128]
    assert pixels[4, :, 0].tolist() == [0, 0, 191, 191]
    assert (pixels[2:4, :, 1] == 0).all()
    assert (pixels[[0, 1, 4, 5], :, 1] == 255).all()


def test_filters_on_colour_are_drawn_in_colour() -> None:
    values = np.zeros((2, 3, 1, 1), np.float32)
    values[0, 0] = 1.0
    image = draw_filters(Filters("conv", values, 1.0), columns=2, tile=1)
    assert image.getpixel((0, 0)) == (255, 128, 128, 255)


def test_filters_on_many_planes_are_a_row_each_and_limited() -> None:
    values = np.random.default_rng(0).normal(size=(64, 32, 3, 3)).astype(np.float32)
    image = draw_filters(Filters("conv", values, 3.0), tile=3, limit=64)
    assert image.size == (8 * 3 + 7 * 2, 8 * 3 + 7 * 2)


def test_filters_of_zeros_are_grey() -> None:
    image = draw_filters(Filters("conv", np.zeros((1, 1, 2, 2), np.float32), 0.0))
    assert set(np.array(image)[..., 0].ravel()) == {128}


def test_each_filter_can_have_its_own_scale() -> None:
    values = np.array([[[[4.0, -2.0]]], [[[0.5, 0.25]]], [[[0.0, 0.0]]]], np.float32)
    image = draw_filters(Filters("conv", values, 4.0), each=True, columns=1, tile=1)
    assert np.array(image)[::3, :, 0].tolist() == [[255, 64], [255, 191], [128, 128]]


@pytest.mark.parametrize("name", ["timm/vit_tiny_patch16_224", "vit_tiny_patch16_224"])
def test_principal_components_of_patch_filters_are_scikit_learns(name: str) -> None:
    from sklearn.decomposition import PCA

    torch.manual_seed(0)
    model = create_model(name, depth=1)
    weights = model.patch_embed.proj.weight.detach().numpy().reshape(192, -1)
    oracle = PCA(28, svd_solver="full").fit(weights)
    found = filters(model, components=28)
    assert found.layer == "patch_embed.proj" and found.values.shape == (28, 3, 16, 16)
    agreement = (found.values.reshape(28, -1) * oracle.components_).sum(1)
    assert np.allclose(np.abs(agreement), 1, atol=1e-4)  # up to the sign
    assert np.allclose(found.explained, oracle.explained_variance_ratio_, rtol=1e-4)
    flat = found.values.reshape(28, -1)
    assert (flat[np.arange(28), np.abs(flat).argmax(1)] > 0).all()
    with pytest.raises(SightlineError, match="1 to 191 components, not 192"):
        filters(model, components=192)


def test_a_drawing_is_saved_whole_or_not_at_all(tmp_path: Path) -> None:
    image = draw_filters(filters(net()))
    save_png(image, tmp_path / "filters.png")
    with Image.open(tmp_path / "filters.png") as read:
        assert np.array_equal(np.array(read), np.array(image))
    with pytest.raises(SightlineError, match="could not be written"):
        save_png(image, tmp_path / "absent" / "filters.png")
    assert [path.name for path in tmp_path.iterdir()] == ["filters.png"]


def test_a_mosaic_keeps_the_order_and_leaves_the_rest_clear() -> None:
    tiles = np.arange(3, dtype=np.uint8).reshape(3, 1, 1) * 10
    pixels = np.array(mosaic(tiles, 2, gap=0))
    assert pixels[..., 0].tolist() == [[0, 10], [20, 0]]
    assert pixels[..., 1].tolist() == [[255, 255], [255, 0]]
    with pytest.raises(SightlineError, match="no tiles"):
        mosaic(np.zeros((0, 2, 2), np.uint8), 2)
