"""Tables of networks: what each layer puts out, how many parameters it has and why, how much it computes.

A layer table comes from one run of the network without data (on PyTorch's meta device), so it is exact and
takes no time for the largest network. Mult-adds are the multiply-accumulates of convolutions, linear layers
and matrix products, those inside attention included; biases, norms, activations and pooling are not
counted. This is what papers call FLOPs.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from sightline.errors import SightlineError

if TYPE_CHECKING:
    from rich.table import Table
    from torch import nn
    from torch.utils._python_dispatch import TorchDispatchMode

    from sightline.models.info import ModelInfo


@dataclass(frozen=True, slots=True)
class LayerRow:
    """One step of a network, in the order of computation.

    name: the module's (or parameter's) name in the network. kind: its class, with the kernel of a
    convolution or pooling. output: its shape without the batch, None where it puts out nothing of its own.
    params, trainable: numbers of its parameters, counted at its first use. formula: how `params` comes
    about. mult_adds: for one picture.
    """

    name: str
    kind: str
    output: tuple[int, ...] | None
    params: int
    trainable: int
    formula: str
    mult_adds: int

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Totals:
    """Sums over a layer table."""

    params: int
    trainable: int
    mult_adds: int

    def to_dict(self) -> dict[str, int]:
        """Plain data for JSON."""
        return asdict(self)


def totals(rows: Iterable[LayerRow]) -> Totals:
    """The sums over `rows`."""
    rows = list(rows)
    return Totals(*(sum(getattr(row, field) for row in rows) for field in Totals.__slots__))


def layer_table(model: nn.Module, input_size: Sequence[int]) -> list[LayerRow]:
    """A row for each step that `model` takes on one picture of `input_size` (channels, height, width).

    Rows are modules without children, parameters that stand outside of them (class tokens, position
    embeddings), and the matrix products that a larger module computes itself. A module used twice has two
    rows, the second without parameters; one with parameters that the picture never reaches stands at the
    end. So the sums are exact for any network. Identities and dropouts of probability zero are left out.
    `model` itself is not run or changed.
    Raises SightlineError where the network cannot take such a picture.
    """
    import torch

    from sightline.models.protocol import first_line, meta_copy

    net = meta_copy(model)
    walk = Walk(net)
    dtype = next((p.dtype for p in net.parameters() if p.is_floating_point()), torch.float32)
    fast_path = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)  # the fused kernel hides its products from the counter
    try:
        with torch.no_grad(), walk.counter, walk.watch():
            net(torch.empty(1, *input_size, dtype=dtype, device="meta"))
    except (RuntimeError, AssertionError, ValueError, IndexError) as error:
        text = f"The network cannot take an input of {dims(input_size, 'x')}: {first_line(error)}."
        raise SightlineError(text) from None
    finally:
        torch.backends.mha.set_fastpath_enabled(fast_path)
    walk.add_unused()
    return walk.rows


class Walk:
    """Writes down a row for each step while a network runs, by hooks on its modules."""

    def __init__(self, net: nn.Module) -> None:
        from torch.utils.flop_counter import FlopCounterMode

        self.counter = FlopCounterMode(display=False)  # two operations for each mult-add
        self.names = {module: name for name, module in net.named_modules()}
        self.rows: list[LayerRow] = []
        self.counted: set[nn.Parameter] = set()  # by a row
        self.seen: set[nn.Parameter] = set()  # by an operation
        self.called: set[nn.Module] = set()
        # For each module in progress: operations before it began, and those of its finished children.
        self.progress: list[tuple[int, int]] = []
        inside = {m for unit in self.names if is_unit(unit) for m in unit.modules() if m is not unit}
        for module in self.names.keys() - inside:
            module.register_forward_pre_hook(self.before)
            module.register_forward_hook(self.after)

    def watch(self) -> TorchDispatchMode:
        """A context that notes the parameters which operations use, whoever holds them."""
        from torch import nn
        from torch.utils._python_dispatch import TorchDispatchMode
        from torch.utils._pytree import tree_leaves

        seen = self.seen

        class Watch(TorchDispatchMode):  # type: ignore[no-untyped-call]
            def __torch_dispatch__(self, func: Any, _types: Any, args: Any = (), kwargs: Any = None) -> Any:
                seen.update(arg for arg in tree_leaves(args) if isinstance(arg, nn.Parameter))
                return func(*args, **(kwargs or {}))

        return Watch()  # type: ignore[no-untyped-call]

    def before(self, module: nn.Module, _inputs: Any) -> None:
        self.called.add(module)
        self.progress.append((self.counter.get_total_flops(), 0))
        if not is_unit(module):
            for name, parameter in module.named_parameters(recurse=False):
                if parameter not in self.counted:
                    full = f"{self.names[module]}.{name}".lstrip(".")
                    self.add(full, "Parameter", None, [parameter], dims(parameter.shape), 0)

    def after(self, module: nn.Module, _inputs: Any, output: Any) -> None:
        began, of_children = self.progress.pop()
        operations = self.counter.get_total_flops() - began
        if self.progress:
            outer, before = self.progress[-1]
            self.progress[-1] = (outer, before + operations)
        name, own = self.names[module], operations - of_children
        if is_unit(module):
            if not is_nothing(module):
                self.add(name, kind_of(module), output, module.parameters(), formula_of(module), own)
        elif own:  # products of its own, some perhaps with the weights of children that it does not call
            idle = [child for child in module.children() if is_unit(child) and child not in self.called]
            holders = [child for child in idle if self.seen.intersection(child.parameters())]
            parameters = [p for holder in holders for p in holder.parameters()]
            formula = " + ".join(filter(None, map(formula_of, holders)))
            self.add(name, f"{type(module).__name__} products", None, parameters, formula, own)

    def add(
        self,
        name: str,
        kind: str,
        output: Any,
        parameters: Iterable[nn.Parameter],
        formula: str,
        operations: int,
    ) -> None:
        new = set(parameters) - self.counted
        self.counted |= new
        params = sum(p.numel() for p in new)
        trainable = sum(p.numel() for p in new if p.requires_grad)
        if isinstance(output, tuple | list) and output:
            output = output[0]
        shape = tuple(output.shape[1:]) if hasattr(output, "shape") else None
        text = f"{formula} = {params:,}" if new else ""
        self.rows.append(LayerRow(name, kind, shape, params, trainable, text, operations // 2))

    def add_unused(self) -> None:
        """Rows for the parameters that the picture did not pass, such as those of an auxiliary classifier."""
        for module, name in self.names.items():
            rest = [p for p in module.parameters(recurse=False) if p not in self.counted]
            if rest:
                formula = " + ".join(dims(p.shape) for p in rest)
                self.add(name, f"{type(module).__name__} (unused)", None, rest, formula, 0)


def is_unit(module: nn.Module) -> bool:
    """Whether a module is one row: it has no children, or it has parameters and they have none, or it is
    PyTorch's attention, whose child only holds weights.
    """
    from torch import nn

    if isinstance(module, nn.MultiheadAttention) or not any(module.children()):
        return True
    own = sum(1 for _ in module.parameters(recurse=False))
    return own > 0 and own == sum(1 for _ in module.parameters())


def is_nothing(module: nn.Module) -> bool:
    """Whether a module does nothing when a trained network is used."""
    from torch import nn

    return isinstance(module, nn.Identity) or (isinstance(module, nn.Dropout) and module.p == 0)


def kind_of(module: nn.Module) -> str:
    """The class's name, with the kernel and the stride of a convolution or a pooling: `Conv2d 5x5/2`."""
    name = type(module).__name__
    kernel = getattr(module, "kernel_size", None)
    if kernel is None:
        return name
    stride = getattr(module, "stride", 1) or kernel
    steps = (stride,) * 2 if isinstance(stride, int) else tuple(stride)
    sides = (kernel,) * 2 if isinstance(kernel, int) else tuple(kernel)
    by = dims(steps[:1] if len(set(steps)) == 1 else steps, "x")
    return f"{name} {dims(sides, 'x')}" + ("" if by == "1" else f"/{by}")


