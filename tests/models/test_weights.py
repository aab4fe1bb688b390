"""Weights from files: what is kept, adapted and fresh, and what is refused."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from sightline.errors import SightlineError
from sightline.models import create_model, load_weights
from tests.models.states import same

torch.set_num_threads(1)

TINY = {"layers": (1, 1), "widths": (8, 16), "num_classes": 10}


def tiny(**kwargs: object) -> nn.Module:
    return create_model("resnet18", **(TINY | kwargs))  # type: ignore[arg-type]


def saved(model: nn.Module, path: Path) -> Path:
    if path.suffix == ".safetensors":
        save_file(model.state_dict(), path)
    else:
        torch.save(model.state_dict(), path)
    return path


@pytest.mark.parametrize("suffix", [".pth", ".pt", ".safetensors"])
def test_files(tmp_path: Path, suffix: str) -> None:
    source = tiny()
    model = tiny()
    report = load_weights(model, saved(source, tmp_path / f"w{suffix}"))
    assert same(model.state_dict(), source.state_dict())
    assert report.kept == [name for name, _ in model.named_parameters()]
    assert not (report.adapted or report.fresh or report.dropped)
    assert (
        report.summary()
        == f"{len(report.kept)} of {len(report.kept)} parameter tensors kept from {tmp_path}/w{suffix}."
    )


def test_folder_of_a_run(tmp_path: Path) -> None:
    source, model = tiny(), tiny()
    saved(source, tmp_path / "model.safetensors")
    load_weights(model, str(tmp_path))
    assert same(model.state_dict(), source.state_dict())


@pytest.mark.parametrize("key", ["state_dict", "model", "model_ema"])
@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.", "module._orig_mod.", "_orig_mod.module."])
def test_training_checkpoints(tmp_path: Path, key: str, prefix: str) -> None:
    source, model = tiny(), tiny()
    state = {prefix + name: value for name, value in source.state_dict().items()}
    torch.save({"epoch": 3, key: state, "optimizer": {"lr": 0.1}}, tmp_path / "c.pth")
    load_weights(model, tmp_path / "c.pth")
    assert same(model.state_dict(), source.state_dict())


def test_half_precision_becomes_the_networks(tmp_path: Path) -> None:
    source, model = tiny().half(), tiny()
    load_weights(model, saved(source, tmp_path / "half.safetensors"))
    assert all(p.dtype == torch.float32 for p in model.parameters())
    assert torch.equal(model.conv1.weight, source.conv1.weight.float())


def test_counts_of_batches_may_be_missing(tmp_path: Path) -> None:
    source, model = tiny(), tiny()
    state = {key: value for key, value in source.state_dict().items() if "num_batches" not in key}
    torch.save(state, tmp_path / "old.pth")
    load_weights(model, tmp_path / "old.pth")
    assert torch.equal(model.conv1.weight, source.conv1.weight)


def test_head_of_another_shape_starts_fresh(tmp_path: Path) -> None:
    source, model = tiny(), tiny(num_classes=2)
    before = model.fc.weight.clone()
    report = load_weights(model, saved(source, tmp_path / "w.pth"))
    assert report.fresh == ["fc.weight", "fc.bias"] and not report.adapted
    assert torch.equal(model.fc.weight, before)
    assert same(source.state_dict(), model.state_dict(), without=("fc.",))
    assert "fc.weight, fc.bias fresh" in report.summary()


def test_network_without_head_leaves_it_aside(tmp_path: Path) -> None:
    report = load_weights(tiny(num_classes=0), saved(tiny(), tmp_path / "w.pth"))
    assert report.dropped == ["fc.weight", "fc.bias"] and not report.fresh


def test_file_without_head(tmp_path: Path) -> None:
    report = load_weights(tiny(), saved(tiny(num_classes=0), tmp_path / "w.pth"))
    assert report.fresh == ["fc.weight", "fc.bias"] and not report.dropped


def test_one_channel_from_three(tmp_path: Path) -> None:
    """On a grey picture the adapted network computes what the original computes on three equal channels."""
    torch.manual_seed(0)
    source, model = tiny().eval(), tiny(in_chans=1).eval()
    report = load_weights(model, saved(source, tmp_path / "w.pth"))
    assert report.adapted == ["conv1.weight"]
    grey = torch.rand(2, 1, 32, 32)
    assert torch.allclose(model(grey), source(grey.expand(-1, 3, -1, -1)), atol=1e-5)


def test_three_channels_from_one(tmp_path: Path) -> None:
    torch.manual_seed(0)
    source, model = tiny(in_chans=1).eval(), tiny().eval()
    load_weights(model, saved(source, tmp_path / "w.pth"))
    grey = torch.rand(2, 1, 32, 32)
    assert torch.allclose(model(grey.expand(-1, 3, -1, -1)), source(grey), atol=1e-5)


def test_five_channels_from_three(tmp_path: Path) -> None:
    source, model = tiny(), tiny(in_chans=5)
    load_weights(model, saved(source, tmp_path / "w.pth"))
    expected = source.conv1.weight[:, [0, 1, 2, 0, 1]] * 3 / 5
    assert torch.allclose(model.conv1.weight, expected)


def test_positions_for_another_grid(tmp_path: Path) -> None:
    """A plane of positions stays that plane between its corners; the class token's stays as it is."""
    from timm.models.vision_transformer import VisionTransformer

    size = {"patch_size": 4, "embed_dim": 8, "depth": 1, "num_heads": 2, "num_classes": 3}
    source, model = VisionTransformer(img_size=32, **size), VisionTransformer(img_size=64, **size)
    plane = torch.linspace(-1, 1, 8)[:, None].expand(8, 8).reshape(1, 64, 1).expand(1, 64, 8)
    source.pos_embed.data = torch.cat([torch.full((1, 1, 8), 5.0), plane], dim=1)
    report = load_weights(model, saved(source, tmp_path / "vit.pth"))
    assert report.adapted == ["pos_embed"]
    new = model.pos_embed.data
    assert torch.equal(new[:, 0], torch.full((1, 8), 5.0))
    grid = new[0, 1:, 0].reshape(16, 16)
    assert torch.allclose(grid, grid[:, :1].expand(16, 16), atol=1e-5)
    steps = grid[3:13, 0].diff()
    assert torch.allclose(steps, torch.full_like(steps, 2 / 7 / 2), atol=2e-3)


