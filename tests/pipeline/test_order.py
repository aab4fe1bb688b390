"""The keyed generator against its published vectors, and what follows from being keyed."""

import numpy as np
import pytest

from sightline.pipeline.order import epoch_order, philox, uniforms

# Known answers of Random123 (Salmon et al. 2011), philox4x32-10: counter, key, result.
VECTORS = [
    ([0] * 4, (0, 0), [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]),
    ([0xFFFFFFFF] * 4, (0xFFFFFFFF, 0xFFFFFFFF), [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD]),
    (
        [0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344],
        (0xA4093822, 0x299F31D0),
        [0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1],
    ),
]


@pytest.mark.parametrize(("counter", "key", "expected"), VECTORS)
def test_philox_gives_the_published_answers(counter, key, expected):
    assert philox(np.array([counter], dtype=np.uint64), key)[0].tolist() == expected


def test_a_samples_numbers_do_not_depend_on_its_neighbours():
    alone = uniforms(7, 3, np.array([41]), 10)
    together = uniforms(7, 3, np.array([5, 41, 2**33 + 41]), 10)
    assert np.array_equal(alone[0], together[1])
    assert not np.array_equal(together[1], together[2])


def test_more_numbers_begin_with_the_fewer():
    indices = np.arange(20)
    assert np.array_equal(uniforms(0, 0, indices, 3), uniforms(0, 0, indices, 9)[:, :3])


@pytest.mark.parametrize("change", [{"seed": 1}, {"epoch": 1}, {"purpose": 1}])
def test_seed_epoch_and_purpose_each_change_the_numbers(change):
    base = {"seed": 0, "epoch": 0, "purpose": 0}
    indices = np.arange(100)
    first = uniforms(indices=indices, count=4, **base)
    second = uniforms(indices=indices, count=4, **(base | change))
    assert not np.any(first == second)


def test_numbers_are_uniform():
    numbers = uniforms(0, 0, np.arange(50_000), 4)
    assert numbers.min() >= 0
    assert numbers.max() < 1
    # Mean of 200,000 uniform numbers: standard error 0.00065; correlation of columns: 0.0045.
    assert abs(numbers.mean() - 0.5) < 0.003
    assert np.abs(np.corrcoef(numbers.T) - np.eye(4)).max() < 0.02


def test_an_epoch_takes_every_sample_once_and_differs_from_the_next():
    first, second = epoch_order(1000, 0, 0), epoch_order(1000, 0, 1)
    assert sorted(first) == list(range(1000))
    assert not np.array_equal(first, second)
    assert np.array_equal(first, epoch_order(1000, 0, 0))


def test_balanced_order_takes_classes_evenly_and_uses_every_rare_sample():
    targets = np.array([0] * 90 + [1] * 6 + [2] * 4)
    order = epoch_order(100, 0, 0, targets, draws=99)
    assert np.bincount(targets[order]).tolist() == [33, 33, 33]
    assert set(range(90, 100)) <= set(order.tolist())
