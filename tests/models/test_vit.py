"""The Vision Transformers against timm's and torchvision's, and published layouts through the real loading."""

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from sightline.errors import SightlineError
from sightline.models import create_model, load_weights, local_weights, model_info, published_weights
from sightline.models.protocol import DropPath
from sightline.models.vit import VARIANTS, VisionTransformer, convert_state_dict, renamed
from tests.models.transformers import assert_same, distance, randomise

torch.set_num_threads(1)

SMALL = {"embed_dim": 48, "depth": 3, "num_heads": 3, "num_classes": 7}
RATES = ("drop_rate", "pos_drop_rate", "proj_drop_rate", "attn_drop_rate", "drop_path_rate")


def timms(**kwargs: object) -> nn.Module:
    from timm.models.vision_transformer import VisionTransformer

    return VisionTransformer(**kwargs)  # type: ignore[arg-type]


def small(**kwargs: object) -> nn.Module:
    return create_model("vit_base_patch16_224", **(SMALL | {"img_size": 64} | kwargs))  # type: ignore[arg-type]


def picture(height: int = 64, width: int = 64) -> Tensor:
    return torch.randn(2, 3, height, width, generator=torch.Generator().manual_seed(5))


# ------------------------------------------------------------------------------------------------ the network
@pytest.mark.parametrize(
    "kwargs",
    [
        {"img_size": 64},
        {"img_size": (48, 80), "mlp_ratio": 2.5},
        {"img_size": 56, "patch_size": 14},
        {"img_size": 64, "patch_size": 32},
        {"img_size": 64, "global_pool": "avg"},
        {"img_size": 64, "global_pool": "avg", "class_token": False},
    ],
)
def test_equals_timm(kwargs: dict[str, object]) -> None:
    size = kwargs["img_size"]
    height, width = size if isinstance(size, tuple) else (size, size)
    assert_same(small(**kwargs), timms(**SMALL | kwargs), (height, width))


@pytest.mark.full
@pytest.mark.parametrize("name", VARIANTS)
def test_equals_timm_at_full_size(name: str) -> None:
    import timm

    ours, theirs = create_model(name), timm.create_model(name, num_classes=1000)
    assert_same(ours, theirs, (224, 224))


@pytest.mark.parametrize("name", VARIANTS)
def test_has_timms_layout(name: str) -> None:
    import timm

    with torch.device("meta"):
        ours, theirs = create_model(name), timm.create_model(name, num_classes=1000)
    layouts = [{k: v.shape for k, v in model.state_dict().items()} for model in (ours, theirs)]
    assert layouts[0] == layouts[1]
    assert ours.feature_info == theirs.feature_info
    assert ours.no_weight_decay() <= theirs.no_weight_decay()
    assert ours.num_features == theirs.num_features and ours.num_prefix_tokens == theirs.num_prefix_tokens


def test_starts_as_timms() -> None:
    torch.manual_seed(0)
    ours, theirs = small(embed_dim=192), timms(**SMALL | {"img_size": 64, "embed_dim": 192})
    for (name, mine), other in zip(ours.state_dict().items(), theirs.state_dict().values(), strict=True):
        assert float(mine.std()) == pytest.approx(float(other.std()), rel=0.15, abs=1e-5), name
        assert float(mine.mean()) == pytest.approx(float(other.mean()), abs=0.004), name
        assert float(mine.abs().max()) == pytest.approx(float(other.abs().max()), rel=0.5, abs=1e-5), name