def formula_of(module: nn.Module) -> str:
    """How a layer's number of parameters comes about, from its own settings."""
    from torch import nn
    from torch.nn.modules.batchnorm import _BatchNorm

    bias = getattr(module, "bias", None)
    if isinstance(module, nn.Conv2d):
        height, width = module.kernel_size
        inputs = module.in_channels // module.groups
        text = f"{height} x {width} x {inputs} x {module.out_channels}"
        return text + (f" + {module.out_channels}" if bias is not None else "")
    if isinstance(module, nn.Linear):
        text = f"{module.in_features:,} x {module.out_features:,}"
        return text + (f" + {module.out_features:,}" if bias is not None else "")
    if isinstance(module, _BatchNorm | nn.LayerNorm | nn.GroupNorm):
        sizes = list(module.parameters(recurse=False))
        return f"{len(sizes)} x {sizes[0].numel():,}" if sizes else ""
    return " + ".join(dims(p.shape) for p in module.parameters())


def dims(shape: Sequence[int], by: str = " x ") -> str:
    """`(3, 28, 28)` as `3 x 28 x 28`; a single number is 1."""
    return by.join(f"{n:,}" for n in shape) or "1"


# ------------------------------------------------------------------------------------------------ for people
def format_table(rows: Sequence[LayerRow], title: str = "", input_size: Sequence[int] = ()) -> Table:
    """`rows` as a table for the terminal, the sums below. Fits 80 columns; wider terminals show it in full."""
    total = totals(rows)
    frozen = total.params - total.trainable
    state = "all trainable" if not frozen else f"{total.trainable:,} trainable, {frozen:,} frozen"
    caption = f"{total.params:,} parameters, {state}; {total.mult_adds:,} mult-adds"
    if input_size:
        caption += f" on {dims(input_size, 'x')}"
    table = plain_table(title)
    table.caption, table.caption_justify = caption, "left"
    short_names = max((len(row.name) for row in rows), default=0) <= 30
    table.add_column("layer", overflow="fold", no_wrap=short_names)
    table.add_column("kind", overflow="fold")
    table.add_column("output", justify="right", no_wrap=True)
    table.add_column("parameters", overflow="fold")
    table.add_column("mult-adds", justify="right", no_wrap=True)
    for row in rows:
        table.add_row(
            row.name,
            row.kind,
            dims(row.output, "x") if row.output is not None else "",
            row.formula,
            f"{row.mult_adds:,}" if row.mult_adds else "",
            style="dim" if row.params and not row.trainable else None,  # frozen
        )
    return table


