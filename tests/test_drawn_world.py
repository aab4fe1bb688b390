"""The drawn world is what it says it is: above all, nobody is told of the pairs that are held out."""

from __future__ import annotations

import csv
import importlib.util
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from sightline.data.captions import open_captions

PLACE = Path(__file__).parent.parent / "examples" / "drawn_world.py"


@pytest.fixture(scope="module")
def world():
    spec = importlib.util.spec_from_file_location("drawn_world", PLACE)
    module = importlib.util.module_from_spec(spec)
    sys.modules["drawn_world"] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules["drawn_world"]


@pytest.fixture(scope="module")
def folder(world, tmp_path_factory):
    return world.write_world(tmp_path_factory.mktemp("drawn") / "world", 160, seed=3).parent


def test_a_fifth_of_the_pairs_is_held_out_and_no_word_more_than_twice(world):
    held, known = world.pairs(True), world.pairs(False)
    assert len(held) == 13 and len(known) == 51  # 20 % of 64
    assert not set(held) & set(known)
    for place in (0, 1):
        assert max(Counter(pair[place] for pair in held).values()) == 2
        assert len({pair[place] for pair in known}) == 8


def test_no_caption_names_a_pair_that_is_held_out(world, folder):
    texts, _ = open_captions(folder).all_captions()
    for colour, shape in world.pairs(True):
        assert not any({colour, shape} <= set(text.split()) for text in texts)
    for colour, shape in world.pairs(False):
        assert any({colour, shape} <= set(text.split()) for text in texts)
    assert len(world.FORMS) >= 5
    assert world.UNSEEN_FORM not in world.FORMS
    assert not any("rather" in text.split() for text in texts)


def test_captions_tell_what_the_picture_shows(world, folder):
    rows = list(csv.DictReader((folder / "things.csv").open()))
    dataset = open_captions(folder).split("test")
    truth = {row["path"]: row for row in rows}
    words = {
        "colour": set(world.COLOURS),
        "shape": set(world.SHAPES),
        "size": set(world.SIZES),
    }
    for index in range(len(dataset)):
        row = truth[dataset.ref(index)]
        for caption in dataset.captions(index):
            for key, known in words.items():
                assert set(caption.split()) & known <= {row[key]}
            said = [place for place in world.PLACES if place in caption]
            assert said in ([], [row["place"]])
        assert len(dataset.captions(index)) == 3


def test_the_figure_has_its_colour_at_its_place(world):
    rng = np.random.default_rng(0)
    for colour, rgb in world.COLOURS.items():
        for place, (x, y) in world.PLACES.items():
            picture = np.asarray(world.draw(world.Thing(colour, "square", "large", place), rng)).astype(int)
            middle = picture[round(y * 64), round(x * 64)]
            assert np.abs(middle - rgb).max() <= 15
    sizes = []
    for size in world.SIZES:
        picture = np.asarray(world.draw(world.Thing("white", "circle", size, "top left"), rng)).astype(int)
        sizes.append((picture.min(2) > 225).sum())
    assert sizes[0] < sizes[1] < sizes[2]


def test_the_same_seed_draws_the_same_world(world, folder, tmp_path):
    again = world.write_world(tmp_path / "again", 160, seed=3).parent
    for name in ("captions.csv", "things.csv", "train/00007.png", "heldout/00063.png"):
        assert (again / name).read_bytes() == (folder / name).read_bytes()
