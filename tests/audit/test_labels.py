"""Wrong labels and outliers: planted ones are found; probabilities are those of a picture left out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from sightline.audit import check, labels
from sightline.audit.labels import confident_classes, doubted, held_out_probabilities
from sightline.data import ImageDataset, open_dataset
from sightline.data.arrays import from_arrays
from tests.audit.drawn import scene
from tests.support import data_root


def relabelled(dataset: ImageDataset, share: float) -> tuple[ImageDataset, np.ndarray]:
    """The data set with that share of its labels replaced by others, and where."""
    rng = np.random.default_rng(0)
    wrong = rng.permutation(len(dataset))[: round(share * len(dataset))]
    other = dataset.subset(np.arange(len(dataset)))
    other.targets = dataset.targets.copy()
    other.targets[wrong] = (other.targets[wrong] + rng.integers(1, len(dataset.classes), len(wrong))) % len(
        dataset.classes
    )
    return other, wrong


def recall_and_precision(dataset: ImageDataset, share: float) -> tuple[float, float]:
    noisy, wrong = relabelled(dataset, share)
    told = {one.rows[0] for one in check(noisy, labels=True, minutes=2).of("wrong_label")}
    hits = len(told & set(wrong.tolist()))
    return hits / len(wrong), hits / max(1, len(told))


@pytest.fixture(scope="module")
def scenes() -> ImageDataset:
    """Four classes of 100 scenes each."""
    rng = np.random.default_rng(1)
    targets = np.arange(400) % 4
    pictures = np.stack([np.asarray(scene(kind, rng, (64, 64))) for kind in targets.tolist()])
    return from_arrays([("x", 255, pictures, targets)], name="scenes", where="scenes")


@pytest.mark.parametrize("share", [0.08])
def test_planted_wrong_labels_of_digits(share: float) -> None:
    recall, precision = recall_and_precision(open_dataset("digits"), share)
    assert recall >= 0.8
    assert precision >= 0.5


def test_planted_wrong_labels_of_scenes(scenes: ImageDataset) -> None:
    recall, precision = recall_and_precision(scenes, 0.08)
    assert recall >= 0.8
    assert precision >= 0.5


def test_planted_wrong_labels_of_tiles() -> None:
    recall, precision = recall_and_precision(open_dataset(data_root("magtile")), 0.08)
    assert recall >= 0.8
    assert precision >= 0.5


def test_right_labels_are_left_alone(scenes: ImageDataset) -> None:
    findings = check(scenes, labels=True, minutes=1)
    assert len(findings.of("wrong_label")) <= 0.02 * len(scenes)
    assert "all 400 pictures" in str(findings.checked)


def test_what_does_not_belong_is_an_outlier(scenes: ImageDataset) -> None:
    pictures = np.stack([np.asarray(scenes.read(i)) for i in range(100)])
    stripes = np.zeros((64, 64, 3), np.uint8)
    stripes[::4] = (255, 0, 255)
    pictures[17] = stripes
    findings = check(
        from_arrays([("x", 255, pictures, np.arange(100) % 2)], name="x", where="x"), labels=True, minutes=1
    )
    assert [one.rows for one in findings.of("outlier")] == [(17,)]


def test_time_is_kept(scenes: ImageDataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(labels, "CHUNK", 64)
    findings = check(scenes, labels=True, minutes=0.0)
    assert "64 of the 400 pictures" in str(findings.checked)


def test_near_duplicates_are_confirmed_by_the_features(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    for kind, name in enumerate(("disc", "bar")):
        (tmp_path / name).mkdir()
        for number in range(30):
            scene(kind, rng).save(tmp_path / name / f"{number:02}.jpg", quality=95)
    scene(0, np.random.default_rng(9)).save(tmp_path / "disc" / "x.jpg", quality=95)
    scene(0, np.random.default_rng(9)).save(tmp_path / "disc" / "y.jpg", quality=40)
    [near] = check(tmp_path, labels=True, minutes=1).of("near_duplicate")
    assert near.details["confirmed"] is True


# Parts, against arithmetic.


def test_probabilities_are_those_without_the_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    """One fit gives what as many fits as pictures would: each without the one that it is asked about."""
    rng = np.random.default_rng(3)
    values = rng.standard_normal((40, 6)).astype(np.float32)
    given = rng.integers(0, 3, 40)
    monkeypatch.setattr(labels, "PENALTIES", np.array([0.7]))
    monkeypatch.setattr(labels, "SHARPNESS", np.array([3.0]))
    trusted = np.arange(40) % 10 != 7
    ours = held_out_probabilities(values, given, trusted)

    draws = np.random.default_rng(0)
    sample = values[draws.permutation(40)[:300]].astype(float)
    distances = ((sample[:, None] - sample[None]) ** 2).sum(-1)
    directions = draws.standard_normal((6, labels.KERNEL)) * np.sqrt(
        1.4 / np.median(distances[distances > 0])
    )
    waves = np.sqrt(2 / labels.KERNEL) * np.cos(
        values @ directions + draws.uniform(0, 2 * np.pi, labels.KERNEL)
    )
    waves = np.concatenate((waves, np.ones((40, 1))), axis=1)
    one_hot = np.eye(3)[given]
    for left_out in (0, 7, 39):
        rest = trusted & (np.arange(40) != left_out)
        products = waves[rest].T @ waves[rest] + 0.7 * np.eye(waves.shape[1])
        scores = 3.0 * waves[left_out] @ np.linalg.solve(products, waves[rest].T @ one_hot[rest])
        expected = np.exp(scores) / np.exp(scores).sum()
        assert np.allclose(ours[left_out], expected, atol=1e-6)


def test_confident_classes_by_hand() -> None:
    given = np.array([0, 0, 0, 1, 1, 1])
    probabilities = np.array([[0.9, 0.1], [0.8, 0.2], [0.1, 0.9], [0.2, 0.8], [0.45, 0.55], [0.7, 0.3]])
    # Means of the own class: (0.9 + 0.8 + 0.1) / 3 = 0.6 and (0.8 + 0.55 + 0.3) / 3 = 0.55.
    assert confident_classes(probabilities, given).tolist() == [0, 0, 1, 1, 1, 0]
    # 0.5 reaches neither; and of two that are reached, the likelier counts.
    given = np.array([0, 1, 0, 1])
    probabilities = np.array([[0.8, 0.2], [0.2, 0.8], [0.5, 0.5], [0.45, 0.55]])
    assert confident_classes(probabilities, given).tolist() == [0, 1, -1, -1]


def test_confident_classes_are_those_of_cleanlab() -> None:
    count = pytest.importorskip("cleanlab.count")
    rng = np.random.default_rng(4)
    probabilities = rng.dirichlet(np.full(5, 0.4), 400)
    given = np.array([rng.choice(5, p=row) for row in probabilities])
    _, expected = count.compute_confident_joint(
        given, probabilities, calibrate=False, return_indices_of_off_diagonals=True
    )
    ours = confident_classes(probabilities, given)
    assert np.flatnonzero((ours >= 0) & (ours != given)).tolist() == sorted(expected)


def test_doubt_grows_with_the_skill_of_the_features() -> None:
    """A label at 5 % against 90 % is doubted where the features agree with the rest, and not where with few."""
    sure = np.tile([[0.95, 0.05], [0.05, 0.95]], (50, 1))
    given = np.tile([0, 1], 50)
    sure[0] = (0.05, 0.9)
    assert doubted(sure, given, np.ones(100, bool)).tolist() == [0]
    unsure = np.tile([[0.6, 0.4], [0.55, 0.45]], (50, 1))
    unsure[0] = (0.05, 0.9)
    assert doubted(unsure, given, np.ones(100, bool)).tolist() == []