def test_fixed_positions_are_the_formula() -> None:
    """Row 2, column 3 of a grid of 4x6 patches, 16 channels; the class token's are zero."""
    model = small(img_size=(64, 96), embed_dim=16, num_heads=2, pos_embed="sincos")
    positions = model.pos_embed[0]
    assert positions.shape == (1 + 4 * 6, 16) and not positions[0].any()
    expected = [
        wave(place * 10000 ** (-i / 4)) for place in (3, 2) for wave in (math.sin, math.cos) for i in range(4)
    ]
    assert positions[1 + 2 * 6 + 3].tolist() == pytest.approx(expected, abs=1e-6)
    assert "pos_embed" not in model.state_dict() and "pos_embed" not in dict(model.named_parameters())
    learned = small(img_size=(64, 96), embed_dim=16, num_heads=2)
    learned.load_state_dict(model.state_dict(), strict=False)
    learned.pos_embed.data.copy_(model.pos_embed)
    assert torch.equal(model.eval()(picture(64, 96)), learned.eval()(picture(64, 96)))


def test_fixed_positions_are_timms_with_the_channels_in_maes_order() -> None:
    from timm.layers import build_sincos2d_pos_embed

    model = small(img_size=(64, 96), embed_dim=24, pos_embed="sincos", global_pool="avg", class_token=False)
    sin_y, sin_x, cos_y, cos_x = build_sincos2d_pos_embed((4, 6), dim=24).split(6, dim=1)
    assert torch.allclose(model.pos_embed[0], torch.cat([sin_x, cos_x, sin_y, cos_y], dim=1), atol=1e-6)


@pytest.mark.parametrize("rate", RATES)
def test_dropouts_act_in_training_only(rate: str) -> None:
    torch.manual_seed(0)
    model = small(**{rate: 0.5})
    randomise(model)
    assert torch.equal(model.eval()(picture()), model(picture()))
    assert not torch.equal(model.train()(picture()), model(picture()))


def test_each_dropout_stands_where_timm_has_it() -> None:
    rates = {rate: (i + 1) / 10 for i, rate in enumerate(RATES)}
    ours, theirs = small(**rates), timms(**SMALL | {"img_size": 64} | rates)
    rest = {n: m.p for n, m in theirs.named_modules() if isinstance(m, nn.Dropout) and "attn_drop" not in n}
    assert {n: m.p for n, m in ours.named_modules() if isinstance(m, nn.Dropout)} == rest
    assert [block.attn.attn_drop for block in ours.blocks] == [0.4] * 3
    paths = [b.drop_path.drop_prob if isinstance(b.drop_path, DropPath) else 0 for b in ours.blocks]
    assert paths == pytest.approx([0, 0.25, 0.5])


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
    model = small(global_pool="avg").eval()
    compiled = torch.compile(model, fullgraph=True, backend="eager")
    assert torch.allclose(compiled(picture()), model(picture()), atol=1e-6)


@pytest.mark.parametrize(
    ("kwargs", "sentence"),
    [
        ({"img_size": 65}, "patches of 16x16 do not fill pictures of 65x65"),
        ({"img_size": (64, 8)}, "too small"),
        ({"num_heads": 5}, "48 does not divide into 5 heads"),
        ({"pos_embed": "none"}, "learn or sincos"),
        ({"pos_embed": "sincos", "embed_dim": 6, "num_heads": 1}, "in fours"),
        ({"global_pool": "max"}, "token or avg"),
        ({"class_token": False}, "without a class token"),
        ({"drop_path_rate": 1.0}, r"\[0, 1\)"),
        ({"depth": 0}, "at least 1"),
    ],
)
def test_what_makes_no_network_is_said(kwargs: dict[str, object], sentence: str) -> None:
    with pytest.raises(SightlineError, match=f"vit_base_patch16_224: .*{sentence}"):
        small(**kwargs)


def test_a_picture_of_another_size_is_refused() -> None:
    with pytest.raises(SightlineError, match="pictures of 64x64, not 64x80; set img_size"):
        small()(picture(64, 80))


