"""CLIP against open_clip: the same weights in, the same numbers out; and published layouts through the real loading."""

import hashlib
import json
import pickle
import warnings
import zipfile
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from sightline.errors import SightlineError
from sightline.models import create_model, load_weights, model_info, published_weights
from sightline.models.attention import attention_weights
from sightline.models.clip import CLIP
from sightline.models.clip_classifier import ImageClassifier
from sightline.models.clip_text import BytePairs, published_tokenizer
from sightline.models.torchscript import is_torchscript, read_torchscript
from tests.models.clips import SIZES, pictures, randomise, sentences, small, theirs
from tests.models.transformers import distance

torch.set_num_threads(1)

OPEN_CLIP = {
    "clip_rn50": "RN50",
    "clip_rn101": "RN101",
    "clip_rn50x4": "RN50x4",
    "clip_rn50x16": "RN50x16",
    "clip_rn50x64": "RN50x64",
    "clip_vit_base_patch32": "ViT-B-32",
    "clip_vit_base_patch16": "ViT-B-16",
    "clip_vit_large_patch14": "ViT-L-14",
    "clip_vit_large_patch14_336": "ViT-L-14-336",
}


def same(ours: CLIP, oracle: nn.Module, x: Tensor, tokens: Tensor) -> None:
    """Features of both towers, and logits, to 1e-5 in relative norm; and what is around them."""
    ours.load_state_dict(oracle.state_dict(), strict=True)
    ours.eval()
    with torch.no_grad():
        images, texts, scale = ours(x, tokens)
        for mine, yours in (
            (ours.encode_image(x), oracle.encode_image(x)),
            (ours.encode_text(tokens), oracle.encode_text(tokens)),
            (scale * images @ texts.T, oracle.get_logits(x, tokens)[0]),
            (images, oracle.encode_image(x, normalize=True)),
            (texts, oracle.encode_text(tokens, normalize=True)),
        ):
            assert distance(mine, yours) < 1e-5
        assert torch.equal(scale, oracle.logit_scale.exp())
        assert distance(ours(x), images * images.shape[1] ** 0.5) < 1e-6  # as an image network


# ------------------------------------------------------------------------------------------------ the network
@pytest.mark.parametrize("quick_gelu", [True, False])
@pytest.mark.parametrize("name", OPEN_CLIP)
def test_equals_open_clip(name: str, quick_gelu: bool) -> None:
    oracle = theirs(name, quick_gelu)
    same(small(name, quick_gelu=quick_gelu), oracle, pictures(SIZES[name]["img_size"]), sentences())


@pytest.mark.full
@pytest.mark.parametrize("suffix", ["", "-quickgelu"])
@pytest.mark.parametrize(
    "name", ["clip_vit_base_patch32", "clip_vit_base_patch16", "clip_vit_large_patch14", "clip_rn50"]
)
def test_equals_open_clip_at_full_size(name: str, suffix: str) -> None:
    import open_clip

    oracle = open_clip.create_model(OPEN_CLIP[name] + suffix).eval()
    randomise(oracle)
    same(create_model(name, quick_gelu=bool(suffix)), oracle, pictures(224), sentences())


@pytest.mark.parametrize("name", OPEN_CLIP)
def test_has_open_clips_layout(name: str) -> None:
    import open_clip

    with torch.device("meta"):
        ours = create_model(name)
        oracle = open_clip.CLIP(**open_clip.get_model_config(f"{OPEN_CLIP[name]}-quickgelu"))
    layouts = [{k: v.shape for k, v in model.state_dict().items()} for model in (ours, oracle)]
    assert layouts[0] == layouts[1]
    assert ours.img_size == model_info(name).input[1:]


@pytest.mark.parametrize("name", ["clip_rn50", "clip_vit_base_patch16"])
def test_the_gradient_is_open_clips(name: str) -> None:
    oracle, ours = theirs(name), small(name)
    ours.load_state_dict(oracle.state_dict())
    x, tokens = pictures(64, 4).double(), sentences()
    for model in (ours.double().train(), oracle.double().train()):
        images, texts, scale = model(x, tokens)
        (scale * images @ texts.T).square().mean().backward()
    expected = dict(oracle.named_parameters())
    for key, parameter in ours.named_parameters():
        assert parameter.grad is not None, key
        wanted = expected[key].grad
        assert float((parameter.grad - wanted).norm()) <= 1e-8 * float(wanted.norm()) + 1e-12, key


