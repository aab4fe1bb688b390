"""Ablations: intervals that cover, trainings that are paired, and what is concluded from them."""

from __future__ import annotations

import io
import json
import signal
import time

import numpy as np
import pytest
from PIL import Image
from scipy import stats

from sightline.ablation import Ablation, Effect, ablate, experiment
from sightline.ablation.bench import set_up, stratified_order
from sightline.ablation.figure import draw_effects
from sightline.ablation.paired import Change, paired_changes
from sightline.data import ImageDataset
from sightline.data.dataset import Arrays
from sightline.errors import SightlineError
from sightline.training.progress import Quiet
from sightline.training.recipe import read_recipe
from tests.support import data_root

# The intervals.


def tables(differences):
    """(base, other) whose paired differences are `differences`, of -1, 0 and 1."""
    return differences < 0, differences > 0


def test_where_pictures_do_not_differ_it_is_the_paired_t_interval_over_seeds():
    """Accuracies of four seeds over 5,000 pictures, of which none is harder than another."""
    accuracies = [0.2, 0.5, 0.6, 0.9]
    orders = [np.random.default_rng(seed).permutation(5000) for seed in range(4)]
    other = np.stack([order < 5000 * accuracy for order, accuracy in zip(orders, accuracies, strict=True)])
    (change,) = paired_changes(np.zeros_like(other), [other])
    expected = stats.ttest_1samp(accuracies, 0).confidence_interval(0.95)
    assert change.value == pytest.approx(0.55)
    assert (change.low, change.high) == pytest.approx(
        (max(-1, expected.low), min(1, expected.high)), rel=0.01
    )


def test_where_seeds_do_not_differ_it_is_the_paired_z_interval_over_pictures():
    """The same 30 of 400 pictures gained and 10 lost by each seed: McNemar's table, the variance of its difference."""
    row = np.repeat([1, -1, 0], [30, 10, 360])
    base, other = tables(np.tile(row, (3, 1)))
    (change,) = paired_changes(base, [other])
    half = stats.norm.ppf(0.975) * np.sqrt((40 / 400 - (20 / 400) ** 2) / 399)
    assert change.value == pytest.approx(20 / 400)
    assert (change.low, change.high) == pytest.approx((0.05 - half, 0.05 + half), rel=1e-3)


def test_several_hold_together_as_one_at_a_higher_level():
    rng = np.random.default_rng(0)
    base, other = rng.random((4, 100)) < 0.8, rng.random((4, 100)) < 0.8
    (alone,) = paired_changes(base, [other], level=1 - 0.05 / 7)
    (of_seven,) = paired_changes(base, [other], comparisons=7)
    assert (alone.low, alone.high) == pytest.approx((of_seven.low, of_seven.high))


def test_equal_answers_leave_room_for_the_next_picture():
    """Nothing differs in 300 pictures: the rule of three says that up to about 1 in 100 might."""
    same = np.ones((3, 300), bool)
    (change,) = paired_changes(same, [same])
    assert change.value == 0
    assert change.high == pytest.approx(-change.low)
    assert 0.005 < change.high < 0.02


def test_one_seed_has_no_interval():
    (change,) = paired_changes(np.zeros((1, 50), bool), [np.ones((1, 50), bool)])
    assert change == Change(1.0, None, None)


def drawn(rng, effects, wander, seeds, pictures):
    """(base, others, true changes): picture v is right with q_v + 4 x q_v (1 - q_v), x = effect + the seed's own.

    q is Beta(6, 1.5), so the mean of q (1 - q) is 9 / (7.5 * 8.5), and that of the change 4 * effect times this.
    """
    q = rng.beta(6, 1.5, pictures)
    answers = []
    for effect, own in zip([0.0, *effects], [wander[0], *wander], strict=True):
        x = effect + rng.normal(0, own, seeds).clip(-0.12, 0.12)
        x = x[:, None] + 0.05 * rng.choice([-1, 1], pictures)  # some pictures gain where others lose
        answers.append(rng.random((seeds, pictures)) < q + 4 * x * q * (1 - q))
    return answers[0], answers[1:], 4 * np.array(effects) * 9 / (7.5 * 8.5)