# ------------------------------------------------------------------------------------------------ weights
@pytest.mark.parametrize("size", [96, (32, 80), 48])
def test_weights_for_another_size_by_interpolated_positions(
    size: int | tuple[int, int], tmp_path: Path
) -> None:
    from timm.layers import resample_abs_pos_embed

    source = small()
    randomise(source)
    torch.save(source.state_dict(), tmp_path / "weights.pth")
    model = small(img_size=size)
    report = load_weights(model, tmp_path / "weights.pth")
    assert report.adapted == ["pos_embed"] and not report.fresh and not report.dropped
    assert "pos_embed adapted" in report.summary()
    height, width = size if isinstance(size, tuple) else (size, size)
    expected = resample_abs_pos_embed(source.pos_embed.detach(), [height // 16, width // 16])
    assert torch.allclose(model.pos_embed, expected, atol=1e-6)
    assert torch.equal(model.pos_embed[:, 0], source.pos_embed[:, 0])
    assert torch.equal(model.blocks[2].mlp.fc2.weight, source.blocks[2].mlp.fc2.weight)


def torchvisions() -> nn.Module:
    from torchvision.models.vision_transformer import VisionTransformer

    model = VisionTransformer(64, 16, 3, 3, 48, 192, num_classes=7).eval()
    randomise(model)  # it starts with a head of zeros
    nn.init.normal_(model.encoder.pos_embedding)
    return model


@pytest.mark.parametrize("first_files", [False, True])
def test_torchvisions_layout(first_files: bool, tmp_path: Path) -> None:
    theirs = torchvisions()
    state = theirs.state_dict()
    if first_files:  # whose MLPs were classes of their own
        old = {".mlp.0.": ".mlp.linear_1.", ".mlp.3.": ".mlp.linear_2."}
        state = {renamed(key, old): value for key, value in state.items()}
    converted = convert_state_dict(state)
    assert len(converted) == len(state)
    ours = small().eval()
    ours.load_state_dict(converted, strict=True)
    expected = theirs(picture())
    assert distance(ours(picture()), expected) < 1e-5

    torch.save(state, tmp_path / "weights.pth")
    loaded = small().eval()
    report = load_weights(loaded, tmp_path / "weights.pth")
    assert len(report.kept) == len(state)
    assert torch.equal(loaded(picture()), ours(picture()))


def jax_state() -> dict[str, np.ndarray]:
    """Numbers under the names and in the shapes of the authors' files: 3 blocks of 3 heads, 7 classes."""
    random = np.random.default_rng(0)
    attention, mlp = "MultiHeadDotProductAttention_1", "MlpBlock_3"
    shapes: dict[str, tuple[int, ...]] = {
        "cls": (1, 1, 48),
        "embedding/kernel": (16, 16, 3, 48),
        "embedding/bias": (48,),
        "head/kernel": (48, 7),
        "head/bias": (7,),
        "Transformer/posembed_input/pos_embedding": (1, 17, 48),
        "Transformer/encoder_norm/scale": (48,),
        "Transformer/encoder_norm/bias": (48,),
    }
    for i in range(3):
        block = f"Transformer/encoderblock_{i}/"
        for norm in ("LayerNorm_0", "LayerNorm_2"):
            shapes |= {f"{block}{norm}/scale": (48,), f"{block}{norm}/bias": (48,)}
        for part in ("query", "key", "value"):
            shapes[f"{block}{attention}/{part}/kernel"] = (48, 3, 16)
            shapes[f"{block}{attention}/{part}/bias"] = (3, 16)
        shapes |= {f"{block}{attention}/out/kernel": (3, 16, 48), f"{block}{attention}/out/bias": (48,)}
        shapes |= {f"{block}{mlp}/Dense_0/kernel": (48, 192), f"{block}{mlp}/Dense_0/bias": (192,)}
        shapes |= {f"{block}{mlp}/Dense_1/kernel": (192, 48), f"{block}{mlp}/Dense_1/bias": (48,)}
    return {name: random.normal(0, 0.3, shape).astype(np.float32) for name, shape in shapes.items()}


@pytest.mark.parametrize("prefix", ["", "opt/target/"])
def test_the_authors_layout(prefix: str, tmp_path: Path) -> None:
    path = tmp_path / "weights.npz"
    np.savez(path, **{prefix + name: value for name, value in jax_state().items()})
    theirs = timms(**SMALL | {"img_size": 64}).eval()
    theirs.load_pretrained(str(path))
    ours = small().eval()
    report = load_weights(ours, path)
    assert not (report.adapted or report.fresh or report.dropped)
    for name, value in theirs.state_dict().items():
        assert torch.equal(ours.state_dict()[name], value), name
    assert distance(ours(picture()), theirs(picture())) < 1e-5


def test_the_authors_files_by_their_published_name(homes: Path) -> None:
    """Put where an offline user puts them; another number of classes starts a fresh head."""
    row = published_weights("vit_base_patch16_224")[0]
    folder = homes / "home" / "weights"
    folder.mkdir(parents=True)
    np.savez(folder / row.file, **jax_state())
    assert local_weights("vit_base_patch16_224") == [folder / row.file]
    report = load_weights(small(num_classes=2, in_chans=1), row.name)
    assert report.fresh == ["head.weight", "head.bias"] and report.adapted == ["patch_embed.proj.weight"]
    with pytest.raises(SightlineError, match=r"does not fit vit_base_patch16_224: it lacks .*and 105 more"):
        create_model("vit_base_patch16_224", weights=row.name)


def deit_state(tokens: int = 197) -> dict[str, Tensor]:
    """The names and shapes of deit_tiny_patch16_224-a1311bcf.pth, with two blocks."""
    shapes: dict[str, tuple[int, ...]] = {
        "cls_token": (1, 1, 192),
        "pos_embed": (1, tokens, 192),
        "patch_embed.proj.weight": (192, 3, 16, 16),
        "patch_embed.proj.bias": (192,),
        "norm.weight": (192,),
        "norm.bias": (192,),
        "head.weight": (1000, 192),
        "head.bias": (1000,),
    }
    layers = {"attn.qkv": (576, 192), "attn.proj": (192, 192), "mlp.fc1": (768, 192), "mlp.fc2": (192, 768)}
    for i in range(2):
        for norm in ("norm1", "norm2"):
            shapes |= {f"blocks.{i}.{norm}.weight": (192,), f"blocks.{i}.{norm}.bias": (192,)}
        for layer, shape in layers.items():
            shapes |= {f"blocks.{i}.{layer}.weight": shape, f"blocks.{i}.{layer}.bias": shape[:1]}
    generator = torch.Generator().manual_seed(0)
    return {name: torch.randn(shape, generator=generator) * 0.05 for name, shape in shapes.items()}


def test_deits_layout(tmp_path: Path) -> None:
    """It is timm's, which DeiT's code built on; the files hold it under `model`."""
    state = deit_state()
    assert convert_state_dict(state) is state
    torch.save({"model": state}, tmp_path / "deit.pth")
    model = create_model("vit_tiny_patch16_224", depth=2).eval()
    report = load_weights(model, tmp_path / "deit.pth")
    assert len(report.kept) == len(state) and not (report.adapted or report.fresh or report.dropped)
    theirs = timms(embed_dim=192, depth=2, num_heads=3).eval()
    theirs.load_state_dict(state, strict=True)
    assert distance(model(picture(224, 224)), theirs(picture(224, 224))) < 1e-5


DISTILLED = {"dist_token": torch.zeros(1, 1, 192), "head_dist.weight": torch.zeros(1000, 192)}
SHORTER = {key: value for key, value in deit_state().items() if "blocks.1" not in key}


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: SHORTER, "it lacks blocks.1.norm1.weight, .*and 9 more"),
        (lambda: deit_state(198) | DISTILLED, "dist_token, head_dist.weight; of another shape are pos_embed"),
        (
            lambda: torchvisions().state_dict(),
            "it has besides blocks.2.norm1.weight, .*of another shape are cls_token",
        ),
        (nn.Linear(2, 2).state_dict, "of another network than vit_tiny_patch16_224"),
    ],
)
def test_wrong_files_are_said(make: Callable[[], dict[str, Tensor]], sentence: str, tmp_path: Path) -> None:
    torch.save(make(), tmp_path / "wrong.pth")
    model = create_model("vit_tiny_patch16_224", depth=2)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    with pytest.raises(SightlineError, match=sentence):
        load_weights(model, tmp_path / "wrong.pth")
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_archives_that_hold_code_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "weights.npz", cls=np.array([{"a": 1}], dtype=object))
    with pytest.raises(SightlineError, match="cannot be read as weights"):
        load_weights(small(), tmp_path / "weights.npz")


