"""Which epoch of a training is kept: the latest that is as good as the best, as far as validation pictures can tell.

The best of many epochs by few pictures is the luckiest, and often an early one, whose weights have not settled. So the
latest is taken within one standard error of the highest merit (the one-standard-error rule of Breiman et al. 1984,
Classification and Regression Trees, section 3.4.3). With many validation pictures that is the best epoch, or one that
is hardly worse.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

# A picture more of every class, half of it right: few that are all right, or all wrong, are not sure of it.
HALF = 0.5


@dataclass
class Choice:
    """What epochs had to reach so far, of merits from 0 on; finite from the start, as checkpoints are JSON.

    highest: the highest merit; lowest_loss: the lowest validation loss of those with it. floor: what an epoch's merit
    has to be for it to be kept. epochs_since: epochs after the one with the highest merit.
    """

    highest: float = -1.0
    lowest_loss: float = 0.0
    floor: float = -1.0
    epochs_since: int = 0

    def keeps(self, merit: float, loss: float, deviation: float) -> bool:
        """Whether the next epoch is to be kept in place of the one before; deviation: standard error of its merit."""
        if self.beaten_by(merit, loss):
            self.highest, self.lowest_loss, self.epochs_since = merit, loss, 0
        else:
            self.epochs_since += 1
        self.floor = max(self.floor, merit - deviation)
        return merit >= self.floor

    def beaten_by(self, merit: float, loss: float) -> bool:
        """Whether that is more than the highest merit so far, or as much at a lower loss."""
        return (merit, -loss) > (self.highest, -self.lowest_loss)


def deviation_of_mean_recall(right: NDArray[np.number], seen: NDArray[np.number]) -> float:
    """Standard error of the mean of the classes' recalls; right, seen (classes,): pictures, 1 or more seen."""
    recalls = (right + HALF) / (seen + 2 * HALF)
    return float(np.sqrt((recalls * (1 - recalls) / seen).sum()) / len(seen))