@pytest.mark.parametrize(
    ("seeds", "pictures", "wander"),
    [
        (3, 300, [0.03] * 5),
        (5, 1000, [0.03] * 5),
        (4, 150, [0.0] * 5),
        (5, 600, [0.02, 0.02, 0.06, 0.02, 0.02]),
    ],
)
def test_all_intervals_together_cover_the_truth(seeds, pictures, wander):
    """500 comparisons of five conditions whose true changes are known: 95 % should hold the truth in every interval.

    Of 500, fewer than 93 % are as good as excluded where 95 % is true (two standard errors). Intervals that
    take all answers as independent fail it by far, so that it can be failed.
    """
    rng = np.random.default_rng(1)
    whole, naive = [], []
    for _ in range(500):
        base, others, truth = drawn(rng, [0.0, 0.08, -0.08, 0.0, 0.02], wander, seeds, pictures)
        changes = paired_changes(base, others)
        whole.append(all(c.low <= t <= c.high for c, t in zip(changes, truth, strict=True)))
        halves = [
            stats.norm.ppf(1 - 0.025 / 5) * (o.astype(float) - base).std() / base.size**0.5 for o in others
        ]
        naive.append(all(abs(c.value - t) <= h for c, t, h in zip(changes, truth, halves, strict=True)))
    assert np.mean(whole) >= 0.93
    if max(wander) > 0:
        assert np.mean(naive) < 0.9


# The pictures and the trainings.


def test_every_beginning_has_the_classes_in_their_proportions():
    targets = np.repeat([0, 1, 2], [600, 300, 100])
    order = stratified_order(targets, np.random.default_rng(0))
    assert sorted(order) == list(range(1000))
    for count in (50, 200, 700):
        shares = np.bincount(targets[order[:count]], minlength=3) / count
        assert shares == pytest.approx([0.6, 0.3, 0.1], abs=1.5 / count)


