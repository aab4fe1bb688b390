"""EfficientNet against torchvision, against timm, against the paper's tables, and part by part."""

import pytest
import torch
from torch import Tensor, nn

from sightline.errors import SightlineError
from sightline.models import available_weights, create_model, load_weights, model_info, published_weights
from sightline.models.efficientnet import COEFFICIENTS, SameConv2d, convert_state_dict, round_channels
from sightline.models.protocol import DropPath
from tests.models.parity import difference, randomise, same_in_evaluation, same_in_training

torch.set_num_threads(1)

SIZES = tuple(COEFFICIENTS)
NARROW = {"width_mult": 0.25, "depth_mult": 0.5, "num_classes": 10}
OFF = {"drop_rate": 0.0, "drop_path_rate": 0.0}


def picture(height: int, width: int | None = None, batch: int = 2) -> Tensor:
    return torch.randn(batch, 3, height, width or height, generator=torch.Generator().manual_seed(1))


def torchvisions(width_mult: float, depth_mult: float, num_classes: int, late: bool = False) -> nn.Module:
    """torchvision's network of any coefficients, with the constants that it has from b5 on if `late`."""
    from functools import partial

    from torchvision.models.efficientnet import EfficientNet, _efficientnet_conf

    setting, last = _efficientnet_conf("efficientnet_b0", width_mult=width_mult, depth_mult=depth_mult)
    norm = partial(nn.BatchNorm2d, eps=0.001, momentum=0.01) if late else None
    return EfficientNet(setting, 0.0, 0.0, num_classes, norm, last)


def timms(name: str, width_mult: float, depth_mult: float, num_classes: int) -> nn.Module:
    """timm's network of any coefficients."""
    from timm.models.efficientnet import _gen_efficientnet

    same = {"pad_type": "same", "bn_eps": 1e-3} if name.startswith("tf_") else {}
    scale = {"channel_multiplier": width_mult, "depth_multiplier": depth_mult}
    return _gen_efficientnet(name, **scale, num_classes=num_classes, **same)


# ------------------------------------------------------------------------------------------------- torchvision
@pytest.mark.parametrize("late", [False, True])
def test_equals_torchvision(late: bool) -> None:
    name = "efficientnet_b5" if late else "efficientnet_b0"
    same_in_evaluation(create_model(name, **NARROW), torchvisions(**NARROW, late=late), picture(65, 96))
    same_in_training(
        create_model(name, **NARROW, **OFF), torchvisions(**NARROW, late=late), picture(64, batch=4)
    )


@pytest.mark.parametrize("size", SIZES)
def test_has_torchvisions_layout_and_constants(size: str) -> None:
    from torchvision.models import get_model

    with torch.device("meta"):
        ours, theirs = create_model(f"efficientnet_{size}"), get_model(f"efficientnet_{size}")
    assert layout(ours) == layout(theirs)
    assert constants(ours) == constants(theirs)
    assert ours.drop.p == theirs.classifier[0].p


@pytest.mark.full
@pytest.mark.parametrize("size", SIZES)
def test_equals_torchvision_in_full(size: str) -> None:
    from torchvision.models import get_model

    name, (_, _, side, _) = f"efficientnet_{size}", COEFFICIENTS[size]
    same_in_evaluation(create_model(name), get_model(name), picture(side, batch=1))
    theirs = get_model(name, dropout=0.0, stochastic_depth_prob=0.0)
    same_in_training(create_model(name, **OFF), theirs, picture(96, batch=2))


# -------------------------------------------------------------------------------------------------------- timm
@pytest.mark.parametrize("sides", [(64, 64), (65, 96), (70, 83)])
def test_equals_timm(sides: tuple[int, int]) -> None:
    """SAME padding depends on the size of the picture: 32 of each side here, odd and even inside."""
    name = "tf_efficientnet_b0"
    same_in_evaluation(create_model(name, **NARROW), timms(name, **NARROW), picture(*sides))
    same_in_training(create_model(name, **NARROW, **OFF), timms(name, **NARROW), picture(*sides, batch=4))


