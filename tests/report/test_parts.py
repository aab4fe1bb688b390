"""The parts of a report by themselves: axes and ticks, thumbnails within their budget, words for numbers."""

from __future__ import annotations

import base64
import io
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from sightline.evaluation import Estimate
from sightline.report.confusion import confusion, losses, roughly
from sightline.report.curves import charts, epoch_ticks, nice_ticks
from sightline.report.network import spread
from sightline.report.sections import (
    axis_floor,
    axis_ticks,
    counted,
    duration,
    flattened,
    mistakes,
    when,
    whisker,
)
from sightline.report.thumbnails import Thumbnails, exact_uri
from tests.report.samples import draw, history, sample


@given(st.floats(-1e6, 1e6), st.floats(1e-6, 1e6))
def test_ticks_are_round_and_enclose(low: float, span: float) -> None:
    ticks = nice_ticks(low, low + span)
    steps = np.diff(ticks)
    assert ticks[0] <= low + 1e-6 * steps[0]
    assert ticks[-1] >= low + span - 1e-6 * steps[0]
    assert 3 <= len(ticks) <= 7
    digits = f"{steps[0]:.3e}".split("e")[0]
    assert float(digits) in (1, 2, 2.5, 5)


@pytest.mark.parametrize(("value", "bounds"), [(0.0, (0, 1)), (1.0, (0, 1)), (0.7, (0, 1)), (3.0, (0, 1e9))])
def test_a_flat_curve_has_an_axis(value: float, bounds: tuple[float, float]) -> None:
    ticks = nice_ticks(value, value, bounds)
    assert bounds[0] <= ticks[0] <= value <= ticks[-1] <= bounds[1]
    assert ticks[-1] > ticks[0]


@given(st.integers(1, 50), st.integers(0, 100_000))
def test_epoch_ticks_are_few_and_hold_both_ends(first: int, span: int) -> None:
    ticks = epoch_ticks(first, first + span)
    assert ticks[0] == first
    assert ticks[-1] == first + span
    assert ticks == sorted(set(ticks))
    assert len(ticks) <= 8


def coordinates(path: str) -> list[tuple[float, float]]:
    return [(float(x), float(y)) for x, y in re.findall(r"[ML]([\d.-]+) ([\d.-]+)", path)]


def lines(svg: str, style: str) -> str:
    found = re.search(rf'class="line {style}" d="([^"]*)"', svg)
    assert found
    return found[1]


def test_curves_go_through_their_values() -> None:
    rows = [{"epoch": e, "val_loss": v} for e, v in ((1, 4.0), (2, 2.0), (3, 0.0))]
    (chart,) = charts(rows)
    points = coordinates(lines(str(chart.svg), "val"))
    (x1, y1), (x2, y2), (x3, y3) = points
    assert x2 - x1 == pytest.approx(x3 - x2, abs=0.11)  # epochs are evenly spaced
    assert y3 > y2 > y1  # down the page is down
    assert y2 - y1 == pytest.approx(y3 - y2, abs=0.11)
    assert chart.lines[0].quoted == "0"


def test_a_missing_value_breaks_the_line() -> None:
    rows = [{"epoch": e, "val_loss": v} for e, v in ((1, 4.0), (2, float("inf")), (3, 1.0), (4, 2.0))]
    assert re.sub(r"[\d. ]+", "", lines(str(charts(rows)[0].svg), "val")) == "MML"


def test_the_best_epoch_is_the_one_quoted() -> None:
    chart = charts(history(10))[1]
    assert chart.lines[1].quoted == "89.4%"  # 1 - 0.95 / 9
    assert "kept: 9" in chart.svg


def test_very_many_epochs_are_thinned_out_but_not_the_best_and_the_last() -> None:
    readout = charts(history(5000))[0].readout
    assert len(readout["epochs"]) <= 602
    assert {1, 4999, 5000} <= set(readout["epochs"])


def decoded(uri: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(uri.split(",", 1)[1])))


def test_small_plain_pictures_are_kept_exactly() -> None:
    digit = Image.fromarray(np.tile(np.arange(8, dtype=np.uint8) * 30, (8, 1)))
    uri = Thumbnails(lambda _: digit).uri(0, 72)
    assert uri is not None
    assert np.array_equal(np.array(decoded(uri).convert("L")), np.array(digit))


def test_large_pictures_are_made_small_in_their_proportions() -> None:
    store = Thumbnails(lambda _: Image.new("RGB", (800, 400), (200, 40, 90)))
    uri = store.uri(0, 72)
    assert uri is not None
    image = decoded(uri).convert("RGB")
    assert image.size == (72, 36)
    assert np.abs(np.array(image).reshape(-1, 3).mean(0) - (200, 40, 90)).max() < 4
    assert store.spent == len(uri)
    assert store.largest == 800


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "P", "I;16", "F", "CMYK", "1"])
def test_any_kind_of_picture_gives_a_thumbnail(mode: str) -> None:
    assert Thumbnails(lambda _: Image.new(mode, (100, 1))).uri(0, 40)


