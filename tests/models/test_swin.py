"""The Swin Transformers against timm's and torchvision's, and published layouts through the real loading."""

import math
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from sightline.errors import SightlineError
from sightline.models import create_model, load_weights, model_info, published_weights
from sightline.models.attention import attention_weights
from sightline.models.protocol import DropPath
from sightline.models.swin import (
    VARIANTS,
    SwinTransformer,
    convert_state_dict,
    map_of,
    shift_mask,
    windows_of,
)
from tests.models.transformers import assert_same, distance, outputs, randomise

torch.set_num_threads(1)

SMALL = {"embed_dim": 24, "depths": (2, 3, 2), "num_heads": (2, 3, 6), "num_classes": 7}
STAGES = ["layers.0", "layers.1", "layers.2"]


def timms(**kwargs: object) -> nn.Module:
    from timm.models.swin_transformer import SwinTransformer

    return SwinTransformer(**{"drop_path_rate": 0.0} | kwargs)  # type: ignore[arg-type]


def small(**kwargs: object) -> nn.Module:
    return create_model("swin_tiny_patch4_window7_224", **(SMALL | kwargs))  # type: ignore[arg-type]


def picture(height: int = 112, width: int = 112) -> Tensor:
    return torch.randn(2, 3, height, width, generator=torch.Generator().manual_seed(5))


def channels_first(x: Tensor) -> Tensor:
    return x.permute(0, 3, 1, 2)


# ------------------------------------------------------------------------------------------------ the network
@pytest.mark.parametrize(
    "kwargs",
    [
        {"img_size": 112},  # 28, 14 and 7 tokens: windows fit, the last stage is one
        {"img_size": (64, 96)},  # 16x24: filled up with zeros; the last 4x6 is one window of its own
        {"img_size": (56, 116)},  # 14x29: an odd column is merged
        {"img_size": (28, 84)},  # 7x21: shifted along one axis alone
        {"img_size": 64, "window_size": 4, "mlp_ratio": 2.5},
        {"img_size": 56, "patch_size": 2, "window_size": 6},
    ],
)
def test_equals_timm(kwargs: dict[str, object]) -> None:
    size = kwargs["img_size"]
    height, width = size if isinstance(size, tuple) else (size, size)
    assert_same(small(**kwargs), timms(**SMALL | kwargs), (height, width), channels_first)


@pytest.mark.full
@pytest.mark.parametrize("name", VARIANTS)
def test_equals_timm_at_full_size(name: str) -> None:
    import timm

    ours, theirs = create_model(name), timm.create_model(name, drop_path_rate=0.0)
    _, height, width = model_info(name).input
    assert_same(ours, theirs, (height, width), channels_first)


@pytest.mark.parametrize("name", VARIANTS)
def test_has_timms_layout(name: str) -> None:
    import timm

    with torch.device("meta"):
        ours, theirs = create_model(name), timm.create_model(name)
    assert {k: v.shape for k, v in ours.state_dict().items()} == {
        k: v.shape for k, v in theirs.state_dict().items()
    }
    assert ours.feature_info == theirs.feature_info
    assert ours.no_weight_decay() == theirs.no_weight_decay()
    assert ours.num_features == theirs.num_features


def test_starts_as_timms() -> None:
    torch.manual_seed(0)
    ours, theirs = small(embed_dim=48), timms(**SMALL | {"img_size": 112, "embed_dim": 48})
    for (name, mine), other in zip(ours.state_dict().items(), theirs.state_dict().values(), strict=True):
        assert float(mine.std()) == pytest.approx(float(other.std()), rel=0.2, abs=1e-5), name
        assert float(mine.mean()) == pytest.approx(float(other.mean()), abs=0.004 + 0.3 * float(other.std()))


def test_windows_are_taken_apart_and_put_together() -> None:
    x = torch.arange(2 * 4 * 6.0).reshape(2, 4, 6, 1)
    windows = windows_of(x, (2, 3))
    assert windows.shape == (8, 6, 1)
    assert windows[0, :, 0].tolist() == [0, 1, 2, 6, 7, 8] and windows[3, :, 0].tolist() == [
        15,
        16,
        17,
        21,
        22,
        23,
    ]
    assert torch.equal(map_of(windows, (2, 3), (4, 6)), x)


