"""Where in the picture the numbers of a layer lie: maps with channels first or last, and rows of tokens.

Convolutional networks put out (N, C, h, w), Swin and some of its kin (N, h, w, C), transformers tokens (N, T, C),
the patches row by row behind any number of others (a class token, a distillation token, registers).
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from sightline.models.protocol import first_conv

Grid = tuple[int, int]  # rows and columns
PREFIX = 32
"""The most tokens before the patches that are looked for where a network does not say how many it has."""


@dataclass(frozen=True, slots=True)
class Places:
    """How an output lies over the picture: `grid` of cells, `kind` of layout, tokens before the patches."""

    grid: Grid
    kind: str  # "first", "last" or "tokens"
    prefix: int = 0

    def fold(self, output: Tensor) -> Tensor:
        """(N, ...) as the layer puts it out -> (N, C, h, w). Tokens that have no place are left out."""
        if self.kind == "tokens":
            patches = output[:, self.prefix :]
            return patches.reshape(len(patches), *self.grid, -1).movedim(-1, 1)
        return output.movedim(-1, 1) if self.kind == "last" else output


def places_of(model: nn.Module, x: Tensor, output: object) -> Places | None:
    """How `output`, of one of the modules of `model`, lies over the picture `x` (1, C, H, W); None if it does not.

    A single cell is no place: it has nothing to tell apart.
    """
    if not isinstance(output, Tensor) or not output.ndim or not output.is_floating_point():
        return None
    if output.shape[0] != x.shape[0]:
        return None
    size = (x.shape[2], x.shape[3])
    if output.ndim == 4:
        _, a, b, c = output.shape
        for grid, kind in (((b, c), "first"), ((a, b), "last")):
            if covers(grid, size):
                return Places(grid, kind)
        return None
    if output.ndim == 3:
        found = token_grid(model, size, output.shape[1])
        return found and Places(found[0], "tokens", found[1])
    return None


def covers(grid: Grid, size: Grid) -> bool:
    """Whether a grid can be that of square cells over a picture of `size`, to the rounding of its sides."""
    (h, w), (height, width) = grid, size
    if h * w < 2 or h > height or w > width:
        return False
    # The cells' side by either axis, a cell more or less.
    low = max(height / (h + 1), width / (w + 1))
    high = min(height / max(h - 1, 0.5), width / max(w - 1, 0.5))
    return low < high


def token_grid(model: nn.Module, size: Grid, tokens: int) -> tuple[Grid, int] | None:
    """(grid, tokens before it) of a row of `tokens` over a picture of `size`; None where nothing fits.

    Asked are, in turn: the patches that the network cuts the picture into, the number of other tokens that it
    says it has, and which numbers leave a grid of the picture's shape.
    """
    patches = patch_grid(model, size)
    if patches is not None and 0 <= tokens - patches[0] * patches[1] <= PREFIX:
        return (patches, tokens - patches[0] * patches[1]) if patches[0] * patches[1] > 1 else None
    said = getattr(model, "num_prefix_tokens", None)
    prefixes = range(3) if said is None else dict.fromkeys((int(said), 0))
    for prefix in prefixes:
        grid = grid_of_shape(tokens - prefix, size)
        if grid is not None:
            return grid, prefix
    return None


def patch_grid(model: nn.Module, size: Grid) -> Grid | None:
    """The grid of patches into which a network's first convolution cuts the picture, if they do not overlap."""
    found = first_conv(model)
    if found is None or found[1].stride != found[1].kernel_size or min(found[1].kernel_size) < 2:
        return None
    down, across = found[1].kernel_size
    return size[0] // down, size[1] // across


def grid_of_shape(cells: int, size: Grid) -> Grid | None:
    """The grid of `cells` whose cells are square on a picture of `size`; None where there is none."""
    if cells < 2:
        return None
    height, width = size
    rows = round((cells * height / width) ** 0.5)
    if rows < 1 or cells % rows:
        return None
    columns = cells // rows
    return (rows, columns) if abs(height / rows - width / columns) < 0.02 * height / rows else None