def test_drawings_keep_every_pixel_and_their_transparency() -> None:
    pixels = np.array(draw(1, 60).convert("RGBA"))
    pixels[:5, :, 3] = 0
    pixels[:5, :, :3] = 0
    assert np.array_equal(np.array(decoded(exact_uri(Image.fromarray(pixels))).convert("RGBA")), pixels)


def test_without_webp_there_is_png_and_jpeg(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sightline.report.thumbnails.features.check", lambda _: False)
    assert Thumbnails(lambda _: draw(0, 200)).uri(0, 72).startswith("data:image/jpeg")  # type: ignore[union-attr]
    assert exact_uri(draw(0, 9)).startswith("data:image/png")


def test_budget_and_patience_end() -> None:
    small = Thumbnails(draw, budget=2000)
    assert not small.exhausted
    for i in range(3):
        small.uri(i, 40)
    assert small.exhausted
    times = iter([0.0, 1.0, 61.0])
    slow = Thumbnails(draw, clock=lambda: next(times))
    assert not slow.exhausted
    assert slow.exhausted


def test_pictures_are_dealt_to_all_cells_before_any_has_two() -> None:
    data = sample()
    clock = iter(range(10_000))
    # After the start, each look at the clock is a second: 6 cells are looked at in a round.
    found = confusion(data, Thumbnails(draw, patience=6.5, clock=lambda: float(next(clock))))
    assert [len(cell["pictures"]) for cell in found.data.values()] == [1] * 6


def test_a_limited_matrix_keeps_its_sums() -> None:
    names = [f"kind {i}" for i in range(60)]
    data = sample(classes=names, n=300, wrong=45)
    found = confusion(data, Thumbnails(draw))
    assert not found.whole
    assert len(found.rows) == len(found.columns) == 40
    for row in found.rows:
        assert sum(cell.count for cell in row.cells) + row.elsewhere == row.support == 5
    assert found.mistakes == 45
    assert all(pair.count == 1 for pair in found.pairs)
    assert len(found.pairs) == 24


def test_losses_are_minus_the_logarithm_of_the_true_class() -> None:
    data = sample()
    expected = [-np.log(data.probabilities[i, t]) for i, t in enumerate(data.targets)]
    assert losses(data) == pytest.approx(expected)
    worst = mistakes(data, Thumbnails(draw))
    assert worst[0].ref == data.refs[int(np.argmax(expected))]
    assert worst[0].loss == f"{max(expected):.2f}"
    assert len(worst) == 6


def test_a_truth_held_impossible_has_a_finite_loss() -> None:
    data = sample(n=3, wrong=0)
    data.probabilities[0] = (0.0, 1.0, 0.0)
    assert losses(data)[0] == pytest.approx(-np.log(1e-12))


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.04, "0.0 s"),
        (4.26, "4.3 s"),
        (41.3, "41 s"),
        (59.7, "1 min 0 s"),
        (192, "3 min 12 s"),
        (7500, "2 h 5 min"),
    ],
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text.replace(" ", "\N{NO-BREAK SPACE}")


def test_words_for_numbers() -> None:
    assert [counted(1, "picture"), counted(1797, "picture"), counted(3, "class")] == [
        "1 picture",
        "1,797 pictures",
        "3 classes",
    ]
    assert [roughly(p) for p in (0.0, 0.004, 0.687, 0.996, 1.0)] == ["<1%", "<1%", "69%", ">99%", ">99%"]
    assert when("2025-11-03T09:05:00+00:00") == "3 November 2025, 09:05"
    assert when("last week") == "last week"


def test_an_axis_begins_where_every_interval_is_seen() -> None:
    assert [axis_floor(low) for low in (0.0, 0.3, 0.5, 0.79, 0.93, 0.999)] == [0.0, 0.0, 0.5, 0.5, 0.9, 0.98]
    assert [label for label, _ in axis_ticks(0.8)] == ["80%", "85%", "90%", "95%", "100%"]
    bar = whisker(Estimate(0.9, 0.85, 0.95, 100), 0.8)
    assert (bar.left, bar.at, bar.right) == (25.0, 50.0, 25.0)
    assert bar.text == "90.0%"


def test_a_recipe_is_spelled_in_dotted_keys() -> None:
    tree = {"model": {"name": "lenet5", "weights": None}, "extra": {}, "optimizer": {"betas": [0.9, 0.99]}}
    assert flattened(tree) == [
        ("model.name", "lenet5"),
        ("model.weights", "none"),
        ("extra", "{}"),
        ("optimizer.betas", "[0.9, 0.99]"),
    ]


def test_a_strip_is_spread_from_first_to_last() -> None:
    assert spread((1, 2, 3), 5) == [1, 2, 3]
    assert spread(tuple(range(101)), 5) == [0, 25, 50, 75, 100]