def test_what_follows_the_end_changes_nothing() -> None:
    model, tokens = small("clip_vit_base_patch32"), sentences()
    other = tokens.clone()
    other[0, 4:], other[1, 11:] = 7, 9
    with torch.no_grad():
        assert torch.equal(model.encode_text(tokens), model.encode_text(other))
        # Alone, a sentence is computed to its own end only.
        alone = torch.cat([model.encode_text(row[None]) for row in tokens])
        assert distance(alone, model.encode_text(tokens)) < 1e-6


def test_a_word_sees_only_those_before_it() -> None:
    model = small("clip_vit_base_patch32")
    with torch.no_grad(), attention_weights(model) as seen:
        model.encode_text(sentences())
    for weights in seen.values():
        assert weights.shape[-2:] == (77, 77)
        assert not weights.triu(1).any() and torch.allclose(weights.sum(-1), torch.ones(()))
    assert len(seen) == 2


def test_starts_as_the_authors_text_tower() -> None:
    torch.manual_seed(0)
    model = create_model("clip_vit_base_patch32", text_layers=3, vision_layers=1)
    assert isinstance(model, CLIP)
    block = model.transformer.resblocks[0]
    for tensor, std in (
        (model.token_embedding.weight, 0.02),
        (model.positional_embedding, 0.01),
        (model.text_projection, 512**-0.5),
        (block.attn.in_proj_weight, 512**-0.5),
        (block.attn.out_proj.weight, 512**-0.5 * 6**-0.5),
        (block.mlp.c_fc.weight, 1024**-0.5),
        (block.mlp.c_proj.weight, 512**-0.5 * 6**-0.5),
    ):
        tensor = tensor.detach()
        assert float(tensor.std()) == pytest.approx(std, rel=0.03)
        assert float(tensor.mean()) == pytest.approx(0, abs=0.03 * std)
    assert float(model.logit_scale.detach().exp()) == pytest.approx(1 / 0.07)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"vision_width": 50, "head_width": 16}, "50 does not divide into heads of 16"),
        ({"img_size": 60}, "do not fill pictures of 60x60"),
        ({"text_heads": 5}, "32 does not divide into 5 heads"),
        ({"context_length": 2}, "at least three tokens"),
        ({"quick_gelu": 1}, "quick_gelu takes a value such as True"),
        ({"vision_layers": "many"}, "vision_layers takes a value such as"),
    ],
)
def test_what_makes_no_network_is_refused(arguments: dict[str, object], words: str) -> None:
    with pytest.raises(SightlineError, match=f"clip_vit_base_patch32: .*{words}"):
        small("clip_vit_base_patch32", **arguments)
    with pytest.raises(SightlineError, match="do not halve five times"):
        small("clip_rn50", img_size=80)


def test_pictures_of_another_size_are_refused() -> None:
    for name in ("clip_rn50", "clip_vit_base_patch16"):
        with pytest.raises(SightlineError, match="built for pictures of 64x64, not 96x96"):
            small(name)(pictures(96))


# ------------------------------------------------------------------------------------------- as a classifier
@pytest.mark.parametrize("name", ["clip_rn50", "clip_vit_base_patch16"])
def test_texts_folded_into_the_head_give_the_logits(name: str) -> None:
    model, x = small(name), pictures(64)
    model.load_state_dict(theirs(name).state_dict())
    classifier = create_model(name, num_classes=3, **SIZES[name]).eval()
    assert isinstance(classifier, ImageClassifier) and not isinstance(classifier, CLIP)
    classifier.visual.load_state_dict(model.visual.state_dict())
    with torch.no_grad():
        images, texts, scale = model(x, sentences())
        classifier.fold(texts, float(scale))
        assert distance(classifier(x), scale * images @ texts.T) < 1e-5
        assert classifier.num_classes == 3
        assert {key.split(".")[0] for key in classifier.state_dict()} == {"visual", "head"}


def test_weights_go_into_a_classifier_of_another_size(tmp_path: Path) -> None:
    name = "clip_vit_base_patch16"
    model = small(name)
    save_file(
        {key: value.contiguous() for key, value in model.state_dict().items()}, tmp_path / "a.safetensors"
    )
    classifier = create_model(name, num_classes=5, **(SIZES[name] | {"img_size": 96}))
    report = load_weights(classifier, tmp_path / "a.safetensors")
    assert report.fresh == ["head.weight", "head.bias"]
    assert report.adapted == ["visual.positional_embedding"]
    old, new = model.visual.positional_embedding, classifier.visual.positional_embedding
    assert new.shape == (37, 48) and distance(new[0], old[0]) < 1e-3
    # Bicubic interpolation keeps the mean, nearly.
    assert distance(new[1:].mean(0), old[1:].mean(0)) < 0.2


