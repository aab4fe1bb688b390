"""Search: the nearest are float32's, the index follows the folder, and recall is what arithmetic says."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from sightline.errors import SightlineError
from sightline.search import PictureSearch, nearest
from sightline.zero_shot import OpenedClip, open_clip
from tests.cli.conftest import Call, sightline  # noqa: F401
from tests.zero_shots import ARGUMENTS, NAME, write_pictures, write_weights

torch.set_num_threads(1)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_weights(tmp_path_factory.mktemp("weights"))


@pytest.fixture(scope="module")
def clip(weights: Path) -> OpenedClip:
    return open_clip(NAME, weights, ARGUMENTS)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SIGHTLINE_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_pictures(tmp_path / "in" / "a", 4)
    write_pictures(tmp_path / "in" / "b", 4, start=4)
    return tmp_path / "in"


# ------------------------------------------------------------------------------------------------- nearest
@pytest.mark.parametrize("count", [1, 7, 150, 20_000])
@pytest.mark.parametrize("spread", [1.0, 0.01])  # with 0.01 all are close to one another
def test_nearest_is_float32s(count: int, spread: float) -> None:
    rng = np.random.default_rng(3)
    middle = rng.normal(size=64)
    vectors = middle + spread * rng.normal(size=(count, 64)) * np.linalg.norm(middle) / 8
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float16)
    for _ in range(20):
        query = middle + spread * rng.normal(size=64)
        query = (query / np.linalg.norm(query)).astype(np.float32)
        exact = vectors.astype(np.float64) @ query.astype(np.float64)
        rows, scores = nearest(vectors, query, 10)
        assert len(rows) == min(10, count)
        np.testing.assert_allclose(scores, np.sort(exact)[::-1][:10], atol=1e-6)
        np.testing.assert_allclose(exact[rows], scores, atol=1e-6)


def test_of_equal_ones_the_first_comes_first() -> None:
    vectors = np.zeros((5000, 8), np.float16)
    vectors[:, 0] = 1
    rows, scores = nearest(vectors, np.eye(8, dtype=np.float32)[0], 3)
    assert rows.tolist() == [0, 1, 2] and scores.tolist() == [1, 1, 1]


# ------------------------------------------------------------------------------------------------ the index
def test_finds_what_the_embeddings_say(folder: Path, clip: OpenedClip) -> None:
    pictures = PictureSearch(folder, model=clip, precision="fp32")
    assert len(pictures) == pictures.embedded == 8
    names = sorted(str(path.relative_to(folder)) for path in folder.rglob("*.png"))
    x = torch.stack([clip.preprocess(Image.open(folder / name)) for name in names])
    with torch.no_grad():
        images = clip.model.encode_image(clip.preprocess.normalize(x), normalize=True)
        text = clip.model.encode_text(clip.tokenizer(["two dogs in the snow"]), normalize=True)
    expected = (images @ text.T)[:, 0]
    hits = pictures.by_text("two dogs in the snow", 8)
    assert [hit.name for hit in hits] == [names[i] for i in expected.argsort(descending=True).tolist()]
    assert [hit.score for hit in hits] == pytest.approx(
        expected.sort(descending=True).values.tolist(), abs=1e-3
    )
    assert pictures.by_picture(folder / "b" / "06.png", 2)[0] == ("b/06.png", pytest.approx(1, abs=1e-3))
    assert len(pictures.by_text("dog", 3)) == 3


def test_the_index_follows_the_folder(folder: Path, clip: OpenedClip) -> None:
    def count() -> tuple[int, int]:
        pictures = PictureSearch(folder, model=clip, precision="fp32")
        assert len({hit.name for hit in pictures.by_text("dog", 99)}) == len(pictures)
        for hit in pictures.by_text("dog", 99):  # the embedding is that of the picture as it is now
            best = pictures.by_picture(folder / hit.name, 1)[0]
            assert best.score == pytest.approx(1, abs=2e-3)
        return len(pictures), pictures.embedded

    assert count() == (8, 8)
    assert count() == (8, 0)
    (folder / "a" / "00.png").rename(folder / "b" / "moved.png")
    shutil.copy(folder / "a" / "01.png", folder / "copy.png")
    assert count() == (9, 0)
    write_pictures(folder / "c", 2, start=20)
    (folder / "b" / "04.png").unlink()
    assert count() == (10, 2)
    other = write_pictures(folder.parent / "other", 1, start=33)[0]
    (folder / "a" / "02.png").write_bytes(other.read_bytes())  # another picture under an old name
    assert count() == (10, 1)
    os.utime(folder / "a" / "03.png")  # touched, the same content
    assert count() == (10, 0)


def test_unreadable_pictures_are_left_out_and_said(folder: Path, clip: OpenedClip) -> None:
    (folder / "bad.png").write_text("no picture")
    for embedded in (8, 0):
        pictures = PictureSearch(folder, model=clip)
        assert len(pictures) == 8 and pictures.embedded == embedded
        assert [failure.path for failure in pictures.failures] == ["bad.png"]


def test_the_index_is_float16_in_a_file(folder: Path, clip: OpenedClip, home: Path) -> None:
    pictures = PictureSearch(folder, model=clip)
    assert isinstance(pictures.index.vectors, np.memmap) and pictures.index.vectors.dtype == np.float16
    (file,) = home.rglob("*.f16")
    assert file.stat().st_size == 8 * 24 * 2
    norms = np.linalg.norm(pictures.index.vectors.astype(np.float32), axis=1)
    np.testing.assert_allclose(norms, 1, atol=1e-3)


@pytest.mark.parametrize("what", ["vectors", "entries", "index"])
def test_a_damaged_index_is_made_anew(folder: Path, clip: OpenedClip, home: Path, what: str) -> None:
    PictureSearch(folder, model=clip)
    (file,) = home.rglob(f"{what}*")
    file.write_bytes(file.read_bytes()[:20])
    assert PictureSearch(folder, model=clip).embedded == 8


def test_other_weights_have_another_index(folder: Path, clip: OpenedClip) -> None:
    PictureSearch(folder, model=clip)
    other = open_clip(NAME, "none", ARGUMENTS)
    assert PictureSearch(folder, model=other).embedded == 8
    assert PictureSearch(folder, model=clip).embedded == 0


def test_an_interrupt_costs_little(folder: Path, clip: OpenedClip, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was embedded before is kept."""
    from sightline import search

    monkeypatch.setattr(search, "SAVE_EVERY", 0.0)
    real = PictureSearch._embedded

    def interrupted(self: PictureSearch, names: list[str], missing: list[int]) -> object:
        yield from real(self, names, missing[:5])
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(PictureSearch, "_embedded", interrupted)
        with pytest.raises(KeyboardInterrupt):
            PictureSearch(folder, model=clip)
    assert PictureSearch(folder, model=clip).embedded == 3


