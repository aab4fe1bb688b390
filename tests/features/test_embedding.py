"""Features of any network up to any layer; kept, never stale, and at home among scikit-learn's parts."""

from __future__ import annotations

import io
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import RidgeClassifier
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline, make_union
from torch import nn

from sightline.bundle import Bundle, Classifier
from sightline.data import open_dataset, read_image
from sightline.errors import SightlineError, UnreadableImage
from sightline.features import Embedding
from sightline.features.embedding_cache import KEY, FeatureCache
from sightline.features.embedding_network import Network, open_network
from sightline.features.embedding_pictures import features_of
from sightline.models import create_model, stage_features
from sightline.transforms.preprocess import Preprocess

torch.set_num_threads(1)
SMALL = Preprocess((32, 32), resize=32)


@pytest.fixture(autouse=True)
def own_home(tmp_path, monkeypatch):
    """A cache that no other test fills."""
    monkeypatch.setenv("SIGHTLINE_HOME", str(tmp_path / "home"))


@pytest.fixture(scope="module")
def paths(shapes):
    return sorted(shapes.glob("*/*.png"))


@pytest.fixture(scope="module")
def labels(paths):
    return [path.parent.name for path in paths]


def small(name: str = "resnet20", **arguments) -> nn.Module:
    torch.manual_seed(1)
    return create_model(name, num_classes=3, img_size=32, **arguments).eval()


def inputs(paths: list[Path]) -> torch.Tensor:
    return SMALL.normalize(torch.stack([SMALL(read_image(path)) for path in paths]))


def count_passes(monkeypatch) -> list[int]:
    """How many pictures go through networks from now on."""
    seen: list[int] = []
    before = nn.Module.__call__

    def counting(self, *args, **kwargs):
        if isinstance(self, nn.Conv2d) and self.in_channels == 3:
            seen.append(len(args[0]))
        return before(self, *args, **kwargs)

    monkeypatch.setattr(nn.Module, "__call__", counting)
    return seen


# What the features are.


@pytest.mark.parametrize("place", [0, 1, 2, 3])
@pytest.mark.parametrize("pool", ["avg", "max", "flatten"])
def test_a_stage_is_what_stage_features_says_pooled(paths, place, pool):
    model = small()
    with torch.no_grad():
        maps = stage_features(model, inputs(paths[:5]))[place]
    expected = {"avg": maps.mean((2, 3)), "max": maps.amax((2, 3)), "flatten": maps.flatten(1)}[pool]
    stage = model.feature_info[place]["module"]
    found = Embedding(model, stage, pool, preprocess=SMALL, precision="fp32").fit_transform(paths[:5])
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected.numpy(), rtol=1e-4, atol=1e-5 * float(maps.max()))


def test_without_a_layer_it_is_what_enters_the_classifier(paths):
    model = small()
    with torch.no_grad():
        expected = model.forward_head(model.forward_features(inputs(paths[:5])), pre_logits=True)
    found = Embedding(model, preprocess=SMALL, precision="fp32").fit_transform(paths[:5])
    np.testing.assert_allclose(found, expected.numpy(), rtol=1e-4, atol=1e-5)


def test_tokens(paths):
    """The class token where there is one, unless asked otherwise; the mean is over the patches alone."""
    model = small("vit_tiny_patch16_224", depth=2)
    tokens: list[torch.Tensor] = []
    model.blocks[0].register_forward_hook(lambda _m, _i, out: tokens.append(out))
    with torch.no_grad():
        model(inputs(paths[:3]))
    expected = {None: tokens[0][:, 0], "cls": tokens[0][:, 0], "avg": tokens[0][:, 1:].mean(1)}
    for pool, value in expected.items():
        found = Embedding(model, "blocks.0", pool, preprocess=SMALL, precision="fp32").fit_transform(
            paths[:3]
        )
        np.testing.assert_allclose(found, value.numpy(), rtol=1e-4, atol=1e-5)


