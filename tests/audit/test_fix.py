"""The manifest that mends: it opens again, holds what it promises, and no picture is touched."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sightline.audit import check
from sightline.audit.fix import mend, write_fix
from sightline.data import open_dataset
from sightline.data.dataset import SPLITS
from sightline.errors import SightlineError
from tests.audit.drawn import changed, folder_of, scene
from tests.support import data_root


def copy(source: Path, target: Path) -> None:
    target.write_bytes(source.read_bytes())


def brighter(source: Path, target: Path) -> None:
    with Image.open(source) as picture:
        changed(picture.convert("RGB"), "brightened", np.random.default_rng(0)).save(target, quality=85)


def mended(root: Path, path: Path) -> dict[str, str]:
    """Split by name of what the manifest for `root` keeps, read back from the file."""
    before = {file: file.read_bytes() for file in root.rglob("*.*")}
    write_fix(mend(check(root)), path)
    assert {file: file.read_bytes() for file in root.rglob("*.*")} == before
    again = open_dataset(path)
    assert all(again.path(row).exists() for row in range(len(again)))  # type: ignore[union-attr]
    return {ref: SPLITS[code] for ref, code in zip(again.refs(), again.splits.tolist(), strict=True)}


def test_copies_and_conflicts_and_unreadable_ones_are_left_out(tmp_path: Path) -> None:
    root = folder_of(tmp_path / "set", {"disc": 20, "ring": 20}, np.random.default_rng(0))
    copy(root / "disc" / "000.jpg", root / "disc" / "again.jpg")
    copy(root / "disc" / "001.jpg", root / "ring" / "torn.jpg")
    (root / "ring" / "broken.jpg").write_bytes(b"none")
    Image.new("RGB", (160, 120)).save(root / "ring" / "black.jpg")
    splits = mended(root, tmp_path / "mended.csv")
    every = set(open_dataset(root).refs())
    gone = {"disc/again.jpg", "disc/001.jpg", "ring/torn.jpg", "ring/broken.jpg", "ring/black.jpg"}
    assert every - set(splits) == gone
    assert set(splits.values()) == {"train", "val", "test"}
    left = check(tmp_path / "mended.csv")
    assert left.findings == ()


def test_near_duplicates_stay_together(tmp_path: Path) -> None:
    root = folder_of(tmp_path / "set", {"disc": 40, "ring": 40}, np.random.default_rng(1))
    for number in range(20):
        brighter(root / "disc" / f"{number:03}.jpg", root / "disc" / f"{number:03}b.jpg")
    splits = mended(root, tmp_path / "mended.csv")
    assert all(splits[f"disc/{n:03}.jpg"] == splits[f"disc/{n:03}b.jpg"] for n in range(20))
    assert {splits[f"disc/{n:03}.jpg"] for n in range(20)} > {"train"}


def test_what_leaks_goes_to_train(tmp_path: Path) -> None:
    counts = {"train/disc": 20, "train/ring": 20, "test/disc": 8, "test/ring": 8}
    root = folder_of(tmp_path / "set", counts, np.random.default_rng(2))
    brighter(root / "train" / "disc" / "000.jpg", root / "test" / "disc" / "leak.jpg")
    copy(root / "test" / "ring" / "000.jpg", root / "train" / "ring" / "copy.jpg")
    splits = mended(root, tmp_path / "mended.csv")
    assert splits["test/disc/leak.jpg"] in ("train", "val")  # with what it was made from
    assert splits["test/disc/leak.jpg"] == splits["train/disc/000.jpg"]
    assert "train/ring/copy.jpg" not in splits  # the tested one of the two stays
    assert splits["test/ring/000.jpg"] == "test"
    assert sum(split == "test" for split in splits.values()) == 16
    assert check(tmp_path / "mended.csv").of("split_leak") == []


def test_a_split_that_would_be_empty_is_made_anew(tmp_path: Path) -> None:
    counts = {"train/disc": 20, "train/ring": 20, "test/disc": 6, "test/ring": 6}
    root = folder_of(tmp_path / "set", counts, np.random.default_rng(3))
    for number in range(6):
        brighter(root / "train" / "disc" / f"{number:03}.jpg", root / "test" / "disc" / f"{number:03}.jpg")
    fix = mend(check(root))
    assert any("split anew" in one for one in fix.done)
    assert (fix.dataset.split("test").class_counts() > 0).all()
    write_fix(fix, tmp_path / "mended.csv")
    assert check(tmp_path / "mended.csv").of("split_leak", "missing_class") == []


def test_real_sets_leak_no_more(tmp_path: Path) -> None:
    for name in ("flowers5", "magtile"):
        root = data_root(name)
        write_fix(mend(check(root)), tmp_path / f"{name}.csv")
        again = check(tmp_path / f"{name}.csv")
        assert again.of("split_leak", "exact_duplicate", "missing_class") == []


def test_what_cannot_be_written(tmp_path: Path) -> None:
    rng = np.random.default_rng(4)
    pictures = np.stack([np.asarray(scene(number % 2, rng, (32, 32))) for number in range(20)])
    np.savez(tmp_path / "set.npz", x=pictures, y=np.arange(20) % 2)
    with pytest.raises(SightlineError, match="holds arrays"):
        write_fix(mend(check(tmp_path / "set.npz")), tmp_path / "mended.csv")
    for label in "ab":
        (tmp_path / "bad" / label).mkdir(parents=True)
        (tmp_path / "bad" / label / "x.png").write_bytes(b"none")
    with pytest.raises(SightlineError, match="Nothing would be left"):
        mend(check(tmp_path / "bad"))