# ------------------------------------------------------------------------------------------------ the catalogue
def rows(*names: str) -> list[object]:
    """(network, set of weights) for each published set that is called one of `names`."""
    found = [(name, row) for name in VARIANTS for row in published_weights(name) if row.name in names]
    return [pytest.param(name, row, id=f"{name}-{row.name}") for name, row in found]


@pytest.mark.parametrize(("name", "row"), rows("IMAGENET1K_V1", "IMAGENET1K_SWAG_LINEAR_V1"))
def test_torchvisions_weights_are_told_as_there(name: str, row: object) -> None:
    from torchvision.models import get_model_weights

    size, patch = name.removeprefix("vit_").removesuffix("_224").split("_patch")
    entry = get_model_weights(f"vit_{size[0]}_{patch}")[row.name]
    preset, metrics = entry.transforms(), entry.meta["_metrics"]["ImageNet-1K"]
    assert row.url == entry.url and row.sha256 in entry.url
    assert ([row.size], [row.resize]) == (preset.crop_size, preset.resize_size)
    assert (row.mean, row.std) == (tuple(preset.mean), tuple(preset.std))
    assert row.interpolation == preset.interpolation.value
    assert row.top1_error == pytest.approx(100 - metrics["acc@1"], abs=1e-9)
    assert row.top5_error == pytest.approx(100 - metrics["acc@5"], abs=1e-9)