# ---------------------------------------------------------------------------------------------- published layouts
def test_openais_plain_state_dict(tmp_path: Path) -> None:
    """Half precision, and three numbers of the configuration among the weights."""
    oracle = theirs("clip_rn50")
    state = {
        key: value.half() if value.is_floating_point() else value
        for key, value in oracle.state_dict().items()
    }
    numbers = {"input_resolution": 64, "context_length": 77, "vocab_size": 49408}
    torch.save(state | {key: torch.tensor(value) for key, value in numbers.items()}, tmp_path / "clip.pt")
    model = small("clip_rn50")
    report = load_weights(model, tmp_path / "clip.pt")
    assert len(report.kept) == len(list(model.parameters())) and not report.adapted and not report.fresh
    half = {key: value.float() for key, value in state.items()}
    assert all(torch.equal(value, half[key]) for key, value in model.state_dict().items())


def test_open_clips_checkpoint_and_safetensors(tmp_path: Path) -> None:
    oracle = theirs("clip_vit_base_patch32", quick_gelu=False)
    state = {key: value.contiguous() for key, value in oracle.state_dict().items()}
    save_file(state, tmp_path / "open_clip_model.safetensors")
    torch.save(
        {"epoch": 32, "name": "x", "state_dict": {f"module.{k}": v for k, v in state.items()}},
        tmp_path / "e.pt",
    )
    for file in ("open_clip_model.safetensors", "e.pt"):
        model = small("clip_vit_base_patch32", quick_gelu=False)
        load_weights(model, tmp_path / file)
        same(model, oracle, pictures(64), sentences())


def test_weights_say_which_gelu_they_want(tmp_path: Path) -> None:
    name = "clip_vit_base_patch32"
    assert {row.name: row.arguments for row in published_weights(name)} == {
        "openai": {"quick_gelu": True},
        "laion400m_e32": {"quick_gelu": True},
        "laion2b_e16": {"quick_gelu": False},
    }
    save_file(
        {key: value.contiguous() for key, value in small(name).state_dict().items()},
        tmp_path / "open_clip_model.safetensors",
    )
    config = {"model_cfg": {"embed_dim": 24}, "preprocess_cfg": {}}
    (tmp_path / "open_clip_config.json").write_text(json.dumps(config))
    path = tmp_path / "open_clip_model.safetensors"
    assert create_model(name, weights=path, **SIZES[name]).quick_gelu is False
    with pytest.raises(SightlineError, match="built with quick_gelu=False"):
        load_weights(small(name), path)
    (tmp_path / "open_clip_config.json").write_text('{"model_cfg": {"quick_gelu": true}}')
    assert create_model(name, weights=path, **SIZES[name]).quick_gelu is True
    (tmp_path / "open_clip_config.json").write_text("[]")
    with pytest.raises(SightlineError, match="no description of a network"):
        create_model(name, weights=path, **SIZES[name])


def test_published_rows_agree_with_open_clip() -> None:
    """Addresses, activations and preprocessing, as open_clip lists them."""
    import open_clip

    for name, theirs_name in OPEN_CLIP.items():
        for row in published_weights(name):
            known = open_clip.get_pretrained_cfg(theirs_name, row.name)
            assert row.url == known["url"]
            assert row.arguments["quick_gelu"] == bool(known.get("quick_gelu", False))
            assert (row.mean, row.std, row.interpolation) == (
                known["mean"],
                known["std"],
                known["interpolation"],
            )
            assert row.sha256 and row.sha256 in row.url
            assert row.size == row.resize == model_info(name).input[1]


# ------------------------------------------------------------------------------------------ TorchScript archives
@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> tuple[nn.Module, Path]:
    """open_clip's network, traced and saved as OpenAI did, in half precision with whole numbers beside."""
    oracle = theirs("clip_rn50").requires_grad_(False)
    oracle.register_buffer("input_resolution", torch.tensor(64))
    example = (pictures(64, 1), sentences()[:1])
    path = tmp_path_factory.mktemp("archive") / "clip.pt"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what PyTorch thinks of TorchScript by now
        traced = torch.jit.trace_module(oracle, {"forward": example}, check_trace=False)
        torch.jit.save(traced.half(), str(path))
    return traced, path