def test_timms_and_torchvisions_networks(paths):
    """A map of theirs with channels last is pooled over its places, as timm's own features are."""
    import timm

    model = timm.create_model(
        "swin_tiny_patch4_window7_224", img_size=32, window_size=1, depths=(1, 1, 1, 1)
    ).eval()
    with torch.no_grad():
        expected = stage_features(model, inputs(paths[:2]))[1].mean((2, 3))
    found = Embedding(model, "layers.1", "avg", preprocess=SMALL, precision="fp32").fit_transform(paths[:2])
    np.testing.assert_allclose(found, expected.numpy(), rtol=1e-3, atol=1e-4)


def test_a_layer_inside_of_what_is_folded_is_its_own(paths):
    """The fast copy folds batch norms away; what stands before one is still what it is in the network."""
    model = small("resnet10_small")
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -1, 1)
            nn.init.uniform_(module.running_var, 0.5, 3)
    fast = Embedding(model, "layer1.0.conv2", preprocess=SMALL).fit_transform(paths[:3])
    plain = Embedding(model, "layer1.0.conv2", preprocess=SMALL, precision="fp32", cache=False).fit_transform(
        paths[:3]
    )
    np.testing.assert_allclose(fast, plain, rtol=1e-4, atol=1e-5)


def test_any_module(paths):
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    with torch.no_grad():
        expected = model(inputs(paths[:3]))
    found = Embedding(model, preprocess=SMALL).fit_transform(paths[:3])
    np.testing.assert_allclose(found, expected.numpy(), rtol=1e-4, atol=1e-6)
    with pytest.raises(SightlineError, match="give its Preprocess"):
        Embedding(model).fit()


# Where networks come from.


def test_a_run_a_bundle_and_a_classifier_are_the_same(trained, paths):
    bundle = Bundle.load(trained.path)
    first = Embedding(trained.path).fit_transform(paths)
    for model in (str(trained.path), bundle, Classifier(bundle)):
        assert np.array_equal(Embedding(model).fit_transform(paths), first)
    expected = Classifier(bundle, precision="fp32").embed(paths)
    found = Embedding(bundle, precision="fp32").fit_transform(paths)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_a_name_with_the_weights_of_a_run_takes_its_preprocess(trained):
    network = open_network("resnet10_small", trained.path)
    assert network.preprocess == trained.classifier.preprocess
    state = network.module.state_dict()
    kept = Bundle.load(trained.path).weights
    assert all(torch.equal(state[name], kept[name]) for name in kept if not name.startswith("fc."))


def test_a_random_start_is_the_same_each_time(paths):
    first = Embedding("resnet20", weights="none", cache=False).fit_transform(paths[:4])
    torch.manual_seed(77)
    assert np.array_equal(Embedding("resnet20", weights="none", cache=False).fit_transform(paths[:4]), first)


def test_a_module_in_training_is_left_in_training(paths):
    model = small().train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    Embedding(model, preprocess=SMALL).fit_transform(paths[:4])
    assert model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"model": "resnet_20"}, "did you mean resnet20"),
        ({"model": "resnet20", "weights": "none", "layer": "layr2"}, "did you mean layer2"),
        ({"model": "resnet20", "weights": "none", "layer": "layer2", "pool": "mean"}, "pooling"),
        ({"model": "resnet20", "weights": "none", "pool": "avg"}, "name a layer"),
        ({"model": "resnet20", "weights": "none", "layer": "layer2", "pool": "cls"}, "class token"),
        ({"model": "resnet20"}, "weights='none'"),
        ({"model": 3}, "is no network"),
        ({"model": Path("nowhere")}, "nowhere"),
    ],
)
def test_mistakes(arguments, said):
    with pytest.raises(SightlineError, match=said):
        Embedding(**arguments).fit()


# Pictures.


