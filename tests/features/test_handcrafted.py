"""Hand-crafted features against OpenCV, and as scikit-learn transformers."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image
from sklearn.base import clone
from sklearn.metrics.pairwise import euclidean_distances
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline, make_union
from sklearn.svm import LinearSVC

from sightline.data import open_dataset
from sightline.errors import SightlineError, UnreadableImage
from sightline.features import HOG, BagOfSIFT, ColorHistogram, load_features, make_features, save_features
from sightline.features.seen import colour_shares, draw_colours, draw_hog, draw_sift, hog_cells, sift_words
from tests.features.drawn import folder, pictures

ORACLE = Path(__file__).parent / "oracles" / "hog.npz"
ALL = [HOG(cell=4), HOG(), ColorHistogram(), BagOfSIFT(8, cells=[2]), BagOfSIFT(8, dense=False, size=64)]


@pytest.mark.parametrize("case", range(5))
def test_hog_is_opencv_4s_descriptor(case):
    """The file holds pictures, settings and what cv2.HOGDescriptor of OpenCV 4.14 (OpenCV 5 has none) made of them."""
    oracle = np.load(ORACLE)
    cell, block, bins, stride, signed, gamma = (int(v) for v in oracle[f"{case}.settings"])
    hog = HOG(cell, block, bins, stride, bool(signed), bool(gamma))
    made = hog.fit_transform([oracle[f"{case}.picture"]])
    np.testing.assert_allclose(made[0], oracle[f"{case}.descriptor"], atol=1e-6)


@pytest.mark.parametrize(("space", "code"), [("hsv", cv2.COLOR_RGB2HSV_FULL), ("lab", cv2.COLOR_RGB2LAB)])
def test_colour_histogram_is_opencvs(space, code):
    drawn, _ = pictures(2)
    made = ColorHistogram(space, bins=(8, 4, 2), levels=(1, 2), root=False).fit_transform(drawn)
    for picture, row in zip(drawn, made, strict=True):
        parts = [picture, *(picture[y : y + 16, x : x + 16] for y in (0, 16) for x in (0, 16))]
        for part, shares in zip(parts, row.reshape(5, -1), strict=True):
            there = cv2.calcHist(
                [cv2.cvtColor(np.ascontiguousarray(part), code)], [0, 1, 2], None, [8, 4, 2], [0, 256] * 3
            )
            np.testing.assert_allclose(shares, there.ravel() / there.sum(), atol=1e-6)


def test_dense_sift_is_close_to_opencvs_at_the_same_places():
    """OpenCV smooths by its pyramid and rounds to whole pixels: the likeness is high, not perfect."""
    rng = np.random.default_rng(0)
    picture = cv2.GaussianBlur(rng.integers(0, 256, (64, 64)).astype(np.uint8), (0, 0), 2)
    picture = cv2.normalize(picture, None, 0, 255, cv2.NORM_MINMAX)
    sift = BagOfSIFT(1, cells=[6], step=8).fit([picture])
    ((ours, places),) = sift.described(picture[None])
    points = [cv2.KeyPoint(float(x), float(y), 4.0, 0.0) for y, x in places * 64 - 0.5]
    _, theirs = cv2.SIFT_create().compute(picture, points)
    theirs = np.sqrt(theirs / theirs.sum(1, keepdims=True))
    # OpenCV: rows of cells from the top, directions turning against ours; ours: columns of cells.
    theirs = theirs.reshape(-1, 4, 4, 8)[..., (-np.arange(8)) % 8].transpose(0, 2, 1, 3).reshape(-1, 128)
    assert np.median((ours * theirs).sum(1)) > 0.9


def test_hard_words_are_the_nearest():
    drawn, _ = pictures(9)
    sift = BagOfSIFT(6, cells=[3], levels=[1], soft=False).fit(drawn)
    row = sift.transform(drawn[:1])[0]
    ((descriptors, _),) = sift.described(np.asarray(Image.fromarray(drawn[0]).convert("L"))[None])
    nearest = euclidean_distances(descriptors, sift.vocabulary_).argmin(1)
    np.testing.assert_allclose(row**2, np.bincount(nearest, minlength=6) / len(nearest), atol=1e-6)


@pytest.mark.parametrize("features", ALL, ids=str)
def test_every_source_of_the_same_pictures_gives_the_same(features, tmp_path):
    drawn, _ = pictures(18)
    dataset = open_dataset(folder(tmp_path / "data", 18))
    paths = [dataset.path(i) for i in range(len(dataset))]
    made = clone(features).fit_transform(dataset)
    assert made.dtype == np.float32 and np.isfinite(made).all()
    order = [int(path.stem) for path in paths]
    np.testing.assert_array_equal(made, clone(features).fit_transform([drawn[i] for i in order]))
    np.testing.assert_array_equal(made, clone(features).fit_transform(np.stack(drawn)[order]))
    np.testing.assert_array_equal(made, clone(features).fit_transform(paths))
    assert len(clone(features).fit(dataset).get_feature_names_out()) == made.shape[1]


def test_they_fit_into_scikit_learns_pipelines(tmp_path):
    dataset = open_dataset(folder(tmp_path / "data", 60))
    pipeline = make_pipeline(make_union(HOG(), ColorHistogram(levels=(1,))), LinearSVC())
    search = GridSearchCV(pipeline, {"featureunion__hog__cell": [4, 8]}, cv=3).fit(dataset, dataset.targets)
    assert search.best_score_ == 1.0  # plainly told apart
    assert set(search.cv_results_["param_featureunion__hog__cell"]) == {4, 8}


@pytest.mark.parametrize(
    "text", ["hog", "hog(cell=4,signed=True)+color(space='lab')", "sift(k=8,cells=[3])+hog"]
)
def test_saved_and_loaded_they_compute_the_same(text, tmp_path):
    drawn, _ = pictures(12)
    features = make_features(text).fit(drawn)
    save_features(features, tmp_path)
    np.testing.assert_array_equal(load_features(tmp_path).transform(drawn), features.transform(drawn))
    assert {path.name for path in tmp_path.iterdir()} == {"features.json", "features.safetensors"}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("hgo", "did you mean hog"),
        ("hog(cel=4)", "did you mean cell"),
        ("hog(cell='x')", "a value such as 8"),
        ("hog(__import__('os'))", "names joined by"),
        ("hog(cell=1+1)", "is a number"),
        ("hog,color", "names joined by"),
        ("", "names joined by"),
    ],
)
def test_what_spells_no_features_is_said(text, said):
    with pytest.raises(SightlineError, match=said):
        make_features(text)


def test_bad_pictures_are_said():
    drawn, _ = pictures(6)
    hog = HOG().fit(drawn)
    with pytest.raises(UnreadableImage, match=r"nowhere\.png"):
        hog.transform([*drawn, "nowhere.png"])
    with pytest.raises(SightlineError, match="too small"):
        HOG(cell=20).fit(drawn)
    with pytest.raises(SightlineError, match="no pictures"):
        hog.transform([])
    with pytest.raises(SightlineError, match="into a list"):
        hog.transform("a.png")


def test_hogs_glyphs_point_along_the_gradient():
    """A picture that brightens to the right has its gradients in the first of the bins (0 to 20 degrees)."""
    ramp = np.tile(np.linspace(0, 255, 32).astype(np.uint8), (32, 1))
    hog = HOG().fit([ramp])
    record = hog_cells(hog, ramp)
    assert record.strengths.shape == (4, 4, 9)
    # At angle 0 the vote is shared by the bins next to it: the first and the last.
    assert set(record.strengths.mean((0, 1)).argsort()[-2:]) == {0, 8}
    assert draw_hog(record, tile=16).size == (64 + 8 + 64, 64)


def test_colour_shares_are_of_the_pictures_colours():
    picture = np.zeros((32, 32, 3), np.uint8)
    picture[:8] = (250, 10, 10)
    record = colour_shares(ColorHistogram().fit([picture]), picture)
    assert record.shares.tolist() == [0.75, 0.25]
    assert record.colours.tolist() == [[0, 0, 0], [250, 10, 10]]
    np.testing.assert_array_equal(record.boxed, picture)
    assert draw_colours(record, side=64).height == 64


@pytest.mark.parametrize("dense", [True, False])
def test_sift_words_are_of_the_vocabulary(dense):
    drawn, _ = pictures(6, side=64)
    record = sift_words(BagOfSIFT(4, dense=dense).fit(drawn), drawn[0])
    assert len(record.places) == len(record.words) == len(record.sides) > 0
    assert set(record.words) <= set(range(4))
    assert (record.places >= 0).all() and (record.places <= 64).all()
    assert draw_sift(record, side=64).height == 64
