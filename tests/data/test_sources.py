"""`open_dataset` over folders and manifests, and what is wrong with them, each in one sentence."""

from __future__ import annotations

import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from sightline.data import open_dataset
from tests.data.helpers import contents, error, tree
from tests.support import data_root

# Folders


def test_a_folder_per_class(tmp_path: Path) -> None:
    root = tree(tmp_path / "pets", "dog/b.png", "dog/a.JPG", "cat/z.png")
    data = open_dataset(root)
    assert data.name == "pets"
    assert data.classes == ("cat", "dog")
    assert contents(data) == [("cat/z.png", "cat", ""), ("dog/a.JPG", "dog", ""), ("dog/b.png", "dog", "")]
    assert data.path(0) == root / "cat" / "z.png"
    assert contents(open_dataset(str(root))) == contents(data)


def test_splits_above_the_classes(tmp_path: Path) -> None:
    root = tree(tmp_path, "train/cat/1.png", "train/dog/1.png", "Valid/cat/2.png", "TEST/dog/3.png")
    assert contents(open_dataset(root)) == [
        ("train/cat/1.png", "cat", "train"),
        ("train/dog/1.png", "dog", "train"),
        ("Valid/cat/2.png", "cat", "val"),
        ("TEST/dog/3.png", "dog", "test"),
    ]


def test_what_is_no_class_and_no_picture(tmp_path: Path) -> None:
    root = tree(
        tmp_path,
        *("cat/1.png", "dog/1.png"),
        *(
            ".ipynb_checkpoints/1.png",
            "cat/.ipynb_checkpoints/1-checkpoint.png",
            "cat/._1.png",
            ".hidden/1.png",
        ),
        *("__MACOSX/cat/1.png", "empty/", "notes/readme.txt", "cat/labels.txt", "cat/Thumbs.db", "loose.png"),
    )
    data = open_dataset(root)
    assert data.classes == ("cat", "dog")
    assert [ref for ref, _, _ in contents(data)] == ["cat/1.png", "dog/1.png"]


def test_nested_folders_and_broken_files_are_members(tmp_path: Path) -> None:
    root = tree(tmp_path, "cat/2020/may/1.png", "cat/1.png", "dog/1.png")
    (root / "dog" / "broken.jpg").write_bytes(b"")
    assert [ref for ref, _, _ in contents(open_dataset(root))] == [
        *("cat/1.png", "cat/2020/may/1.png", "dog/1.png", "dog/broken.jpg")
    ]


def test_links(tmp_path: Path) -> None:
    root = tree(tmp_path / "data", "cat/1.png", "dog/1.png")
    elsewhere = tree(tmp_path / "elsewhere", "2.png", "deep/3.png")
    (root / "bird").symlink_to(elsewhere)  # a class by a link
    (root / "cat" / "up").symlink_to(root)  # a circle
    (elsewhere / "deep" / "self").symlink_to(elsewhere)
    (root / "dog" / "ouroboros").symlink_to(root / "dog" / "ouroboros")
    (root / "dog" / "gone.png").symlink_to(root / "nowhere.png")
    refs = [ref for ref, _, _ in contents(open_dataset(root))]
    assert [ref for ref in refs if not ref.startswith("cat/up")] == [
        *("bird/2.png", "bird/deep/3.png", "cat/1.png", "dog/1.png", "dog/gone.png")
    ]
    assert len(refs) < 20


def test_a_class_called_train(tmp_path: Path) -> None:
    root = tree(tmp_path, "car/1.png", "train/1.png", "ship/1.png")
    assert open_dataset(root).classes == ("car", "ship", "train")


FOLDER_ERRORS: list[tuple[str, tuple[str, ...], str]] = [
    ("nothing in it", ("cat/",), "it holds no files"),
    ("other files", ("cat/a.heic", "cat/b.heic", "dog/c.txt"), "most of its files (2) have .heic"),
    ("pictures directly", ("a.png", "b.png"), "one folder per class"),
    ("one class", ("cat/a.png", "cat/b.png"), "one class only, 'cat'"),
    ("one folder too high", ("pets/cat/a.png", "pets/dog/b.png"), "did you mean {root}/pets?"),
    ("no classes in splits", ("train/a.png", "test/b.png"), "directly in test/ and train/"),
    ("no classes in test", ("train/cat/a.png", "train/dog/a.png", "test/b.png"), "in no class folder"),
    ("splits and others", ("train/cat/a.png", "train/dog/a.png", "more/b.png"), "but also more/"),
    (
        "two of one split",
        ("train/cat/a.png", "train/dog/a.png", "val/cat/b.png", "valid/cat/b.png"),
        "several folders for one split",
    ),
    (
        "class of test not in train",
        ("train/rose/a.png", "train/tulip/a.png", "test/roses/b.png"),
        "test split of {root} has the class 'roses', which its train split has not; is it 'rose'?",
    ),
    (
        "class of val not in train",
        ("train/cat/a.png", "train/dog/a.png", "val/zebra/b.png"),
        "val split of {root} has the class 'zebra'",
    ),
]


