"""Where the windows of a layer lie, found by looking at what goes into them.

Each family cuts its maps in its own way (shifted, padded before or after the shift, strided as MaxViT's grids), and
says so in attributes of its own. But what enters the attention of a window are copies of the map's tokens. So the
network is run on noise, where no two tokens are alike, and each token of a window is found in the map by its numbers.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from sightline.errors import SightlineError
from sightline.visualization.evidence import listening
from sightline.visualization.places import Grid
from sightline.visualization.probe import as_found, run


class Entering(TorchFunctionMode):
    """Keeps the first input of a linear layer, while it is `open`, of shape (windows, tokens, C)."""

    def __init__(self, windows: int, tokens: int) -> None:
        super().__init__()
        self.shape = (windows, tokens)
        self.open = False
        self.found: Tensor | None = None

    def __torch_function__(self, func: Any, _types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if self.open and self.found is None and func is F.linear:
            rows: Tensor = args[0]
            if rows.ndim >= 3 and (len(rows), rows[0, ..., 0].numel()) == self.shape:
                self.found = rows.reshape(*self.shape, -1).clone()
        return func(*args, **(kwargs or {}))


def window_places(
    model: nn.Module, x: Tensor, layer: str, windows: int, tokens: int
) -> tuple[Grid, NDArray[np.int64]]:
    """(grid of the map, (windows, tokens) the patch of it that each token is, row by row, -1 for padding).

    Raises SightlineError where they cannot be found.
    """
    noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(0)).to(x)
    entering = Entering(windows, tokens)
    before = 0

    def begin(_module: nn.Module, _inputs: Any) -> None:
        nonlocal before
        before = len(outputs)
        entering.open = True

    def end(_module: nn.Module, _inputs: Any, _output: Any) -> None:
        entering.open = False

    attending = model.get_submodule(layer)
    with as_found(model), torch.no_grad(), listening(model, noise, everywhere=True) as outputs:
        hooks = [
            attending.register_forward_pre_hook(begin),
            attending.register_forward_hook(end, always_call=True),
        ]
        try:
            with entering:
                run(model, noise)
        finally:
            for hook in hooks:
                hook.remove()
        if entering.found is not None:
            rows = entering.found.flatten(0, 1).cpu().numpy()
            for output in reversed(outputs[:before]):
                folded = output.places.fold(output.tensor)[0].flatten(1).T
                if folded.shape[1] != rows.shape[1]:
                    continue
                place = {
                    row.tobytes(): number for number, row in enumerate(folded.contiguous().cpu().numpy())
                }
                found = np.array([place.get(row.tobytes(), -1) for row in rows]).reshape(windows, tokens)
                if set(found[found >= 0]) == set(range(len(folded))):
                    return output.places.grid, found
    raise SightlineError(
        f"{layer} attends within {windows} windows, and where these lie cannot be told; choose another layer."
    )
