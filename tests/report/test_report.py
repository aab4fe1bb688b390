"""The report as a page: well formed, self-contained, true, and proof against hostile names and bad luck."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.stats import binomtest
from torch import nn

from sightline.errors import SightlineError, UnreadableImage
from sightline.evaluation import score
from sightline.models.lecture import LectureViT
from sightline.report import write_report
from sightline.report.write import TEMPLATES, render
from sightline.transforms.preprocess import Preprocess
from tests.report.samples import draw, network, sample

VOID = {"meta", "link", "img", "br", "input", "hr", "circle", "path"}


class Page(HTMLParser):
    """Elements with their attributes and text, in order; what is not closed as it was opened is an error."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.texts: list[str] = []
        self.open: list[str] = []
        self.data: Any = None
        self.feed(text)
        self.close()
        assert not self.open, self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        names = [name for name, _ in attrs]
        assert len(names) == len(set(names)), (tag, names)
        self.elements.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open[-1] == tag, (tag, self.open[-3:])
        self.open.pop()

    def handle_data(self, data: str) -> None:
        if not self.open or self.open[-1] not in ("style", "script"):
            self.texts.append(data)
        elif self.elements[-1][1].get("id") == "page-data":
            self.data = json.loads(data)

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", " ".join(self.texts))

    def all(self, tag: str) -> Iterator[dict[str, str]]:
        return (attributes for name, attributes in self.elements if name == tag)


@pytest.fixture(scope="module")
def page() -> Page:
    return Page(render(sample()))


def test_ids_are_unique_and_links_lead_somewhere(page: Page) -> None:
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    targets = [attributes["href"] for attributes in page.all("a")]
    assert targets
    assert all(target[0] == "#" and target[1:] in ids for target in targets)


def test_every_picture_has_an_alternative_text(page: Page) -> None:
    images = list(page.all("img"))
    assert len(images) > 10
    assert all(attributes.get("alt") for attributes in images)
    assert all(
        attributes.get("aria-label") for attributes in page.all("svg") if attributes.get("role") == "img"
    )


