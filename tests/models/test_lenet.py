"""LeNet-5 against the tables of the 1998 paper."""

import pytest
import torch
from torch import nn

from sightline.errors import SightlineError
from sightline.models import create_model, model_info
from sightline.models.lenet import C3_TABLE, connections, digit_bitmaps, map_loss

torch.set_num_threads(1)


def test_connections_are_the_papers() -> None:
    counts = connections(create_model("lenet5_1998"))
    assert counts == {
        "c1": 122_304,
        "s2": 5_880,
        "c3": 151_600,
        "s4": 2_000,
        "c5": 48_120,
        "f6": 10_164,
        "out": 840,
    }
    assert sum(counts.values()) == 340_908


def test_parameters_are_the_papers() -> None:
    model = create_model("lenet5_1998")
    layers = {"c1": 156, "s2": 12, "c3": 1_516, "s4": 32, "c5": 48_120, "f6": 10_164, "out": 0}
    for name, expected in layers.items():
        assert sum(p.numel() for p in model.get_submodule(name).parameters()) == expected, name
    assert sum(p.numel() for p in model.parameters() if p.requires_grad) == 60_000


def test_table_of_c3() -> None:
    assert [len(row) for row in C3_TABLE] == [3] * 6 + [4] * 9 + [6]
    assert len(set(C3_TABLE)) == 16
    # Each map of S2 is seen by ten maps of C3 (a row of crosses in the paper's Table I).
    assert [sum(source in row for row in C3_TABLE) for source in range(6)] == [10] * 6


def test_c3_sees_what_its_table_lists() -> None:
    layer = create_model("lenet5_1998").c3
    x = torch.randn(2, 6, 14, 14)
    out = layer(x)
    start = 0
    for target, row in enumerate(C3_TABLE):
        kernels = layer.weight[start : start + len(row)][None]
        start += len(row)
        expected = nn.functional.conv2d(x[:, list(row)], kernels, layer.bias[target : target + 1])
        assert torch.allclose(out[:, target], expected[:, 0], atol=1e-5)


def test_subsampling_adds_up() -> None:
    layer = create_model("lenet5_1998").s2
    with torch.no_grad():
        layer.coefficient.copy_(torch.arange(6.0))
        layer.bias.fill_(0.5)
    x = torch.arange(6 * 2 * 2.0).reshape(1, 6, 2, 2)
    sums = x.sum(dim=(2, 3))[0]
    assert torch.equal(layer(x)[0, :, 0, 0], sums * torch.arange(6.0) + 0.5)


def test_squash_passes_one_through_one() -> None:
    squash = create_model("lenet5_1998").squash1
    ends = squash(torch.tensor([-1.0, 0.0, 1.0]))
    assert torch.allclose(ends, torch.tensor([-1.0, 0.0, 1.0]), atol=1e-4)
    assert float(squash(torch.tensor(100.0))) == pytest.approx(1.7159)


def test_bitmaps_are_ten_different_pictures() -> None:
    bitmaps = digit_bitmaps()
    assert bitmaps.shape == (10, 84) and set(bitmaps.unique().tolist()) == {-1.0, 1.0}
    distances = torch.cdist(bitmaps, bitmaps) ** 2 / 4  # pixels that differ
    assert distances[~torch.eye(10, dtype=torch.bool)].min() >= 4


def test_the_nearest_bitmap_wins() -> None:
    out = create_model("lenet5_1998").out
    logits = out(digit_bitmaps())
    assert torch.equal(logits.argmax(dim=1), torch.arange(10))
    assert torch.equal(logits.diagonal(), torch.zeros(10)) and logits.max() == 0
    shifted = digit_bitmaps()[:1] + 0.5
    assert float(out(shifted)[0, 0]) == pytest.approx(-84 * 0.25)


def test_ten_classes_only() -> None:
    model = create_model("lenet5_1998")
    model.reset_classifier(10)
    for classes in (0, 2, 12):
        with pytest.raises(SightlineError, match="fixed pictures of the ten digits"):
            model.reset_classifier(classes)


def test_input_convention() -> None:
    """Paper at -0.1 and ink at 1.175, for pictures in which paper is 0 and ink is 1."""
    info = model_info("lenet5_1998")
    assert (0 - info.mean[0]) / info.std[0] == pytest.approx(-0.1)
    assert (1 - info.mean[0]) / info.std[0] == pytest.approx(1.175)


def test_map_loss_is_the_papers_sum() -> None:
    logits = torch.tensor([[-3.0, -1.0, -2.0], [-0.5, -4.0, -6.0]])
    targets = torch.tensor([1, 2])
    y = -logits
    expected = [
        y[i, t] + torch.log(torch.exp(torch.tensor(-2.0)) + (-y[i]).exp().sum())
        for i, t in enumerate(targets)
    ]
    assert float(map_loss(logits, targets, j=2.0)) == pytest.approx(float(sum(expected)) / 2)


@pytest.mark.parametrize(
    ("size", "params"), [(28, 61_706), (31, 61_706), (32, 61_706), (35, 61_706), (36, 61_706 + 84 * 360)]
)
def test_todays_lenet_takes_other_sizes(size: int, params: int) -> None:
    model = create_model("lenet5", img_size=size, in_chans=1)
    assert sum(p.numel() for p in model.parameters()) == params
    assert model(torch.rand(2, 1, size, size)).shape == (2, 10)


def test_todays_lenet_takes_oblong_pictures() -> None:
    model = create_model("lenet5", img_size=(32, 48), num_classes=3)
    assert model(torch.rand(2, 1, 32, 48)).shape == (2, 3)