@pytest.mark.parametrize(
    ("what", "paths", "expected"), FOLDER_ERRORS, ids=[case[0] for case in FOLDER_ERRORS]
)
def test_folder_errors(what: str, paths: tuple[str, ...], expected: str, tmp_path: Path) -> None:
    root = tree(tmp_path / "data", *paths)
    assert expected.format(root=root) in error(root)


def test_classes_of_train_alone_are_fine(tmp_path: Path) -> None:
    root = tree(tmp_path, "train/cat/a.png", "train/dog/a.png", "test/dog/b.png")
    assert open_dataset(root).classes == ("cat", "dog")
    only_test = tree(tmp_path / "other", "test/cat/a.png", "test/dog/a.png")
    assert open_dataset(only_test).has_split("test")


# Sources that are not there, or are something else


def test_names_that_are_near(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tree(tmp_path / "hymenoptera", "ants/a.png", "bees/b.png")
    assert f"did you mean {tmp_path / 'hymenoptera'}?" in error(tmp_path / "hymenptera")
    assert f"did you mean {tmp_path / 'hymenoptera'}?" in error(tmp_path / "hymenpotera" / "train")
    monkeypatch.chdir(tmp_path)
    assert "did you mean hymenoptera?" in error("hymenopteras")
    assert "did you mean cifar10 or cifar100?" in error("cifar")
    assert "data set called 'qwertz'; a data set is a folder" in error("qwertz")
    assert "There is no file or folder ./digits" in error("./digits")


@pytest.mark.parametrize("source", ["", "a\0b", "x" * 5000, "~nobody-of-that-name/pets"])
def test_names_that_cannot_be(source: str) -> None:
    assert error(source)


def test_what_exists_comes_before_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tree(tmp_path / "digits", "one/a.png", "two/b.png")
    monkeypatch.chdir(tmp_path)
    assert open_dataset("digits").classes == ("one", "two")


def test_files_that_are_no_data_set(tmp_path: Path) -> None:
    tree(tmp_path, "cat.png", "notes.txt", "pets.zip")
    assert "is a single picture; a data set is a folder" in error(tmp_path / "cat.png")
    assert "is no data set that can be opened" in error(tmp_path / "notes.txt")
    assert "is no data set that can be opened" in error(tmp_path / "pets.zip")


# Manifests


def manifest(folder: Path, text: str | bytes, name: str = "pets.csv") -> Path:
    file = folder / name
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    return file


def test_a_manifest(tmp_path: Path) -> None:
    tree(tmp_path, "a/1.png", "b/2.png")
    absolute = tmp_path / "b" / "2.png"
    data = open_dataset(manifest(tmp_path, f"path,label\na/1.png,dog\n{absolute},cat\nnot/there.png,dog\n"))
    assert data.name == "pets"
    assert data.classes == ("cat", "dog")
    assert contents(data) == [
        ("a/1.png", "dog", ""),
        (str(absolute), "cat", ""),
        ("not/there.png", "dog", ""),
    ]
    assert data[0][0].size == data[1][0].size == (3, 2)


MANIFEST_SPELLINGS = {
    "other columns": "id,Filename , CLASS,notes\n1,a.png,dog,x\n2,b.png,cat,y\n",
    "no newline at the end": "path,label\na.png,dog\nb.png,cat",
    "BOM and CRLF": b"\xef\xbb\xbfpath,label\r\na.png,dog\r\nb.png,cat\r\n",
    "quotes": 'path,label\n"a.png","dog"\n"b.png","cat"\n',
    "semicolons": "image;target\na.png;dog\nb.png;cat\n",
    "tabs": "image\tcategory\na.png\tdog\nb.png\tcat\n",
    "blank lines": "path,label\n\na.png,dog\n,\n\nb.png,cat\n\n",
    "blanks and ./": "path,label\n./a.png, dog \nb.png,cat\n",
    "said twice": "path,label\na.png,dog\nb.png,cat\n./a.png,dog\na.png,dog\n",
}


@pytest.mark.parametrize("spelling", MANIFEST_SPELLINGS)
def test_manifest_spellings(spelling: str, tmp_path: Path) -> None:
    data = open_dataset(manifest(tmp_path, MANIFEST_SPELLINGS[spelling]))
    assert contents(data) == [("a.png", "dog", ""), ("b.png", "cat", "")]


def test_manifest_splits_and_quoted_names(tmp_path: Path) -> None:
    text = 'split,path,label\nTrain,"a, b.png","dog ""rex"""\nvalidation,c.png,x\ntest,d.png,x\ntraining,e.png,x\n'
    data = open_dataset(manifest(tmp_path, text))
    assert contents(data) == [
        ("a, b.png", 'dog "rex"', "train"),
        ("c.png", "x", "val"),
        ("d.png", "x", "test"),
        ("e.png", "x", "train"),
    ]


def test_manifest_root(tmp_path: Path) -> None:
    tree(tmp_path / "pictures", "a.png", "b.png")
    data = open_dataset(manifest(tmp_path, "path,label,root\na.png,dog,pictures\nb.png,cat,pictures\n"))
    assert data.path(0) == tmp_path / "pictures" / "a.png"
    assert data.ref(0) == "a.png"


MANIFEST_ERRORS: list[tuple[str, str | bytes, str]] = [
    ("empty", "", "is empty"),
    ("header alone", "path,label\n", "lists no picture"),
    (
        "no header",
        "a.png,dog\nb.png,cat\n",
        "has no column for a picture: its first line has to name one of path",
    ),
    ("no label", "path,kind\na.png,dog\n", "no column for a label: .* it names 'path', 'kind'"),
    ("too few cells", "path,label\na.png,dog\nb.png\n", "line 3: it has 1 of the 2 columns"),
    ("empty path", "path,label\n,dog\n", "line 2: the path is empty"),
    ("empty label", "path,label\na.png, \n", "line 2: the label is empty"),
    (
        "unknown split",
        "path,label,split\na.png,dog,train\nb.png,cat,holdout\n",
        "line 3: the split is 'holdout'",
    ),
    ("empty split", "path,label,split\na.png,dog,\n", "line 2: the split is ''"),
    (
        "two labels",
        "path,label\na.png,dog\nb.png,cat\na.png,cat\n",
        "a.png two labels: dog in line 2 and cat in line 4",
    ),
    (
        "two splits",
        "path,label,split\na.png,dog,train\na.png,dog,test\n",
        "a.png two splits: train in line 2 and test",
    ),
    ("unclosed quote", 'path,label\na.png,"dog\nb.png,cat\n', "not well-formed"),
    ("text after a quote", 'path,label\n"a.png"x,dog\n', "line 2: it is not well-formed"),
    ("UTF-16", "path,label\na.png,dog\n".encode("utf-16"), "UTF-16 text; save it as UTF-8"),
    ("Latin-1 label", "path,label\na.png,caf\xe9\n".encode("latin-1"), "line 2: the label .* is not UTF-8"),
    ("two roots", "path,label,root\na.png,dog,x\nb.png,cat,y\n", "line 3: root is 'y' here and 'x' above"),
    ("one class", "path,label\na.png,dog\nb.png,dog\n", "one class only, 'dog'"),
    (
        "strange class",
        "path,label,split\na,dog,train\nb,cat,train\nc,dogs,test\n",
        "class 'dogs', .* is it 'dog'",
    ),
]


@pytest.mark.parametrize(
    ("what", "text", "expected"), MANIFEST_ERRORS, ids=[case[0] for case in MANIFEST_ERRORS]
)
def test_manifest_errors(what: str, text: str | bytes, expected: str, tmp_path: Path) -> None:
    file = manifest(tmp_path, text)
    message = error(file)
    assert str(file) in message
    assert re.search(expected, message)


def test_parquet(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    file = tmp_path / "pets.parquet"

    def write(**columns: list[object]) -> Path:
        parquet.write_table(pyarrow.table(columns), file)
        return file

    write(path=["a.png", "b.png"], label=[7, 10], split=["train", "train"], pixels=[b"1", b"2"])
    assert contents(open_dataset(file)) == [("a.png", "7", "train"), ("b.png", "10", "train")]
    assert "line 3: the path is empty" in error(write(path=["a.png", None], label=["x", "y"]))
    assert "the column 'image' holds struct" in error(write(image=[{"bytes": b"1"}], label=["x"]))
    assert "no column for a picture" in error(write(a=["x"]))
    file.write_bytes(b"PAR1 nonsense")
    assert "cannot be read as Parquet" in error(file)


def test_parquet_without_pyarrow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    (tmp_path / "pets.parquet").touch()
    assert "pip install sightline[parquet]" in error(tmp_path / "pets.parquet")


def test_folders_that_may_not_be_read(tmp_path: Path) -> None:
    root = tree(tmp_path / "pets", "cat/a.png", "dog/b.png")
    script = """
        import os, sys
        from sightline.data import open_dataset
        from sightline.errors import SightlineError
        os.chmod(sys.argv[1], 0)
        if os.geteuid() == 0:
            os.setuid(65534)
        try:
            open_dataset(sys.argv[1])
        except SightlineError as error:
            print(error)
    """
    run = [sys.executable, "-c", textwrap.dedent(script), root]
    said = subprocess.run(run, capture_output=True, text=True, check=True).stdout
    root.chmod(0o755)
    assert f"{root}" in said
    assert (
        "ermission denied" in said or "no file or folder" in said
    )  # the latter where even the parents are closed


def test_real_folders() -> None:
    ants = open_dataset(data_root("hymenoptera"))
    assert ants.classes == ("ants", "bees")
    assert (len(ants.split("train")), len(ants.split("test"))) == (245, 153)
    tiles = open_dataset(data_root("magtile"))
    assert len(tiles.classes) == 6
    assert (len(tiles.split("train")), len(tiles.split("test"))) == (567, 245)
