"""The page of findings in a real browser: quiet, offline, with its pictures, in both themes and on a phone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sightline.audit import check
from sightline.audit.page import render, write_page
from sightline.errors import SightlineError
from tests.audit.drawn import changed, folder_of
from tests.report.browser import Browser, chromium

HOSTILE = "<img src=x onerror='window.broken=1'>"


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    binary = chromium()
    if binary is None:
        pytest.skip("browser: no chromium or chrome on PATH")
    with Browser(binary, tmp_path_factory.mktemp("profile")) as browser:
        yield browser


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("page")
    rng = np.random.default_rng(0)
    root = folder_of(folder / "set", {HOSTILE: 15, "ring": 15}, rng)
    (root / "ring" / f"broken{HOSTILE}.jpg").write_bytes(b"none")
    for number in range(12):  # one picture many times, and once elsewhere
        with Image.open(root / "ring" / "000.jpg") as picture:
            changed(picture.convert("RGB"), "recompressed", rng).save(root / "ring" / f"copy{number}.jpg")
    (root / HOSTILE / "copy.jpg").write_bytes((root / "ring" / "001.jpg").read_bytes())
    write_page(folder / "page.html", check(root, labels=True, minutes=1))
    return folder / "page.html"


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (1280, "dark"), (390, "light")])
def test_it_is_quiet_and_fits(browser: Browser, page: Path, width: int, scheme: str) -> None:
    browser.resize(width, 900)
    browser.prefer(scheme)
    browser.open(page)
    assert [url for url in browser.addresses() if not url.startswith("data:")] == [page.as_uri()]
    assert browser.complaints() == []
    assert browser.run("window.broken ?? null") is None
    assert not browser.run("document.documentElement.scrollWidth > innerWidth")
    assert browser.run("[...document.images].every((i) => i.complete && i.naturalWidth > 0)")
    dark = browser.run("getComputedStyle(document.body).backgroundColor") == "rgb(17, 20, 24)"
    assert dark == (scheme == "dark")


def test_each_finding_has_its_pictures(browser: Browser, page: Path) -> None:
    browser.open(page)
    count = "document.querySelectorAll('#{} .card img').length"
    assert browser.run(count.format("label_conflict")) == 2
    assert browser.run(count.format("near_duplicate")) == 8  # of 13
    assert "and 5 more" in browser.run("document.querySelector('#near_duplicate .more').textContent")
    assert browser.run("document.querySelectorAll('#unreadable .lost').length") == 1
    for kind in browser.run("[...document.querySelectorAll('nav a')].map((a) => a.hash)"):
        assert browser.run(f"document.querySelectorAll('{kind} .card').length") > 0


def test_nothing_found_is_said(tmp_path: Path) -> None:
    root = folder_of(tmp_path / "set", {"disc": 12, "ring": 12}, np.random.default_rng(1))
    assert "Nothing. Every picture can be read" in render(check(root))


def test_many_findings_share_a_budget(tmp_path: Path) -> None:
    for label in "ab":
        (tmp_path / "set" / label).mkdir(parents=True)
        for number in range(300):
            (tmp_path / "set" / label / f"{number}.png").write_bytes(b"none")
    page = render(check(tmp_path / "set"))
    assert page.count("<article") == 40
    assert "560 findings more" in page
    assert "And 260 more" in page


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    root = folder_of(tmp_path / "set", {"disc": 3, "ring": 3}, np.random.default_rng(1))
    with pytest.raises(SightlineError, match=r"page\.html"):
        write_page(tmp_path / "none" / "page.html", check(root))
