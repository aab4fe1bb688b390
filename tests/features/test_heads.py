"""Linear heads against scikit-learn's, and folded into a network."""

import warnings

import numpy as np
import pytest
import torch
from scipy.optimize import minimize_scalar
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression, RidgeClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC

from sightline.errors import SightlineError
from sightline.features import HEADS, RidgeHead, SoftmaxHead, fold_head, make_head
from sightline.features.heads.calibration import fit_temperature
from sightline.models import create_model

# (samples, features, classes): more samples than features and fewer, two classes and more.
SHAPES = [(240, 30, 4), (240, 30, 2), (50, 120, 3), (50, 120, 2)]


def samples(n: int, d: int, classes: int, noise: float = 3.0) -> tuple[np.ndarray, np.ndarray]:
    """Features of unlike means and scales, one of them constant, and labels."""
    rng = np.random.default_rng(n + d + classes)
    means = rng.normal(size=(classes, d))
    y = rng.integers(classes, size=n)
    X = (means[y] + noise * rng.normal(size=(n, d))) * np.geomspace(10, 0.1, d) + rng.normal(size=d)
    X[:, d // 2] = 7.0
    return X, y


def reference(name: str, penalty: float):
    return {
        "ridge": RidgeClassifier(alpha=penalty),
        "softmax": LogisticRegression(C=1 / penalty, tol=1e-10, max_iter=100_000),
        "svm": LinearSVC(C=1 / penalty, random_state=0),
    }[name]


@pytest.mark.parametrize("penalty", [100.0, 1.0])
@pytest.mark.parametrize("name", HEADS)
@pytest.mark.parametrize("shape", SHAPES)
def test_a_head_decides_as_scikit_learns_pipeline_at_the_same_penalty(name, shape, penalty):
    X, y = samples(*shape)
    head = make_head(name, penalty).fit(X, y)
    there = make_pipeline(StandardScaler(), reference(name, penalty)).fit(X, y)
    # LinearSVC stops at a tolerance of its own, at which turning the features makes a difference.
    atol = 1e-4 if name != "svm" else 0.02
    np.testing.assert_allclose(head.decision_function(X), there.decision_function(X), atol=atol)
    assert head.coef_.shape == (shape[2], shape[1])


@pytest.mark.parametrize("shape", SHAPES)
def test_ridge_left_out_is_what_refitting_without_each_gives(shape):
    X, y = samples(*shape)
    head = RidgeHead([20.0]).fit(X, y)
    Z = StandardScaler().fit_transform(X)
    for i in range(0, len(y), 17):
        rest = np.arange(len(y)) != i
        there = RidgeClassifier(alpha=20.0).fit(Z[rest], y[rest]).decision_function(Z[i : i + 1])[0]
        ours = head.held_out_[i]
        np.testing.assert_allclose(ours if shape[2] > 2 else ours[1] - ours[0], there, atol=1e-8)
    assert head.errors_[0] == np.mean(head.held_out_.argmax(1) != y)


@pytest.mark.parametrize("name", HEADS)
def test_the_penalty_of_least_held_out_error_is_taken(name):
    X, y = samples(240, 30, 4)
    head = HEADS[name]().fit(X, y)
    assert head.penalty_ == head.penalties_[np.flatnonzero(head.errors_ == head.errors_.min())].tolist()[
        0
    ] or (head.errors_[head.penalties_.tolist().index(head.penalty_)] == head.errors_.min())
    assert len(head.errors_) == len(head.penalties_) >= 9
    assert head.errors_.min() == pytest.approx(np.mean(head.held_out_.argmax(1) != y))
    assert head.errors_.min() < head.errors_.max()


def test_softmaxs_path_gives_what_each_penalty_alone_gives():
    """Held-out errors of the path, at its loose tolerance, against scikit-learn's fits of the same folds."""
    X, y = samples(240, 30, 4)
    head = SoftmaxHead([300.0, 30.0, 3.0], tol=1e-6).fit(X, y)
    from sightline.features.heads.softmax import folds_of

    Z = StandardScaler().fit_transform(X)
    for penalty, error in zip(head.penalties_, head.errors_, strict=True):
        wrong = 0
        for kept, out in folds_of(y, 5):
            there = LogisticRegression(C=1 / penalty, tol=1e-8, max_iter=10_000).fit(Z[kept], y[kept])
            wrong += (there.predict(Z[out]) != y[out]).sum()
        assert error * len(y) == pytest.approx(wrong, abs=0.5)


def test_the_temperature_is_the_best_one_for_softened_targets():
    rng = np.random.default_rng(0)
    targets = rng.integers(3, size=400)
    logits = 4.0 * (rng.normal(size=(400, 3)) + 1.5 * np.eye(3)[targets])
    soft = (400 * np.eye(3)[targets] + 1) / 403

    def cost(t):
        return -(soft * torch.log_softmax(torch.from_numpy(logits / t), 1).numpy()).sum()

    best = minimize_scalar(cost, bounds=(0.1, 50), method="bounded", options={"xatol": 1e-8}).x
    assert fit_temperature(logits, targets) == pytest.approx(best, rel=1e-3)
    # Samples that are all told apart do not make it sure beyond measure.
    assert 0 < fit_temperature(np.eye(3)[targets], targets) < 1


@pytest.mark.parametrize("name", HEADS)
def test_they_are_scikit_learn_classifiers(name):
    X, y = samples(60, 8, 3)
    labels = np.array(["ant", "bee", "wasp"])[y]
    head = clone(HEADS[name]())
    assert head.fit(X, labels).score(X, labels) > 0.5
    assert head.classes_.tolist() == ["ant", "bee", "wasp"]
    probabilities = head.predict_proba(X)
    np.testing.assert_allclose(probabilities.sum(1), 1)
    np.testing.assert_array_equal(head.predict(X), head.classes_[probabilities.argmax(1)])
    with pytest.raises(ValueError, match="8 features"):
        head.predict(X[:, :5])


def test_what_cannot_be_fitted_is_said():
    X, y = samples(60, 8, 3)
    with pytest.raises(SightlineError, match="one class alone"):
        RidgeHead().fit(X, np.zeros(60))
    with pytest.raises(SightlineError, match="same for all samples"):
        RidgeHead().fit(np.ones((60, 8)), y)
    with pytest.raises(SightlineError, match="above 0"):
        RidgeHead([0.0]).fit(X, y)
    with pytest.raises(SightlineError, match="did you mean ridge"):
        make_head("rigde")


@pytest.mark.parametrize("name", ["softmax", "svm"])
def test_a_class_of_one_sample_is_borne(name):
    X, y = samples(60, 8, 3)
    y[y == 2] = 1
    y[0] = 2
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        head = HEADS[name]([1.0]).fit(X, y)
    assert head.coef_.shape == (3, 8) and np.isfinite(head.coef_).all()


@pytest.mark.parametrize("classes", [2, 4])
@pytest.mark.parametrize("name", HEADS)
def test_a_folded_head_is_the_pipeline(name, classes):
    """Features of a resnet18, a head on them, the head folded into it: against scikit-learn's own pipeline."""
    torch.manual_seed(0)
    network = create_model("resnet18", num_classes=7, img_size=32).eval()
    pictures = torch.randn(60, 3, 32, 32)
    y = np.arange(60) % classes
    pictures += torch.from_numpy(y)[:, None, None, None] * 0.2
    with torch.inference_mode():
        X = network.forward_head(network.forward_features(pictures), pre_logits=True).numpy()
    head = make_head(name, 50.0).fit(X, y)
    temperature = fold_head(network, head)
    with torch.inference_mode():
        logits = network(pictures).double()
    there = make_pipeline(StandardScaler(), reference(name, 50.0)).fit(X.astype(np.float64), y)
    ours = logits.numpy() if classes > 2 else (logits[:, 1] - logits[:, 0]).numpy()
    atol = 1e-4 if name != "svm" else 0.02
    np.testing.assert_allclose(ours, there.decision_function(X.astype(np.float64)), atol=atol)
    np.testing.assert_allclose(logits, head.logits(X), atol=1e-4)
    top = logits.topk(2).values
    clear = (top[:, 0] - top[:, 1] > 2 * atol).numpy()
    np.testing.assert_array_equal(logits.argmax(1)[clear], there.predict(X.astype(np.float64))[clear])
    np.testing.assert_allclose((logits / temperature).softmax(1), head.predict_proba(X), atol=1e-4)


def test_a_head_of_other_features_is_not_folded():
    X, y = samples(60, 8, 3)
    with pytest.raises(SightlineError, match="fitted on 8 features"):
        fold_head(create_model("resnet18", num_classes=3), RidgeHead().fit(X, y))
