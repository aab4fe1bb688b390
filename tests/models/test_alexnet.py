"""AlexNet against torchvision, against the paper's arithmetic and Caffe's graph, and part by part."""

import pytest
import torch
from torch import nn

from sightline.errors import SightlineError
from sightline.models import create_model
from tests.models.parity import same_in_evaluation, same_in_training

torch.set_num_threads(1)


def picture(side: int, channels: int = 3, batch: int = 2) -> torch.Tensor:
    return torch.randn(batch, channels, side, side, generator=torch.Generator().manual_seed(1))


def torchvisions(hidden: int = 4096, dropout: float = 0.5) -> nn.Module:
    """torchvision's network, if asked for with fewer units in its head."""
    from torchvision.models import AlexNet

    if hidden == 4096:
        return AlexNet(dropout=dropout)
    with torch.device("meta"):
        net = AlexNet(dropout=dropout)
    net.features.to_empty(device="cpu")
    for layer in net.features:
        if isinstance(layer, nn.Conv2d):
            layer.reset_parameters()
    net.classifier[1] = nn.Linear(9216, hidden)
    net.classifier[4] = nn.Linear(hidden, hidden)
    net.classifier[6] = nn.Linear(hidden, 1000)
    return net


# ------------------------------------------------------------------------------------------------- of 2014
@pytest.mark.parametrize("side", [63, 64, 100])
def test_equals_torchvision(side: int) -> None:
    same_in_evaluation(create_model("alexnet", hidden=32), torchvisions(32), picture(side))


def test_learns_as_torchvision() -> None:
    ours = create_model("alexnet", hidden=32, drop_rate=0.0)
    same_in_training(ours, torchvisions(32, dropout=0.0), picture(64))


@pytest.mark.full
def test_equals_torchvision_in_full() -> None:
    same_in_evaluation(create_model("alexnet"), torchvisions(), picture(224))
    same_in_training(create_model("alexnet", drop_rate=0.0), torchvisions(dropout=0.0), picture(224))


# ------------------------------------------------------------------------------------------------- of 2012
# Caffe's models/bvlc_alexnet/deploy.prototxt: what each layer puts out for 227 pixels, and its parameters.
CAFFE = {
    "features.conv1": ((96, 55, 55), 96 * 11 * 11 * 3 + 96),
    "features.norm1": ((96, 55, 55), 0),
    "features.pool1": ((96, 27, 27), 0),
    "features.conv2": ((256, 27, 27), 256 * 5 * 5 * 48 + 256),
    "features.norm2": ((256, 27, 27), 0),
    "features.pool2": ((256, 13, 13), 0),
    "features.conv3": ((384, 13, 13), 384 * 3 * 3 * 256 + 384),
    "features.conv4": ((384, 13, 13), 384 * 3 * 3 * 192 + 384),
    "features.conv5": ((256, 13, 13), 256 * 3 * 3 * 192 + 256),
    "features.pool5": ((256, 6, 6), 0),
    "classifier.fc6": ((4096,), 4096 * 9216 + 4096),
    "classifier.fc7": ((4096,), 4096 * 4096 + 4096),
    "classifier.fc8": ((1000,), 1000 * 4096 + 1000),
}


@pytest.mark.parametrize("side", [224, 227])
def test_layers_are_the_papers(side: int) -> None:
    from sightline.visualization.layers import layer_table

    with torch.device("meta"):
        model = create_model("alexnet_2012", img_size=side)
    rows = {row.name: row for row in layer_table(model, (3, side, side))}
    weighty = [name for name in rows if name in CAFFE]
    assert weighty == list(CAFFE)  # in this order: normalisation before pooling
    assert {name: (rows[name].output, rows[name].params) for name in CAFFE} == CAFFE
    assert sum(row.params for row in rows.values()) == 60_965_224