def test_every_kind_of_picture_is_the_same_picture(shapes, paths):
    embedding = Embedding(small(), preprocess=SMALL).fit()
    expected = embedding.transform(paths[:3])
    opened = [Image.open(path) for path in paths[:3]]
    arrays = np.stack([np.asarray(picture) for picture in opened])
    for pictures in ([str(p) for p in paths[:3]], [p.read_bytes() for p in paths[:3]], opened, arrays):
        np.testing.assert_allclose(embedding.transform(pictures), expected, rtol=1e-5, atol=1e-6)
    dataset = open_dataset(shapes)
    chosen = dataset.subset([list(dataset.refs()).index(str(p.relative_to(shapes))) for p in paths[:3]])
    np.testing.assert_allclose(embedding.transform(chosen), expected, rtol=1e-5, atol=1e-6)


def test_a_bad_picture_is_named(paths, tmp_path):
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"no picture")
    embedding = Embedding(small(), preprocess=SMALL).fit()
    with pytest.raises(UnreadableImage, match=r"bad\.png"):
        embedding.transform([paths[0], bad])
    with pytest.raises(UnreadableImage, match=r"missing\.png"):
        embedding.transform([tmp_path / "missing.png"])
    found = features_of(embedding.network_.taps([None]), [bad, paths[0]])
    assert found.indices.tolist() == [1]
    assert [failure.index for failure in found.failures] == [0]


def test_no_pictures_at_all():
    assert Embedding(small(), preprocess=SMALL).fit().transform([]).shape == (0, 64)


# The cache.


def test_a_picture_is_computed_once(paths, monkeypatch):
    model = small()
    first = Embedding(model, preprocess=SMALL).fit_transform(paths)
    embedding = Embedding(model, preprocess=SMALL).fit()
    embedding.transform(paths[:1])
    seen = count_passes(monkeypatch)
    again = embedding.transform(paths[10:40])
    assert seen == []
    assert np.array_equal(again, first[10:40])
    embedding.transform([*paths, Image.new("RGB", (32, 32))])
    assert sum(seen) == 1


def test_it_is_never_stale(paths, tmp_path):
    """Another weight, structure, layer, pooling, Preprocess or content is computed anew."""
    model = small()
    path = tmp_path / "picture.png"
    path.write_bytes(paths[0].read_bytes())
    first = Embedding(model, preprocess=SMALL).fit_transform([path])
    path.write_bytes(paths[-1].read_bytes())
    os.utime(path, (0, 0))
    assert not np.allclose(Embedding(model, preprocess=SMALL).fit_transform([path]), first)

    def fresh(embedding: Embedding) -> bool:
        again = clone(embedding).set_params(cache=False)
        return np.array_equal(embedding.fit_transform(paths[:2]), again.fit_transform(paths[:2]))

    assert fresh(Embedding(model, preprocess=SMALL))
    with torch.no_grad():
        model.layer3[0].conv1.weight[0, 0, 0, 0] += 0.5
    assert fresh(Embedding(model, preprocess=SMALL))
    model.relu = nn.Hardswish()
    assert fresh(Embedding(model, preprocess=SMALL))
    other = Preprocess((32, 32), resize=40)
    assert fresh(Embedding(model, preprocess=other))
    for layer, pool in (("layer2", "avg"), ("layer2", "max"), ("layer1", "avg")):
        assert fresh(Embedding(model, layer, pool, preprocess=SMALL))


def test_code_that_was_edited_is_noticed(paths):
    """The same weights and the same structure, another function."""

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.conv = nn.Conv2d(3, 4, 3)

        def forward(self, x):
            return self.conv(x).mean((2, 3))

    first = Embedding(Net(), preprocess=SMALL).fit_transform(paths[:2])
    Net.forward = lambda self, x: self.conv(x).amax((2, 3))
    assert not np.allclose(Embedding(Net(), preprocess=SMALL).fit_transform(paths[:2]), first)


def rows(*numbers: int) -> dict[bytes, np.ndarray]:
    return {bytes([number]) * KEY: np.full(1000, number, np.float32) for number in numbers}


