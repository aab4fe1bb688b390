"""The residual networks against torchvision's, against the paper's arithmetic, and part by part."""

import pytest
import torch
from torch import nn

from sightline.models import create_model
from sightline.models.protocol import DropPath, drop_path_rates
from sightline.models.resnet import PlainBlock, ZeroPad

torch.set_num_threads(1)


def randomise(model: nn.Module) -> None:
    """Weights and running statistics that leave nothing at its start, so that equality means something."""
    generator = torch.Generator().manual_seed(0)
    for tensor in (*model.parameters(), *model.buffers()):
        if tensor.ndim == 1:
            tensor.data.uniform_(0.5, 1.5, generator=generator)


@pytest.mark.parametrize("name", ["resnet18", "resnet50", "resnext50_32x4d", "wide_resnet50_2"])
def test_equals_torchvision_bit_for_bit(name: str) -> None:
    from torchvision.models import get_model

    theirs = get_model(name, weights=None).eval()
    randomise(theirs)
    ours = create_model(name).eval()
    ours.load_state_dict(theirs.state_dict(), strict=True)
    x = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected = theirs(x)
        assert expected.std() > 0
        assert torch.equal(ours(x), expected)


@pytest.mark.parametrize(
    "name", ["resnet34", "resnet101", "resnet152", "resnext101_32x8d", "resnext101_64x4d", "wide_resnet101_2"]
)
def test_has_torchvisions_layout(name: str) -> None:
    from torchvision.models import get_model

    with torch.device("meta"):
        ours, theirs = create_model(name), get_model(name, weights=None)
    layout = {key: value.shape for key, value in theirs.state_dict().items()}
    assert {key: value.shape for key, value in ours.state_dict().items()} == layout


def test_catalogue_of_weights_is_torchvisions() -> None:
    from torchvision.models import get_model_weights

    from sightline.models import available_weights, list_models, published_weights

    names = [name for name in list_models() if available_weights(name)]
    assert len(names) == 10
    for name in names:
        enum = get_model_weights(name)
        assert {row.name for row in published_weights(name)} == {entry.name for entry in enum}
        assert published_weights(name)[0].name == enum.DEFAULT.name
        for row in published_weights(name):
            entry = enum[row.name]
            preset, metrics = entry.transforms(), entry.meta["_metrics"]["ImageNet-1K"]
            assert row.url == entry.url and row.sha256 and row.sha256 in entry.url
            assert ([row.size], [row.resize]) == (preset.crop_size, preset.resize_size)
            assert (row.mean, row.std) == (tuple(preset.mean), tuple(preset.std))
            assert row.interpolation == preset.interpolation.value
            assert row.top1_error == pytest.approx(100 - metrics["acc@1"], abs=1e-9)
            assert row.top5_error == pytest.approx(100 - metrics["acc@5"], abs=1e-9)


def test_variant_of_2015_has_its_stride_in_the_first_convolution() -> None:
    from torchvision.models import resnet50

    theirs = resnet50().eval()
    randomise(theirs)
    for stage in (theirs.layer2, theirs.layer3, theirs.layer4):
        stage[0].conv1.stride, stage[0].conv2.stride = (2, 2), (1, 1)
    ours = create_model("resnet50_2015").eval()
    ours.load_state_dict(theirs.state_dict(), strict=True)
    x = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(ours(x), theirs(x))


def weights_of(block: nn.Module) -> int:
    """Weights of the three convolutions of a bottleneck, without its shortcut."""
    return sum(block.get_submodule(f"conv{i}").weight.numel() for i in (1, 2, 3))


def test_arithmetic_of_the_blocks() -> None:
    """The sums of the ResNeXt paper's Table 1 and of the drawings that go with it."""
    with torch.device("meta"):
        resnet, resnext = create_model("resnet50"), create_model("resnext50_32x4d")
    assert weights_of(resnet.layer1[1]) == 256 * 64 + 64 * 3 * 3 * 64 + 64 * 256 == 69_632
    assert weights_of(resnext.layer1[1]) == 32 * (256 * 4 + 4 * 3 * 3 * 4 + 4 * 256) == 70_144
    assert weights_of(resnet.layer3[0]) == 983_040
    assert weights_of(resnet.layer4[0]) == 3_932_160
    assert weights_of(resnext.layer3[0]) == 860_160
    assert weights_of(resnext.layer4[0]) == 3_440_640


def test_shortcut_a_subsamples_and_pads() -> None:
    x = torch.arange(2 * 4 * 4.0).reshape(1, 2, 4, 4)
    out = ZeroPad(2, 5, stride=2)(x)
    assert out.shape == (1, 5, 2, 2)
    assert out[0, 0].tolist() == [[0, 2], [8, 10]] and out[0, 1].tolist() == [[16, 18], [24, 26]]
    assert not out[0, 2:].any()


def test_plain_blocks_have_no_shortcut() -> None:
    """With its last scale at zero a residual block hands on what it got, a plain one nothing."""
    x = torch.rand(1, 8, 4, 4)
    for name, expected in (("resnet18", x), ("plain18", torch.zeros_like(x))):
        block = create_model(name, layers=(1,), widths=(8,)).eval().layer1[0]
        assert isinstance(block, PlainBlock) == (name == "plain18")
        nn.init.zeros_(block.bn2.weight)
        assert torch.equal(block(x), expected)


def test_residual_blocks_can_start_as_the_identity() -> None:
    model = create_model("resnet50", layers=(2,), widths=(16,), zero_init_residual=True).eval()
    x = torch.rand(1, 64, 4, 4)
    assert torch.equal(model.layer1[1](x), x)


@pytest.mark.parametrize(
    ("stem", "reductions"), [("imagenet", [2, 4, 8]), ("half", [2, 2, 4]), ("cifar", [1, 1, 2])]
)
def test_stems(stem: str, reductions: list[int]) -> None:
    model = create_model(
        "resnet18", layers=(1, 2), widths=(8, 24), stem=stem, in_chans=1, num_classes=4
    ).eval()
    assert [stage["reduction"] for stage in model.feature_info] == reductions
    assert model.forward_features(torch.rand(1, 1, 32, 48)).shape == (
        1,
        24,
        32 // reductions[-1],
        48 // reductions[-1],
    )


def test_smallest_picture_that_is_allowed() -> None:
    model = create_model("resnet18", img_size=17, num_classes=2).eval()
    assert model(torch.rand(1, 3, 17, 17)).shape == (1, 2)


def test_stochastic_depth() -> None:
    rates = [p.drop_prob if isinstance(p, DropPath) else 0.0 for p in drop_path_rates(0.3, 4)]
    assert rates == pytest.approx([0.0, 0.1, 0.2, 0.3])
    torch.manual_seed(0)
    path, x = DropPath(0.25), torch.ones(4000, 2, 1, 1)
    out = path(x)
    assert out.unique().tolist() == pytest.approx([0, 1 / 0.75])
    assert torch.equal(out[:, 0], out[:, 1])  # a sample is dropped whole
    assert float((out == 0).float().mean()) == pytest.approx(0.25, abs=0.03)
    assert torch.equal(path.eval()(x), x)


def test_dropout_stands_before_the_classifier() -> None:
    model = create_model("resnet18", layers=(1,), widths=(16,), drop_rate=0.5).train()
    torch.manual_seed(0)
    hidden = model.forward_head(torch.ones(1, 16, 2, 2), pre_logits=True)
    assert set(hidden.unique().tolist()) == {0.0, 2.0}
