"""The part of the picture that a unit can see, exactly, for any network of convolutions and poolings.

    Araujo, Norris, Sim: Computing Receptive Fields of Convolutional Neural Networks. Distill 2019,
        doi 10.23915/distill.00021

In a map of stride j, cell i sees the pixels first + i j .. last + i j along each side of the picture. A window of
k cells, step s, padding p and dilation d makes of it

    j' = s j        first' = first - p j        last' = last + ((k - 1) d - p) j

and where branches join, the widest wins. Here each operation of the network is followed as PyTorch runs it on
tensors without data, whatever the modules are called, so it costs no computing.

Left out: what the mean of a whole map says through a gate (squeeze-and-excitation), or a normalisation by the
statistics of a map; in the strict sense either shows each unit all of the picture.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from sightline.errors import SightlineError
from sightline.models.protocol import first_conv, first_line, meta_copy
from sightline.visualization.feature_maps import find_layer, first_tensor

Box = tuple[int, int, int, int]  # top, left, bottom, right in pixels; the last two are the first ones outside


@dataclass(frozen=True, slots=True)
class ReceptiveField:
    """What the units of one layer see, rows before columns.

    size: height and width in pixels. stride: pixels from one unit's field to the next one's. start: row and column
    of the first pixel that the unit (0, 0) sees, negative where padding comes first. grid: units in the map.
    picture: (height, width) of the picture.
    """

    layer: str
    size: tuple[int, int]
    stride: tuple[int, int]
    start: tuple[int, int]
    grid: tuple[int, int]
    picture: tuple[int, int]

    def box(self, row: int, column: int) -> Box:
        """What the unit at (row, column) of the map sees, cut at the picture's edges."""
        top, left = (s + i * j for s, i, j in zip(self.start, (row, column), self.stride, strict=True))
        bottom, right = top + self.size[0], left + self.size[1]
        height, width = self.picture
        return max(top, 0), max(left, 0), min(bottom, height), min(right, width)


def receptive_field(model: nn.Module, layer: str, input_size: Sequence[int] | None = None) -> ReceptiveField:
    """What the units of `layer` (a dotted module name; its first run) see of a picture.

    input_size: (channels, height, width), which matters for padding that depends on it; by default 224x224 pixels
    on as many channels as the first convolution takes. The network itself is not run or changed.
    Raises SightlineError where the network cannot take such a picture, or where the layer's units have no place
    or see by more than windows (attention, flattened maps); it says by what.
    """
    find_layer(dict(model.named_modules()), layer)
    fields, why = follow(model, input_size)
    if layer not in fields:
        raise SightlineError(
            f"The units of {layer} have no receptive field short of the whole picture: "
            f"{why.get(layer, 'it does not run')}."
        )
    return fields[layer]


def receptive_fields(model: nn.Module, input_size: Sequence[int] | None = None) -> dict[str, ReceptiveField]:
    """The receptive fields of all layers that have one, in the order of computation; see `receptive_field`."""
    return follow(model, input_size)[0]


def follow(
    model: nn.Module, input_size: Sequence[int] | None
) -> tuple[dict[str, ReceptiveField], dict[str, str]]:
    """The fields of the layers, and of those that have none, why."""
    if input_size is None:
        first = first_conv(model)
        input_size = (first[1].in_channels if first else 3, 224, 224)
    _, height, width = input_size
    net = meta_copy(model)
    dtype = next((p.dtype for p in net.parameters() if p.is_floating_point()), torch.float32)
    picture = torch.empty(1, *input_size, dtype=dtype, device="meta")
    trace = Trace(picture)
    fields: dict[str, ReceptiveField] = {}
    why: dict[str, str] = {}

    def note(name: str, output: Any) -> None:
        reach = trace.of(first_tensor(output))
        if name in fields or name in why:
            return
        if isinstance(reach, Reach):
            rows, columns = reach.spans
            fields[name] = ReceptiveField(
                name,
                (rows.last - rows.first + 1, columns.last - columns.first + 1),
                (rows.stride, columns.stride),
                (rows.first, columns.first),
                reach.grid,
                (height, width),
            )
        else:
            why[name] = reach or "nothing in it comes from the picture"

    for name, module in net.named_modules():
        module.register_forward_hook(lambda _module, _inputs, output, name=name: note(name, output))
    try:
        with torch.no_grad(), trace:
            net(picture)
    except (RuntimeError, AssertionError, ValueError, IndexError) as error:
        size = "x".join(str(side) for side in input_size)
        raise SightlineError(
            f"The network cannot take an input of {size}: {first_line(error)}; set input_size."
        ) from None
    return fields, why


