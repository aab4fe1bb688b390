"""Every network of the lineage goes through one test body; a new one is tested by being listed."""

import copy
import json
import subprocess
import sys

import pytest
import torch
from torch import nn

from sightline.errors import SightlineError, UnknownName
from sightline.models import create_model, list_models, model_arguments, model_info

torch.set_num_threads(1)

# (parameters, mult-adds for one picture of the network's own size). Of ResNets by name: measured on
# torchvision and on the authors' files; of the small ones: arithmetic.
COUNTS = {
    "lecture_net": (28_938, 2_838_080),
    # patches 3,200 + class token 64 + positions 1,088 + 4 blocks of 49,984 + norm 128 + head 650;
    # 50,176 + 4 x (208,896 + 2 x 18,496 + 69,632 + 557,056) + 640
    "lecture_vit": (205_066, 3_541_120),
    "lenet5_1998": (60_000, 415_680),
    "lenet5": (61_706, 416_520),
    "resnet18": (11_689_512, 1_814_073_344),
    "resnet34": (21_797_672, 3_663_761_408),
    "resnet50": (25_557_032, 4_089_184_256),
    "resnet101": (44_549_160, 7_801_405_440),
    "resnet152": (60_192_808, 11_513_626_624),
    "resnet50_2015": (25_557_032, 3_857_973_248),
    "resnet101_2015": (44_549_160, 7_570_194_432),
    "resnet152_2015": (60_192_808, 11_282_415_616),
    "resnet18_a": (11_515_688, 1_794_805_760),
    "resnet34_a": (21_623_848, 3_644_493_824),
    "resnet34_c": (22_716_840, 3_830_747_136),
    "plain18": (11_515_688, 1_794_805_760),
    "plain34": (21_623_848, 3_644_493_824),
    "resnext50_32x4d": (25_028_904, 4_230_479_872),
    "resnext101_32x4d": (44_177_704, 7_969_996_800),
    "resnext101_32x8d": (88_791_336, 16_414_015_488),
    "resnext101_64x4d": (83_455_272, 15_460_270_080),
    "wide_resnet50_2": (68_883_240, 11_398_021_120),
    "wide_resnet101_2": (126_886_696, 22_753_050_624),
    # stem 464 + stages 14,016 + 51,072 + 203,520 + fc 650, and 97,216 for each further block in every stage;
    # the paper prints 0.27M, 0.46M, 0.66M, 0.85M and 1.7M
    "resnet20": (269_722, 40_551_040),
    "resnet32": (269_722 + 2 * 97_216, 40_551_040 + 2 * 14_155_776),
    "resnet44": (269_722 + 4 * 97_216, 40_551_040 + 4 * 14_155_776),
    "resnet56": (269_722 + 6 * 97_216, 40_551_040 + 6 * 14_155_776),
    "resnet110": (269_722 + 15 * 97_216, 40_551_040 + 15 * 14_155_776),
    # stem 928 + stages 18,560 + 57,728 + 230,144 + 919,040 + fc 2,570
    "resnet10_small": (1_228_970, 63_801_856),
    "resnet10_photo": (1_228_970, 255_199_744),
}


def small(name: str, **kwargs: object) -> nn.Module:
    """The network with fewer and narrower blocks, and fewer pixels where it takes any number of them."""
    info = model_info(name)
    if info.family == "resnet":
        stages = len(model_arguments(name)["layers"])
        kwargs = {"layers": (1,) * stages, "widths": (16, 16, 32, 32)[:stages]} | kwargs
    return create_model(name, img_size=side(name), **kwargs)  # type: ignore[arg-type]


def side(name: str) -> int:
    return min(model_info(name).input[1], 64)


@pytest.fixture(params=list_models())
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_counts(name: str) -> None:
    from sightline.visualization.summary import layer_table, totals

    info = model_info(name)
    with torch.device("meta"):
        model = create_model(name)
    total = totals(layer_table(model, info.input))
    assert (total.params, total.mult_adds) == COUNTS[name]
    assert (info.params, info.mult_adds) == COUNTS[name]


def test_speaks_the_protocol(name: str) -> None:
    classes = 10 if name == "lenet5_1998" else 7
    model = small(name, num_classes=classes, in_chans=3).eval()
    assert (model.num_classes, model.in_chans, model.architecture) == (classes, 3, name)
    x = torch.randn(2, 3, side(name), side(name))

    outputs: dict[str, torch.Tensor] = {}
    for stage in model.feature_info:
        part = model.get_submodule(stage["module"])
        part.register_forward_hook(lambda _m, _i, out, key=stage["module"]: outputs.update({key: out}))
    with torch.no_grad():
        features = model.forward_features(x)
        hidden = model.forward_head(features, pre_logits=True)
        logits = model(x)
    assert features.shape[-1 if features.ndim == 3 else 1] == model.num_features
    assert hidden.shape == (2, model.head_hidden_size)
    assert logits.shape == (2, classes)
    assert torch.equal(logits, model.forward_head(features))
    assert torch.equal(logits, model.get_classifier()(hidden))
    for stage in model.feature_info:
        out = outputs[stage["module"]]
        assert out.shape[-1 if out.ndim == 3 else 1] == stage["num_chs"]
        if out.ndim == 4 and model_info(name).family == "resnet":
            assert out.shape[2] == side(name) // stage["reduction"]


