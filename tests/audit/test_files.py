"""Single files: what cannot be read, what is named wrongly, what shows nothing, what is odd."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sightline.audit import check
from sightline.audit.findings import KINDS, SEVERITIES, Findings
from sightline.errors import SightlineError
from tests.audit.drawn import folder_of, scene
from tests.support import data_root


@pytest.fixture(scope="module")
def troubled(tmp_path_factory: pytest.TempPathFactory) -> Findings:
    """Forty good scenes of two classes, and one of each trouble."""
    rng = np.random.default_rng(0)
    root = folder_of(tmp_path_factory.mktemp("troubled") / "set", {"disc": 20, "ring": 20}, rng)
    disc, ring = root / "disc", root / "ring"
    (disc / "empty.jpg").write_bytes(b"")
    (disc / "page.jpg").write_bytes(b"<html>404</html>")
    content = (disc / "000.jpg").read_bytes()
    (ring / "cut.jpg").write_bytes(content[: len(content) // 2])
    scene(0, rng).save(disc / "really.png.jpg", "PNG")
    Image.new("RGB", (160, 120), (30, 60, 90)).save(ring / "blue.jpg")
    Image.new("RGB", (160, 120), (30, 60, 90)).save(ring / "blue_again.jpg")
    scene(1, rng, (5, 4)).save(ring / "pixel.jpg")
    scene(1, rng, (900, 60)).save(disc / "banner.jpg")
    scene(1, rng).convert("L").save(disc / "grey.jpg")
    return check(root)


def names(findings: Findings, kind: str) -> list[str]:
    return sorted(ref for one in findings.of(kind) for ref in findings.refs(one))


def test_each_trouble_is_found_once(troubled: Findings) -> None:
    assert names(troubled, "unreadable") == ["disc/empty.jpg", "disc/page.jpg", "ring/cut.jpg"]
    assert names(troubled, "wrong_extension") == ["disc/really.png.jpg"]
    assert names(troubled, "constant") == ["ring/blue.jpg", "ring/blue_again.jpg"]
    assert names(troubled, "tiny") == ["ring/pixel.jpg"]
    assert names(troubled, "exact_duplicate") == names(troubled, "near_duplicate") == []
    odd = {troubled.refs(one)[0]: one.details["why"] for one in troubled.of("outlier")}
    assert set(odd) == {"disc/banner.jpg", "disc/grey.jpg", "disc/really.png.jpg", "ring/pixel.jpg"}
    assert "mode L" in odd["disc/grey.jpg"][0]
    assert any("odd shape, 900 x 60" in why for why in odd["disc/banner.jpg"])


def test_unreadable_ones_come_with_the_reason(troubled: Findings) -> None:
    reasons = {troubled.refs(one)[0]: one.details["reason"] for one in troubled.of("unreadable")}
    assert reasons["disc/empty.jpg"] == "the file is empty"
    assert "not a picture" in reasons["disc/page.jpg"]
    assert "truncated" in reasons["ring/cut.jpg"]


def test_errors_come_first_and_everything_is_plain(troubled: Findings) -> None:
    import json

    plain = json.loads(json.dumps(troubled.to_dict()))
    order = [SEVERITIES.index(one["severity"]) for one in plain["findings"]]
    assert order == sorted(order)
    assert len(order) == len(troubled) > 8
    for one in plain["findings"]:
        assert one["kind"] in KINDS
        assert one["message"].endswith(".")
        assert one["remedy"]
        assert one["pictures"]


def test_a_good_set_has_nothing(tmp_path: Path) -> None:
    root = folder_of(tmp_path / "set", {"disc": 15, "ring": 15}, np.random.default_rng(1))
    findings = check(root)
    assert findings.findings == ()
    assert findings.summary() == "nothing"


def test_small_and_missing_classes(tmp_path: Path) -> None:
    counts = {"train/disc": 12, "train/bar": 12, "train/cross": 3, "test/disc": 4, "test/bar": 4}
    findings = check(folder_of(tmp_path / "set", counts, np.random.default_rng(2)))
    [small] = findings.of("small_class")
    assert small.details == {"class": "cross", "n": 3}
    assert len(small.rows) == 3
    [missing] = findings.of("missing_class")
    assert missing.details == {"class": "cross", "split": "test"}
    assert missing.severity == "error"


def test_arrays_are_checked_too(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    pictures = np.stack([np.asarray(scene(number % 2, rng, (48, 48))) for number in range(40)])
    pictures[7] = pictures[3]
    pictures[9] = 128
    np.savez(
        tmp_path / "set.npz",
        x_train=pictures[:30],
        y_train=np.arange(30) % 2,
        x_test=pictures[30:],
        y_test=np.arange(10) % 2,
    )
    findings = check(tmp_path / "set.npz")
    assert names(findings, "exact_duplicate") == ["x_train[3]", "x_train[7]"]
    assert names(findings, "constant") == ["x_train[9]"]


def test_what_is_no_data_set(tmp_path: Path) -> None:
    with pytest.raises(SightlineError, match="There is no"):
        check(tmp_path / "nothing")


def test_a_set_of_nothing_but_trouble(tmp_path: Path) -> None:
    for label in ("a", "b"):
        (tmp_path / label).mkdir()
        for number in range(12):
            (tmp_path / label / f"{number}.png").write_bytes(b"none")
    findings = check(tmp_path, labels=True, minutes=1)
    assert len(findings.of("unreadable")) == len(findings) == 24
    assert "not checked" in str(findings.checked)


def test_hostile_files_end_nothing(tmp_path: Path) -> None:
    source = data_root("badinput_A") / "files"
    files = sorted(path for path in source.iterdir() if path.stat().st_size < 300_000)[::3]
    lines = ["path,label", *(f"{path},{'ab'[number % 2]}" for number, path in enumerate(files))]
    (tmp_path / "set.csv").write_text("\n".join(lines) + "\n")
    findings = check(tmp_path / "set.csv", labels=True, minutes=1)
    assert len(findings.of("unreadable")) > 5
    assert findings.of("wrong_extension")
