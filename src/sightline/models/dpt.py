"""The Deformable Patch-based Transformer: patches whose place and size are read off the picture.

    Chen, Zhu, Zhao, Hu, Zeng, Wang, Tang: DPT: Deformable Patch-based Transformer for Visual Recognition.
        ACM Multimedia 2021, arXiv 2107.14467

(Not the Dense Prediction Transformer, which shares the abbreviation.)

What was new: a fixed grid cuts objects wherever its lines fall. With "DePatch" each patch of the grid predicts
a box of its own, moved by up to one patch and scaled, and is filled with what lies in that box. The rest is
the Pyramid Vision Transformer of `pvt.py`: its stages 2 to 4 get DePatch, the first keeps its 4x4 convolution.

This is what the authors' code computes (CASIA-IVA-Lab/DPT), with their names and shapes of parameters: the 3x3
points of a box run from corner to corner and are taken column by column; half a box is at most one patch wide
and high, and nothing where its prediction is negative; boxes are clipped to the map; no step of it is autocast.
Their CUDA kernel reads the map where `F.grid_sample` does. Maps need not be square here.
"""

# In PyTorch's stubs the call of a module is Any.
# mypy: disable-error-code="no-any-return"
from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sightline.models.pvt import Grid, PatchEmbed, PyramidVisionTransformer

POINTS = 3  # samples along each side of a box


class BoxCoder(nn.Module):
    """What each patch predicts, made into its box.

    wh_bias: added to the predicted half-sizes. Its start makes them a quarter of a patch, so that the nine
        points of an untrained box stand in the middles of its patch's four cells and half-way between them.
    """

    def __init__(self, grid: Grid) -> None:
        super().__init__()
        self.grid = grid
        self.wh_bias = nn.Parameter(torch.full((2,), math.atanh(0.25)))
        self.anchor: Tensor
        self.register_buffer("anchor", centres(grid))

    def forward(self, predicted: Tensor, grid: Grid) -> Tensor:
        """(N, patches, 4): shift x and y, half width and height -> boxes (N, patches, 4): x0, y0, x1, y1.

        The sides of the map are 1.
        """
        anchor = self.anchor if grid == self.grid else centres(grid).to(predicted)
        x, y = anchor.unbind(-1)
        dx, dy = torch.tanh(predicted[..., :2]).unbind(-1)
        dw, dh = F.relu(torch.tanh(predicted[..., 2:] + self.wh_bias)).unbind(-1)
        rows, columns = grid
        x, dw = x + dx / columns, dw / columns
        y, dh = y + dy / rows, dh / rows
        return torch.stack([x - dw, y - dh, x + dw, y + dh], dim=-1).clamp(0, 1)


def centres(grid: Grid) -> Tensor:
    """The patches' centres (x, y), row by row: (patches, 2). The sides of the map are 1."""
    y, x = ((torch.arange(n, dtype=torch.float64) + 0.5) * (1 / n) for n in grid)
    rows, columns = torch.meshgrid(y, x, indexing="ij")
    return torch.stack([columns, rows], dim=-1).flatten(0, 1).float()