def test_response_normalisation_is_the_papers_formula() -> None:
    norm = create_model("alexnet_2012", hidden=8, img_size=64).features.norm1
    a = 300 * torch.rand(2, 7, 2, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    expected = torch.empty_like(a)
    for i in range(7):
        total = sum(a[:, j] ** 2 for j in range(max(0, i - 2), min(6, i + 2) + 1))
        expected[:, i] = a[:, i] / (2 + 1e-4 * total) ** 0.75
    assert torch.allclose(norm(a), expected, rtol=1e-12)


def test_last_windows_hang_over_the_edge() -> None:
    """224 pixels are 227 of which the last three are empty: the maps agree, to the bit."""
    model = create_model("alexnet_2012", hidden=8).eval()
    larger = create_model("alexnet_2012", hidden=8, img_size=227).eval()
    larger.load_state_dict(model.state_dict(), strict=True)
    x = picture(224, batch=1)
    with torch.no_grad():
        assert torch.equal(larger(nn.functional.pad(x, (0, 3, 0, 3))), model(x))


def test_towers_meet_in_the_third_convolution() -> None:
    """Each half of a layer's channels sees its own half of those before, but for conv3, which sees both."""
    features = create_model("alexnet_2012", hidden=8, img_size=64).features
    for name, apart in (("conv2", True), ("conv3", False), ("conv4", True), ("conv5", True)):
        conv = features.get_submodule(name)
        inputs = conv.in_channels if not apart else 2 * conv.weight.shape[1]
        x = torch.rand(1, inputs, 5, 5)
        changed = x.clone()
        changed[:, : inputs // 2] += 1
        moved = (conv(changed) - conv(x)).abs().amax(dim=(0, 2, 3)) > 1e-6
        half = conv.out_channels // 2
        assert moved[:half].all() and moved[half:].any() == (not apart), name


def test_start_is_the_papers() -> None:
    torch.manual_seed(0)
    layers = dict(create_model("alexnet_2012", hidden=64, img_size=64).named_modules())
    for name in CAFFE:
        layer = layers[name]
        if isinstance(layer, nn.Conv2d | nn.Linear):
            ones = name.endswith(("conv2", "conv4", "conv5", "fc6", "fc7"))
            assert torch.equal(layer.bias, torch.full_like(layer.bias, float(ones))), name
            assert float(layer.weight.data.std()) == pytest.approx(0.01, rel=0.05), name
            assert abs(float(layer.weight.data.mean())) < 5e-4, name


# --------------------------------------------------------------------------------------------------- both
@pytest.mark.parametrize(
    ("name", "size", "pixels"),
    [("alexnet", (63, 100), (1, 2)), ("alexnet_2012", (64, 100), (1, 2)), ("alexnet_2012", 71, (1, 1))],
)
def test_other_sizes_and_channels(name: str, size: int | tuple[int, int], pixels: tuple[int, int]) -> None:
    model = create_model(name, hidden=16, img_size=size, in_chans=5, num_classes=3).eval()
    height, width = (size, size) if isinstance(size, int) else size
    x = torch.randn(1, 5, height, width)
    assert model.forward_features(x).shape == (1, 256, *pixels)
    assert model(x).shape == (1, 3)


def test_dropout_stands_where_each_has_it() -> None:
    """The paper's output layer gets what dropout has left; torchvision's gets all of fc7."""
    torch.manual_seed(0)
    for name, dropped in (("alexnet", False), ("alexnet_2012", True)):
        model = create_model(name, hidden=200, img_size=64).train()
        with torch.no_grad():
            model.get_submodule("classifier.4" if name == "alexnet" else "classifier.fc7").bias.fill_(9.0)
            hidden = model.forward_head(model.forward_features(picture(64)), pre_logits=True)
        assert bool((hidden == 0).any()) == dropped
        assert not (model.eval().forward_head(torch.ones(1, 256, 1, 1), pre_logits=True) == 0).any()


@pytest.mark.parametrize(
    ("name", "arguments", "words"),
    [
        ("alexnet", {"img_size": 62}, "62x62 pixels are too small, it needs at least 63"),
        ("alexnet_2012", {"img_size": 63}, "63x63 pixels are too small, it needs at least 64"),
        ("alexnet_2012", {"widths": (96, 256, 384, 384, 255)}, "widths are even"),
        ("alexnet", {"widths": (64, 192)}, "widths are of five convolutions"),
        ("alexnet", {"hidden": 0}, "hidden is at least 1"),
        ("alexnet_2012", {"drop_rate": 1.0}, "drop_rate lies in [0, 1)"),
    ],
)
def test_mistakes(name: str, arguments: dict[str, object], words: str) -> None:
    with pytest.raises(SightlineError) as caught:
        create_model(name, **arguments)  # type: ignore[arg-type]
    assert words in str(caught.value)