@pytest.mark.parametrize("size", SIZES)
def test_has_timms_layout_and_constants(size: str) -> None:
    import timm

    name = f"tf_efficientnet_{size}"
    with torch.device("meta"):
        ours, theirs = create_model(name), timm.create_model(name)
    assert layout(ours) == layout(theirs)
    assert constants(ours) == constants(theirs)
    stages = [
        {key: stage[key] for key in ("num_chs", "reduction", "module")} for stage in theirs.feature_info
    ]
    assert ours.feature_info == stages


@pytest.mark.full
@pytest.mark.parametrize("size", SIZES)
def test_equals_timm_in_full(size: str) -> None:
    import timm

    name, (_, _, side, _) = f"tf_efficientnet_{size}", COEFFICIENTS[size]
    same_in_evaluation(create_model(name), timm.create_model(name), picture(side, batch=1))
    same_in_training(create_model(name, **OFF), timm.create_model(name), picture(96, batch=2))


@pytest.mark.parametrize("size", SIZES)
def test_timms_layout_becomes_torchvisions(size: str) -> None:
    """One to one: every name of theirs has one of ours, and the tensors are the very same."""
    import timm

    with torch.device("meta"):
        ours, theirs = create_model(f"efficientnet_{size}"), timm.create_model(f"efficientnet_{size}")
    state = theirs.state_dict()
    before = dict(state)
    converted = convert_state_dict(state)
    assert {key: value.shape for key, value in converted.items()} == layout(ours)
    assert {id(value) for value in converted.values()} == {id(value) for value in state.values()}
    assert list(state) == list(before)  # pure
    assert convert_state_dict(converted) is converted  # what is in our layout stays


@pytest.mark.parametrize(
    "arguments", [NARROW, pytest.param({"width_mult": 1.0, "depth_mult": 1.0}, marks=pytest.mark.full)]
)
def test_timms_weights_give_timms_numbers(arguments: dict[str, float], tmp_path) -> None:  # type: ignore[no-untyped-def]
    arguments = {"num_classes": 1000} | arguments
    theirs = timms("efficientnet_b0", **arguments).eval()  # type: ignore[arg-type]
    randomise(theirs)
    ours = create_model("efficientnet_b0", **arguments).eval()  # type: ignore[arg-type]
    torch.save(theirs.state_dict(), tmp_path / "timm.pth")
    report = load_weights(ours, tmp_path / "timm.pth")
    assert not (report.fresh or report.adapted or report.dropped)
    with torch.no_grad():
        assert difference(ours(picture(70)), theirs(picture(70))) < 1e-5


def test_the_papers_weights_are_not_torchvisions() -> None:
    """Same shapes, other numbers: what the two names are for."""
    paper = create_model("tf_efficientnet_b0", **NARROW).eval()
    randomise(paper)
    other = create_model("efficientnet_b0", **NARROW).eval()
    other.load_state_dict(convert_state_dict(paper.state_dict()), strict=True)
    with torch.no_grad():
        assert difference(other(picture(64)), paper(picture(64))) > 1e-3


# --------------------------------------------------------------------------------------------------- the paper
# Stem, stages and head after rounding, as torchvision, timm and the authors' code have them.
CHANNELS = {
    "b0": (32, 16, 24, 40, 80, 112, 192, 320, 1280),
    "b1": (32, 16, 24, 40, 80, 112, 192, 320, 1280),
    "b2": (32, 16, 24, 48, 88, 120, 208, 352, 1408),
    "b3": (40, 24, 32, 48, 96, 136, 232, 384, 1536),
    "b4": (48, 24, 32, 56, 112, 160, 272, 448, 1792),
    "b5": (48, 24, 40, 64, 128, 176, 304, 512, 2048),
    "b6": (56, 32, 40, 72, 144, 200, 344, 576, 2304),
    "b7": (64, 32, 48, 80, 160, 224, 384, 640, 2560),
}
DEPTHS = {
    "b0": (1, 2, 2, 3, 3, 4, 1),
    "b1": (2, 3, 3, 4, 4, 5, 2),
    "b2": (2, 3, 3, 4, 4, 5, 2),
    "b3": (2, 3, 3, 5, 5, 6, 2),
    "b4": (2, 4, 4, 6, 6, 8, 2),
    "b5": (3, 5, 5, 7, 7, 9, 3),
    "b6": (3, 6, 6, 8, 8, 11, 3),
    "b7": (4, 7, 7, 10, 10, 13, 4),
}


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("prefix", ["", "tf_"])
def test_scaling(prefix: str, size: str) -> None:
    with torch.device("meta"):
        model = create_model(f"{prefix}efficientnet_{size}")
    stages = [model.get_submodule(f"blocks.{i}" if prefix else f"features.{i + 1}") for i in range(7)]
    assert tuple(len(stage) for stage in stages) == DEPTHS[size]
    convolutions = [m for m in model.modules() if isinstance(m, nn.Conv2d)]
    ends = [[m for m in stage.modules() if isinstance(m, nn.Conv2d)][-1].out_channels for stage in stages]
    assert (convolutions[0].out_channels, *ends, model.num_features) == CHANNELS[size]
    assert model_info(f"{prefix}efficientnet_{size}").input == (
        3,
        COEFFICIENTS[size][2],
        COEFFICIENTS[size][2],
    )