def test_nothing_is_asked_of_the_network(page: Page) -> None:
    for tag, attributes in page.elements:
        for name in ("src", "href", "srcset", "data", "action", "poster"):
            if name in attributes:
                assert attributes[name].startswith(("data:", "#")), (tag, attributes)
    assert "url(" not in (TEMPLATES / "report.css").read_text()
    assert "@import" not in (TEMPLATES / "report.css").read_text()
    policy = next(a["content"] for a in page.all("meta") if a.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none'; img-src data:;")


def test_headings_are_in_order(page: Page) -> None:
    levels = [int(tag[1]) for tag, _ in page.elements if re.fullmatch(r"h\d", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(later - earlier <= 1 for earlier, later in pairwise(levels))


def test_every_part_is_there(page: Page) -> None:
    limits = binomtest(54, 60).proportion_ci(method="wilson")
    for said in (
        "insects-20250102-1530",
        "2 January 2025, 15:30",
        "resnet18 learned to tell 3 classes apart from 240 pictures of insects, from scratch in 3 min 12 s.",
        "Of 60 pictures in the test split, which it had not seen, it named 54 right.",
        "Always answering “ant” would be right in 33.3%.",
        f"95% interval {limits.low:.1%} – {limits.high:.1%}",
        "The pictures are few, so the network is small.",
        "1 picture set aside",
        "ant/broken.jpg",
        "it is truncated",
        "Loss",
        "Learning rate",
        "kept: 3",
        "Macro-F1",
        "Most confused",
        "All 6 mistakes",
        "8 filters of 3 × 3 on 3 planes",
        "on its way through the layers",
        "8 × 3 × 3 × 3 + 8",
        "optimizer.lr",
        "2.15.0",
    ):
        assert said in page.text, said


def test_the_confusion_matrix_is_the_scores(page: Page) -> None:
    # 60 pictures in turn of three classes; the first two of each class are called the next one.
    expected = {"0-0": 18, "1-1": 18, "2-2": 18, "0-1": 2, "1-2": 2, "2-0": 2}
    assert {key: cell["count"] for key, cell in page.data["cells"].items()} == expected
    buttons = {a["data-cell"]: a for a in page.all("button") if "aria-label" in a}
    assert buttons["0-1"]["aria-label"] == "ant called bee: 2 pictures of 20"
    assert set(buttons) == set(expected)


def test_behind_a_cell_are_its_pictures_the_worst_first(page: Page) -> None:
    cell = page.data["cells"]["0-1"]
    assert [one["ref"] for one in cell["pictures"]] == ["test/ant/0003.jpg", "test/ant/0000.jpg"]
    assert all(one["src"].startswith("data:image/") for one in cell["pictures"])
    hits = page.data["cells"]["0-0"]
    assert len(hits["pictures"]) == 12  # half of 24, of 18
    shares = [int(one["said"].rstrip("%")) for one in hits["pictures"]]
    assert shares == sorted(shares)


HOSTILE = '<script>alert("x")</script>'
BREAKOUT = "\"><img src=x onerror=alert(1)>'</script><!--"


def test_hostile_names_are_text() -> None:
    refs = [f"a/{BREAKOUT}{i}.jpg" for i in range(12)]
    data = sample(classes=[HOSTILE, BREAKOUT, "{{ 7 * 7 }}"], n=12, refs=refs, title=f"{HOSTILE}{BREAKOUT}")
    data.dataset.update(name=HOSTILE, source=BREAKOUT, set_aside=[{"ref": BREAKOUT, "reason": HOSTILE}])
    data.recipe["augment"] = BREAKOUT
    page = Page(render(data))
    assert len(list(page.all("script"))) == 2
    assert not [a for _, a in page.elements if any(name.startswith("on") for name in a)]
    assert not [a for a in page.all("img") if not a["src"].startswith("data:")]
    assert HOSTILE in page.text
    assert "{{ 7 * 7 }}" in page.text
    assert page.data["cells"]["0-1"]["truth"] == HOSTILE


def test_file_names_that_are_not_text_do_not_stop_the_report(tmp_path: Path) -> None:
    refs = [os.fsdecode(b"caf\xe9-%d.jpg" % i) for i in range(12)]
    write_report(tmp_path / "report.html", sample(n=12, refs=refs))
    assert "caf\\udce9-0.jpg" in (tmp_path / "report.html").read_text(encoding="utf-8")


@pytest.mark.parametrize("error", [UnreadableImage("x.jpg", "it is gone"), OSError("gone"), KeyError("gone")])
def test_pictures_that_cannot_be_read_leave_a_placeholder(error: Exception) -> None:
    def picture(i: int) -> Image.Image:
        if i % 2:
            raise error
        return draw(i)

    page = Page(render(sample(picture=picture)))
    lost = [a for a in page.all("div") if "lost" in a.get("class", "")]
    assert lost
    assert all("cannot be read" in attributes["aria-label"] for attributes in lost)
    sources = [one["src"] for cell in page.data["cells"].values() for one in cell["pictures"]]
    assert None in sources
    assert any(sources)


def test_no_picture_at_all_can_be_read() -> None:
    def picture(_: int) -> Image.Image:
        raise UnreadableImage("x.jpg", "it is gone")

    assert "none of the pictures could be read" in Page(render(sample(picture=picture))).text


def test_views_that_a_network_does_not_allow_are_left_out_and_said() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(24 * 24 * 3, 3))
    page = Page(render(sample(model=model)))
    assert "No first-layer filters: Sequential has no convolution" in page.text
    assert "No feature maps:" in page.text
    assert "3 × 1,728 + 3" in page.text  # the layer table is there


def test_a_vision_transformer_shows_its_patch_filters() -> None:
    model = LectureViT(num_classes=3, in_chans=1, img_size=28).eval()
    preprocess = Preprocess(size=(28, 28), channels=1, mean=(0.5,), std=(0.5,))
    text = Page(render(sample(model=model, preprocess=preprocess))).text
    assert "64 filters of 7 × 7" in text
    assert "patch_embed.proj" in text


def test_a_view_that_fails_does_not_cost_the_report() -> None:
    class Broken(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            raise ZeroDivisionError("by design")

    text = Page(render(sample(model=Broken()))).text
    assert "The feature maps could not be made (ZeroDivisionError: by design)." in text
    assert "4 filters of 3 × 3" in text


def test_the_model_is_left_as_it_was() -> None:
    model = network(3).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    render(sample(model=model))
    assert model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize("epochs", [1, 300])
def test_few_and_many_epochs(epochs: int) -> None:
    page = Page(render(sample(epochs=epochs)))
    assert len(list(page.all("svg"))) == 1 + 3  # the mark and three charts
    assert f"kept: {max(1, epochs - 1)}" in page.text


def test_without_a_history_there_is_no_training_section() -> None:
    page = Page(render(sample(epochs=0)))
    assert "training" not in [attributes.get("id") for attributes in page.all("section")]


def test_missing_and_infinite_values_leave_gaps() -> None:
    data = sample(epochs=5)
    data.history[2]["val_loss"] = float("nan")
    data.history[1]["train_accuracy"] = None
    for row in data.history:
        del row["lr"]
    page = Page(render(data))
    assert len(list(page.all("svg"))) == 1 + 2
    assert not any("nan" in attributes.get("d", "") for attributes in page.all("path"))


def test_a_perfect_classifier_is_reported_without_mistakes() -> None:
    page = Page(render(sample(wrong=0)))
    assert "There are no mistakes on the test split." in page.text
    assert "Least sure" in page.text
    assert "100.0%" in page.text


def test_one_class_and_one_picture() -> None:
    assert "1 class" in Page(render(sample(classes=["only"], n=1, wrong=0, model=network(1)))).text


def test_a_class_that_the_split_lacks() -> None:
    text = Page(render(sample(classes=["ant", "bee", "wasp"], n=2, wrong=0))).text
    assert "wasp" in text


def test_the_page_stays_small_with_ten_thousand_pictures() -> None:
    # Noise is the worst that can be asked of a codec; every cell is full.
    names = [f"class {i}" for i in range(10)]
    noise = [draw(i, 72) for i in range(20)]
    rates = np.random.default_rng(0).dirichlet(np.ones(10), 10_000)
    text = render(
        sample(
            classes=names,
            n=10_000,
            picture=lambda i: noise[i % 20],
            probabilities=rates,
            scores=score(rates, np.arange(10_000) % 10, names),
        )
    )
    assert len(text.encode()) < 5_000_000
    cells = Page(text).data["cells"]
    assert len(cells) == 100
    assert all(cell["pictures"] for cell in cells.values())  # a budget that ends leaves none empty
    assert sum(cell["count"] for cell in cells.values()) == 10_000


def test_many_classes_show_the_most_mistaken() -> None:
    names = [f"kind {i:03d}" for i in range(150)]
    text = render(sample(classes=names, n=600, wrong=30, picture=lambda i: draw(i, 8)))
    page = Page(text)
    assert "The 40 of 150 classes with the most mistakes" in page.text
    assert len([a for a in page.all("th") if a.get("scope") == "col"]) < 80
    assert text.index("Most confused") < text.index('class="matrix')
    assert "The weakest classes come first." in page.text
    shown = [a for a in page.all("button") if "data-cell" in a]
    assert {a["data-cell"] for a in shown} <= set(page.data["cells"])


def test_the_same_data_gives_the_same_page() -> None:
    assert render(sample()) == render(sample())


def test_the_file_is_written_in_one_piece(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "report.html"
    write_report(target, sample())
    first = target.read_text()
    assert first.startswith("<!doctype html>")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(
        SightlineError, match=r"cannot be written to .*report.html: No space left on device\."
    ):
        write_report(target, sample(title="another"))
    assert target.read_text() == first
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]


def test_a_folder_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(SightlineError, match="No such file or directory"):
        write_report(tmp_path / "nowhere" / "report.html", sample())


def test_parts_that_do_not_fit_are_said() -> None:
    with pytest.raises(SightlineError, match="do not fit: scores of 60 pictures and 3 classes"):
        sample(refs=["one.jpg"])


def luminance(colour: str) -> float:
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_text_can_be_read_in_both_themes() -> None:
    """WCAG 2.2: a contrast of at least 4.5 to 1, and 7 to 1 for the text proper."""
    css = (TEMPLATES / "report.css").read_text()
    blocks = [
        dict(re.findall(r"--([a-z]+): (#[0-9a-f]{6})", block)) for block in re.findall(r"\{([^{}]*)\}", css)
    ]
    palettes = [block for block in blocks if "paper" in block]
    assert len(palettes) == 4  # light, dark twice (chosen, by the system), paper
    assert palettes[1] == palettes[2]
    for palette in palettes:
        for name, least in (("ink", 7.0), ("soft", 4.5), ("right", 4.5), ("wrong", 4.5)):
            for ground in ("paper", "raised"):
                light, dark = sorted((luminance(palette[name]), luminance(palette[ground])), reverse=True)
                assert (light + 0.05) / (dark + 0.05) >= least, (name, ground, palette)