def test_pictures_of_another_size_change_the_lectures_head_alone(tmp_path: Path) -> None:
    source, model = create_model("lecture_net"), create_model("lecture_net", img_size=32)
    assert load_weights(model, saved(source, tmp_path / "w.pth")).fresh == ["out.weight", "out.bias"]


class Evil:
    """A pickle that runs code when it is loaded."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return Path.touch, (Path("was-run"),)  # type: ignore[return-value]


def test_code_in_a_pickle_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"conv1.weight": torch.zeros(1), "args": Evil()}, tmp_path / "evil.pth")
    with pytest.raises(SightlineError, match="holds more than tensors"):
        load_weights(tiny(), tmp_path / "evil.pth")
    assert not (tmp_path / "was-run").exists()


def write(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def test_what_cannot_be_read_is_one_sentence(tmp_path: Path) -> None:
    whole = saved(tiny(), tmp_path / "whole.pth").read_bytes()
    safe = saved(tiny(), tmp_path / "whole.safetensors").read_bytes()
    torch.save([1, 2], tmp_path / "list.pth")
    torch.save({"epoch": 3}, tmp_path / "empty.pth")
    (tmp_path / "folder").mkdir()
    cases = {
        write(tmp_path / "cut.pth", whole[: len(whole) // 2]): "cannot be read as weights",
        write(tmp_path / "noise.pth", b"not weights at all"): "is damaged or no file of PyTorch's",
        write(tmp_path / "zero.pth", b""): "cannot be read as weights",
        write(tmp_path / "cut.safetensors", safe[: len(safe) // 2]): "cannot be read as weights",
        write(tmp_path / "noise.safetensors", b"xx"): "cannot be read as weights",
        write(tmp_path / "weights.ckpt", whole): "none of .safetensors, .pth, .pt",
        tmp_path / "list.pth": "holds no named tensors but a list",
        tmp_path / "empty.pth": "holds no named tensors",
        tmp_path / "folder": "holds no model.safetensors",
        tmp_path / "absent.pth": "There is no file",
    }
    model = tiny()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    for path, words in cases.items():
        with pytest.raises(SightlineError) as caught:
            load_weights(model, path)
        message = str(caught.value)
        assert words in message and str(path) in message and "\n" not in message and message.endswith(".")
    assert same(model.state_dict(), before)


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    model = tiny()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    cases = {
        saved(
            create_model("lecture_net"), tmp_path / "lecture.pth"
        ): "is of another network than resnet18: it has conv1.0",
        saved(tiny(block="bottleneck"), tmp_path / "deep.pth"): "it has besides layer1.0.conv3.weight",
        saved(tiny(layers=(1, 1, 1), widths=(8, 16, 32)), tmp_path / "more.pth"): "it has besides layer3",
        saved(tiny(layers=(1,), widths=(8,)), tmp_path / "less.pth"): "it lacks layer2.0.conv1.weight, ",
        saved(tiny(widths=(8, 24)), tmp_path / "wide.pth"): "(24x8x3x3 there, 16x8x3x3 here)",
        saved(tiny(stem="cifar"), tmp_path / "stem.pth"): "conv1.weight (8x3x3x3 there, 8x3x7x7 here)",
    }
    for path, words in cases.items():
        with pytest.raises(SightlineError) as caught:
            load_weights(model, path)
        assert words in str(caught.value) and "\n" not in str(caught.value)
    assert same(model.state_dict(), before)
