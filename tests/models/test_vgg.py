"""VGG against torchvision, and part by part."""

import pytest
import torch
from torch import nn

from sightline.errors import SightlineError
from sightline.models import create_model
from tests.models.parity import difference, same_in_evaluation, same_in_training

torch.set_num_threads(1)

CONFIGURATIONS = {"vgg11": "A", "vgg13": "B", "vgg16": "D", "vgg19": "E"}
NAMES = [name + norm for name in CONFIGURATIONS for norm in ("", "_bn")]


def picture(side: int, batch: int = 2) -> torch.Tensor:
    return torch.randn(batch, 3, side, side, generator=torch.Generator().manual_seed(1))


def torchvisions(name: str, hidden: int, dropout: float = 0.5) -> nn.Module:
    """torchvision's network with fewer units in its head."""
    from torchvision.models.vgg import VGG, cfgs, make_layers

    features = make_layers(cfgs[CONFIGURATIONS[name.removesuffix("_bn")]], batch_norm=name.endswith("_bn"))
    with torch.device("meta"):
        net = VGG(nn.Identity(), init_weights=False, dropout=dropout)
    net.features = features
    net.classifier[0] = nn.Linear(512 * 7 * 7, hidden)
    net.classifier[3] = nn.Linear(hidden, hidden)
    net.classifier[6] = nn.Linear(hidden, 1000)
    return net


@pytest.mark.parametrize("name", NAMES)
def test_equals_torchvision(name: str) -> None:
    same_in_evaluation(create_model(name, hidden=16), torchvisions(name, 16), picture(40))


@pytest.mark.parametrize("name", NAMES)
def test_learns_as_torchvision(name: str) -> None:
    ours = create_model(name, hidden=16, drop_rate=0.0)
    same_in_training(ours, torchvisions(name, 16, dropout=0.0), picture(32, batch=4))


@pytest.mark.full
@pytest.mark.parametrize("name", NAMES)
def test_equals_torchvision_in_full(name: str) -> None:
    from torchvision.models import get_model

    same_in_evaluation(create_model(name), get_model(name), picture(224))


@pytest.mark.full
@pytest.mark.parametrize("name", NAMES)
def test_learns_as_torchvision_in_full(name: str) -> None:
    from torchvision.models import get_model

    same_in_training(create_model(name, drop_rate=0.0), get_model(name, dropout=0.0), picture(224, batch=1))


@pytest.mark.parametrize("name", NAMES)
def test_has_torchvisions_layout(name: str) -> None:
    from torchvision.models import get_model

    with torch.device("meta"):
        ours, theirs = create_model(name), get_model(name)
    layout = {key: value.shape for key, value in theirs.state_dict().items()}
    assert {key: value.shape for key, value in ours.state_dict().items()} == layout


def test_names_count_the_layers_with_weights() -> None:
    for name in CONFIGURATIONS:
        with torch.device("meta"):
            model = create_model(name)
        weighty = [m for m in model.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
        assert name == f"vgg{len(weighty)}"


def test_start_is_torchvisions() -> None:
    torch.manual_seed(0)
    model = create_model("vgg16", hidden=64)
    for layer in model.modules():
        if isinstance(layer, nn.Conv2d):
            assert float(layer.weight.data.std()) == pytest.approx(
                (2 / (9 * layer.out_channels)) ** 0.5, rel=0.1
            )
        elif isinstance(layer, nn.Linear):
            assert float(layer.weight.data.std()) == pytest.approx(0.01, rel=0.05)
        if isinstance(layer, nn.Conv2d | nn.Linear):
            assert not layer.bias.any()


def test_stages_halve_the_resolution() -> None:
    model = create_model("vgg11", layers=(1, 2, 1), widths=(4, 6, 8), hidden=16, in_chans=1, num_classes=3)
    assert [stage["reduction"] for stage in model.feature_info] == [1, 2, 4, 8]
    assert [stage["num_chs"] for stage in model.feature_info] == [4, 6, 8, 8]
    assert model.forward_features(torch.rand(1, 1, 8, 20)).shape == (1, 8, 1, 2)
    assert model(torch.rand(1, 1, 8, 20)).shape == (1, 3)


def test_checkpointing_changes_no_number() -> None:
    """Gradients and running statistics as without it, and less is kept for the backward pass."""
    plain = create_model("vgg11_bn", widths=(4, 8, 8, 8, 8), hidden=16, drop_rate=0.0).double()
    saving = create_model("vgg11_bn", widths=(4, 8, 8, 8, 8), hidden=16, drop_rate=0.0).double()
    saving.load_state_dict(plain.state_dict(), strict=True)
    saving.set_grad_checkpointing()
    kept = []
    for model in (plain, saving):
        sizes: list[int] = []
        with torch.autograd.graph.saved_tensors_hooks(
            lambda t, sizes=sizes: sizes.append(t.numel()) or t, lambda t: t
        ):
            loss = model(picture(64).double()).square().mean()
        loss.backward()
        kept.append(sum(sizes))
    for (name, a), (_, b) in zip(plain.named_parameters(), saving.named_parameters(), strict=True):
        assert difference(b.grad, a.grad) < 1e-12, name
    for (name, a), (_, b) in zip(plain.named_buffers(), saving.named_buffers(), strict=True):
        assert torch.equal(a, b), name
    assert kept[1] < kept[0] / 2


def test_dropout_stands_behind_both_hidden_layers() -> None:
    model = create_model("vgg11", hidden=16, drop_rate=0.25)
    assert [i for i, m in enumerate(model.classifier) if isinstance(m, nn.Dropout) and m.p == 0.25] == [2, 5]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"img_size": 31}, "31x31 pixels are too small, it needs at least 32"),
        ({"layers": (1, 1)}, "must name the same stages"),
        ({"hidden": 0}, "at least 1"),
        ({"drop_rate": -0.1}, "drop_rate lies in [0, 1)"),
    ],
)
def test_mistakes(arguments: dict[str, object], words: str) -> None:
    with pytest.raises(SightlineError) as caught:
        create_model("vgg16", **arguments)  # type: ignore[arg-type]
    assert words in str(caught.value)