def test_rounding_never_loses_a_tenth() -> None:
    assert [round_channels(c) for c in (3, 8, 11, 12, 18, 19, 44, 123.2)] == [8, 8, 16, 16, 24, 24, 48, 120]
    assert all(round_channels(c) % 8 == 0 and round_channels(c) >= 0.9 * c for c in range(1, 400))


def test_same_padding_by_hand() -> None:
    """TensorFlow's rule: of four pixels at stride 2 the 3-wide windows begin at 0, 2; of five at -1, 1, 3."""
    conv = SameConv2d(1, 1, 3, 2, bias=False)
    nn.init.ones_(conv.weight)
    rows = torch.tensor([1.0, 2, 3, 4, 5])
    for n, expected in ((4, [1 + 2 + 3, 3 + 4]), (5, [1 + 2, 2 + 3 + 4, 4 + 5])):
        x = (
            rows[:n].reshape(1, 1, n, 1).expand(-1, -1, -1, 2)
        )  # two equal columns, in one window with one of zeros
        assert conv(x).flatten().tolist() == [2 * value for value in expected]


def test_gates_are_a_quarter_of_what_comes_in() -> None:
    with torch.device("meta"):
        model = create_model("efficientnet_b0")
    gate = model.features[2][0].block[2]  # 16 channels come in, 96 inside
    assert (gate.fc1.in_channels, gate.fc1.out_channels) == (96, 4)


def test_stochastic_depth_rises_from_block_to_block() -> None:
    from torchvision.models import efficientnet_b0
    from torchvision.ops import StochasticDepth

    for name in ("efficientnet_b0", "tf_efficientnet_b0"):
        with torch.device("meta"):
            ours, theirs = create_model(name), efficientnet_b0()
        rates = [m.p for m in theirs.modules() if isinstance(m, StochasticDepth)]
        mine = [m.drop_prob for m in ours.modules() if isinstance(m, DropPath)]
        assert [0.0, *mine] == pytest.approx(rates)


def test_start_is_as_published() -> None:
    torch.manual_seed(0)
    for name, depthwise_fan_out in (("efficientnet_b0", 9 * 96), ("tf_efficientnet_b0", 9)):
        model = create_model(name)
        wide = next(m for m in model.modules() if isinstance(m, nn.Conv2d) and m.groups == 96)
        assert float(wide.weight.detach().std()) == pytest.approx((2 / depthwise_fan_out) ** 0.5, rel=0.1)
        head = next(m for m in model.modules() if isinstance(m, nn.Conv2d) and m.out_channels == 1280)
        assert float(head.weight.detach().std()) == pytest.approx((2 / 1280) ** 0.5, rel=0.02)
        for classes in (1000, 2):
            fresh = create_model(name, width_mult=0.25, depth_mult=0.1, num_classes=classes).get_classifier()
            assert 0.95 / 1000**0.5 < float(fresh.weight.detach().abs().max()) <= 1 / 1000**0.5
            assert not fresh.bias.any()


