"""Is a map to be trusted? Two tests that a map of evidence can fail.

deletion_insertion  Petsiuk, Das, Saenko: RISE: Randomized Input Sampling for Explanation of Black-box Models.
                    BMVC 2018, arXiv 1806.07421, section 4.3: take away what the map calls important, and the
                    answer should go; put it back, and it should return
randomisation_test  Adebayo, Gilmer, Muelly, Goodfellow, Hardt, Kim: Sanity Checks for Saliency Maps. NeurIPS
                    2018, arXiv 1810.03292, section 3: a map of a network that has forgotten all should be another
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from sightline.errors import SightlineError
from sightline.visualization.evidence import Evidence
from sightline.visualization.pixel_evidence import over_picture
from sightline.visualization.probe import as_found, picture_of, run

ALIKE = 0.5
"""The rank correlation above which a map has not changed enough."""
CELLS = 16
"""Of maps with fewer cells a rank correlation says nothing."""
BLUR, SIGMA = 11, 5.0  # side and deviation in pixels of the blur that insertion begins with, as in RISE


@dataclass(frozen=True, slots=True, eq=False)
class Faithfulness:
    """What becomes of the answer while the picture goes, and while it comes, the most important pixels first.

    deletion, insertion: the probability (of the target; of it against versus where one was named) at equal shares
    of the pixels, none to all. deletion_area, insertion_area: under them, by the trapezoid rule, 0 to 1; a good map
    has a small and a large one. random_deletion, random_insertion: the areas of the same map with its cells shuffled,
    a number for each shuffle.
    """

    deletion: NDArray[np.float64]
    insertion: NDArray[np.float64]
    random_deletion: tuple[float, ...]
    random_insertion: tuple[float, ...]

    @property
    def deletion_area(self) -> float:
        return area(self.deletion)

    @property
    def insertion_area(self) -> float:
        return area(self.insertion)

    @property
    def passed(self) -> bool:
        """Whether the map is better than each of its shuffles, in deletion and in insertion."""
        return self.deletion_area < min(self.random_deletion) and self.insertion_area > max(
            self.random_insertion
        )

    @property
    def verdict(self) -> str:
        """A sentence with the areas, and whether the map is better than shuffled ones."""
        by_chance = f"{np.mean(self.random_deletion):.3g} and {np.mean(self.random_insertion):.3g}"
        said = "better than" if self.passed else "NO better than"
        return (
            f"Deletion {self.deletion_area:.3g} (less is better), insertion {self.insertion_area:.3g} (more is "
            f"better): {said} its cells shuffled ({by_chance})."
        )


def area(curve: NDArray[np.float64]) -> float:
    """Under a curve over equal steps from 0 to 1, by the trapezoid rule."""
    return float((curve.sum() - curve[0] / 2 - curve[-1] / 2) / (len(curve) - 1))


def deletion_insertion(
    model: nn.Module,
    x: Tensor,
    evidence: Evidence,
    *,
    steps: int = 16,
    shuffles: int = 3,
    seed: int = 0,
    batch: int = 32,
) -> Faithfulness:
    """Deletion and insertion scores of a map, beside those of the map with its cells shuffled.

    x: the normalised picture (1, C, H, W) that `evidence` is of. Deletion covers pixels with the mean colour;
    insertion begins with the picture blurred. steps: equal parts in which the pixels go and come.
    Raises SightlineError for a picture of another size than the map's.
    """
    x = picture_of(model, x)
    if tuple(x.shape[2:]) != evidence.picture:
        raise SightlineError(f"The map is of a picture of {evidence.picture}, not of {tuple(x.shape[2:])}.")
    rng = np.random.default_rng(seed)
    gone, blurred = torch.zeros_like(x), blur(x)

    def curves(order: NDArray[np.int64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        down = probabilities(model, x, gone, order, steps, evidence, batch)
        return down, probabilities(model, blurred, x, order, steps, evidence, batch)

    with as_found(model), torch.no_grad():
        deletion, insertion = curves(falling(over_picture(evidence)))
        chance = [curves(falling(over_picture(shuffled(evidence, rng)))) for _ in range(shuffles)]
    return Faithfulness(
        deletion, insertion, tuple(area(one) for one, _ in chance), tuple(area(one) for _, one in chance)
    )


def falling(values: NDArray[np.float32]) -> NDArray[np.int64]:
    """The pixels' numbers, row by row, from the largest value to the smallest."""
    return np.argsort(-values.ravel(), kind="stable")


def shuffled(evidence: Evidence, rng: np.random.Generator) -> Evidence:
    """The same values at other cells: as coarse, as smooth, as large, and about nothing."""
    values = evidence.values
    cells = values.reshape(-1, values.shape[-2] * values.shape[-1])
    return replace(evidence, values=cells[:, rng.permutation(cells.shape[1])].reshape(values.shape))


