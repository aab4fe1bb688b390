"""The residual networks against torchvision's, against the paper's arithmetic, and part by part."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sightline.models import create_model, list_models, model_info
from sightline.models.protocol import DropPath, drop_path_rates
from sightline.models.resnet import PlainBlock, ZeroPad
from tests.models.parity import difference, randomise, same_in_evaluation, same_in_training

torch.set_num_threads(1)

# Blocks, groups and base width of torchvision's networks.
FAMILY = {
    "resnet18": ("BasicBlock", 1, 64),
    "resnet50": ("Bottleneck", 1, 64),
    "resnext50_32x4d": ("Bottleneck", 32, 4),
    "resnext101_32x8d": ("Bottleneck", 32, 8),
    "resnext101_64x4d": ("Bottleneck", 64, 4),
    "wide_resnet50_2": ("Bottleneck", 1, 128),
}
IN_TORCHVISION = (
    "resnet18", "resnet34", "resnet50", "resnet101", "resnet152", "resnext50_32x4d", "resnext101_32x8d",
    "resnext101_64x4d", "wide_resnet50_2", "wide_resnet101_2",
)  # fmt: skip
# The paper's own variants, and the network of torchvision's that each is made from.
OF_2015 = {
    "resnet50_2015": "resnet50",
    "resnet101_2015": "resnet101",
    "resnet152_2015": "resnet152",
    "resnet18_a": "resnet18",
    "resnet34_a": "resnet34",
    "resnet34_c": "resnet34",
    "plain18": "resnet18",
    "plain34": "resnet34",
}


def picture(side: int, batch: int = 2) -> Tensor:
    return torch.randn(batch, 3, side, side, generator=torch.Generator().manual_seed(1))


def torchvisions(name: str, layers: tuple[int, ...]) -> nn.Module:
    """torchvision's network with other numbers of blocks."""
    from torchvision.models import resnet

    block, groups, base_width = FAMILY[name]
    return resnet.ResNet(getattr(resnet, block), list(layers), groups=groups, width_per_group=base_width)


