"""DePatch: its boxes, what it reads from them and where it starts. Parity of the network: test_pvt.py."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from sightline.models import create_model
from sightline.models.dpt import BoxCoder, DePatch
from tests.models.oracles.pyramids import SMALL, fill, oracle, pictures

torch.set_num_threads(1)


def small(**kwargs: Any) -> Any:
    return create_model("dpt_tiny", **{"img_size": 64, **SMALL, **kwargs})


def test_boxes_are_the_authors() -> None:
    theirs = oracle("dpt")
    boxes = fill(small().double().eval()).boxes(pictures(2, 64, 64).double())
    assert [tuple(found.shape) for found in boxes] == [(2, 64, 4), (2, 16, 4), (2, 4, 4)]
    for i, found in enumerate(boxes, start=2):
        expected = torch.from_numpy(theirs[f"boxes{i}"]) * 64
        assert torch.allclose(found, expected, rtol=0, atol=1e-9)
        sides = expected[..., 2:] - expected[..., :2]
        assert sides.std() > 0 and sides.min() >= 0


@pytest.mark.full
@pytest.mark.parametrize("name", ["dpt_tiny", "dpt_small", "dpt_medium"])
def test_boxes_of_full_sizes_are_the_authors(name: str) -> None:
    theirs = oracle(name)
    with torch.no_grad():
        boxes = fill(create_model(name).double().eval()).boxes(pictures(1, 224, 224).double())
    for i, found in enumerate(boxes, start=2):
        expected = torch.from_numpy(theirs[f"boxes{i}"]) * 224
        assert torch.allclose(found[:, ::7], expected, rtol=0, atol=1e-9)


def test_no_patch_moves_at_the_start() -> None:
    """Every box is centred on its patch and half as wide and high, whatever the picture."""
    for stage, found in enumerate(small().boxes(torch.rand(2, 3, 64, 96)), start=2):
        side = 2 ** (stage + 1)
        centres = [(x + side / 2, y + side / 2) for y in range(0, 64, side) for x in range(0, 96, side)]
        expected = [(x - side / 4, y - side / 4, x + side / 4, y + side / 4) for x, y in centres]
        assert torch.allclose(found, torch.tensor(expected).expand_as(found), rtol=0, atol=1e-4)


def coded(*predicted: float) -> list[float]:
    """The box of the patch at row 0, column 1 of a grid of 2 rows and 4 columns, without the bias."""
    coder = BoxCoder((2, 4))
    torch.nn.init.zeros_(coder.wh_bias)
    with torch.no_grad():
        return coder(torch.tensor(predicted).expand(1, 8, 4), (2, 4))[0, 1].tolist()


def test_arithmetic_of_boxes() -> None:
    half = math.atanh(0.5)  # what makes tanh one half
    assert coded(0, 0, half, half) == pytest.approx([0.25, 0, 0.5, 0.5])  # the patch: 1/4 wide, 1/2 high
    assert coded(half, 0, half, half) == pytest.approx([0.375, 0, 0.625, 0.5])
    assert coded(0, half, half, half) == pytest.approx([0.25, 0.25, 0.5, 0.75])
    assert coded(0, -half, half, half) == pytest.approx([0.25, 0, 0.5, 0.25])  # clipped to the map
    assert coded(99, 99, -1, -1) == pytest.approx(
        [0.625, 0.75, 0.625, 0.75]
    )  # one patch away, without extent
    assert coded(0, 0, 99, 99) == pytest.approx([0.125, 0, 0.625, 0.75])  # half a box is a patch at most


def read(embed: DePatch, x: Tensor) -> Tensor:
    """What enters the projection: (N, patches, 9 x channels)."""
    found: list[Tensor] = []
    handle = embed.output_proj.register_forward_hook(lambda _m, inputs, _o: found.append(inputs[0]))
    embed(x)
    handle.remove()
    return found[0]


def test_nine_points_are_read_column_by_column() -> None:
    """At the start, of cells a b / c d: the cells themselves and the means between them."""
    embed = DePatch(2, 8, 2, (1, 1))
    torch.nn.init.zeros_(embed.offset_predictor.weight)
    a, b, c, d = 1.0, 2.0, 4.0, 8.0
    x = torch.tensor([[[[a, b], [c, d]], [[-a, -b], [-c, -d]]]])
    middle = (a + b + c + d) / 4
    points = [a, (a + c) / 2, c, (a + b) / 2, middle, (c + d) / 2, b, (b + d) / 2, d]
    expected = [value for point in points for value in (point, -point)]
    assert read(embed, x)[0, 0].tolist() == pytest.approx(expected)


def test_outside_of_the_map_there_is_nothing() -> None:
    """The outer edge of a map lies half-way between its last cell and zero."""
    embed = DePatch(1, 8, 2, (1, 1))
    torch.nn.init.zeros_(embed.offset_predictor.weight)
    torch.nn.init.constant_(embed.box_coder.wh_bias, 99.0)
    points = read(embed, torch.ones(1, 1, 2, 2))
    assert points.tolist() == [[[0.25, 0.5, 0.25, 0.5, 1.0, 0.5, 0.25, 0.5, 0.25]]]


@pytest.mark.parametrize("grid", [(3, 5), (2, 8), (5, 3)])
def test_any_map_will_do(grid: tuple[int, int]) -> None:
    """A module made for another grid, of as many patches or not, computes what one made for this grid does."""
    made, other = fill(DePatch(3, 8, 2, grid)), fill(DePatch(3, 8, 2, (4, 4)))
    x = pictures(2, 2 * grid[0], 2 * grid[1])
    assert torch.allclose(other(x), made(x), atol=1e-6)
    assert torch.allclose(other.boxes(x), made.boxes(x), atol=1e-6)


def test_is_never_autocast() -> None:
    embed = fill(DePatch(3, 8, 2, (4, 4)))
    x = pictures(1, 8, 8)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside, boxes = embed(x), embed.boxes(x)
    assert inside.dtype == torch.float32
    assert torch.equal(inside, embed(x)) and torch.equal(boxes, embed.boxes(x))


def test_gradients_reach_the_boxes() -> None:
    """Finite differences agree, for the map and for the boxes' predictor (no point on a cell's edge)."""
    torch.manual_seed(0)
    embed = fill(DePatch(2, 4, 2, (2, 2))).double()
    x = torch.rand(1, 2, 4, 4, dtype=torch.float64, requires_grad=True)
    weight = embed.offset_predictor.weight

    def of(x: Tensor, weight: Tensor) -> Tensor:
        return torch.func.functional_call(embed, {"offset_predictor.weight": weight}, (x,))

    assert torch.autograd.gradcheck(of, (x, weight))