def arrows(seed, count=800, side=16):
    """Faint arrow heads at random places, pointing left or right: mirrored left-right, they change their label."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:side, :side]
    pictures = []
    for k in range(count):
        (row, column), size = rng.uniform(5, 11, 2), rng.uniform(3, 4.5)
        along = x - column if k % 2 else column - x
        head = (abs(y - row) <= (size - along) / 2) & (abs(along) <= size)
        pictures.append(rng.normal(90, 30, (side, side)) + head * rng.uniform(40, 90))
    pixels = np.array(pictures).clip(0, 255).astype(np.uint8)
    return ImageDataset(Arrays([("x", pixels)]), np.arange(count) % 2, ["left", "right"], name="arrows")


SMALL = {"model": {"name": "lecture_net", "widths": [4, 8], "kernel_size": 3}, "input": {"size": 16}}
TRIED = ["hflip(0.5)", "vflip(0.5)", "noise(0.02)"]


def small(**settings):
    return read_recipe(SMALL | {"device": "cpu"} | settings)


def verdicts(seed):
    """What is said of each augmentation of arrows of this seed."""
    result = ablate(
        arrows(seed), small(steps=120, seed=100 * seed), seeds=4, augmentations=TRIED, quiet=True, minutes=60
    )
    assert result.complete
    return result, [effect.verdict for effect in result.effects]


def test_it_finds_what_destroys_the_label_and_claims_nothing_of_what_does_not():
    result, found = verdicts(0)
    assert found == ["hurts", "unclear", "unclear"]
    assert result.policy == "none"
    assert result.accuracy > 0.6  # or nothing could have been destroyed


@pytest.mark.full
def test_so_it_does_in_nine_of_ten():
    found = np.array([verdicts(seed)[1] for seed in range(10)])
    assert (found[:, 0] == "hurts").sum() >= 9
    assert (found[:, 1] == "unclear").sum() >= 9
    assert (found[:, 2] == "unclear").sum() >= 9


@pytest.mark.full
def test_on_mnist_flips_hurt_and_small_shifts_or_turns_help():
    from sightline.data import open_dataset

    tried = ["hflip(0.5)", "vflip(0.5)", "rotate(15)", "translate(0.1)"]
    mnist = open_dataset(data_root("mnist") / "mnist.npz")
    result = ablate(mnist, read_recipe({"steps": 350}), seeds=4, augmentations=tried, quiet=True, minutes=60)
    hflip, vflip, *small_moves = [effect.verdict for effect in result.effects]
    assert (hflip, vflip) == ("hurts", "hurts")
    assert "helps" in small_moves
    assert any(text in result.policy for text in ("rotate", "translate"))


def test_conditions_are_paired_and_the_test_split_is_left_alone():
    from sightline.data.split import make_splits

    dataset = arrows(1, count=200)
    bench = set_up(dataset, small(seed=3), 60.0, Quiet())
    first, second = (bench.trainer(text, 5, 7, 64) for text in ("none", "hflip(0.5)"))
    other = bench.trainer("none", 6, 7, 64)
    assert list(first.train.loader.dataset.dataset.refs()) == list(second.train.loader.dataset.dataset.refs())
    assert list(first.train.loader.dataset.dataset.refs()) != list(other.train.loader.dataset.dataset.refs())
    weights = [trainer.model.state_dict()["conv1.0.weight"] for trainer in (first, second, other)]
    assert weights[0].equal(weights[1])
    assert not weights[0].equal(weights[2])
    assert [a[0].tolist() for a in first.batches(1)] == [b[0].tolist() for b in second.batches(1)]
    # 200 pictures in classes of 100: fit would test on 30, and of the other 170 two fifths are validated on.
    assert len(bench.val_targets) == 68
    assert len(bench.dataset) == 102
    tested = make_splits(dataset, seed=3).split("test")
    assert not set(tested.refs()) & set(bench.dataset.refs())


def test_the_same_request_gives_the_same_result():
    results = [
        ablate(arrows(2, 200), small(steps=10), seeds=2, augmentations=TRIED[:2], quiet=True)
        for _ in range(2)
    ]
    assert results[0].to_dict() == results[1].to_dict()


def test_minutes_fix_the_steps_and_the_pictures(monkeypatch):
    """Of a minute nine tenths are planned: for two seeds of none, one augmentation and the policy, 9 s a training."""
    bench = set_up(
        arrows(2, 200), small(), 60.0, Quiet()
    )  # 170 pictures that are not for testing, 102 to train on
    monkeypatch.setattr(type(bench), "answer_seconds", lambda bench, count: 1e-4)
    monkeypatch.setattr(type(bench), "step_seconds", lambda bench, augment, count: 0.1)
    plan = experiment.plan_runs(bench, TRIED[:1], 2, 1.0, time.monotonic())
    assert 87 <= plan.steps <= 90
    assert (plan.training, plan.validation) == (102, 68)
    monkeypatch.setattr(type(bench), "step_seconds", lambda bench, augment, count: 0.001)
    plan = experiment.plan_runs(bench, TRIED[:1], 2, 1.0, time.monotonic())
    assert plan.steps == 60 * 102 // 64 + 1  # more than sixty passes are a waste
    monkeypatch.setattr(type(bench), "step_seconds", lambda bench, augment, count: 0.2)
    with pytest.raises(
        SightlineError, match=r"would have 4[345] steps, too few to learn from; give --minutes 2 or more"
    ):
        experiment.plan_runs(bench, TRIED[:1], 2, 1.0, time.monotonic())


def test_pictures_that_cannot_be_read_are_left_out_and_named(shapes, tmp_path):
    import shutil

    folder = shutil.copytree(shapes, tmp_path / "shapes")
    for k in range(10):
        (folder / "disc" / f"{k:02}.png").write_bytes(b"nothing")
    result = ablate(folder, small(steps=5), seeds=2, augmentations=TRIED[:1], quiet=True)
    assert 0 < len(result.setup["set_aside"]) <= 10
    assert all(ref.startswith("disc/0") for ref in result.setup["set_aside"])
    assert any("could not be read" in note for note in result.notes)


@pytest.mark.parametrize(
    ("settings", "arguments", "parts"),
    [
        ({"augment": "hflip"}, {}, "augment"),
        ({"epochs": 3}, {}, "epochs"),
        ({}, {"seeds": 1}, "two seeds"),
        ({}, {"minutes": 0}, "minutes"),
        ({}, {"augmentations": []}, "hflip(0.5)"),
        ({}, {"augmentations": ["none"]}, "beside none"),
        ({}, {"augmentations": ["hflip", "hflip(0.5)"]}, "twice"),
        ({}, {"augmentations": ["hflop"]}, "did you mean"),
        ({}, {"minutes": 0.002}, "too few to learn from"),
    ],
)
def test_what_cannot_be_compared_is_said(tmp_path, settings, arguments, parts):
    out = tmp_path / "new" / "folder"
    with pytest.raises(SightlineError, match=r".") as refusal:
        ablate(arrows(0, 200), small(**settings), quiet=True, out=out, **arguments)
    assert parts in str(refusal.value)
    assert not (tmp_path / "new").exists()


def test_too_few_pictures_are_a_sentence():
    with pytest.raises(SightlineError, match="too few"):
        ablate(arrows(0, 40), small(), quiet=True)


# What is concluded.


def effect(augment, accuracy, low, high):
    return Effect(augment, accuracy, Change((low + high) / 2, low, high))


GOOD, BETTER = effect("rotate(15)", 0.93, 0.01, 0.05), effect("translate(0.1)", 0.94, 0.02, 0.06)
BAD, UNCLEAR = effect("vflip(0.5)", 0.8, -0.2, -0.1), effect("noise(0.05)", 0.95, -0.01, 0.11)


def test_the_policy_is_what_helps_and_together_only_where_that_is_no_worse():
    chain = effect("rotate(15) + translate(0.1)", 0.96, 0.03, 0.08)
    worse = effect("rotate(15) + translate(0.1)", 0.935, 0.01, 0.04)
    assert experiment.policy_of([BAD, UNCLEAR], None) == "none"
    assert experiment.policy_of([GOOD, BAD, UNCLEAR], None) == "rotate(15)"
    assert experiment.policy_of([GOOD, BETTER, UNCLEAR], None) == "translate(0.1)"
    assert experiment.policy_of([GOOD, BETTER, UNCLEAR], chain) == chain.augment
    assert experiment.policy_of([GOOD, BETTER, UNCLEAR], worse) == "translate(0.1)"


def test_helpful_ones_are_trained_together(monkeypatch):
    """Answers as if two of three helped; the fourth condition is their chain."""
    trained = []

    def answers(bench, trainer, network, count):
        trained.append(trainer.recipe.augment)
        rng = np.random.default_rng(len(trained))
        return rng.random(count) < {"none": 0.5, "vflip(0.5)": 0.5}.get(trainer.recipe.augment, 0.95)

    monkeypatch.setattr(experiment.Bench, "answers", answers)
    texts = ["mixup(0.2)", "vflip(0.5)", "rotate(5)"]
    result = ablate(arrows(0, 400), small(steps=2), seeds=3, augmentations=texts, quiet=True)
    assert trained[:8] == [*(["none", *texts] * 2)]
    assert trained[12:] == ["rotate(5) + mixup(0.2)"] * 3  # what mixes batches comes last
    assert result.together.augment == "rotate(5) + mixup(0.2)"
    assert [e.verdict for e in result.effects] == ["helps", "unclear", "helps"]


@pytest.mark.parametrize(("at", "seeds", "known"), [(2, 1, 1), (5, 1, 2), (7, 2, 2)])
def test_an_interruption_leaves_whole_comparisons(monkeypatch, at, seeds, known):
    """Ctrl-C in training `at` (0 is the first) of 3 seeds times 3 conditions, in the middle of its steps."""
    step = experiment.RunsLine.step
    begun = []

    def interrupting(line, epoch, number, steps, *figures):
        step(line, epoch, number, steps, *figures)
        begun.append(number)
        if len(begun) == at * steps + 2:
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(experiment.RunsLine, "step", interrupting)
    result = ablate(arrows(0, 200), small(steps=4), seeds=3, augmentations=TRIED[:2], quiet=True)
    assert result.interrupted
    assert not result.complete
    assert len(result.seeds) == seeds
    assert len(result.effects) == known
    assert f"Interrupted after {at} trainings" in result.notes[0]
    assert (result.effects[0].change.low is None) == (seeds == 1)


def test_an_interruption_before_the_first_comparison_has_no_result(monkeypatch, tmp_path):
    def interrupt(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(experiment.RunsLine, "step", interrupt)
    with pytest.raises(KeyboardInterrupt, match="no result"):
        ablate(arrows(0, 200), small(steps=4), augmentations=TRIED[:2], quiet=True, out=tmp_path / "x")
    assert not (tmp_path / "x").exists()


def test_seeds_are_left_out_where_time_is_up():
    result = ablate(
        arrows(0, 200), small(steps=5), seeds=50, augmentations=TRIED[:1], quiet=True, minutes=1e-6
    )
    assert result.seeds == (0, 1)
    assert not result.complete
    assert result.notes == ("Time was up after 2 of 50 seeds.",)


def found(*effects, together=None):
    counts = {"training_pictures": 500, "validation_pictures": 8000, "set_aside": []}
    return Ablation("set", 0.9, effects, together, "none", (0, 1), counts, True, ())


def test_the_figure_shows_each_effect_where_it_is(tmp_path):
    """Marks stand left and right of the zero line as the changes are negative and positive."""
    result = found(
        GOOD, BAD, UNCLEAR, together=effect("rotate(15) + translate(0.1) + shear(10)" * 3, 0.9, 0.0, 0.1)
    )
    pixels = np.asarray(Image.open(io.BytesIO(draw_effects(result))).convert("RGB")).astype(int)

    def columns(red, green, blue):
        return np.flatnonzero((abs(pixels - (red, green, blue)).sum(2) < 12).any(0))

    zero = np.flatnonzero((pixels.max(2) < 200).sum(0) > 0.5 * len(pixels))
    assert len(zero)
    assert columns(0x00, 0x72, 0xB2).min() > zero.max()  # helps
    assert columns(0xD5, 0x5E, 0x00).max() < zero.min()  # hurts
    grey = columns(0x77, 0x77, 0x77)
    assert grey.min() < zero.min() < grey.max()  # unclear
    result.save(tmp_path)
    assert json.loads((tmp_path / "ablation.json").read_text())["effects"][1]["verdict"] == "hurts"
    assert (tmp_path / "ablation.png").stat().st_size > 5000