def test_mask_keeps_apart_what_the_shift_joins() -> None:
    """A 4x4 map in windows of 2x2, shifted by one: by hand."""
    mask = shift_mask((4, 4), (2, 2), (1, 1))
    assert not mask[0].any()  # rows and columns 1, 2: neighbours all
    assert (mask[1] < 0).tolist() == [[i % 2 != j % 2 for j in range(4)] for i in range(4)]  # columns 3 and 0
    assert (mask[2] < 0).tolist() == [[i // 2 != j // 2 for j in range(4)] for i in range(4)]  # rows 3 and 0
    assert (mask[3] < 0).tolist() == [[i != j for j in range(4)] for i in range(4)]
    assert mask.unique().tolist() == [-100, 0]


def test_a_token_is_told_of_its_window_alone_until_the_windows_move() -> None:
    model = small().eval()
    randomise(model)
    first, second = model.layers[0].blocks
    x = torch.randn(1, 28, 28, 24)
    changed = x.clone()
    changed[0, 6, 6] = 10 * torch.randn(24)  # the last token of the first window
    moved = (first(changed) - first(x)).abs().sum(dim=-1)[0] > 1e-6
    assert moved[:7, :7].all() and not moved[7:].any() and not moved[:, 7:].any()
    moved = (second(changed) - second(x)).abs().sum(dim=-1)[0] > 1e-6
    assert moved[3:10, 3:10].all() and int(moved.sum()) == 49


def test_weights_of_windows_can_be_looked_at() -> None:
    model = small().eval()
    randomise(model)
    expected = model(picture())
    with attention_weights(model) as seen:
        assert distance(model(picture()), expected) < 1e-5
    assert list(seen) == [
        f"layers.{i}.blocks.{j}.attn" for i, depth in enumerate((2, 3, 2)) for j in range(depth)
    ]
    assert seen["layers.0.blocks.1.attn"].shape == (2 * 16, 2, 49, 49)
    assert torch.allclose(seen["layers.0.blocks.1.attn"].sum(dim=-1), torch.ones(32, 2, 49), atol=1e-5)
    last = seen["layers.0.blocks.1.attn"].detach()[
        15
    ]  # of the first picture, at the corner where four parts meet
    assert float(last[:, 0, -1].max()) < 1e-30 and float(last[:, 0, 0].min()) > 0


def test_each_dropout_stands_where_timm_has_it() -> None:
    rates = {"drop_rate": 0.1, "proj_drop_rate": 0.2, "attn_drop_rate": 0.3, "drop_path_rate": 0.6}
    ours, theirs = small(**rates), timms(**SMALL | {"img_size": 112} | rates)
    blocks = [[block for stage in model.layers for block in stage.blocks] for model in (ours, theirs)]
    for mine, other in zip(*blocks, strict=True):
        assert mine.attn.attn_drop == other.attn.attn_drop.p == 0.3
        assert mine.attn.proj_drop.p == other.attn.proj_drop.p == 0.2
        assert mine.mlp.drop1.p == mine.mlp.drop2.p == other.mlp.drop1.p == 0.2
        rate = mine.drop_path.drop_prob if isinstance(mine.drop_path, DropPath) else 0.0
        assert rate == pytest.approx(getattr(other.drop_path1, "drop_prob", 0.0))
    assert ours.head.drop.p == theirs.head.drop.p == 0.1
    assert not torch.equal(ours.train()(picture()), ours(picture()))
    assert torch.equal(ours.eval()(picture()), ours(picture()))


def test_checkpointing_changes_no_number() -> None:
    model = small()
    randomise(model)
    gradients = []
    for enable in (False, True):
        model.set_grad_checkpointing(enable)
        model.zero_grad()
        model(picture()).square().sum().backward()
        gradients.append([p.grad for p in model.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))


def test_compiles_without_a_break() -> None:
    model = small(img_size=(64, 96)).eval()
    compiled = torch.compile(model, fullgraph=True, backend="eager")
    assert torch.allclose(compiled(picture(64, 96)), model(picture(64, 96)), atol=1e-6)


@pytest.mark.parametrize(
    ("kwargs", "sentence"),
    [
        ({"img_size": 63}, "patches of 4x4 do not fill pictures of 63x63"),
        ({"img_size": (64, 2)}, "too small"),
        ({"depths": (2, 2)}, "must name the same stages"),
        ({"num_heads": (2, 5, 6)}, "width 48 does not divide into 5 heads"),
        ({"window_size": 0}, "at least 1"),
        ({"attn_drop_rate": -0.1}, r"\[0, 1\)"),
    ],
)
def test_what_makes_no_network_is_said(kwargs: dict[str, object], sentence: str) -> None:
    with pytest.raises(SightlineError, match=f"swin_tiny_patch4_window7_224: .*{sentence}"):
        small(**kwargs)


def test_a_picture_of_another_size_is_refused() -> None:
    with pytest.raises(SightlineError, match="pictures of 112x112, not 112x116; set img_size"):
        small()(picture(112, 116))


# ------------------------------------------------------------------------------------------------ weights
def authors_state(model: nn.Module) -> dict[str, Tensor]:
    """`model`'s weights as the authors' files have them: patches merged at a stage's end, offsets and masks kept."""
    state = {}
    for key, value in model.state_dict().items():
        stage = key.split(".")[1]
        key = (
            key.replace(f"layers.{stage}.downsample", f"layers.{int(stage or 0) - 1}.downsample")
            if "downsample" in key
            else key
        )
        state[key.replace("head.fc.", "head.")] = value
    for name, module in model.named_modules():
        if hasattr(module, "relative_position_index"):
            state[f"{name}.relative_position_index"] = module.relative_position_index
        if getattr(module, "attn_mask", None) is not None:
            state[f"{name}.attn_mask"] = module.attn_mask
    return state


def test_the_authors_layout(tmp_path: Path) -> None:
    """timm, whose converter is the oracle, and we read the same from a file of theirs."""
    from timm.models.swin_transformer import checkpoint_filter_fn

    source = small()
    randomise(source)
    state = authors_state(source)
    assert "layers.1.downsample.norm.weight" in state and "layers.2.downsample.norm.weight" not in state
    assert "layers.0.blocks.1.attn_mask" in state and "head.weight" in state
    expected = checkpoint_filter_fn(dict(state), timms(**SMALL, img_size=112))
    converted = convert_state_dict(state)
    assert converted.keys() == expected.keys() == source.state_dict().keys()
    assert all(torch.equal(converted[key], expected[key]) for key in expected)

    torch.save({"model": state}, tmp_path / "swin.pth")
    model = small().eval()
    report = load_weights(model, tmp_path / "swin.pth")
    assert not (report.adapted or report.fresh or report.dropped)
    assert torch.equal(model(picture()), source.eval()(picture()))


def test_torchvisions_layout(tmp_path: Path) -> None:
    from torchvision.models.swin_transformer import SwinTransformer

    theirs = SwinTransformer(
        [4, 4], 24, [2, 3, 2], [2, 3, 6], [7, 7], num_classes=7, stochastic_depth_prob=0.0
    )
    randomise(theirs)
    state = theirs.state_dict()
    indices = [key for key in state if key.endswith("relative_position_index")]
    converted = convert_state_dict(state)
    assert len(converted) == len(state) - len(indices)
    model = small().eval()
    model.load_state_dict(converted, strict=True)
    names = ["features.1", "features.3", "features.5"]
    mine, yours = outputs(model, STAGES, picture()), outputs(theirs, names, picture())
    for a, b in zip(mine, yours, strict=True):
        assert distance(a, channels_first(b) if b.ndim == 4 else b) < 1e-5

    torch.save(state, tmp_path / "swin.pth")
    loaded = small(num_classes=3)
    report = load_weights(loaded, tmp_path / "swin.pth")
    assert report.fresh == ["head.fc.weight", "head.fc.bias"] and not report.adapted
    assert torch.equal(loaded.layers[2].downsample.reduction.weight, theirs.features[4].reduction.weight)


def test_our_own_layout_stays() -> None:
    state = small().state_dict()
    assert convert_state_dict(state) == state


def test_larger_pictures_keep_every_weight(tmp_path: Path) -> None:
    source = small()
    randomise(source)
    torch.save(source.state_dict(), tmp_path / "swin.pth")
    report = load_weights(small(img_size=(160, 224)), tmp_path / "swin.pth")
    assert not (report.adapted or report.fresh or report.dropped)


def test_smaller_windows_keep_the_bias_of_each_offset(tmp_path: Path) -> None:
    """At 64x80 the last stage is one window of 4x5."""
    source = small()
    randomise(source)
    torch.save(source.state_dict(), tmp_path / "swin.pth")
    model = small(img_size=(64, 80))
    report = load_weights(model, tmp_path / "swin.pth")
    tables = [f"layers.2.blocks.{i}.attn.relative_position_bias_table" for i in range(2)]
    assert report.adapted == tables
    before, after = source.layers[2].blocks[0].attn, model.layers[2].blocks[0].attn
    for (y, x), (v, u) in [((0, 0), (3, 4)), ((3, 1), (0, 2)), ((2, 2), (2, 2))]:  # from one token to another
        old = before.relative_position_index[y * 7 + x, v * 7 + u]
        new = after.relative_position_index[y * 5 + x, v * 5 + u]
        assert torch.equal(after.relative_position_bias_table[new], before.relative_position_bias_table[old])


def test_larger_windows_are_interpolated(tmp_path: Path) -> None:
    """Each head's 13x13 offsets become 23x23, as a picture is resized; the middle stays where it was."""
    from torchvision.transforms.v2 import InterpolationMode
    from torchvision.transforms.v2.functional import resize

    source = small()
    randomise(source)
    torch.save(source.state_dict(), tmp_path / "swin.pth")
    model = small(img_size=192, window_size=12)
    assert len(load_weights(model, tmp_path / "swin.pth").adapted) == 7
    before, after = (
        m.state_dict()["layers.1.blocks.2.attn.relative_position_bias_table"] for m in (source, model)
    )
    pictures = before.T.reshape(3, 13, 13)
    expected = resize(pictures, [23, 23], InterpolationMode.BICUBIC, antialias=False)
    assert torch.allclose(after.T.reshape(3, 23, 23), expected, atol=1e-5)
    assert torch.allclose(after[11 * 23 + 11], before[6 * 13 + 6], atol=1e-5)


def test_files_of_another_network_are_said(tmp_path: Path) -> None:
    torch.save(small(num_heads=(2, 3, 3)).state_dict(), tmp_path / "heads.pth")
    torch.save(authors_state(small(depths=(2, 2, 2))), tmp_path / "depths.pth")
    with pytest.raises(
        SightlineError, match=r"of another shape are layers\.2\.blocks\.0\.attn\.relative_position"
    ):
        load_weights(small(), tmp_path / "heads.pth")
    with pytest.raises(SightlineError, match=r"it lacks layers\.1\.blocks\.2\.norm1\.weight"):
        load_weights(small(), tmp_path / "depths.pth")


# ------------------------------------------------------------------------------------------------ the catalogue
def test_published_weights_are_told_as_their_publishers_do() -> None:
    from timm.models import get_pretrained_cfg
    from torchvision.models import get_model_weights

    for name in VARIANTS:
        assert published_weights(name)
        for row in published_weights(name):
            if row.name == "IMAGENET1K_V1":
                entry = get_model_weights(f"swin_{name.split('_')[1][0]}")[row.name]
                preset, metrics = entry.transforms(), entry.meta["_metrics"]["ImageNet-1K"]
                assert row.url == entry.url and row.sha256 in entry.url
                assert ([row.size], [row.resize]) == (preset.crop_size, preset.resize_size)
                assert (row.mean, row.std) == (tuple(preset.mean), tuple(preset.std))
                assert row.interpolation == preset.interpolation.value
                assert row.top1_error == pytest.approx(100 - metrics["acc@1"], abs=1e-9)
                assert row.top5_error == pytest.approx(100 - metrics["acc@5"], abs=1e-9)
            else:
                theirs = get_pretrained_cfg(f"{name}.{row.name}")
                assert (row.url, row.size) == (theirs.url, theirs.input_size[1])
                assert (row.mean, row.std) == (theirs.mean, theirs.std)
                assert row.interpolation == theirs.interpolation
                assert row.resize == (256 if row.size == 224 else math.floor(row.size / theirs.crop_pct))


def test_every_variant_is_the_papers() -> None:
    """Section 3.3: C and the blocks of each stage; heads of 32 channels, an MLP four times as wide."""
    table = {
        "tiny": (96, [2, 2, 6, 2]),
        "small": (96, [2, 2, 18, 2]),
        "base": (128, [2, 2, 18, 2]),
        "large": (192, [2, 2, 18, 2]),
    }
    for name in VARIANTS:
        with torch.device("meta"):
            model = create_model(name)
        assert isinstance(model, SwinTransformer)
        width, depths = table[name.split("_")[1]]
        assert [len(stage.blocks) for stage in model.layers] == depths
        for i, stage in enumerate(model.layers):
            block = stage.blocks[0]
            assert (
                block.attn.num_heads * 32 == width * 2**i and block.mlp.fc1.out_features == 4 * width * 2**i
            )
        side = model_info(name).input[1]
        window = 12 if "window12" in name else 7
        assert model.layers[3].blocks[0].size == (side // 32, side // 32) == (window, window)
