"""A unit's strongest pictures: found in one pass, their patches what the unit sees, their projections within."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from sightline.data.folder import open_folder
from sightline.errors import SightlineError, UnknownName
from sightline.models import create_model
from sightline.transforms.preprocess import Preprocess
from sightline.visualization.deconvnet import deconvolve
from sightline.visualization.figures import as_picture, draw_top
from sightline.visualization.units import projected, top_activations
from tests.models.reduced import reduced


@pytest.fixture(scope="module")
def model() -> nn.Module:
    torch.manual_seed(0)
    return reduced("alexnet").eval()


@pytest.fixture(scope="module")
def pictures() -> Tensor:
    return torch.randn(40, 3, 64, 64, generator=torch.Generator().manual_seed(1))


LAYER = "features.5"  # a pooling, 16 channels of 3x3 units that see 99 pixels


def test_they_are_the_strongest_of_all_pictures(model: nn.Module, pictures: Tensor) -> None:
    with torch.no_grad():
        maps = model.features[:4](pictures)  # 40, 16, 7, 7
    top = top_activations(model, pictures, layer="features.3", k=9, batch_size=7)
    best, order = maps.flatten(2).amax(2).T.sort(descending=True, stable=True)
    assert top.values.shape == (16, 9) and top.channels.tolist() == list(range(16))
    assert np.allclose(top.values, best[:, :9].numpy(), rtol=1e-5)
    assert np.array_equal(top.pictures, order[:, :9].numpy())
    cells = maps.flatten(2).argmax(2)  # 40, 16
    for unit in range(16):
        for rank in range(9):
            cell = int(cells[order[unit, rank], unit])
            assert top.positions[unit, rank].tolist() == [cell // 7, cell % 7]
    assert set(top.images) == set(np.unique(top.pictures).tolist())
    assert all(np.array_equal(image, pictures[i].numpy()) for i, image in top.images.items())


def test_every_kind_of_data_set_gives_the_same(model: nn.Module, pictures: Tensor) -> None:
    expected = top_activations(model, pictures, layer=LAYER, k=3)
    targets = torch.zeros(40)
    for dataset in (
        TensorDataset(pictures, targets),
        DataLoader(TensorDataset(pictures, targets), batch_size=11),
        list(pictures),
        [{"image": picture} for picture in pictures],
    ):
        found = top_activations(model, dataset, layer=LAYER, k=3, batch_size=16)
        assert np.array_equal(found.pictures, expected.pictures)
        assert np.allclose(found.values, expected.values, rtol=1e-5)


def test_the_data_set_is_gone_through_once_and_not_held(model: nn.Module, pictures: Tensor) -> None:
    given: list[int] = []

    def stream() -> Iterator[Tensor]:
        for i, picture in enumerate(pictures):
            given.append(i)
            yield picture

    top = top_activations(model, stream(), layer=LAYER, k=2, channel=[4], batch_size=8)
    assert given == list(range(40))
    assert sorted(top.images) == sorted(set(top.pictures[0].tolist())) and len(top.images) == 2


def test_an_image_dataset_goes_through_its_preprocess(shapes) -> None:
    preprocess = Preprocess((32, 32), mean=(0.5,) * 3, std=(0.25,) * 3)
    torch.manual_seed(0)
    network = create_model("resnet10_small", num_classes=3)
    dataset = open_folder(shapes)
    top = top_activations(network, dataset, layer="layer1", k=4, channel=0, preprocess=preprocess)
    index = int(top.pictures[0, 0])
    expected = preprocess.normalize(preprocess(dataset.read(index)))
    assert np.allclose(top.images[index], expected.numpy(), atol=1e-6)
    shown = as_picture(top.images[index], preprocess).astype(int)
    assert np.abs(shown - preprocess(dataset.read(index)).numpy().transpose(1, 2, 0)).max() <= 1
    with pytest.raises(SightlineError, match="give the network's preprocess"):
        top_activations(network, dataset, layer="layer1")


def test_patches_are_what_the_unit_sees(model: nn.Module, pictures: Tensor) -> None:
    """Whatever stands outside its box, the unit's activation is the same; a change inside is felt."""
    top = top_activations(model, pictures, layer="features.2", k=2, channel=[1, 5])
    assert top.field is not None and top.field.size == (19, 19)
    for unit, channel in enumerate((1, 5)):
        for rank, patch in enumerate(top.patches(channel)):
            up, left, bottom, right = top.boxes[unit, rank]
            row, column = top.positions[unit, rank]
            image = torch.from_numpy(top.images[int(top.pictures[unit, rank])])
            assert np.array_equal(patch, image[:, up:bottom, left:right].numpy())
            inside = torch.zeros(64, 64, dtype=torch.bool)
            inside[up:bottom, left:right] = True
            with torch.no_grad():
                elsewhere = torch.where(inside, image, torch.randn(3, 64, 64))
                within = torch.where(inside, torch.randn(3, 64, 64), image)
                units = [model.features[:3](x[None])[0, channel, row, column] for x in (elsewhere, within)]
            assert float(units[0]) == pytest.approx(float(top.values[unit, rank]), rel=1e-4)
            assert float(units[1]) != pytest.approx(float(top.values[unit, rank]), rel=1e-3)