class DePatch(nn.Module):
    """Patches of 2x2 cells, each moved and scaled to the box that its own content asks for.

    A patch embedding as in `pvt.py` predicts the boxes; nine points of each, read off the map by bilinear
    interpolation, are projected together to `dim` numbers and normalised.
    """

    def __init__(self, in_chans: int, dim: int, patch_size: int, grid: Grid) -> None:
        super().__init__()
        self.patch_size = patch_size
        self.patch_embed = PatchEmbed(in_chans, dim, patch_size)
        self.act = nn.GELU()
        self.offset_predictor = nn.Linear(dim, 4, bias=False)
        self.box_coder = BoxCoder(grid)
        self.output_proj = nn.Linear(POINTS * POINTS * in_chans, dim)
        self.norm = nn.LayerNorm(dim)
        # Arguments of the authors' CUDA kernel, which their files carry; nothing is computed from them here.
        self.register_buffer("value_spatial_shapes", torch.tensor([[side * patch_size for side in grid]]))
        self.register_buffer("value_level_start_index", torch.zeros(1, dtype=torch.long))

    def predict(self, x: Tensor) -> Tensor:
        grid = (x.shape[2] // self.patch_size, x.shape[3] // self.patch_size)
        return self.box_coder(self.offset_predictor(self.act(self.patch_embed(x))), grid)

    def boxes(self, x: Tensor) -> Tensor:
        """(N, in_chans, H, W) -> each patch's box (N, patches, 4): x0, y0, x1, y1 in cells of the map."""
        with autocast_off(x):
            x0, y0, x1, y1 = self.predict(x.to(self.norm.weight.dtype)).unbind(-1)
        height, width = x.shape[2:]
        return torch.stack([x0 * width, y0 * height, x1 * width, y1 * height], dim=-1)

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_chans, H, W) -> (N, patches, dim)."""
        with autocast_off(x):
            x = x.to(self.norm.weight.dtype)
            x0, y0, x1, y1 = self.predict(x).unsqueeze(-1).unbind(-2)  # each B, 784, 1 in stage 2
            steps = torch.linspace(0, 1, POINTS, dtype=x.dtype, device=x.device)
            columns, rows = torch.lerp(x0, x1, steps), torch.lerp(y0, y1, steps)  # B, 784, 3
            columns, rows = columns.repeat_interleave(POINTS, dim=-1), rows.repeat(1, 1, POINTS)  # B, 784, 9
            points = torch.stack([columns, rows], dim=-1)
            samples = F.grid_sample(x, 2 * points - 1, align_corners=False)  # B, 64, 784, 9
            return self.norm(self.output_proj(samples.permute(0, 2, 3, 1).flatten(2)))  # B, 784, 128


def autocast_off(x: Tensor) -> AbstractContextManager[object]:
    """A context without autocasting, as around the authors' module: bf16 would move a point by 0.1 cells."""
    kind = x.device.type
    on = torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind)
    return torch.autocast(kind, enabled=False) if on else nullcontext()


class DeformablePatchTransformer(PyramidVisionTransformer):
    """The Pyramid Vision Transformer, its arguments included, with DePatch in all stages but the first.

    At the start no patch moves. The authors train with a `drop_path_rate` of 0.1, but of 0 in the first 100 of
    300 epochs.
    """

    def make_patch_embed(self, stage: int, in_chans: int, dim: int, patch_size: int, grid: Grid) -> nn.Module:
        make = PatchEmbed if stage == 1 else partial(DePatch, grid=grid)
        return make(in_chans, dim, patch_size)

    def init_weights(self) -> None:
        super().init_weights()
        for module in self.modules():
            if isinstance(module, DePatch):
                nn.init.zeros_(module.offset_predictor.weight)

    def boxes(self, x: Tensor) -> list[Tensor]:
        """The boxes that stages 2, 3 and 4 take their patches from: (N, 784, 4), (N, 196, 4), (N, 49, 4).

        x: (N, in_chans, H, W). A box is x0, y0, x1, y1 in pixels of the picture, (0, 0) the outer corner of its
        first pixel; patches stand row by row.
        """
        found = []
        for stage in range(1, len(self.feature_info)):
            x = self.forward_stage(stage, x)
            following = cast(DePatch, self.get_submodule(f"patch_embed{stage + 1}"))
            found.append(following.boxes(x) * self.feature_info[stage - 1]["reduction"])
        return found


VARIANTS: dict[str, Callable[..., nn.Module]] = {
    "dpt_tiny": partial(DeformablePatchTransformer, depths=(2, 2, 2, 2)),
    "dpt_small": partial(DeformablePatchTransformer, depths=(3, 4, 6, 3)),
    "dpt_medium": partial(DeformablePatchTransformer, depths=(3, 4, 18, 3)),
}
