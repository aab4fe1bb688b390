"""Properties of the files: planted ones are told, and nothing is where nothing was planted."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import scipy.stats
from PIL import ExifTags, Image
from PIL.PngImagePlugin import PngInfo

from sightline.audit import check
from sightline.audit.giveaway import coded, fisher, predicted
from tests.audit.drawn import scene

Save = Callable[[Image.Image, Path], None]


def exif(tag: int, value: str) -> Image.Exif:
    data = Image.Exif()
    data[tag] = value
    return data


def jpeg(**how: object) -> Save:
    return lambda picture, path: picture.save(path.with_suffix(".jpg"), **({"quality": 90} | how))


def png_text(picture: Image.Image, path: Path) -> None:
    info = PngInfo()
    info.add_text("Software", "Scanner 3")
    picture.save(path.with_suffix(".png"), pnginfo=info)


def padded(picture: Image.Image, path: Path) -> None:
    picture.save(path.with_suffix(".jpg"), quality=90)
    with path.with_suffix(".jpg").open("ab") as file:
        file.write(bytes(60_000))


def after(change: Callable[[Image.Image], Image.Image]) -> Save:
    return lambda picture, path: PLAIN(change(picture), path)


def png(picture: Image.Image, path: Path) -> None:
    picture.save(path.with_suffix(".png"))


def jpeg_with_e(picture: Image.Image, path: Path) -> None:
    picture.save(path.with_suffix(".jpeg"), quality=90)


def tagged(tag: int, value: str) -> Save:
    return jpeg(exif=exif(tag, value))


PLAIN = jpeg()
TAGS = ExifTags.Base
PLANTED: dict[str, tuple[str, Save, Save]] = {
    "format": ("format", PLAIN, png),
    "extension": ("extension", PLAIN, jpeg_with_e),
    "mode": ("mode", PLAIN, after(lambda picture: picture.convert("L"))),
    "size": ("width", PLAIN, after(lambda picture: picture.resize((200, 150)))),
    "shape": ("shape", PLAIN, after(lambda picture: picture.crop((0, 0, 120, 120)))),
    "quality": ("JPEG quality", PLAIN, jpeg(quality=75)),
    "progressive": ("JPEG coding", PLAIN, jpeg(progressive=True)),
    "subsampling": ("JPEG coding", PLAIN, jpeg(subsampling=0)),
    "software": ("software", PLAIN, tagged(TAGS.Software, "Editor 2")),
    "camera": ("camera", tagged(TAGS.Model, "A"), tagged(TAGS.Model, "B")),
    "date": (
        "date",
        tagged(TAGS.DateTime, "2024:01:05 10:00:00"),
        tagged(TAGS.DateTime, "2024:03:01 10:00:00"),
    ),
    "resolution": ("resolution", jpeg(dpi=(72, 72)), jpeg(dpi=(300, 300))),
    "comment": ("comment", PLAIN, jpeg(comment=b"from the web")),
    "text": ("software", png, png_text),
    "bytes": ("bytes per pixel", PLAIN, padded),
}


def set_of(root: Path, save: list[Save], share: float = 1.0) -> Path:
    """Three classes of 30 scenes; `share` of the first is saved in the second way of `save`."""
    rng = np.random.default_rng(0)
    for kind, name in enumerate(("disc", "bar", "cross")):
        (root / name).mkdir(parents=True)
        for number in range(30):
            how = save[1] if kind == 0 and number < 30 * share else save[0]
            how(scene(kind, rng, (160, 120)), root / name / f"{number:02}")
    return root


@pytest.mark.parametrize("what", PLANTED)
def test_a_planted_property_is_told(tmp_path: Path, what: str) -> None:
    name, plain, marked = PLANTED[what]
    findings = check(set_of(tmp_path / "set", [plain, marked]))
    told = {one.details["property"]: one for one in findings.of("giveaway")}
    assert name in told
    assert told[name].details["class"] == "disc"
    assert told[name].details["informedness"] > 0.9
    assert told[name].details["p_value"] < 1e-6


def test_half_a_class_is_enough(tmp_path: Path) -> None:
    findings = check(set_of(tmp_path / "set", [PLAIN, jpeg(quality=75)], share=0.5))
    told = {one.details["property"] for one in findings.of("giveaway")}
    assert told == {"JPEG quality"}


def test_nothing_is_told_where_nothing_is(tmp_path: Path) -> None:
    """Every property varies, none with the class."""
    rng = np.random.default_rng(1)
    root = tmp_path / "set"
    for kind, name in enumerate(("disc", "bar", "cross")):
        (root / name).mkdir(parents=True)
        for number in range(40):
            width = int(rng.integers(100, 200))
            camera = exif(ExifTags.Base.Model, f"Camera {rng.integers(0, 30)}")
            picture = scene(kind, rng, (width, int(rng.integers(100, 200))))
            picture.save(root / name / f"{number:02}.jpg", quality=int(rng.integers(60, 95)), exif=camera)
    assert check(root).of("giveaway") == []


@pytest.mark.parametrize(
    ("hits", "alarms", "own", "others"), [(26, 219, 32, 780), (5, 0, 5, 5), (3, 4, 10, 10), (0, 5, 8, 9)]
)
def test_the_test_is_fishers(hits: int, alarms: int, own: int, others: int) -> None:
    table = [[hits, alarms], [own - hits, others - alarms]]
    expected = scipy.stats.fisher_exact(table, alternative="greater").pvalue
    assert fisher(hits, alarms, own, others) == pytest.approx(expected, rel=1e-9)


def test_values_that_are_all_different_tell_nothing() -> None:
    """A serial number is a perfect memory and no rule."""
    targets = np.repeat(np.arange(2, dtype=np.int32), 50)
    folds = np.random.default_rng(0).permutation(100) % 5
    assert not predicted(coded([f"serial {i}" for i in range(100)]), targets, folds, 2).any()
    called = predicted(coded(["a"] * 50 + ["b"] * 50), targets, folds, 2)
    assert (called == np.eye(2, dtype=bool)[targets]).all()


def test_numbers_are_binned_by_count_and_by_gaps() -> None:
    values = [float(value) for value in range(1000)] + [5000.0 + value for value in range(600)]
    codes = coded(values)
    assert 12 <= len(np.unique(codes)) <= 16
    assert np.bincount(codes).max() <= 134  # a twelfth of 1,600
    assert len({*codes[:1000].tolist()} & {*codes[1000:].tolist()}) == 0
    assert len(set(coded([3.0, None, 5.0, 3.0]).tolist())) == 3