@pytest.mark.parametrize("layer", ["features.2", LAYER])
def test_projections_are_those_of_single_pictures(model: nn.Module, pictures: Tensor, layer: str) -> None:
    top = top_activations(model, pictures, layer=layer, k=3, channel=[2, 7], batch_size=4)
    assert len(top.projections) == 2
    for unit, channel in enumerate((2, 7)):
        for rank in range(3):
            x = pictures[int(top.pictures[unit, rank])][None]
            position = tuple(top.positions[unit, rank].tolist())
            alone = deconvolve(model, x, layer=layer, channel=channel, position=position)
            up, left, bottom, right = top.boxes[unit, rank]
            whole = np.zeros_like(alone.values)
            whole[:, up:bottom, left:right] = top.projections[unit][rank]
            assert np.allclose(
                whole, alone.values, atol=1e-5 * alone.scale
            )  # and nothing lies outside the box
            assert alone.activation == pytest.approx(float(top.values[unit, rank]), rel=1e-4)


def test_projections_can_be_asked_for_later(model: nn.Module, pictures: Tensor) -> None:
    everything = top_activations(model, pictures, layer=LAYER, k=3)
    assert everything.projections == ()
    later = projected(model, everything, 7)
    now = top_activations(model, pictures, layer=LAYER, k=3, channel=7)
    assert later.channels.tolist() == [7] and np.array_equal(later.pictures, now.pictures)
    assert all(np.array_equal(a, b) for a, b in zip(later.projections[0], now.projections[0], strict=True))


def test_fewer_pictures_than_asked_for_and_units_without_a_place(model: nn.Module, pictures: Tensor) -> None:
    top = top_activations(model, pictures[:2], layer="classifier.6", k=9, channel=0)
    assert top.values.shape == (1, 2) and top.field is None
    assert top.boxes.tolist() == [[[0, 0, 64, 64]] * 2]
    assert top.projections[0][0].shape == (3, 64, 64)


def test_tokens_have_top_pictures_but_no_projection(pictures: Tensor) -> None:
    network = reduced("vit_tiny_patch16_224").eval()
    top = top_activations(network, pictures, layer="blocks.0", k=2)
    assert top.values.shape == (24, 2) and top.positions.max() <= 3
    with pytest.raises(SightlineError, match="for maps"):
        projected(network, top, 0)


def test_what_is_not_there_is_said(model: nn.Module, pictures: Tensor) -> None:
    with pytest.raises(UnknownName, match=r"features\.2"):
        top_activations(model, pictures, layer="features.22")
    with pytest.raises(SightlineError, match="channels 0 to 15, not 16"):
        top_activations(model, pictures, layer=LAYER, channel=16)
    with pytest.raises(SightlineError, match="no pictures"):
        top_activations(model, pictures[:0], layer=LAYER)
    with pytest.raises(SightlineError, match="k is at least 1"):
        top_activations(model, pictures, layer=LAYER, k=0)
    with pytest.raises(SightlineError, match="normalised float pictures"):
        top_activations(model, [torch.zeros(3, 64, 64, dtype=torch.uint8)], layer=LAYER)
    with pytest.raises(SightlineError, match="Channel 3 is not among"):
        top_activations(model, pictures, layer=LAYER, channel=2).patches(3)


def test_a_thousand_calls_leave_nothing(model: nn.Module) -> None:
    tiny = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Conv2d(2, 2, 1)).train()
    x = torch.randn(2, 1, 6, 6)
    top_activations(tiny, x, layer="2", k=1)
    gc.collect()
    count = sum(issubclass(type(o), Tensor) for o in gc.get_objects())
    for _ in range(1000):
        top_activations(tiny, x, layer="2", k=1)
    gc.collect()
    assert sum(issubclass(type(o), Tensor) for o in gc.get_objects()) <= count
    assert all(module.training and not module._forward_hooks for module in tiny.modules())
    assert all(p.grad is None for p in tiny.parameters())


def test_patches_are_drawn_beside_their_projections(model: nn.Module, pictures: Tensor) -> None:
    top = top_activations(model, pictures, layer="features.2", k=9, channel=1)
    image = draw_top(top, 1, tile=20)
    gap = 2
    side = 3 * (20 + gap)
    assert image.size == (2 * side + 2 * gap - gap, side - gap)
    assert top.field is not None
    for rank in range(9):
        (up, left, bottom, right), (row, column) = top.boxes[0, rank], top.positions[0, rank]
        # Fields of 19 pixels fill a tile but for one row and column; what lies outside the picture is clear.
        y, x = rank // 3 * (20 + gap), rank % 3 * (20 + gap)
        y, x = y + up - (row * 8 + top.field.start[0]), x + left - (column * 8 + top.field.start[1])
        tile = np.array(image)[y : y + bottom - up, x : x + right - left]
        assert np.array_equal(tile[..., :3], as_picture(top.patches(1)[rank]))
        assert (tile[..., 3] == 255).all()
