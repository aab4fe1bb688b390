"""Captions: where they are found, what is refused, and that subsets keep pictures and captions together."""

from __future__ import annotations

import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sightline.data.captions import open_captions, recorded_splits, write_captions
from sightline.data.dataset import NO_SPLIT
from sightline.errors import SightlineError
from tests.support import data_root


@pytest.fixture
def folder(tmp_path):
    for k in range(6):
        Image.new("RGB", (8, 8), (40 * k, 0, 0)).save(tmp_path / f"{k}.png")
    return tmp_path


def written(folder: Path, text: str, name: str = "captions.csv") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


ROWS = "path,caption\n" + "".join(f"{k}.png,picture {k}\n{k}.png,number {k}\n" for k in range(6))


def test_rows_of_a_picture_are_its_captions(folder):
    dataset = open_captions(written(folder, ROWS))
    assert len(dataset) == 6
    assert dataset.captions(3) == ("picture 3", "number 3")
    picture, captions = dataset[2]
    assert (picture.getpixel((0, 0)), captions) == ((80, 0, 0), ("picture 2", "number 2"))
    assert set(dataset.splits.tolist()) == {NO_SPLIT}


def test_columns_of_a_picture_are_its_captions_and_a_row_twice_counts_once(folder):
    text = "file;caption_1;Caption 2;subset\n" + "".join(f"./{k}.png;a {k};b {k};train\n" for k in range(6))
    text += "0.png;a 0;c 0;train\n"
    dataset = open_captions(written(folder, text, "list.csv"))
    assert dataset.captions(0) == ("a 0", "b 0", "c 0")
    assert dataset.captions(5) == ("a 5", "b 5")
    assert dataset.has_split("train")


def test_a_folder_with_captions_csv_is_that_manifest(folder):
    written(folder, ROWS)
    assert list(open_captions(folder).refs()) == [f"{k}.png" for k in range(6)]


def test_a_text_beside_each_picture(tmp_path):
    for split, k in (("train", 0), ("train", 1), ("test", 2)):
        (tmp_path / split).mkdir(exist_ok=True)
        Image.new("RGB", (8, 8)).save(tmp_path / split / f"{k}.jpg")
        (tmp_path / split / f"{k}.txt").write_text(f"first {k}\n\nsecond  {k}\n")
    Image.new("RGB", (8, 8)).save(tmp_path / "train" / "silent.jpg")
    dataset = open_captions(tmp_path)
    assert list(dataset.refs()) == ["test/2.jpg", "train/0.jpg", "train/1.jpg"]
    assert dataset.captions(1) == ("first 0", "second 0")
    assert len(dataset.split("train")) == 2


def test_flickr1k_in_its_own_layout():
    dataset = open_captions(data_root("flickr1k"))
    assert (len(dataset.split("train")), len(dataset.split("test"))) == (800, 200)
    texts, owners = dataset.all_captions()
    assert len(texts) >= 4990  # five each; a few pictures have one twice
    assert dataset.captions(0)[1] == "A dog retrieves a golf ball ."
    assert dataset.read(int(owners[-1])).mode == "RGB"


def test_parquet(folder):
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    table = {"image": [f"{k}.png" for k in range(6)], "text": [f"t {k}" for k in range(6)], "width": [8] * 6}
    parquet.write_table(pyarrow.table(table), folder / "list.parquet")
    assert open_captions(folder / "list.parquet").captions(4) == ("t 4",)


def test_subsets_keep_pictures_and_captions_together(folder):
    dataset = open_captions(written(folder, ROWS))
    part = dataset.subset([5, 1]).subset(np.array([False, True]))
    assert (part.ref(0), part.captions(0)) == ("1.png", ("picture 1", "number 1"))
    texts, owners = dataset.subset([4, 2]).all_captions()
    assert texts == ["picture 4", "number 4", "picture 2", "number 2"]
    assert owners.tolist() == [0, 0, 1, 1]
    again = pickle.loads(pickle.dumps(part))
    assert (again.ref(0), again.captions(0)) == (part.ref(0), part.captions(0))
    with pytest.raises(IndexError):
        part.captions(1)


def test_splits_are_written_down_and_found_again(folder):
    dataset = open_captions(written(folder, ROWS)).with_splits([0, 0, 0, 1, 2, 0])
    write_captions(dataset.subset([0, 1, 2, 3, 4]), folder / "splits.csv")
    again = recorded_splits(open_captions(folder), folder / "splits.csv")
    assert again.splits.tolist() == [0, 0, 0, 1, 2]
    assert again.captions(4) == dataset.captions(4)
    with pytest.raises(SightlineError, match=r"names 0.png.*which .* does not have"):
        recorded_splits(open_captions(folder).subset([1, 2, 3, 4, 5]), folder / "splits.csv")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("path,label\na.png,x\n", "no column for captions"),
        ("name,caption\na.png,x\n", "no column for a picture"),
        ("path,caption\n0.png,\n", "line 2: the caption is empty"),
        ("path,caption,split\n0.png,x,holdout\n", "train, val or test is needed"),
        ("path,caption,split\n0.png,x,train\n0.png,y,test\n", "line 3: 0.png is in another split"),
        ("path,caption\n0.png\n", "has 1 of the 2 columns"),
        ("path,caption\n0.png,x\n1.png,y\n", "captions of 2 pictures; three are needed"),
        ("", "is empty"),
    ],
)
def test_what_is_no_list_of_captions_is_said(folder, text, expected):
    with pytest.raises(SightlineError, match=expected):
        open_captions(written(folder, text))


def test_what_is_not_there_is_said(folder):
    written(folder, ROWS, "my captions.csv")
    with pytest.raises(SightlineError, match=r"did you mean .*my captions.csv"):
        open_captions(folder / "my caption.csv")
    with pytest.raises(SightlineError, match="no pictures with captions"):
        open_captions(folder)
    with pytest.raises(SightlineError, match="holds no captions"):
        open_captions(folder / "0.png")


def test_the_index_takes_little_more_than_its_letters(tmp_path):
    count = 20_000
    rows = [f"{k:06}.png,a picture of thing number {k} at a place" for k in range(count)]
    letters = sum(len(row) - 1 for row in rows)
    dataset = open_captions(written(tmp_path, "path,caption\n" + "\n".join(rows)))
    assert dataset.nbytes < letters + 40 * count


def test_opening_needs_no_torch(folder):
    written(folder, ROWS)
    code = (
        f"import sys; from sightline.data.captions import open_captions; open_captions({str(folder)!r}); "
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