def test_torn_files_are_ignored_and_removed(tmp_path):
    cache = FeatureCache("net", tmp_path)
    cache.keep(rows(1, 2))
    (whole,) = cache.folder.iterdir()
    data = whole.read_bytes()
    for torn in (data[: len(data) // 2], b"", data[:-1] + bytes([data[-1] ^ 1])):
        whole.write_bytes(torn)
        assert cache.find(list(rows(1, 2))) == {}
        assert not whole.exists()
    cache.keep(rows(1, 2))
    found = cache.find(list(rows(2, 3)))
    assert list(found) == list(rows(2))
    assert (found[bytes([2]) * KEY] == 2).all()


def test_the_oldest_goes_first(tmp_path):
    """Three files of a good 4,000 bytes each in 9,000: the one that was used longest ago is gone."""
    cache = FeatureCache("net", tmp_path, limit=9000)
    for number in (1, 2):
        cache.keep(rows(number))
        for path in cache.folder.iterdir():
            os.utime(path, (number, path.stat().st_mtime - 100))
    assert cache.find(list(rows(1)))  # used just now
    FeatureCache("other", tmp_path, limit=9000).keep(rows(3))
    assert sum(path.stat().st_size for path in tmp_path.rglob("*.rows")) <= 9000
    assert cache.find(list(rows(1)))
    assert not cache.find(list(rows(2)))
    cache.keep({bytes([9]) * KEY: np.zeros(10_000, np.float32)})  # larger than the bound
    assert not cache.find([bytes([9]) * KEY])


def test_writers_at_once_lose_nothing(tmp_path):
    def write(number: int) -> None:
        FeatureCache("net", tmp_path).keep(rows(number, number + 1))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(write, range(40)))
    assert FeatureCache("net", tmp_path).find(list(rows(*range(41)))).keys() == rows(*range(41)).keys()


def test_a_disk_that_refuses_costs_the_keeping_alone(paths, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("SIGHTLINE_HOME", str(tmp_path / "file"))
    assert Embedding(small(), preprocess=SMALL).fit_transform(paths[:2]).shape == (2, 64)


# Among scikit-learn's parts.


def test_it_is_a_transformer():
    model = small()
    embedding = Embedding(model, "layer2", preprocess=SMALL)
    assert Embedding().get_params()["model"] == "resnet18"
    with pytest.raises(NotFittedError):
        embedding.transform([])
    twin = clone(embedding)
    assert twin.layer == "layer2"
    assert twin.fit().get_feature_names_out().tolist()[:2] == ["resnet_layer2_0", "resnet_layer2_1"]
    assert len(twin.get_feature_names_out()) == 32


def test_in_a_pipeline_and_a_grid_search(paths, labels):
    model = small()
    search = GridSearchCV(
        make_pipeline(Embedding(model, preprocess=SMALL), RidgeClassifier()),
        {"embedding__layer": [None, "layer1"], "ridgeclassifier__alpha": [1.0, 100.0]},
        cv=3,
    )
    search.fit([str(path) for path in paths], labels)
    assert search.best_score_ > 0.5  # chance is a third
    union = make_union(Embedding(model, preprocess=SMALL), Embedding(model, "layer1", preprocess=SMALL))
    assert union.fit_transform(paths[:3]).shape == (3, 64 + 16)


def test_a_saved_state_of_any_file_is_taken(tmp_path, paths):
    """Weights from a file, with the size that the network was made for."""
    model = create_model("resnet20")
    buffer = io.BytesIO()
    torch.save(model.state_dict(), buffer)
    (tmp_path / "weights.pth").write_bytes(buffer.getvalue())
    embedding = Embedding("resnet20", weights=tmp_path / "weights.pth").fit()
    assert embedding.network_.preprocess.size == (32, 32)
    assert isinstance(embedding.network_, Network)
    assert embedding.transform(paths[:2]).shape == (2, 64)
