"""The report in a real browser: quiet, offline, clickable, in both themes, on a phone and on paper."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from sightline.report import write_report
from tests.report.browser import Browser, chromium
from tests.report.samples import sample

HOSTILE = "<script>window.broken = 1</script>"


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    binary = chromium()
    if binary is None:
        pytest.skip("browser: no chromium or chrome on PATH")
    with Browser(binary, tmp_path_factory.mktemp("profile")) as browser:
        yield browser


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("run") / "report.html"
    refs = [f"test/{i}{HOSTILE}<img src=x onerror='window.broken=2'>.jpg" for i in range(60)]
    write_report(path, sample(classes=[HOSTILE, "bee", "wasp"], refs=refs))
    return path


@pytest.fixture
def opened(browser: Browser, report: Path) -> Browser:
    browser.call("Emulation.setEmulatedMedia", media="", features=[])
    browser.resize(1280, 900)
    browser.open(report)
    browser.run("localStorage.clear()")
    return browser


def test_the_page_asks_for_nothing_and_complains_of_nothing(opened: Browser, report: Path) -> None:
    assert [url for url in opened.addresses() if not url.startswith("data:")] == [report.as_uri()]
    assert opened.complaints() == []
    assert opened.run("window.broken ?? null") is None
    assert opened.run("[...document.images].every((i) => i.complete && i.naturalWidth > 0)")


def test_the_policy_lets_no_other_script_run(opened: Browser) -> None:
    opened.run(
        "{ const s = document.createElement('script'); s.textContent = 'window.broken = 3'; document.body.append(s) }"
    )
    assert opened.run("window.broken ?? null") is None


def test_a_cell_opens_its_pictures(opened: Browser) -> None:
    opened.run("document.querySelector('td [data-cell=\"1-2\"]').click()")
    assert opened.run("document.querySelector('#behind h3').textContent") == "bee called wasp"
    assert opened.run("document.querySelectorAll('#behind img').length") == 2
    assert opened.run("[...document.querySelectorAll('[aria-pressed=true]')].map((b) => b.dataset.cell)") == [
        "1-2",
        "1-2",
    ]
    opened.run("document.querySelector('td [data-cell=\"0-0\"]').click()")
    assert opened.run("document.querySelectorAll('#behind img').length") == 12
    assert opened.run("document.querySelector('#behind p').textContent").startswith("12 of 18 pictures")
    assert opened.run("document.querySelector('#behind h3').textContent") == f"{HOSTILE}, rightly named"
    assert opened.run("document.querySelectorAll('#behind script').length") == 0
    assert opened.complaints() == []


def test_a_cell_opens_by_keyboard(opened: Browser) -> None:
    opened.run("document.querySelector('td [data-cell=\"2-0\"]').focus()")
    for kind in ("keyDown", "keyUp"):
        opened.call(
            "Input.dispatchKeyEvent",
            type=kind,
            key="Enter",
            code="Enter",
            windowsVirtualKeyCode=13,
            text="\r",
        )
    assert opened.run("document.querySelector('#behind h3').textContent").startswith("wasp called")


def background(browser: Browser) -> str:
    colour: str = browser.run("getComputedStyle(document.body).backgroundColor")
    return colour


def test_the_theme_is_the_systems_then_the_readers(opened: Browser, report: Path) -> None:
    light, dark = "rgb(255, 255, 255)", "rgb(17, 20, 24)"
    opened.prefer("light")
    assert background(opened) == light
    opened.prefer("dark")
    assert background(opened) == dark
    opened.run("document.getElementById('theme').click()")
    assert background(opened) == light
    opened.open(report)  # the choice is kept
    assert background(opened) == light
    opened.open(report, "#dark")  # the address goes before it
    assert background(opened) == dark


def test_paper_is_light_and_all_is_open(opened: Browser) -> None:
    opened.call(
        "Emulation.setEmulatedMedia",
        media="print",
        features=[{"name": "prefers-color-scheme", "value": "dark"}],
    )
    assert background(opened) == "rgb(255, 255, 255)"
    opened.run("window.dispatchEvent(new Event('beforeprint'))")
    assert opened.run("[...document.querySelectorAll('details')].every((d) => d.open)")
    assert opened.pdf().startswith(b"%PDF")


@pytest.mark.parametrize("width", [320, 390, 600, 768, 1024, 1280])
def test_nothing_sticks_out_at_the_side(opened: Browser, report: Path, width: int) -> None:
    opened.resize(width, 800)
    opened.open(report)
    assert opened.run("document.documentElement.scrollWidth") <= width


def test_a_column_is_sorted_by_a_click(opened: Browser) -> None:
    column = "[...document.querySelectorAll('[data-sortable] tbody tr')].map((r) => +r.cells[3].dataset.sort)"
    button = "document.querySelectorAll('[data-sortable] thead button')[3]"
    opened.run(f"{button}.click()")
    values = opened.run(column)
    assert values == sorted(values, reverse=True)
    opened.run(f"{button}.click()")
    assert opened.run(column) == sorted(values)
    assert opened.run(f"{button}.parentElement.getAttribute('aria-sort')") == "ascending"


def test_pointing_at_a_curve_reads_off_its_values(opened: Browser) -> None:
    opened.run("document.querySelector('[data-chart=\"0\"]').scrollIntoView({behavior: 'instant'})")
    box = opened.run(
        "(() => { const b = document.querySelector('[data-chart=\"0\"] svg').getBoundingClientRect();"
        " return [b.left, b.top, b.width, b.height] })()"
    )
    # The first epoch's place: 42 of 286 from the left.
    opened.call(
        "Input.dispatchMouseEvent",
        type="mouseMoved",
        x=box[0] + box[2] * 42 / 286,
        y=box[1] + box[3] / 2,
    )
    assert opened.run("document.querySelector('[data-chart=\"0\"] h3').textContent") == "Loss, epoch 1"
    assert opened.run("document.querySelector('[data-chart=\"0\"] .legend b').textContent") == "2"
    opened.call("Input.dispatchMouseEvent", type="mouseMoved", x=2, y=2)
    assert opened.run("document.querySelector('[data-chart=\"0\"] h3').textContent") == "Loss"