class Apply(nn.Module):
    """A function in the place of a shortcut."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


def as_in_2015(name: str, net: nn.Module) -> nn.Module:
    """torchvision's network `net` with the strides or shortcuts of the paper's `name`."""
    for stage in (net.layer1, net.layer2, net.layer3, net.layer4):
        for block in stage:
            chans = block.conv1.in_channels
            if name.endswith("_2015"):
                block.conv1.stride = (block.stride, block.stride)
                block.conv2.stride = (1, 1)
            elif name.endswith("_c") and block.downsample is None:
                block.downsample = nn.Sequential(
                    nn.Conv2d(chans, chans, 1, bias=False), nn.BatchNorm2d(chans)
                )
            elif name.endswith("_a") and block.downsample is not None:
                block.downsample = Apply(doubled)
            elif name.startswith("plain"):  # zeros added
                shape = block.bn2.num_features, block.stride
                block.downsample = Apply(lambda x, s=shape: zeros(x, *s))
    return net


def doubled(x: Tensor) -> Tensor:
    """Every second pixel, and as many channels of zeros again."""
    return torch.cat([x, torch.zeros_like(x)], dim=1)[:, :, ::2, ::2]


def zeros(x: Tensor, chans: int, stride: int) -> Tensor:
    return F.pad(torch.zeros_like(x[:, :1, ::stride, ::stride]), (0, 0, 0, 0, 0, chans - 1))


# ----------------------------------------------------------------------------------------------- parity
@pytest.mark.parametrize("name", FAMILY)
def test_equals_torchvision(name: str) -> None:
    layers = (1, 2, 1, 1)
    same_in_evaluation(create_model(name, layers=layers), torchvisions(name, layers), picture(64))
    same_in_training(create_model(name, layers=layers), torchvisions(name, layers), picture(33))


@pytest.mark.parametrize("name", ["resnet50_2015", "resnet34_a", "resnet34_c", "plain34"])
def test_papers_variants_are_torchvisions_altered(name: str) -> None:
    layers, base = (1, 2, 1, 1), "resnet50" if name.endswith("_2015") else "resnet18"
    for same, x in ((same_in_evaluation, picture(64)), (same_in_training, picture(33))):
        same(create_model(name, layers=layers), as_in_2015(name, torchvisions(base, layers)), x)


@pytest.mark.full
@pytest.mark.parametrize("name", IN_TORCHVISION)
def test_equals_torchvision_in_full(name: str) -> None:
    from torchvision.models import get_model

    same_in_evaluation(create_model(name), get_model(name), picture(224, batch=1))
    same_in_training(create_model(name), get_model(name), picture(64))


@pytest.mark.full
@pytest.mark.parametrize("name", OF_2015)
def test_papers_variants_in_full(name: str) -> None:
    from torchvision.models import get_model

    for same, x in ((same_in_evaluation, picture(224, batch=1)), (same_in_training, picture(64))):
        same(create_model(name), as_in_2015(name, get_model(OF_2015[name])), x)


@pytest.mark.parametrize("name", ["resnet18", "resnet50", "resnext50_32x4d", "wide_resnet50_2"])
def test_equals_torchvision_bit_for_bit(name: str) -> None:
    from torchvision.models import get_model

    theirs = get_model(name, weights=None).eval()
    randomise(theirs)
    ours = create_model(name).eval()
    ours.load_state_dict(theirs.state_dict(), strict=True)
    with torch.no_grad():
        expected = theirs(picture(64))
        assert expected.std() > 0
        assert torch.equal(ours(picture(64)), expected)


@pytest.mark.full
def test_equals_timm() -> None:
    """The one that torchvision does not have."""
    import timm

    for same, x in ((same_in_evaluation, picture(224, batch=1)), (same_in_training, picture(64))):
        theirs = timm.create_model("resnext101_32x4d")
        theirs.add_module("relu", theirs.act1)  # by our name, for its maps
        same(create_model("resnext101_32x4d"), theirs, x)


@pytest.mark.parametrize("name", [*IN_TORCHVISION, "resnext101_32x4d"])
def test_has_the_references_layout_and_constants(name: str) -> None:
    import timm
    from torchvision.models import get_model

    with torch.device("meta"):
        ours = create_model(name)
        theirs = get_model(name, weights=None) if name in IN_TORCHVISION else timm.create_model(name)
    layouts = [{key: value.shape for key, value in net.state_dict().items()} for net in (ours, theirs)]
    assert layouts[0] == layouts[1]
    constants = [
        [(m.eps, m.momentum) for m in net.modules() if isinstance(m, nn.BatchNorm2d)]
        for net in (ours, theirs)
    ]
    assert constants[0] == constants[1]


def test_start_is_torchvisions() -> None:
    """Normal by fan-out, which for a grouped convolution counts the channels of all groups."""
    torch.manual_seed(0)
    model = create_model("resnext50_32x4d", layers=(1, 1, 1, 1))
    for conv in (m for m in model.modules() if isinstance(m, nn.Conv2d)):
        area = conv.kernel_size[0] ** 2
        std = float(conv.weight.detach().std())
        assert std == pytest.approx((2 / (conv.out_channels * area)) ** 0.5, rel=0.05)
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    assert all(bool((m.weight == 1).all()) and not m.bias.any() for m in norms)


def test_checkpointing_changes_no_number() -> None:
    """Stochastic depth draws the same again; gradients and running statistics are as without it."""
    arguments = {"layers": (2, 2), "widths": (8, 16), "drop_path_rate": 0.3}
    models = [create_model("resnet50", **arguments).double().train() for _ in range(2)]  # type: ignore[arg-type]
    models[1].load_state_dict(models[0].state_dict())
    models[1].set_grad_checkpointing()
    for model in models:
        torch.manual_seed(0)
        model(picture(32, batch=4).double()).square().mean().backward()
    for (key, a), (_, b) in zip(models[0].named_parameters(), models[1].named_parameters(), strict=True):
        assert difference(b.grad, a.grad) < 1e-12, key
    for (key, a), (_, b) in zip(models[0].named_buffers(), models[1].named_buffers(), strict=True):
        assert torch.equal(a, b), key


def test_checkpointing_keeps_less() -> None:
    kept = []
    for enable in (False, True):
        model = create_model("resnet50", layers=(3, 3), widths=(8, 16))
        model.set_grad_checkpointing(enable)
        sizes: list[int] = []
        with torch.autograd.graph.saved_tensors_hooks(
            lambda t, sizes=sizes: sizes.append(t.numel()) or t, lambda t: t
        ):
            model(picture(64))
        kept.append(sum(sizes))
    assert kept[1] < kept[0] / 2


@pytest.mark.parametrize("name", ["resnet18", "resnext50_32x4d"])
@pytest.mark.parametrize("training", [False, True])
def test_compiles_without_breaks(name: str, training: bool) -> None:
    torch._dynamo.reset()
    model = create_model(name, layers=(1, 1), widths=(32, 32), drop_path_rate=0.2).train(training)
    compiled = torch.compile(model, fullgraph=True, backend="eager")
    outputs = []
    for net in (compiled, model):
        torch.manual_seed(0)
        outputs.append(net(picture(40)))
    assert torch.allclose(*outputs, atol=1e-5)


def test_nothing_is_overwritten_where_gradients_are_wanted() -> None:
    """Hooks see what a layer put out, in training; prediction may write over it and gives the same."""
    model = create_model("resnet18", layers=(1,), widths=(8,)).eval()
    seen: list[tuple[Tensor, Tensor]] = []
    model.layer1[0].bn1.register_forward_hook(lambda _m, _i, out: seen.append((out, out.clone())))
    trained = model(picture(32))
    assert torch.equal(*seen[0])
    with torch.no_grad():
        assert torch.equal(model(picture(32)), trained)


# ------------------------------------------------------------------------------------ catalogue, arithmetic
def test_catalogue_of_weights_is_torchvisions() -> None:
    from torchvision.models import get_model_weights

    from sightline.models import available_weights, published_weights

    names = [
        name for name in list_models() if model_info(name).family == "resnet" and available_weights(name)
    ]
    assert sorted(names) == sorted(IN_TORCHVISION)
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
