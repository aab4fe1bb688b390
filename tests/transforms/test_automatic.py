"""RandAugment, TrivialAugment, AutoAugment and AugMix against torchvision's own classes, drawn the same."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sightline.transforms.automatic import AugMix, AutoAugment, RandAugment, TrivialAugment
from tests.transforms.pictures import SEEDS, both, numbers, pictures, pixels

v2 = pytest.importorskip("torchvision.transforms.v2")
some = settings(deadline=None, max_examples=40)


class Scripted:
    """torchvision's class with its random numbers handed to it, a draw of (which, strength, sign) an operation."""

    def __init__(self, transform, operations, first=None):
        self.transform, self.operations, self.first = transform, iter(operations), first
        self.now = None

    def item(self, table):
        self.now = next(self.operations)
        name = list(table)[int(self.now[0] * len(table))]
        return name, table[name]

    def randint(self, *bounds, low=0, high=None, size=()):
        high = high if high is not None else bounds[0]
        draw = self.first if self.first is not None else self.now[1]
        self.first = None
        return torch.tensor(low + int(draw * (high - low)))

    def rand(self, shape):
        return torch.tensor(self.now[2])

    def __call__(self, image):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(self.transform, "_get_random_item", self.item)
            patch.setattr(torch, "randint", self.randint)
            patch.setattr(torch, "rand", self.rand)
            return self.transform(image)


def agree(step, image, u, theirs):
    for version in both(image):
        assert np.array_equal(pixels(step.apply(version, u, None)), pixels(theirs()(version)))


@some
@given(pictures(), SEEDS, st.integers(1, 4), st.integers(0, 30))
def test_rand_augment(image, seed, ops, magnitude):
    step = RandAugment(ops, magnitude)
    u = numbers(step, seed)
    operations = [(which, None, sign) for which, sign in u.reshape(-1, 2)]
    theirs = v2.RandAugment(ops, magnitude, 31, "bilinear")
    agree(step, image, u, lambda: Scripted(theirs, operations))


@some
@given(pictures(), SEEDS)
def test_trivial_augment(image, seed):
    u = numbers(TrivialAugment(), seed)
    agree(TrivialAugment(), image, u, lambda: Scripted(v2.TrivialAugmentWide(31, "bilinear"), [u]))


@some
@given(pictures(), SEEDS, st.sampled_from(["imagenet", "cifar10", "svhn"]))
def test_auto_augment(image, seed, policy):
    from torchvision.transforms import AutoAugmentPolicy

    u = numbers(AutoAugment(), seed)
    theirs = v2.AutoAugment(AutoAugmentPolicy(policy), "bilinear")
    pair = theirs._policies[int(u[0] * 25)]
    signed = theirs._AUGMENTATION_SPACE
    asked = []
    for (operation, probability, _), (taken, sign) in zip(pair, u[1:].reshape(2, 2), strict=True):
        asked.append(taken)
        if taken <= probability and signed[operation][1]:
            asked.append(sign)

    def scripted():
        script = Scripted(theirs, [], first=u[0])
        rest = iter(asked)
        script.rand = lambda shape: torch.tensor(next(rest))
        return script

    agree(AutoAugment(policy), image, u, scripted)


@some
@given(pictures(), SEEDS, st.integers(1, 10))
def test_aug_mix(image, seed, severity):
    step = AugMix(severity)
    u = numbers(step, seed)
    shares = torch.from_numpy(step.shares(u[0]))
    chains = u[1:].reshape(3, 10)
    depths = [1 + int(chain[0] * 3) for chain in chains]
    operations = [
        op for chain, depth in zip(chains, depths, strict=True) for op in chain[1:].reshape(3, 3)[:depth]
    ]

    def scripted():
        theirs = v2.AugMix(severity)
        script = Scripted(theirs, operations)
        left = iter(depths)
        inner = script.randint

        def randint(*bounds, low=0, high=None, size=()):
            return torch.tensor(next(left)) if size == (1,) else inner(*bounds, low=low, high=high)

        script.randint = randint
        # Its shares of the chains are a product of two draws; here the first draw is one.
        answers = iter([torch.stack([shares[:1], torch.ones(1)], 1), shares[None, 1:]])
        theirs._sample_dirichlet = lambda parameters: next(answers)
        return script

    agree(step, image, u, scripted)


def test_aug_mixs_shares_have_the_papers_distribution():
    """Beta(alpha, alpha) keeps the picture, a Dirichlet of three parts the rest (Hendrycks et al. 2019)."""
    from scipy.stats import beta, kstest

    for alpha in (1.0, 0.5):
        draws = np.random.default_rng(0).random(1500)
        shares = np.array([AugMix(3, alpha).shares(u) for u in draws])
        assert np.abs(shares.sum(1) - 1).max() < 1e-6
        assert kstest(shares[:, 0], beta(alpha, alpha).cdf).pvalue > 1e-3
        parts = shares[:, 1:] / (1 - shares[:, :1])
        assert kstest(parts[:, 0], beta(alpha, 2 * alpha).cdf).pvalue > 1e-3  # a Dirichlet's marginal
        assert abs(np.corrcoef(shares[:, 0], parts[:, 0])[0, 1]) < 0.1
