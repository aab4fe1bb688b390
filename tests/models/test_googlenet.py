"""GoogLeNet against torchvision, against the paper's table and Caffe's graph, and part by part."""

import math
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from sightline.errors import SightlineError
from sightline.models import create_model, load_weights, model_info
from tests.models.parity import difference, same_in_evaluation, same_in_training

torch.set_num_threads(1)


def picture(side: int, batch: int = 2) -> Tensor:
    return torch.randn(batch, 3, side, side, generator=torch.Generator().manual_seed(1))


def torchvisions(**kwargs: object) -> nn.Module:
    from torchvision.models import GoogLeNet

    return GoogLeNet(init_weights=False, **kwargs)  # type: ignore[arg-type]


def count(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


# -------------------------------------------------------------------------------------------- torchvision's
@pytest.mark.parametrize("side", [15, 64, 97])
def test_equals_torchvision(side: int) -> None:
    same_in_evaluation(create_model("googlenet"), torchvisions(), picture(side))


def all_of_ours(model: nn.Module, x: Tensor) -> list[Tensor]:
    out, (lower, upper) = model.forward_auxiliary(x)
    return [out, upper, lower]


def test_learns_as_torchvision() -> None:
    """Its auxiliary classifiers too, in the order (logits, upper, lower)."""
    ours = create_model("googlenet", drop_rate=0.0, aux_drop_rate=0.0)
    theirs = torchvisions(dropout=0.0, dropout_aux=0.0)
    same_in_training(ours, theirs, picture(80), all_of_ours, lambda model, x: list(model(x)))


@pytest.mark.full
def test_equals_torchvision_in_full() -> None:
    same_in_evaluation(create_model("googlenet"), torchvisions(), picture(224))
    ours = create_model("googlenet", drop_rate=0.0, aux_drop_rate=0.0)
    theirs = torchvisions(dropout=0.0, dropout_aux=0.0)
    same_in_training(ours, theirs, picture(224), all_of_ours, lambda model, x: list(model(x)))


def test_published_weights_see_what_they_were_trained_on() -> None:
    """torchvision normalises as for ImageNet and again within; here the preprocessing does it at once."""
    from torchvision.models import GoogLeNet_Weights

    theirs = torchvisions(transform_input=True).eval()
    ours = create_model("googlenet").eval()
    ours.load_state_dict(theirs.state_dict(), strict=True)
    pixels = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    preset = GoogLeNet_Weights.IMAGENET1K_V1.transforms()
    info = model_info("googlenet")
    row = info.weights[0]
    assert (row.mean, row.std) == (info.mean, info.std)

    def normalised(mean: object, std: object) -> Tensor:
        return (pixels - torch.tensor(mean)[:, None, None]) / torch.tensor(std)[:, None, None]

    with torch.no_grad():
        expected = theirs(normalised(preset.mean, preset.std))
        assert difference(ours(normalised(row.mean, row.std)), expected) < 1e-5


def test_published_layout_loads(tmp_path: Path) -> None:
    """For other classes: the auxiliary classifiers start fresh with the classifier, or are left aside."""
    theirs = torchvisions()
    torch.save(theirs.state_dict(), tmp_path / "googlenet.pth")
    report = load_weights(create_model("googlenet"), tmp_path / "googlenet.pth")
    assert not report.fresh and not report.dropped
    without = load_weights(
        create_model("googlenet", num_classes=5, aux_logits=False), tmp_path / "googlenet.pth"
    )
    assert without.fresh == ["fc.weight", "fc.bias"] and all(k.startswith("aux") for k in without.dropped)
    model = create_model("googlenet", num_classes=5)
    report = load_weights(model, tmp_path / "googlenet.pth")
    assert {"fc.weight", "aux1.fc2.weight", "aux2.fc2.bias"} <= set(report.fresh)
    assert "inception4a.branch1.conv.weight" in report.kept
    assert torch.equal(model.conv3.conv.weight, theirs.conv3.conv.weight)


# ------------------------------------------------------------------------------------------------- of 2014
# Table 1: what each row puts out, and its parameters with biases: those of the convolutions of the type given.
TABLE_1 = {
    "conv1": ((64, 112, 112), 7 * 7 * 3 * 64 + 64),
    "maxpool1": ((64, 56, 56), 0),
    "conv2": ((64, 56, 56), 64 * 64 + 64),
    "conv3": ((192, 56, 56), 3 * 3 * 64 * 192 + 192),
    "maxpool2": ((192, 28, 28), 0),
    "inception3a": ((256, 28, 28), 163_696),
    "inception3b": ((480, 28, 28), 388_736),
    "maxpool3": ((480, 14, 14), 0),
    "inception4a": ((512, 14, 14), 376_176),
    "inception4b": ((512, 14, 14), 449_160),
    "inception4c": ((512, 14, 14), 510_104),
    "inception4d": ((528, 14, 14), 605_376),
    "inception4e": ((832, 14, 14), 868_352),
    "maxpool4": ((832, 7, 7), 0),
    "inception5a": ((832, 7, 7), 1_043_456),
    "inception5b": ((1024, 7, 7), 1_444_080),
    "avgpool": ((1024, 1, 1), 0),
    "fc": ((1000,), 1024 * 1000 + 1000),
}


def test_rows_are_the_papers() -> None:
    with torch.device("meta"):
        model = create_model("googlenet_2014").eval()
    shapes: dict[str, tuple[int, ...]] = {}
    for name in TABLE_1:
        model.get_submodule(name).register_forward_hook(
            lambda _module, _inputs, out, name=name: shapes.update({name: tuple(out.shape[1:])})
        )
    _, auxiliary = model.forward_auxiliary(torch.empty(1, 3, 224, 224, device="meta"))
    found = {name: (shapes[name], count(model.get_submodule(name))) for name in TABLE_1}
    assert found == TABLE_1
    assert sum(params for _, params in TABLE_1.values()) == 6_998_552
    assert [out.shape for out in auxiliary] == [(1, 1000), (1, 1000)]


@pytest.mark.parametrize(
    ("name", "bare", "whole"),
    [("googlenet", 6_624_904, 13_004_888), ("googlenet_2014", 6_998_552, 13_378_280)],
)
def test_counts_with_and_without_auxiliary_classifiers(name: str, bare: int, whole: int) -> None:
    with torch.device("meta"):
        assert count(create_model(name)) == whole == model_info(name).params
        assert count(create_model(name, aux_logits=False)) == bare
    assert f"{bare:,} parameters without" in model_info(name).note


def test_auxiliary_classifiers_are_the_papers() -> None:
    """Section 5: 5x5 means in steps of 3, 4x4x512 and 4x4x528; 128 filters; 1024 units; 70 % dropped."""
    with torch.device("meta"):
        model = create_model("googlenet_2014")
    for aux, chans in ((model.aux1, 512), (model.aux2, 528)):
        pooled = aux.pool(torch.empty(1, chans, 14, 14, device="meta"))
        assert pooled.shape == (1, chans, 4, 4) and (aux.pool.kernel_size, aux.pool.stride) == ((5, 5), 3)
        assert aux.conv.conv.weight.shape == (128, chans, 1, 1)
        assert aux.fc1.weight.shape == (1024, 128 * 16) and aux.dropout.p == 0.7
    assert model.aux_weight == 0.3 and model.dropout.p == 0.4


def test_of_2014_has_5x5_and_response_normalisation_and_no_batch_norm() -> None:
    with torch.device("meta"):
        paper, today = create_model("googlenet_2014"), create_model("googlenet")
    for model, side, norm in ((paper, 5, nn.LocalResponseNorm), (today, 3, nn.BatchNorm2d)):
        for name in ("3a", "3b", "4a", "4b", "4c", "4d", "4e", "5a", "5b"):
            conv = model.get_submodule(f"inception{name}.branch3.1.conv")
            assert conv.kernel_size == (side, side) and (conv.bias is None) == (model is today)
        kinds = {type(m) for m in model.modules()} & {nn.LocalResponseNorm, nn.BatchNorm2d}
        assert kinds == {norm}
    assert all(m.eps == 1e-3 for m in today.modules() if isinstance(m, nn.BatchNorm2d))


def test_response_normalisation_is_caffes() -> None:
    """k = 1, five neighbouring maps, alpha 1e-4 over five, beta 0.75."""
    norm = create_model("googlenet_2014", width=0.1, aux_logits=False).norm1
    a = 300 * torch.rand(2, 7, 2, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for i in range(7):
        total = sum(a[:, j] ** 2 for j in range(max(0, i - 2), min(6, i + 2) + 1))
        assert torch.allclose(norm(a)[:, i], a[:, i] / (1 + 1e-4 / 5 * total) ** 0.75, rtol=1e-12)


def test_starts() -> None:
    torch.manual_seed(0)
    for name in ("googlenet", "googlenet_2014"):
        model = create_model(name)
        for key, layer in model.named_modules():
            if not isinstance(layer, nn.Conv2d | nn.Linear):
                continue
            if name == "googlenet":
                assert float(layer.weight.data.std()) == pytest.approx(0.01, rel=0.1), key
            else:  # Caffe's "xavier" filler
                bound = math.sqrt(3 / layer.weight[0].numel())
                assert bound * 0.95 < float(layer.weight.data.abs().max()) <= bound * (1 + 1e-6), key
                bias = 0.0 if key in ("fc", "aux1.fc2", "aux2.fc2") else 0.2
                assert torch.equal(layer.bias, torch.full_like(layer.bias, bias)), key


# --------------------------------------------------------------------------------------------------- both
@pytest.mark.parametrize("name", ["googlenet", "googlenet_2014"])
def test_auxiliary_classifiers_take_part_in_training_only(name: str) -> None:
    model = create_model(name, width=0.125, img_size=64, num_classes=6, drop_rate=0.0, aux_drop_rate=0.0)
    x = picture(64)
    assert isinstance(model.train()(x), Tensor)  # one tensor, in training too
    out, auxiliary = model.eval().forward_auxiliary(x)
    assert torch.equal(model(x), out)
    assert [a.shape for a in auxiliary] == [(2, 6), (2, 6)]
    loss = out.logsumexp(1).mean() + model.aux_weight * sum(a.logsumexp(1).mean() for a in auxiliary)
    loss.backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    model.reset_classifier(4)
    out, auxiliary = model.forward_auxiliary(x)
    assert [a.shape for a in (out, *auxiliary)] == [(2, 4)] * 3
    bare = create_model(name, width=0.125, img_size=64, num_classes=6, aux_logits=False).eval()
    assert bare.forward_auxiliary(x)[1] == []


@pytest.mark.parametrize(("name", "size"), [("googlenet", (15, 40)), ("googlenet_2014", (31, 120))])
def test_other_sizes_and_channels(name: str, size: tuple[int, int]) -> None:
    model = create_model(name, width=0.1, img_size=size, in_chans=5, num_classes=3).eval()
    out, auxiliary = model.forward_auxiliary(torch.randn(2, 5, *size))
    assert [a.shape for a in (out, *auxiliary)] == [(2, 3)] * 3
    assert model(torch.randn(1, 5, 90, 33)).shape == (1, 3)


def test_checkpointing_changes_no_number() -> None:
    plain = create_model("googlenet", width=0.125, drop_rate=0.0, aux_drop_rate=0.0).double()
    saving = create_model("googlenet", width=0.125, drop_rate=0.0, aux_drop_rate=0.0).double()
    saving.load_state_dict(plain.state_dict(), strict=True)
    saving.set_grad_checkpointing()
    for model in (plain, saving):
        out, auxiliary = model(picture(64).double()), model.forward_auxiliary(picture(64).double())[1]
        (out.square().mean() + sum(a.square().mean() for a in auxiliary)).backward()
    for (name, a), (_, b) in zip(plain.named_parameters(), saving.named_parameters(), strict=True):
        assert torch.allclose(a.grad, b.grad, rtol=1e-10, atol=1e-15), name
    for (name, a), (_, b) in zip(plain.named_buffers(), saving.named_buffers(), strict=True):
        assert torch.equal(a, b), name


@pytest.mark.parametrize(
    ("name", "arguments", "words"),
    [
        ("googlenet", {"img_size": 14}, "14x14 pixels are too small, it needs at least 15"),
        ("googlenet_2014", {"img_size": 30}, "30x30 pixels are too small, it needs at least 31"),
        ("googlenet", {"width": 0.0}, "width is more than 0"),
        ("googlenet", {"aux_drop_rate": 1.0}, "lie in [0, 1)"),
    ],
)
def test_mistakes(name: str, arguments: dict[str, object], words: str) -> None:
    with pytest.raises(SightlineError) as caught:
        create_model(name, **arguments)  # type: ignore[arg-type]
    assert words in str(caught.value)