def test_a_torchscript_archive_is_read_without_its_code(
    archive: tuple[nn.Module, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    traced, path = archive
    expected = traced.state_dict()

    def never(*_: object, **__: object) -> None:
        raise AssertionError("the archive's code was loaded")

    monkeypatch.setattr(torch.jit, "load", never)
    monkeypatch.setattr(torch._C, "import_ir_module", never)
    assert is_torchscript(path)
    state = read_torchscript(path)
    assert state.keys() == expected.keys()
    assert all(torch.equal(state[key], expected[key]) for key in expected)
    assert state["visual.conv1.weight"].dtype == torch.float16
    model = small("clip_rn50")
    load_weights(model, path)
    own = model.state_dict()
    assert all(torch.equal(own[key], expected[key].float()) for key in own if "num_batches" not in key)


def test_an_archive_that_asks_for_more_is_refused(archive: tuple[nn.Module, Path], tmp_path: Path) -> None:
    """Its pickle would call a function; it is not called."""

    class Trap:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return (Path.touch, (Path(tmp_path / "touched"),))  # type: ignore[return-value]

    bad = tmp_path / "bad.pt"
    with zipfile.ZipFile(archive[1]) as old, zipfile.ZipFile(bad, "w") as new:
        for entry in old.infolist():
            data = old.read(entry)
            new.writestr(entry, pickle.dumps(Trap(), 2) if entry.filename.endswith("/data.pkl") else data)
    with pytest.raises(SightlineError, match="holds more than tensors"):
        load_weights(small("clip_rn50"), bad)
    assert not (tmp_path / "touched").exists()


@pytest.mark.parametrize("cut", [0.2, 0.6, 0.95])
def test_a_torn_archive_is_refused(archive: tuple[nn.Module, Path], tmp_path: Path, cut: float) -> None:
    data = archive[1].read_bytes()
    (tmp_path / "torn.pt").write_bytes(data[: int(len(data) * cut)])
    with pytest.raises(SightlineError, match=r"torn\.pt"):
        load_weights(small("clip_rn50"), tmp_path / "torn.pt")


def test_a_published_archive_is_known_by_its_hash(archive: tuple[nn.Module, Path], tmp_path: Path) -> None:
    """A file with the name of OpenAI's that is not OpenAI's."""
    fake = tmp_path / "RN50.pt"
    fake.write_bytes(archive[1].read_bytes())
    with pytest.raises(SightlineError, match="is damaged: its SHA-256 begins"):
        load_weights(small("clip_rn50"), fake)
    assert not published_weights(
        "clip_rn50"
    )[
        0
    ].sha256.startswith(  # type: ignore[union-attr]
        hashlib.sha256(fake.read_bytes()).hexdigest()[:8]
    )


# ------------------------------------------------------------------------------------------------- the vocabulary
def test_the_published_tokens() -> None:
    tokenizer = BytePairs()
    (row,) = tokenizer("a photo of a cat.")
    assert row.tolist() == [49406, 320, 1125, 539, 320, 2368, 269, 49407] + [0] * 69
    assert tokenizer.encode("hello world, it's 2012!") == [3306, 1002, 267, 585, 568, 273, 271, 272, 273, 256]


def test_what_is_too_long_is_cut_and_said() -> None:
    tokenizer = BytePairs()
    fits, long = " ".join(["cat"] * 75), " ".join(["cat"] * 76)
    assert not tokenizer.truncated(fits) and tokenizer.truncated(long)
    rows = tokenizer([fits, long])
    assert torch.equal(rows[0], rows[1]) and rows[1, -1] == 49407
    assert BytePairs(5)("a photo of a cat").tolist() == [[49406, 320, 1125, 539, 49407]]


def test_any_text_has_tokens() -> None:
    import open_clip

    texts = ["猫の写真", "КОШКА", "naïve café", "🐈", "", "   ", "a\tb\nc", "&amp;amp;"]
    assert torch.equal(BytePairs()(texts), open_clip.tokenize(texts))
    assert BytePairs()([""]).tolist()[0][:3] == [49406, 49407, 0]


def test_without_the_extra_it_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib.util

    published_tokenizer.cache_clear()
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(SightlineError, match=r"pip install 'sightline\[clip\]'"):
        BytePairs()
    published_tokenizer.cache_clear()