def test_what_cannot_be_searched(tmp_path: Path, folder: Path, clip: OpenedClip) -> None:
    with pytest.raises(SightlineError, match="no folder"):
        PictureSearch(tmp_path / "none", model=clip)
    (tmp_path / "empty").mkdir()
    with pytest.raises(SightlineError, match="no pictures that can be read"):
        PictureSearch(tmp_path / "empty", model=clip)
    with pytest.raises(SightlineError, match="nothing to search for"):
        PictureSearch(folder, model=clip).by_text("  ")


# --------------------------------------------------------------------------------------------------- recall
def test_recall_is_counted(folder: Path, clip: OpenedClip, tmp_path: Path) -> None:
    captions = {"a/00.png": ["a cat", "a pet"], "a/03.png": ["a dog"], "b/05.png": ["a rusty screw"]}
    lines = [f"{folder / name},{text}" for name, own in captions.items() for text in own]
    file = tmp_path / "captions.csv"
    file.write_text("path,caption\n" + "\n".join([*lines, f"{tmp_path}/not/there.png,a cow"]) + "\n")
    pictures = PictureSearch(folder, model=clip, precision="fp32")
    scores = pictures.recall(file)
    assert (scores.n, scores.captions) == (3, 4)
    x = torch.stack([clip.preprocess(Image.open(folder / name)) for name in captions])
    with torch.no_grad():
        images = clip.model.encode_image(clip.preprocess.normalize(x), normalize=True)
        texts = clip.model.encode_text(clip.tokenizer([t for own in captions.values() for t in own]), True)
    near = images @ texts.T
    owner = torch.tensor([0, 0, 1, 2])
    to_image = float((near.argmax(0) == owner).float().mean())
    to_text = float((owner[near.argmax(1)] == torch.arange(3)).float().mean())
    assert scores.text_to_image.recall[1].value == pytest.approx(to_image)
    assert scores.image_to_text.recall[1].value == pytest.approx(to_text)
    assert scores.text_to_image.recall[5].value == 1
    file.write_text("path,caption\nx.png,a\ny.png,b\nz.png,c\n")
    with pytest.raises(SightlineError, match="None of the pictures"):
        pictures.recall(file)


# -------------------------------------------------------------------------------------------------- command
def test_the_command(folder: Path, weights: Path, tmp_path: Path, sightline: Call) -> None:  # noqa: F811
    settings = [f"--set={key}={json.dumps(value)}" for key, value in ARGUMENTS.items()]
    common = ["--weights", weights, *settings]
    page = tmp_path / "found.html"
    answer = sightline("search", folder, "a <b>dog</b>", "--top-k", 3, "--html", page, *common)
    assert answer.code == 0, answer.err
    *lines, written = answer.out.splitlines()
    assert len(lines) == 3 and written == f"Written to {page}"
    score, path = lines[0].split("\t")
    assert Path(path).is_file() and -1 <= float(score) <= 1
    text = page.read_text(encoding="utf-8")
    assert (
        text.count('<img src="data:image/') == 3
        and "a &lt;b&gt;dog&lt;/b&gt;" in text
        and "<b>dog" not in text
    )
    assert "8 pictures, 8 of them new" in answer.err

    again = sightline("search", folder, "--picture", folder / "a" / "02.png", "--json", *common)
    data = json.loads(again.out)
    assert data["pictures"] == 8 and data["found"][0]["picture"] == str(folder / "a" / "02.png")
    assert "0 of them new" in again.err

    assert "exclude each other" in sightline("search", folder, "dog", "--picture", page, *common).refusal
    assert "what to look for" in sightline("search", folder, *common).refusal
    assert sightline("search", tmp_path / "none", "dog", *common).code == 2
