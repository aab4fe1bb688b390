"""Which sample when, with which random numbers: all of it a function of (seed, epoch, index, step).

Nothing here has a state that moves, so a run that is stopped, resumed or spread over workers draws the same
numbers. The generator is Philox4x32-10 (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3"), written
over numpy arrays because a generator object per sample costs more than the augmentation it decides.
"""

from __future__ import annotations

import numpy as np

# Purposes share a seed but must not share numbers.
AUGMENT, ORDER, MIX, CAPTION = 0, 1, 2, 3

MULTIPLIERS = np.array([0xD2511F53, 0xCD9E8D57], dtype=np.uint64)
WEYL = (0x9E3779B9, 0xBB67AE85)
MASK = np.uint64(0xFFFFFFFF)
SHIFT = np.uint64(32)


def philox(counter: np.ndarray, key: tuple[int, int]) -> np.ndarray:
    """Philox4x32 with ten rounds: `counter` (N, 4) of 32-bit words in uint64, `key` two words; returns (N, 4)."""
    c0, c1, c2, c3 = (counter[:, i].astype(np.uint64) for i in range(4))
    k0, k1 = key
    for _ in range(10):
        p0, p1 = c0 * MULTIPLIERS[0], c2 * MULTIPLIERS[1]
        c0, c1, c2, c3 = (
            (p1 >> SHIFT) ^ c1 ^ np.uint64(k0),
            p1 & MASK,
            (p0 >> SHIFT) ^ c3 ^ np.uint64(k1),
            p0 & MASK,
        )
        k0, k1 = (k0 + WEYL[0]) & 0xFFFFFFFF, (k1 + WEYL[1]) & 0xFFFFFFFF
    return np.stack([c0, c1, c2, c3], axis=1)


def uniforms(seed: int, epoch: int, indices: np.ndarray, count: int, purpose: int = AUGMENT) -> np.ndarray:
    """`count` numbers in [0, 1) for each sample of `indices` (N,): float64 of shape (N, count).

    Row i depends on (seed, epoch, indices[i]) alone; a step of a policy reads its own columns.
    """
    n, blocks = len(indices), -(-count // 4)
    counter = np.zeros((n, blocks, 4), dtype=np.uint64)
    index = np.asarray(indices, dtype=np.uint64)[:, None]
    counter[:, :, 0] = index & MASK
    counter[:, :, 1] = epoch & 0xFFFFFFFF
    counter[:, :, 2] = np.arange(blocks, dtype=np.uint64)[None, :]
    counter[:, :, 3] = np.uint64(purpose) | ((index >> SHIFT) << np.uint64(8))
    words = philox(counter.reshape(-1, 4), (seed & 0xFFFFFFFF, (seed >> 32) & 0xFFFFFFFF))
    return (words.reshape(n, blocks * 4)[:, :count]).astype(np.float64) * 2.0**-32


def epoch_order(
    count: int, seed: int, epoch: int, targets: np.ndarray | None = None, draws: int | None = None
) -> np.ndarray:
    """The samples of an epoch in the order they are taken: a permutation of range(count).

    With `targets` (count,) classes are sampled evenly instead: `draws` samples with replacement between classes
    but without a repeat inside a class until it is used up.
    """
    rng = np.random.Generator(np.random.Philox(key=[seed & 0xFFFFFFFFFFFFFFFF, (epoch << 8) | ORDER]))
    if targets is None:
        return rng.permutation(count)
    members = [np.flatnonzero(targets == c) for c in np.unique(targets)]
    share = -(-(draws or count) // len(members))
    taken = [
        np.concatenate([rng.permutation(m) for _ in range(-(-share // len(m)))])[:share] for m in members
    ]
    return rng.permutation(np.concatenate(taken))[: draws or count]