def test_learns(name: str) -> None:
    """A step against the gradient lowers the loss, and the gradient reaches every parameter."""
    torch.manual_seed(0)
    channels = model_info(name).input[0]
    model = small(name, num_classes=10, in_chans=channels).train()
    x, y = torch.randn(6, channels, side(name), side(name)), torch.arange(6)
    loss = nn.functional.cross_entropy(model(x), y)
    loss.backward()
    for key, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), key
    assert sum(float(p.grad.abs().sum()) for p in model.parameters()) > 0
    norm = torch.cat([p.grad.flatten() for p in model.parameters()]).norm()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter -= 1e-2 * parameter.grad / norm
    assert nn.functional.cross_entropy(model(x), y) < loss


def test_head_can_be_replaced(name: str) -> None:
    if name == "lenet5_1998":
        pytest.skip("its ten outputs are fixed; test_lenet.py")
    model = small(name, num_classes=7, in_chans=1).eval()
    x = torch.randn(2, 1, side(name), side(name))
    with torch.no_grad():
        hidden = model.forward_head(model.forward_features(x), pre_logits=True)
        model.reset_classifier(3)
        assert model(x).shape == (2, 3) and model.num_classes == 3
        model.reset_classifier(0)
        assert torch.equal(model(x), hidden) and model.num_classes == 0
        model.reset_classifier(5)
        assert model(x).shape == (2, 5)


def test_copies_and_states_agree(name: str) -> None:
    model = small(name).eval()
    other = small(name).eval()
    other.load_state_dict(model.state_dict(), strict=True)
    x = torch.randn(1, model.in_chans, side(name), side(name))
    with torch.no_grad():
        expected = model(x)
        assert torch.equal(other(x), expected)
        assert torch.equal(copy.deepcopy(model)(x), expected)


def test_arguments_are_plain_and_complete(name: str) -> None:
    """What `model_arguments` lists, sent through JSON, builds the same network."""
    arguments = json.loads(json.dumps(model_arguments(name)))
    with torch.device("meta"):
        model = create_model(name, **arguments)
    assert sum(p.numel() for p in model.parameters()) == COUNTS[name][0]


def test_info_is_plain(name: str) -> None:
    info = model_info(name)
    assert json.loads(json.dumps(info.to_dict()))["name"] == info.name == name
    assert len(info.mean) == len(info.std) == info.input[0]
    assert not info.reference or info.reference.startswith("https://")


def test_listing() -> None:
    assert set(list_models()) == set(COUNTS)
    assert list_models("*_2015") == ["resnet50_2015", "resnet101_2015", "resnet152_2015"]
    assert list_models("plain?4") == ["plain34"]
    assert list_models("nothing*") == []


def test_listing_needs_no_torch() -> None:
    code = (
        "import sys, sightline.models as m; m.list_models(); m.model_info('resnet50').to_dict(); "
        "m.available_weights('resnet50'); print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


@pytest.mark.parametrize(
    ("name", "arguments", "words"),
    [
        ("resnet17", {}, "did you mean resnet18"),
        ("tim/resnet18", {}, "did you mean timm"),
        ("resnet18", {"drop_rat": 0.1}, "did you mean drop_rate"),
        ("lecture_net", {"kernelsize": 3}, "did you mean kernel_size"),
        ("lenet5", {"depth": 3}, "it takes none of its own"),
        ("resnet18", {"drop_rate": "much"}, "drop_rate takes a value such as 0.0, not 'much'"),
        ("resnet18", {"layers": 2}, "layers takes a value such as (2, 2, 2, 2), not 2"),
        ("resnet18", {"layers": [2, 2.5]}, "layers takes a value such as"),
        ("resnet18", {"drop_rate": 1.5}, "lie in [0, 1)"),
        ("resnet18", {"layers": [2, 2]}, "must name the same stages"),
        ("resnet18", {"layers": [0, 2, 2, 2]}, "at least 1"),
        ("resnet18", {"stem": "tall"}, "stem is imagenet or half or cifar, not tall"),
        ("resnet18", {"groups": 2}, "for bottleneck blocks"),
        ("resnet50", {"base_width": 4, "widths": [8, 64, 64, 64]}, "no channel left"),
        ("plain18", {"zero_init_residual": True}, "no residual branch"),
        ("resnet18_a", {"widths": [64, 32, 32, 32]}, "cannot shrink"),
        ("resnet18", {"img_size": 16}, "16x16 pixels are too small, it needs at least 17"),
        ("resnet20", {"img_size": (32, 2)}, "32x2 pixels are too small, it needs at least 3"),
        ("resnet18", {"img_size": (1, 2, 3)}, "one or two whole numbers"),
        ("resnet18", {"num_classes": -1}, "num_classes is a whole number of at least 0, not -1"),
        ("resnet18", {"num_classes": 2.0}, "num_classes is a whole number"),
        ("resnet18", {"in_chans": 0}, "in_chans is a whole number of at least 1, not 0"),
        ("lecture_net", {"kernel_size": 0}, "kernel_size is at least 1"),
        ("lecture_net", {"widths": [16]}, "two counts of filters"),
        ("lecture_net", {"img_size": 3}, "too small"),
        ("lecture_vit", {"img_size": 30}, "multiples of 4"),
        ("lecture_vit", {"num_heads": 5}, "does not divide into 5 heads"),
        ("lenet5", {"img_size": 20}, "at least 28"),
        ("lenet5_1998", {"img_size": 28}, "32x32 pixels, not 28x28"),
        ("lenet5_1998", {"num_classes": 12}, "cannot tell 12 classes apart; lenet5 takes any number"),
    ],
)
def test_mistakes_are_one_sentence(name: str, arguments: dict[str, object], words: str) -> None:
    with pytest.raises(SightlineError) as caught:
        create_model(name, **arguments)  # type: ignore[arg-type]
    message = str(caught.value)
    assert words in message and "\n" not in message and message.endswith((".", "?"))
    assert name.split("/")[0] in message
    assert isinstance(caught.value, UnknownName) == ("called" in message)
