"""`sightline augment`: the grid of a picture, of several policies, of a data set; and what it refuses."""

from __future__ import annotations

import base64
import io
import re

import numpy as np
import pytest
from PIL import Image

from sightline.data import open_dataset
from sightline.pipeline.order import uniforms
from sightline.transforms.augment import Augment
from sightline.visualization.augmentations import by_class, by_policy, draw_grid, grid_page, nine_versions


def photo(height=60, width=90):
    """A picture without a symmetry."""
    y, x = np.mgrid[:height, :width]
    return Image.fromarray(
        np.stack([x * 255 // width, y * 255 // height, (x + y) % 7 * 36], -1).astype(np.uint8)
    )


@pytest.fixture
def pictures(tmp_path):
    """A folder of three classes; the first file of one of them is broken, all of another."""
    for k, label in enumerate(["ant", "bee", "wasp"]):
        (tmp_path / "in" / label).mkdir(parents=True)
        for i in range(2):
            photo(40 + k, 50).save(tmp_path / "in" / label / f"{i}.png")
    (tmp_path / "in" / "bee" / "0.png").write_bytes(b"nothing")
    for i in range(2):
        (tmp_path / "in" / "wasp" / f"{i}.png").write_bytes(b"nothing")
    return tmp_path / "in"


# The command.


def test_nine_versions_of_a_picture(sightline, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    photo().save("a photo.png")
    answer = sightline("augment", "a photo.png", "--policy", "hflip(0.3) + rotate(30)")
    assert answer.code == 0
    assert answer.out.splitlines()[0] == "hflip(p=0.3) + rotate(degrees=30)"
    assert answer.out.splitlines()[-1] == f"Written to {tmp_path / 'augment-a-photo.png'}"
    first = (tmp_path / "augment-a-photo.png").read_bytes()
    with Image.open(io.BytesIO(first)) as drawn:
        assert min(drawn.size) > 3 * 60
    sightline("augment", "a photo.png", "--policy", "hflip(0.3) + rotate(30)", "--out", "again.png")
    sightline(
        "augment", "a photo.png", "--policy", "hflip(0.3) + rotate(30)", "--out", "other.png", "--seed", 1
    )
    assert (tmp_path / "again.png").read_bytes() == first
    assert (tmp_path / "other.png").read_bytes() != first


def test_a_row_for_each_policy(sightline, tmp_path):
    photo().save(tmp_path / "a.png")
    page = tmp_path / "a.html"
    answer = sightline("augment", tmp_path / "a.png", "--policy", "hflip", "--policy", "a < b", "--out", page)
    assert answer.code == 2
    answer = sightline(
        "augment", tmp_path / "a.png", "--policy", "hflip", "--policy", "crop(2, 'zero')", "--out", page
    )
    assert answer.code == 0
    text = page.read_text()
    assert text.count("<tr>") == 3
    assert "crop(2, &#x27;zero&#x27;)" in text
    assert text.count("data:image/") == 14


def test_a_data_set_has_a_row_for_each_class_that_can_be_read(sightline, pictures, tmp_path):
    out = tmp_path / "page.html"
    answer = sightline("augment", pictures, "--policy", "photos", "--out", out)
    assert answer.code == 0
    told = answer.out.splitlines()
    assert told[0].startswith("photos: random_resized_crop")
    assert told[1] == "Assumes: left and right may be swapped, and a part of the picture shows its class."
    assert told[2] == "No picture of wasp could be read."
    text = out.read_text()
    assert re.findall(r'<th scope="row">(.*?)</th>', text) == ["ant", "bee"]
    assert "http" not in text
    uris = re.findall(r'src="data:image/\w+;base64,([^"]+)"', text)
    assert len(uris) == 14
    sizes = {Image.open(io.BytesIO(base64.b64decode(uri))).size for uri in uris}
    assert len(sizes) == 1  # squares of one size
    assert sizes.pop()[0] % 40 == 0


def test_without_a_policy_it_takes_what_fit_would(sightline, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    answer = sightline("augment", "digits")
    assert answer.code == 0
    assert answer.out.startswith("digits: rotate(degrees=10) + translate()\nAssumes: written signs")
    assert (tmp_path / "augment-digits.png").exists()


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["nothing.png"], "nothing.png"),
        (["nowhere"], "nowhere"),
        (["{photo}", "--policy", "hflip + rotat"], "character 9 | rotate"),
        (["{photo}", "--policy", "photos + mixup"], "mixup | data set"),
        (["{photo}", "--out", "x.jpg"], "--out | .png or .html"),
        (["{photo}", "--out", "{folder}"], "--out | .png or .html"),
        (["{photo}", "--out", "no/such/x.png"], "no/such | x.png"),
        (["{photo}", "--size", "2"], "size | 8"),
        (["{photo}", "--seed", "-1"], "seed"),
        (["{folder}", "--policy", "hflip", "--policy", "vflip"], "one picture"),
        (["{broken}"], "broken.png | cannot be read"),
    ],
)
def test_what_cannot_be_done_is_said_in_a_sentence(
    sightline, pictures, tmp_path, monkeypatch, arguments, parts
):
    monkeypatch.chdir(tmp_path)
    photo().save(tmp_path / "photo.png")
    (tmp_path / "broken.png").write_bytes(b"nothing")
    places = {"{photo}": tmp_path / "photo.png", "{folder}": pictures, "{broken}": tmp_path / "broken.png"}
    before = sorted(tmp_path.rglob("*"))
    answer = sightline("augment", *[places.get(a, a) for a in arguments])
    assert answer.code == 2
    for part in parts.split(" | "):
        assert part in answer.refusal
    assert sorted(tmp_path.rglob("*")) == before


def test_a_set_of_which_nothing_can_be_read(sightline, pictures, tmp_path):
    for path in pictures.rglob("*.png"):
        path.write_bytes(b"nothing")
    answer = sightline("augment", pictures, "--policy", "photos", "--out", tmp_path / "x.png")
    assert answer.code == 2
    assert "could be read" in answer.refusal


# What is drawn.


def test_the_versions_are_those_of_a_trainings_epochs():
    augment = Augment.parse("rotate(180) + crop(5)")
    grid = nine_versions(photo(), augment, seed=7)
    versions = [version for row in grid.rows for version in row.versions]
    assert [len(row.versions) for row in grid.rows] == [3, 3, 3]
    for epoch, version in enumerate(versions):
        expected = augment.apply(photo(), uniforms(7, epoch, np.array([0]), augment.draws)[0])
        assert np.array_equal(np.asarray(version), np.asarray(expected))


def test_large_pictures_are_reduced_first_and_grey_ones_stay_grey():
    large = photo(500, 700)
    (row,) = by_policy(large, {"none": Augment()}).rows
    assert row.original.size == (313, 224)
    grey = large.convert("L").convert("RGB")
    noisy = np.asarray(nine_versions(grey, Augment.parse("noise(0.2)")).rows[0].versions[0])
    assert noisy.ndim == 2


def test_mixing_mixes_the_classes(pictures):
    dataset = open_dataset(pictures)
    rows = by_class(dataset, Augment.parse("cutmix(100)"), seed=2, size=32).rows
    assert [row.label for row in rows] == ["ant", "bee"]
    own, other = (np.asarray(row.original).astype(int) for row in rows)
    mixed = np.asarray(rows[0].versions[0]).astype(int)
    from_own, from_other = (mixed == own).all(-1), (mixed == other).all(-1)
    assert (from_own | from_other).all()
    assert from_own.any()
    assert not from_own.all()


def test_of_many_classes_twelve_are_shown():
    from sightline.data import ImageDataset
    from sightline.data.dataset import Arrays

    pixels = np.arange(30 * 64).reshape(30, 8, 8).astype(np.uint8)
    dataset = ImageDataset(
        Arrays([("x", pixels)]), np.arange(30), [f"class {k}" for k in range(30)], name="many"
    )
    grid = by_class(dataset, Augment.parse("hflip"))
    assert len(grid.rows) == 12
    assert (grid.rows[0].label, grid.rows[-1].label) == ("class 0", "class 29")
    assert grid.notes == ("12 of the 30 classes are shown.",)
    drawn = draw_grid(grid, tile=48)
    assert drawn.height > 12 * 48
    assert "pixelated" in grid_page(grid)


def test_pixels_are_drawn_as_they_are():
    tiny = Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8) * 3)
    (row,) = (grid := by_policy(tiny, {"none": Augment()}, count=1)).rows
    drawn = np.asarray(draw_grid(grid, tile=40))[:, :, 0]
    big = np.asarray(row.original).repeat(5, 0).repeat(5, 1)
    windows = np.lib.stride_tricks.sliding_window_view(drawn, (40, 40))
    assert (windows == big).all((2, 3)).sum() == 2  # the original and its version


def test_long_names_stay_within_their_column():
    names = {"a" * 200: Augment(), "several words of a long name " * 5: Augment()}
    short = by_policy(photo(20, 20), {"x": Augment(), "y": Augment()}, count=2)
    long = by_policy(photo(20, 20), names, count=2)
    assert draw_grid(long).width - draw_grid(short).width <= 160