@dataclass(frozen=True, slots=True)
class Span:
    """Along one side: cell 0 of a map sees the pixels first..last, cell i those `stride` * i further."""

    stride: int = 1
    first: int = 0
    last: int = 0

    def window(self, kernel: int, step: int, padding: int, dilation: int = 1) -> Span:
        reach = (kernel - 1) * dilation - padding
        return Span(self.stride * step, self.first - padding * self.stride, self.last + reach * self.stride)


@dataclass(frozen=True, slots=True)
class Reach:
    """What the cells of a tensor see. axes: where its rows and columns are; the same one where they are laid out
    in one, row by row. grid: how many there are. spans: along the rows (from top to bottom) and the columns.
    """

    axes: tuple[int, int]
    grid: tuple[int, int]
    spans: tuple[Span, Span]


IDENTITY = {  # besides PyTorch's pointwise operations
    "clone", "detach", "alias", "_to_copy", "native_dropout", "copy", "expand", "lift_fresh",
    "native_batch_norm", "_native_batch_norm_legit_no_training", "_native_batch_norm_legit", "cudnn_batch_norm",
    "native_layer_norm", "native_group_norm", "split", "split_with_sizes", "chunk",
    "hardswish", "hardsigmoid", "hardtanh", "elu", "mish",
}  # fmt: skip
PADS = {"constant_pad_nd", "reflection_pad2d", "replication_pad2d"}
VIEWS = {"view", "_unsafe_view", "reshape", "squeeze", "unsqueeze", "flatten", "unflatten"}


