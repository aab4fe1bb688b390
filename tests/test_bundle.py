"""Bundles: what is saved is what is served, and what is broken is said."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from sightline.bundle import Bundle, Classifier
from sightline.errors import SightlineError, UnreadableImage
from sightline.models import create_model
from sightline.transforms.preprocess import Preprocess

ARGUMENTS = {"in_chans": 3, "img_size": 32}


@pytest.fixture
def bundle():
    torch.manual_seed(0)
    model = create_model("resnet20", num_classes=3, **ARGUMENTS)
    return Bundle(
        "resnet20",
        ARGUMENTS,
        ("ant", "bee", "<wasp>"),
        Preprocess(size=(32, 32), resize=36),
        model.state_dict(),
        2.0,
        "CC0",
    )


@pytest.fixture
def pictures():
    rng = np.random.default_rng(0)
    return [Image.fromarray(rng.integers(0, 256, (50, 40 + k, 3), dtype=np.uint8)) for k in range(5)]


def test_a_saved_bundle_answers_as_before(bundle, pictures, tmp_path):
    bundle.save(tmp_path)
    again = Bundle.load(tmp_path)
    assert (again.classes, again.preprocess, again.arguments) == (
        bundle.classes,
        bundle.preprocess,
        bundle.arguments,
    )
    assert (again.temperature, again.licence) == (2.0, "CC0")
    assert np.array_equal(
        Classifier(again).predict_proba(pictures), Classifier(bundle).predict_proba(pictures)
    )


def test_probabilities_are_the_softmax_of_the_plain_network(bundle, pictures):
    model = bundle.model()
    batch = bundle.preprocess.normalize(torch.stack([bundle.preprocess(p) for p in pictures]))
    with torch.inference_mode():
        expected = (model(batch).double() / bundle.temperature).softmax(1).numpy()
    ours = Classifier(bundle, precision="fp32").predict_proba(pictures)
    assert np.allclose(ours, expected, atol=1e-5)
    assert np.allclose(ours.sum(1), 1)
    fast = Classifier(bundle).predict_proba(pictures)
    assert np.allclose(fast, expected, atol=1e-2)
    assert np.allclose(fast.sum(1), 1)


def test_one_picture_or_many_of_any_kind(bundle, pictures, tmp_path):
    path = tmp_path / "x.png"
    pictures[0].save(path)
    classifier = Classifier(bundle)
    label = classifier.predict(path)
    assert isinstance(label, str)
    assert label in bundle.classes
    array = np.asarray(pictures[0])
    for source in (str(path), path.read_bytes(), array, pictures[0]):
        assert np.array_equal(classifier.predict_proba(source), classifier.predict_proba(path))
    assert classifier.predict([path, array]) == [label, label]
    assert classifier.predict_proba(np.stack([array, array])).shape == (2, 3)
    assert classifier.embed(path).shape == (64,)
    assert classifier.embed(pictures).shape == (5, 64)
    assert classifier.predict([]) == []


def test_the_embedding_times_the_last_layer_gives_the_logits(bundle, pictures):
    classifier = Classifier(bundle, precision="fp32")
    head = classifier.network.get_classifier()
    with torch.inference_mode():
        logits = head(torch.from_numpy(classifier.embed(pictures))) / bundle.temperature
    assert np.allclose(logits.softmax(1).numpy(), classifier.predict_proba(pictures), atol=1e-5)


def test_an_unreadable_picture_is_raised_by_name(bundle, tmp_path):
    (tmp_path / "x.jpg").write_bytes(b"not a picture")
    with pytest.raises(UnreadableImage, match=r"x\.jpg"):
        Classifier(bundle).predict(tmp_path / "x.jpg")


def test_the_files_are_safetensors_and_json_alone(bundle, tmp_path):
    bundle.save(tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["model.json", "model.safetensors"]
    assert load_file(tmp_path / "model.safetensors").keys() == bundle.weights.keys()
    assert json.loads((tmp_path / "model.json").read_text())["classes"] == list(bundle.classes)


def break_json(folder):
    (folder / "model.json").write_text("{")


def break_format(folder):
    (folder / "model.json").write_text('{"format": 99}')


def break_keys(folder):
    (folder / "model.json").write_text('{"format": 1}')


def break_weights(folder):
    (folder / "model.safetensors").write_bytes(b"\x00" * 50)


def drop_weights(folder):
    (folder / "model.safetensors").unlink()


def drop_json(folder):
    (folder / "model.json").unlink()


def other_network(folder):
    text = (folder / "model.json").read_text()
    (folder / "model.json").write_text(text.replace("resnet20", "resnet32"))


def unknown_network(folder):
    text = (folder / "model.json").read_text()
    (folder / "model.json").write_text(text.replace("resnet20", "resnet_18"))


@pytest.mark.parametrize(
    ("damage", "expected"),
    [
        (break_json, "cannot be read"),
        (break_format, "format 99"),
        (break_keys, "not a model description"),
        (break_weights, "safetensors"),
        (drop_weights, r"has no model\.safetensors"),
        (drop_json, "no trained model"),
        (other_network, "do not fit"),
        (unknown_network, "resnet18"),
    ],
    ids=lambda value: value.__name__ if callable(value) else "",
)
def test_damage_is_one_sentence(bundle, tmp_path, damage, expected):
    bundle.save(tmp_path)
    damage(tmp_path)
    with pytest.raises(SightlineError, match=expected):
        Classifier(Bundle.load(tmp_path))


def test_a_missing_folder_is_one_sentence(tmp_path):
    with pytest.raises(SightlineError, match="There is no folder"):
        Bundle.load(tmp_path / "nothing")