def probabilities(
    model: nn.Module,
    start: Tensor,
    end: Tensor,
    order: NDArray[np.int64],
    steps: int,
    evidence: Evidence,
    batch: int,
) -> NDArray[np.float64]:
    """The probability at each step from `start` to `end`, whose pixels are taken over in `order`."""
    count = len(order)
    step = -(-count // steps)
    places = torch.from_numpy(order)
    pictures, found = [], []
    current = start.clone().flatten(2)
    target = end.flatten(2)
    for taken in range(0, count + step, step):
        some = places[max(0, taken - step) : taken]
        current[..., some] = target[..., some]
        pictures.append(current.reshape(start.shape).clone())
        if len(pictures) == batch or taken >= count:
            found.append(share(run(model, torch.cat(pictures)), evidence))
            pictures = []
        if taken >= count:
            break
    return torch.cat(found).double().cpu().numpy()


def share(logits: Tensor, evidence: Evidence) -> Tensor:
    """(N, classes) -> (N,): the probability of the target; of it against the other class where one was named."""
    if evidence.versus is not None:
        return (logits[:, evidence.target] - logits[:, evidence.versus]).sigmoid()
    return logits.softmax(1)[:, evidence.target] if logits.shape[1] > 1 else logits[:, 0].sigmoid()


def blur(x: Tensor) -> Tensor:
    """The picture (1, C, H, W) blurred, its border continued."""
    way = torch.arange(BLUR, dtype=x.dtype, device=x.device) - BLUR // 2
    line = torch.exp(-0.5 * (way / SIGMA) ** 2)
    kernel = (line[:, None] * line / line.sum() ** 2).expand(x.shape[1], 1, BLUR, BLUR)
    return F.conv2d(F.pad(x, (BLUR // 2,) * 4, mode="replicate"), kernel, groups=x.shape[1])


@dataclass(frozen=True, slots=True, eq=False)
class Randomisation:
    """How like the map stays while the network forgets, from its last layer to its first.

    layers: up to which the weights were shuffled, in turn; the last entry is the whole network.
    correlations: the rank correlation (Spearman) with the map of the network as it is, after each.
    cells: how many values the maps have.
    """

    layers: tuple[str, ...]
    correlations: tuple[float, ...]
    cells: int

    @property
    def passed(self) -> bool | None:
        """Whether the map became another; None where it has too few cells to tell."""
        return None if self.cells < CELLS else self.correlations[-1] <= ALIKE

    @property
    def verdict(self) -> str:
        """A sentence with the correlation, and what follows from it."""
        if self.passed is None:
            return f"With {self.cells} cells the map is too coarse for the randomisation test."
        last = self.correlations[-1]
        said = (
            "so the map depends on what was learned"
            if self.passed
            else "so the map shows the picture more than what was learned: DO NOT TRUST IT as evidence"
        )
        return f"With all weights shuffled the map's rank correlation with this one is {last:.2f}, {said}."


def randomisation_test(
    model: nn.Module,
    x: Tensor,
    view: Callable[[nn.Module, Tensor], Evidence | NDArray[np.float32]],
    *,
    steps: int = 4,
    draws: int = 2,
    seed: int = 0,
) -> Randomisation:
    """The model-randomisation test: `view` of a copy whose weights are shuffled from the last layer to the first.

    view: such as `functools.partial(grad_cam, target=3)`; name the target and the layer, else they may change with
    the weights. A view may also return an array (h, w). Within each tensor of weights the values change places: the
    network keeps their distribution and loses what they meant. steps: groups of layers, forgotten one after another;
    draws: over which the correlations are averaged.
    """
    original = plain(view(model, x))
    groups = layer_groups(model, steps)
    found = np.zeros((draws, len(groups)))
    for draw in range(draws):
        generator = torch.Generator().manual_seed(seed + draw)
        forgetting = copy.deepcopy(model)
        modules = dict(forgetting.named_modules())
        for number, group in enumerate(groups):
            for name in group:
                forget(modules[name], generator)
            found[draw, number] = correlation(original, plain(view(forgetting, x)))
    names = tuple(group[-1] or "all" for group in groups)
    return Randomisation(names, tuple(found.mean(0).tolist()), original.size)


def plain(seen: Evidence | NDArray[np.float32]) -> NDArray[np.float32]:
    """The values that are compared: of a map its cells, of pixels what each amounts to."""
    if not isinstance(seen, Evidence):
        return seen
    return over_picture(seen) if seen.values.ndim == 3 else seen.values


def layer_groups(model: nn.Module, count: int) -> list[list[str]]:
    """The names of the modules with weights of their own, from the last to the first, in at most `count` groups."""
    names = [name for name, m in model.named_modules() if next(m.parameters(recurse=False), None) is not None]
    parts = np.array_split(np.array(names[::-1], dtype=object), min(count, len(names)))
    return [[str(name) for name in part] for part in parts]


def forget(module: nn.Module, generator: torch.Generator) -> None:
    """Shuffle the values within each of a module's own weights."""
    with torch.no_grad():
        for weights in module.parameters(recurse=False):
            order = torch.randperm(weights.numel(), generator=generator).to(weights.device)
            weights.copy_(weights.flatten()[order].view_as(weights))


def correlation(one: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    """Spearman's rank correlation; 0 where one of the two is the same everywhere."""
    a, b = ranks(one), ranks(other)
    a, b = a - a.mean(), b - b.mean()
    size = float(np.sqrt((a @ a) * (b @ b)))
    return float(a @ b) / size if size > 0 else 0.0


def ranks(values: NDArray[np.float32]) -> NDArray[np.float64]:
    """Each value's rank, those of equal ones shared out among them."""
    _, place, count = np.unique(values, return_inverse=True, return_counts=True)
    shared: NDArray[np.float64] = (np.cumsum(count) - (count - 1) / 2)[place.ravel()]
    return shared