@pytest.mark.parametrize(
    ("name", "row"), rows("augreg_in21k_ft_in1k", "augreg_in1k", "orig_in21k_ft_in1k", "fb_in1k")
)
def test_the_authors_weights_are_told_as_timm_does(name: str, row: object) -> None:
    from timm.models import get_pretrained_cfg

    theirs = get_pretrained_cfg(
        f"{name.replace('vit', 'deit') if row.name == 'fb_in1k' else name}.{row.name}"
    )
    assert (row.url, row.size, row.interpolation) == (theirs.url, theirs.input_size[1], theirs.interpolation)
    assert (row.mean, row.std) == (theirs.mean, theirs.std)
    assert model_info(name).mean == published_weights(name)[0].mean  # told as of the recommended set
    crop = 224 / 256 if row.name == "fb_in1k" else theirs.crop_pct  # DeiT's own evaluation has 256
    assert row.resize == int(row.size / crop)


def test_every_variant_is_a_row_of_its_paper() -> None:
    """Table 1 of the paper, and DeiT's: width, blocks, heads, MLP."""
    table = {
        "tiny": (192, 12, 3, 768),
        "small": (384, 12, 6, 1536),
        "base": (768, 12, 12, 3072),
        "large": (1024, 24, 16, 4096),
        "huge": (1280, 32, 16, 5120),
    }
    for name in VARIANTS:
        with torch.device("meta"):
            model = create_model(name)
        assert isinstance(model, VisionTransformer)
        block = model.blocks[0]
        shape = (model.embed_dim, len(model.blocks), block.attn.num_heads, block.mlp.fc1.out_features)
        assert shape == table[name.split("_")[1]]
        assert f"patch{model.patch_embed.patch_size[0]}_" in name