# ------------------------------------------------------------------------------------------------ what it gives
@pytest.mark.parametrize("name", ["efficientnet_b0", "tf_efficientnet_b0"])
def test_checkpointing_changes_no_number(name: str) -> None:
    """Stochastic depth draws the same again; gradients and running statistics are as without it."""
    models = [create_model(name, **NARROW, drop_path_rate=0.3).double().train() for _ in range(2)]
    models[1].load_state_dict(models[0].state_dict())
    models[1].set_grad_checkpointing()
    kept = []
    for model in models:
        torch.manual_seed(0)
        sizes: list[int] = []
        with torch.autograd.graph.saved_tensors_hooks(
            lambda t, sizes=sizes: sizes.append(t.numel()) or t, lambda t: t
        ):
            loss = model(picture(64, batch=4).double()).square().mean()
        loss.backward()
        kept.append(sum(sizes))
    for (key, a), (_, b) in zip(models[0].named_parameters(), models[1].named_parameters(), strict=True):
        assert difference(b.grad, a.grad) < 1e-12, key
    for (key, a), (_, b) in zip(models[0].named_buffers(), models[1].named_buffers(), strict=True):
        assert torch.equal(a, b), key
    assert kept[1] < kept[0] / 2
    models[1].set_grad_checkpointing(False)
    assert not any(getattr(m, "grad_checkpointing", False) for m in models[1].modules())


@pytest.mark.parametrize("name", ["efficientnet_b0", "tf_efficientnet_b0"])
@pytest.mark.parametrize("training", [False, True])
def test_compiles_without_breaks(name: str, training: bool) -> None:
    torch._dynamo.reset()
    model = create_model(name, **NARROW).train(training)
    compiled = torch.compile(model, fullgraph=True, backend="eager")
    torch.manual_seed(0)
    first = compiled(picture(65, batch=3))
    torch.manual_seed(0)
    assert torch.allclose(first, model(picture(65, batch=3)), atol=1e-5)


def test_smallest_picture_that_is_allowed() -> None:
    for name in ("efficientnet_b0", "tf_efficientnet_b0"):
        model = create_model(name, **NARROW, img_size=17).eval()
        assert model(picture(17)).shape == (2, 10)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"width_mult": 0.0}, "greater than 0"),
        ({"depth_mult": -1.0}, "greater than 0"),
        ({"drop_rate": 1.0}, "lie in [0, 1)"),
        ({"bn_eps": 0.0}, "bn_eps is greater than 0"),
        ({"img_size": 16}, "16x16 pixels are too small, it needs at least 17"),
        ({"width": 2.0}, "did you mean width_mult"),
    ],
)
def test_mistakes(arguments: dict[str, object], words: str) -> None:
    with pytest.raises(SightlineError) as caught:
        create_model("efficientnet_b0", **arguments)  # type: ignore[arg-type]
    assert words in str(caught.value)


# ------------------------------------------------------------------------------------------- published weights
@pytest.mark.parametrize("size", SIZES)
def test_catalogue_of_weights_is_torchvisions(size: str) -> None:
    ours, theirs = (
        published_weights(f"efficientnet_{size}"),
        published_weights(f"torchvision/efficientnet_{size}"),
    )
    assert ours == theirs and all(row.sha256 for row in ours)


@pytest.mark.parametrize("size", SIZES)
def test_catalogue_of_weights_is_timms(size: str) -> None:
    from timm.models import get_pretrained_cfg

    name = f"tf_efficientnet_{size}"
    ours = {row.name: row for row in published_weights(name)}
    theirs = {row.name: row for row in published_weights(f"timm/{name}")}
    assert ours.keys() == theirs.keys() and available_weights(name)[0] == available_weights(f"timm/{name}")[0]
    for tag, row in ours.items():
        other, config = theirs[tag], get_pretrained_cfg(f"{name}.{tag}")
        assert (row.size, row.resize, row.interpolation) == (other.size, other.resize, other.interpolation)
        assert (row.mean, row.std) == (other.mean, other.std)
        # The file that timm converted; its repository has moved since.
        assert row.url.replace("huggingface", "rwightman") == config.url.replace("huggingface", "rwightman")
        assert row.sha256 and row.licence.lower().startswith(config.license)
        assert row.top1_error is not None and row.top5_error is not None and row.top5_error < row.top1_error


# ----------------------------------------------------------------------------------------------------- helpers
def layout(model: nn.Module) -> dict[str, torch.Size]:
    return {key: value.shape for key, value in model.state_dict().items()}


def constants(model: nn.Module) -> list[tuple[float, float | None]]:
    return [(m.eps, m.momentum) for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
