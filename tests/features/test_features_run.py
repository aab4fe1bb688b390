"""Hand-crafted features as a network, and as a run like any other."""

import json

import numpy as np
import pytest
import torch

import sightline
from sightline.errors import SightlineError
from sightline.features import RidgeHead, fold_head, make_features
from sightline.models import create_model
from tests.features.drawn import CLASSES, folder, pictures
from tests.support import data_root

TEXT = "hog+color(levels=[1])+sift(k=8,cells=[3])"


def test_what_becomes_of_a_picture_does_not_depend_on_those_beside_it():
    drawn, _ = pictures(30)
    features = make_features(TEXT).fit(drawn)
    alone = np.concatenate([features.transform([picture]) for picture in drawn])
    np.testing.assert_array_equal(alone, features.transform(drawn))


def test_the_network_computes_what_the_transformers_compute():
    drawn, targets = pictures(30)
    features = make_features(TEXT).fit(drawn)
    X = features.transform(drawn)
    network = create_model(f"features/{TEXT}", num_classes=3, img_size=32).eval()
    for module, (_, part) in zip(network.parts, features.transformer_list, strict=True):
        module.take(part)
    head = RidgeHead().fit(X, targets)
    temperature = fold_head(network, head)
    x = torch.from_numpy(np.stack(drawn)).permute(0, 3, 1, 2).float() * (1 / 255)
    with torch.inference_mode():
        np.testing.assert_array_equal(network.forward_head(network.forward_features(x), pre_logits=True), X)
        np.testing.assert_allclose(network(x).div(temperature).softmax(1), head.predict_proba(X), atol=1e-4)


def test_the_network_speaks_the_protocol():
    network = create_model("features/hog(cell=4)", num_classes=3, in_chans=1, img_size=28).eval()
    assert network.num_features == network.head_hidden_size == 6 * 6 * 36
    x = torch.rand(2, 1, 28, 28)
    assert network.forward_features(x).shape == (2, 1296, 1, 1)
    assert network(x).shape == (2, 3)
    assert network.to("meta")(x.to("meta")).shape == (2, 3)
    network.reset_classifier(0)
    assert isinstance(network.get_classifier(), torch.nn.Identity)
    with pytest.raises(SightlineError, match="did you mean hog"):
        create_model("features/hgo")
    with pytest.raises(SightlineError, match="too small"):
        create_model("features/hog", img_size=8)


def test_a_run_of_features_is_a_run(tmp_path):
    data = folder(tmp_path / "data", 60)
    run = sightline.fit(data, features=TEXT, head="svm", out=tmp_path / "run", quiet=True)
    assert run.scores.accuracy.value == 1.0  # plainly told apart
    assert run.recipe.model.name.startswith("features/hog+color(levels=[1])+sift")
    assert run.recipe.head == "svm"
    classifier = sightline.load(run.path)
    drawn, targets = pictures(9, seed=5)
    assert classifier.predict(drawn) == [CLASSES[i] for i in targets]
    assert classifier.embed(drawn[0]).shape == (classifier.network.num_features,)
    assert sightline.evaluate(run, data, quiet=True).accuracy.value == 1.0
    page = run.report.read_text()
    assert "Error against penalty" in page and "Training report" in page
    facts = json.loads((run.path / "run.json").read_text())
    assert facts["status"] == "complete"
    assert any("penalties" in reason for reason in facts["reasons"])


def test_the_same_seed_gives_the_same_run_also_by_its_recipe(tmp_path):
    data = folder(tmp_path / "data", 45)
    first = sightline.fit(data, features="sift(k=8,cells=[3])", out=tmp_path / "a", quiet=True)
    again = sightline.fit(data, recipe=first.path / "recipe.json", out=tmp_path / "b", quiet=True)
    for name, tensor in first.bundle.weights.items():
        torch.testing.assert_close(tensor, again.bundle.weights[name], rtol=0, atol=0)


def test_fields_of_training_are_refused(tmp_path):
    data = folder(tmp_path / "data", 12)
    with pytest.raises(SightlineError, match="leave out epochs"):
        sightline.fit(data, features="hog", epochs=3, out=tmp_path / "run", quiet=True)
    assert not (tmp_path / "run").exists()
    with pytest.raises(SightlineError, match="did you mean hog"):
        sightline.fit(data, features="hgo", out=tmp_path / "run", quiet=True)


@pytest.mark.full
def test_hog_and_a_linear_svm_read_98_percent_of_mnist(tmp_path):
    source = data_root("mnist") / "mnist.npz"
    recipe = {"features": "hog(cell=4,signed=True)", "head": "svm", "penalty": 300.0}
    run = sightline.fit(source, recipe=recipe, out=tmp_path / "run", quiet=True)
    assert run.scores.n == 10_000
    assert run.scores.accuracy.value >= 0.98
