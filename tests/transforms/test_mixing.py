"""MixUp and CutMix against torchvision's, and what must hold of every mix."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sightline.errors import SightlineError
from sightline.transforms.augment import MIXINGS, Augment
from sightline.transforms.mixing import CutMix, MixUp, places
from tests.transforms.pictures import SEEDS

v2 = pytest.importorskip("torchvision.transforms.v2")
some = settings(deadline=None, max_examples=60)


def batch(count, height=9, width=7, classes=4, seed=0):
    rng = np.random.default_rng(seed)
    images = torch.from_numpy(rng.integers(0, 256, (count, 3, height, width), dtype=np.uint8))
    labels = torch.from_numpy(rng.integers(0, classes, count))
    return images, torch.nn.functional.one_hot(labels, classes).float()


@pytest.mark.parametrize(
    "text", ["mixup(0.2)", "mixup", "cutmix", "cutmix(0.3, p=0.5)", "mixup + cutmix(p=0.5)"]
)
@some
@given(st.integers(1, 9), st.integers(1, 12), st.integers(1, 12), SEEDS)
def test_labels_sum_to_one_and_pictures_keep_their_kind(text, count, height, width, seed):
    augment = Augment.parse(text)
    images, targets = batch(count, height, width)
    u = np.random.default_rng(seed).random(augment.mixing_draws)
    for given_images in (images, images / 255):
        mixed, labels = augment.mix(given_images, targets, u)
        assert mixed.shape == given_images.shape
        assert mixed.dtype == given_images.dtype
        assert torch.allclose(labels.sum(1), torch.ones(count), atol=1e-6)
        assert labels.min() >= 0
        assert mixed.min() >= given_images.min() - 1e-6
        assert mixed.max() <= given_images.max() + 1e-6
    assert torch.equal(images, batch(count, height, width)[0])  # what is given is not written to


@some
@given(st.integers(2, 9), SEEDS)
def test_mixup_is_torchvisions(count, seed):
    images, targets = batch(count)
    u = np.random.default_rng(seed).random(3)
    shift, share = places(count, u[2]), MixUp().share(u[1])
    theirs = v2.MixUp(num_classes=4)
    # Its partner is the one before: with every shift-th picture in a row, the one before is our partner.
    rolled = torch.stack([images, images.roll(shift, 0)], 1).flatten(0, 1)
    rolled_targets = torch.stack([targets, targets.roll(shift, 0)], 1).flatten(0, 1)
    expected = theirs.transform(rolled.float(), parameters(rolled_targets, lam=1 - share))[1::2]
    labels = theirs._mixup_label(rolled_targets, lam=1 - share)[1::2]
    mixed, soft = MixUp().mix(images.float(), targets, u)
    assert torch.allclose(mixed, expected, atol=1e-3)
    assert torch.allclose(soft, labels, atol=1e-6)
    whole, _ = MixUp().mix(images, targets, u)
    assert torch.equal(whole, mixed.round().to(torch.uint8))


def parameters(labels, **values):
    """What torchvision's classes hand to their `transform`."""
    return {"labels": labels, "batch_size": len(labels), **values}


@some
@given(st.integers(2, 9), st.integers(1, 12), st.integers(1, 12), SEEDS)
def test_cutmix_is_torchvisions(count, height, width, seed):
    images, targets = batch(count, height, width)
    u = np.random.default_rng(seed).random(5)
    step, theirs = CutMix(), v2.CutMix(num_classes=4)
    share = step.share(u[1])

    class Script:  # torchvision asks for lambda, x and y
        answers = iter([torch.tensor([int(u[4] * width)]), torch.tensor([int(u[3] * height)])])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            theirs._dist, "sample", lambda shape: torch.tensor(share, dtype=torch.float64), raising=False
        )
        patch.setattr(torch, "randint", lambda high, size: next(Script.answers))
        drawn = theirs.make_params([images])
    top, bottom, left, right = step.box(height, width, u[[1, 3, 4]])
    assert drawn["box"] == (left, top, right, bottom)
    mixed, soft = step.mix(images, targets, u)
    shift = places(count, u[2])
    partner = images.roll(shift, 0)
    inside = torch.zeros(height, width, dtype=torch.bool)
    inside[top:bottom, left:right] = True
    assert torch.equal(mixed, torch.where(inside, partner, images))
    lam = drawn["lam_adjusted"]
    assert torch.allclose(soft, lam * targets + (1 - lam) * targets.roll(shift, 0), atol=1e-6)


@pytest.mark.parametrize(("text", "alpha"), [("mixup(0.2)", 0.2), ("mixup(1.0)", 1.0), ("cutmix(1.0)", 1.0)])
def test_the_share_is_betas(text, alpha):
    from scipy.stats import beta, kstest

    step = Augment.parse(text).mixing[0]
    shares = [step.share(u) for u in np.random.default_rng(0).random(2000)]
    assert kstest(shares, beta(alpha, alpha).cdf).pvalue > 1e-3


def test_every_other_picture_is_the_partner_equally_often():
    drawn = [places(5, u) for u in np.random.default_rng(0).random(4000)]
    counts = np.bincount(drawn, minlength=6)
    assert counts[0] == counts[5] == 0  # never itself
    assert counts[1:5].min() > 880  # 1,000 expected; the standard deviation is 27


@pytest.mark.parametrize("name", MIXINGS)
def test_the_probability_is_kept(name):
    images, targets = batch(4)
    augment = Augment.parse(f"{name}(p=0.25)")
    draws = np.random.default_rng(0).random((800, augment.mixing_draws))
    mixed = sum(augment.mix(images, targets, u)[0] is not images for u in draws)
    assert 150 < mixed < 250  # 200 expected; the standard deviation is 12


def test_mixing_is_spelled_with_the_steps_and_kept_apart():
    augment = Augment.parse("photos + mixup(0.2) + cutmix(p=0.5)")
    assert augment.steps == Augment.parse("photos").steps
    assert augment.mixing == (MixUp(0.2), CutMix(p=0.5))
    assert Augment.parse(str(augment)) == augment
    assert augment.draws == Augment.parse("photos").draws
    assert augment.mixing_draws == 8
    assert Augment.parse("photos").mixing == ()


@pytest.mark.parametrize(
    ("text", "column", "hint"),
    [
        ("mixup + hflip", 9, "after all other steps"),
        ("photos + cutmix + mixup + photos", 27, "mixup mixes whole batches"),
        ("hflip + mixup(0)", 9, "alpha"),
        ("hflip + mixup(0.2, p=2)", 9, "probability"),
        ("hflip + mixu", 9, "mixup"),
    ],
)
def test_a_mistake_is_pointed_at(text, column, hint):
    with pytest.raises(SightlineError, match=hint) as error:
        Augment.parse(text)
    assert f"character {column}" in str(error.value)
    assert str(error.value).splitlines()[-1] == "  " + " " * (column - 1) + "^"