class Trace(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Follows what each tensor that comes from `picture` sees, or notes what makes that the whole picture."""

    def __init__(self, picture: Tensor) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        start = Reach((2, 3), (picture.shape[2], picture.shape[3]), (Span(), Span()))
        # Tensors are kept, so that none takes another's place; they have no data.
        self.known: dict[int, tuple[Tensor, Reach | str]] = {id(picture): (picture, start)}

    def of(self, tensor: Tensor | None) -> Reach | str | None:
        """What a tensor's cells see; a text says why that is more than windows; None: nothing of the picture."""
        found = None if tensor is None else self.known.get(id(tensor))
        return None if found is None else found[1]

    def __torch_dispatch__(self, func: Any, _types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        output = func(*args, **kwargs)
        given = [t for t in tree_leaves((args, kwargs)) if isinstance(t, Tensor) and id(t) in self.known]
        made = [t for t in tree_leaves(output) if isinstance(t, Tensor)]
        if given and made:
            name = func.overloadpacket.__name__
            for part in made:
                reach = self.step(name, torch.Tag.pointwise in func.tags, given, args, part)
                self.known[id(part)] = (part, reach)
        return output

    def step(self, name: str, pointwise: bool, given: list[Tensor], args: Any, made: Tensor) -> Reach | str:
        """What the cells of `made` see, which the operation `name` made of `given` (among its `args`)."""
        lost = f"it goes through {name}"
        if pointwise or name.removesuffix("_") in IDENTITY or name == "cat":
            return self.joined(
                given, made, args[1] % made.ndim if name == "cat" and len(args) > 1 else None, name
            )
        source = self.of(given[0])
        if not isinstance(source, Reach) or len(given) > 1:
            return source if isinstance(source, str) else lost
        at, spans = given[0].shape, list(source.spans)
        rows, columns = source.axes
        if name in ("addmm", "mm", "bmm", "baddbmm", "linear"):  # a matrix for every cell
            return source if rows != made.ndim - 1 else lost
        if name in ("t", "transpose", "permute"):
            order = list(range(given[0].ndim))
            if name == "permute":
                order = [d % len(order) for d in args[1]]
            else:
                a, b = args[1:] or (0, 1)
                order[a], order[b] = order[b], order[a]
            return replace(source, axes=(order.index(rows), order.index(columns)))
        if name in VIEWS:
            axes = viewed(tuple(at), source, tuple(made.shape))
            return replace(source, axes=axes) if axes else "its maps are laid out flat"
        if rows == columns:
            return lost
        if name == "convolution":
            _, weight, _, strides, paddings, dilations, transposed = args[:7]
            if transposed or given[0].ndim != 4:
                return lost
            windows = zip(weight.shape[2:], strides, paddings, dilations, strict=True)
            spans = [span.window(*window) for span, window in zip(spans, windows, strict=True)]
        elif name in ("max_pool2d_with_indices", "avg_pool2d"):
            kernel, step, padding, dilation = (both(args[i]) if len(args) > i else () for i in range(1, 5))
            step, padding = step or kernel, padding or (0, 0)
            dilation = (dilation or (1, 1)) if name.startswith("max") else (1, 1)
            windows = zip(kernel, step, padding, dilation, strict=True)
            spans = [span.window(*window) for span, window in zip(spans, windows, strict=True)]
        elif name == "avg_pool3d" and both(args[1])[1:] == (1, 1):  # over channels, in response normalisation
            return source
        elif name in ("mean", "sum") and len(args) > 1:
            over = {d % given[0].ndim for d in args[1]}
            if not over & {rows, columns}:
                return source if len(args) > 2 and args[2] else lost
            if not {rows, columns} <= over or len(args) < 3 or not args[2]:
                return "it is the mean of whole maps"
            spans = [span.window(n, n, 0) for span, n in zip(spans, source.grid, strict=True)]
        elif name in ("_adaptive_avg_pool2d", "adaptive_max_pool2d"):
            if any(n % m for n, m in zip(source.grid, made.shape[2:], strict=True)):
                return "its pooling has windows of several sizes"
            sides = [n // m for n, m in zip(source.grid, made.shape[2:], strict=True)]
            spans = [span.window(n, n, 0) for span, n in zip(spans, sides, strict=True)]
        elif name in PADS:
            before = {given[0].ndim - 1 - i: pad for i, pad in enumerate(args[1][::2])}
            spans = [s.window(1, 1, before.get(a, 0)) for s, a in zip(spans, source.axes, strict=True)]
        elif name == "slice":
            axis = (args[1] if len(args) > 1 else 0) % given[0].ndim
            begin = (args[2] if len(args) > 2 else 0) or 0
            by = args[4] if len(args) > 4 else 1
            if axis in source.axes:
                span = spans[source.axes.index(axis)]
                shift = (begin % at[axis] if begin < 0 else begin) * span.stride
                spans[source.axes.index(axis)] = Span(span.stride * by, span.first + shift, span.last + shift)
        else:
            return lost
        return Reach(source.axes, (made.shape[rows], made.shape[columns]), (spans[0], spans[1]))

    def joined(self, given: list[Tensor], made: Tensor, along: int | None, name: str) -> Reach | str:
        """What cells see in which those of several tensors are joined; `along` the axis of a concatenation."""
        parts: list[Reach] = []
        texts: list[tuple[Tensor, str]] = []
        for tensor in given:
            reach = self.of(tensor)
            if isinstance(reach, Reach):
                a, b = (axis + made.ndim - tensor.ndim for axis in reach.axes)
                if min(a, b) < 0:
                    continue
                # What is spread over a whole map from a single cell is a gate, and left out.
                wide = [made.shape[axis] for axis in (a, b)] == [tensor.shape[axis] for axis in reach.axes]
                if wide or along is not None:
                    parts.append(replace(reach, axes=(a, b)))
            elif reach is not None:
                texts.append((tensor, reach))
        if not parts:
            return texts[0][1] if texts else f"it goes through {name}"
        axes = parts[0].axes
        for tensor, text in texts:
            own = [axis - made.ndim + tensor.ndim for axis in axes]
            if any(axis >= 0 and tensor.shape[axis] > 1 for axis in own):  # more than a gate
                return text
        if along in axes or any((p.axes, p.grid) != (axes, parts[0].grid) for p in parts):
            return f"it goes through {name}"
        if any(p.spans[i].stride != parts[0].spans[i].stride for p in parts for i in (0, 1)):
            return "maps of several strides meet in it"
        rows, columns = (
            Span(
                parts[0].spans[i].stride,
                min(p.spans[i].first for p in parts),
                max(p.spans[i].last for p in parts),
            )
            for i in (0, 1)
        )
        return replace(parts[0], spans=(rows, columns))


def both(value: Any) -> tuple[int, ...]:
    """A window's setting as a pair: PyTorch writes one number for two that are alike."""
    values = (value,) if isinstance(value, int) else tuple(value)
    return values * 2 if len(values) == 1 else values


def viewed(before: tuple[int, ...], reach: Reach, after: tuple[int, ...]) -> tuple[int, int] | None:
    """Where rows and columns are once a tensor of shape `before` is seen as one of shape `after`."""
    rows, columns = reach.axes
    if columns not in (rows, rows + 1):
        return None
    outer = math.prod(before[:rows])
    for i in range(len(after)):
        if math.prod(after[:i]) == outer:
            if after[i : i + 2] == reach.grid:
                return i, i + 1
            if after[i] == math.prod(reach.grid):
                return i, i
    return None
