"""Where the patches of a Deformable Patch-based Transformer lie: each is a box that its content asked for."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sightline.errors import SightlineError
from sightline.models.dpt import DeformablePatchTransformer
from sightline.visualization.evidence import as_array
from sightline.visualization.places import Grid, grid_of_shape
from sightline.visualization.probe import as_found, picture_of


@dataclass(frozen=True, slots=True, eq=False)
class PatchBoxes:
    """The boxes of one stage. values: float32 (patches, 4): x0, y0, x1, y1 in pixels of the picture, patches row by
    row over `grid`. stage: 2, 3 or 4; the first one's patches are a fixed grid."""

    stage: int
    values: NDArray[np.float32]
    grid: Grid
    picture: tuple[int, int]


def patch_boxes(model: nn.Module, x: Tensor, *, stage: int = 2) -> PatchBoxes:
    """The learned boxes of a stage on a normalised picture (1, C, H, W).

    Raises SightlineError for another network than a Deformable Patch-based Transformer, and for a stage without.
    """
    if not isinstance(model, DeformablePatchTransformer):
        raise SightlineError(
            f"{type(model).__name__} has fixed patches; dpt_tiny, dpt_small and dpt_medium have boxes."
        )
    x = picture_of(model, x)
    with as_found(model), torch.no_grad():
        found = model.boxes(x)
    if not 2 <= stage <= len(found) + 1:
        raise SightlineError(f"There are no boxes in stage {stage}; stages 2 to {len(found) + 1} have them.")
    boxes, size = found[stage - 2][0], (x.shape[2], x.shape[3])
    grid = grid_of_shape(len(boxes), size)
    assert grid is not None  # the network's own
    return PatchBoxes(stage, as_array(boxes), grid, size)