def models_table(names: Sequence[str]) -> Table:
    """The networks `names` with their size and published errors, as a table for the terminal."""
    from sightline.models import model_info

    infos = [model_info(name) for name in names]
    columns: dict[str, list[str]] = {
        "network": [info.name for info in infos],
        "year": [str(info.year or "") for info in infos],
        "input": [dims(info.input, "x") for info in infos],
        "parameters": [f"{info.params:,}" if info.params is not None else "" for info in infos],
        "mult-adds": [short(info.mult_adds) for info in infos],
        "error": [published_error(info)[0] for info in infos],
        "by": [published_error(info)[1] for info in infos],
    }
    table = plain_table("")
    table.caption = "error in percent on ImageNet-1k, top-1/top-5, as published"
    table.caption_justify = "left"
    shown = {head: cells for head, cells in columns.items() if any(cells)}  # libraries do not tell everything
    for head in shown:
        table.add_column(head, justify="left" if head in ("network", "by") else "right", no_wrap=True)
    for row in zip(*shown.values(), strict=True):
        table.add_row(*row)
    return table


def published_error(info: ModelInfo) -> tuple[str, str]:
    """The network's first published error as `top-1/top-5` and its protocol; of its weights, if there is no other."""
    best = info.weights[0] if info.weights else None
    if info.errors:
        top1, top5, protocol = info.errors[0].top1, info.errors[0].top5, info.errors[0].protocol
    elif best is not None and best.top1_error is not None:
        top1, top5, protocol = best.top1_error, best.top5_error, "1 crop"
    else:
        return "", ""
    return f"{top1:.2f}/{'-' if top5 is None else f'{top5:.2f}'}", protocol


def short(count: int | None) -> str:
    """A large count in three digits: 1.81 G, 2.84 M."""
    if count is None:
        return ""
    for unit, name in ((1e9, "G"), (1e6, "M")):
        if count >= unit:
            return f"{count / unit:.{max(0, 2 - int(math.log10(count / unit)))}f} {name}"
    return f"{count:,}"


def plain_table(title: str) -> Table:
    """A table without lines, two spaces between its columns."""
    from rich.table import Table

    return Table(
        title=title or None,
        title_justify="left",
        box=None,
        pad_edge=False,
        padding=(0, 2, 0, 0),
        header_style="bold",
    )
