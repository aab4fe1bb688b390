"""`look`: the pictures and the page that a person gets, and what is said where that is not possible."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sightline.cli import main
from sightline.run import Run
from tests.report.browser import Browser, chromium

VIT = ["--view", "attention", "--view", "rollout", "--view", "positions", "--no-trust"]


@pytest.fixture
def sightline(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path):
    """Run a command in a folder of its own: (exit code, stdout, stderr)."""

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "argv", ["sightline", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        code = ended.value.code
        return (code if isinstance(code, int) else 0, *capsys.readouterr())

    return run


@pytest.fixture(scope="module")
def picture(shapes: Path) -> Path:
    return shapes / "disc" / "03.png"


def test_a_run_gives_a_png_per_view(sightline, trained: Run, picture: Path, tmp_path: Path) -> None:
    code, out, err = sightline("look", trained.path, picture, "--out", tmp_path / "views")
    assert code == 0
    assert out.startswith("03.png: ") and "Evidence for" in out and "Deletion" in out
    names = {path.stem for path in (tmp_path / "views").glob("*.png")}
    assert {
        "grad-cam",
        "hires-cam",
        "occlusion",
        "integrated-gradients",
        "guided-backprop",
        "filters",
    } <= names
    assert "Left out: Attention: " in out and "has no attention to look at" in out
    assert "Grad-CAM" in err
    for path in (tmp_path / "views").glob("*.png"):
        assert np.asarray(Image.open(path).convert("RGB")).std() > 5, path


def test_one_class_against_another_by_name(sightline, trained: Run, picture: Path) -> None:
    code, out, _ = sightline(
        "look", trained.path, picture, "--view", "hires-cam", "--class", "stripes", "--versus", "disc", "--no-trust"
    )  # fmt: skip
    assert code == 0 and "Evidence for stripes rather than disc" in out
    assert Path("look-03/hires-cam.png").exists() and len(list(Path("look-03").iterdir())) == 1


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--class", "disk"], "There is no class called 'disk'; did you mean disc?"),
        (["--class", "3"], "There is no class 3; .* has 3, numbered 0 to 2"),
        (["--class", "disc", "--versus", "disc"], "cannot be set against itself"),
        (["--view", "gradcam"], "There is no view called 'gradcam'; did you mean grad-cam"),
        (["--view", "attention"], "has no attention to look at"),
        (["--view", "boxes"], "dpt_tiny, dpt_small and dpt_medium have boxes"),
        (
            ["--view", "grad-cam", "--layer", "layer9"],
            "There is no layer called 'layer9'; did you mean layer",
        ),
        (["--html", "page.txt"], "ends in .html"),
        (["--html", "no/page.html"], "There is no folder no"),
        (["--html", "a.html", "--out", "b"], "exclude each other"),
        (["--weights", "x.pth"], "is a run and has its own weights"),
    ],
)
def test_bad_requests(sightline, trained: Run, picture: Path, options: list[str], said: str) -> None:
    code, _, err = sightline("look", trained.path, picture, *options)
    assert code == 2 and re.search(said, err), err
    assert "Traceback" not in err


def test_pictures_and_networks_that_are_not_there(
    sightline, trained: Run, picture: Path, tmp_path: Path
) -> None:
    code, _, err = sightline("look", trained.path, tmp_path / "none.png")
    assert code == 2 and "cannot be read" in err
    code, _, err = sightline("look", "resnet19", picture)
    assert code == 2 and "did you mean resnet18" in err
    (tmp_path / "empty").mkdir()
    code, _, err = sightline("look", tmp_path / "empty", picture)
    assert code == 2 and "There is no trained model in" in err


def test_random_weights_are_said_and_given_ones_are_used(sightline, picture: Path, tmp_path: Path) -> None:
    import torch

    from sightline.models import create_model

    code, out, err = sightline("look", "lecture_net", picture, "--view", "filters")
    assert code == 0 and "RANDOM" in err
    torch.manual_seed(5)
    torch.save(create_model("lecture_net").state_dict(), tmp_path / "w.pth")
    answers = []
    for _ in range(2):
        code, out, err = sightline(
            "look", "lecture_net", picture, "--view", "filters", "--weights", tmp_path / "w.pth"
        )
        assert code == 0 and "RANDOM" not in err
        answers.append(out)
    assert answers[0] == answers[1]


@pytest.mark.parametrize("name", ["timm/vit_tiny_patch16_224", "torchvision/vit_b_32"])
def test_other_libraries_names(sightline, picture: Path, tmp_path: Path, name: str) -> None:
    code, out, err = sightline("look", name, picture, *VIT, "--html", tmp_path / "page.html")
    assert code == 0 and "RANDOM" in err and "Left out" not in out
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "RANDOM" in text and text.count("<article") == 3


@pytest.fixture(scope="module")
def page(trained: Run, picture: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page of a picture whose name is markup."""
    from sightline.report.look_page import render
    from sightline.report.looking import look
    from sightline.report.subject import open_subject

    folder = tmp_path_factory.mktemp("look")
    hostile = folder / "<img src=x onerror=alert(1)>.png"
    hostile.write_bytes(picture.read_bytes())
    found = look(open_subject(str(trained.path)), hostile, versus="square", target="disc")
    target = folder / "page.html"
    target.write_text(render(found), encoding="utf-8")
    return target


def test_the_page_loads_nothing_and_says_what_it_shows(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert "<img src=x" not in text and "default-src 'none'" in text
    assert len(text) < 1_500_000
    assert not re.findall(r"(?:src|href)=\"(?!data:|#)", text)
    assert "rather than for <b>square</b>" in text
    for alt in re.findall(r'<img [^>]*alt="([^"]*)"', text):
        assert alt
    assert "full colour is" in text and "Deletion" in text


@pytest.mark.skipif(chromium() is None, reason="no Chromium")
def test_the_page_in_a_browser(page: Path, tmp_path: Path) -> None:
    binary = chromium()
    assert binary is not None
    with Browser(binary, tmp_path / "profile") as browser:
        for width in (320, 390, 768, 1280):
            browser.resize(width, 900)
            browser.open(page)
            assert browser.run("document.documentElement.scrollWidth") <= width, width
        assert browser.complaints() == [] and all(
            a.startswith(("file:", "data:", "about:")) for a in browser.addresses()
        )
        browser.prefer("dark")
        assert browser.run("getComputedStyle(document.body).backgroundColor") == "rgb(17, 20, 24)"
        browser.run("document.getElementById('theme').click()")
        assert browser.run("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
        # By keyboard: every link leads to a part that is there, and the theme is a button.
        assert browser.run(
            "[...document.querySelectorAll('nav a, .skip[href]')]"
            ".every(a => document.querySelector(a.getAttribute('href')))"
        )
        assert browser.run("document.getElementById('theme').tagName") == "BUTTON"
        assert browser.run("[...document.images].every(i => i.complete && i.naturalWidth > 0)")
