"""What each layer of a network puts out, how many parameters it has and why, how much it computes.

The rows come from one run of the network without data (on PyTorch's meta device), so they are exact and
take no time for the largest network. Mult-adds are the multiply-accumulates of convolutions, linear layers
and matrix products, those inside attention included; biases, norms, activations and pooling are not
counted. This is what papers call FLOPs.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from sightline.errors import SightlineError

if TYPE_CHECKING:
    import torch
    from torch import nn
    from torch.utils._python_dispatch import TorchDispatchMode

FLOAT32 = 4  # bytes


@dataclass(frozen=True, slots=True)
class LayerRow:
    """One step of a network, in the order of computation.

    name: the module's (or parameter's) name in the network. kind: its class, with the kernel of a
    convolution or pooling. output: its shape without the batch, None where it puts out nothing of its own.
    params, trainable: numbers of its parameters, counted at its first use. formula: how `params` comes
    about. mult_adds: for one picture. activation_bytes: 4 (float32) for each number that the layer puts out
    for one picture; 0 where it works in place or gives another view of its input.
    """

    name: str
    kind: str
    output: tuple[int, ...] | None
    params: int
    trainable: int
    formula: str
    mult_adds: int
    activation_bytes: int = 0

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Totals:
    """Sums over a layer table.

    activation_bytes: what the layers put out for one picture, in float32. Sums and products that a larger module
    computes itself (the addition of a shortcut, attention weights) are not layers and not in it. It grows with
    the batch; training keeps most of it until the backward pass, prediction a few layers' at a time.
    """

    params: int
    trainable: int
    mult_adds: int
    activation_bytes: int

    def to_dict(self) -> dict[str, int]:
        """Plain data for JSON."""
        return asdict(self)


def totals(rows: Iterable[LayerRow]) -> Totals:
    """The sums over `rows`."""
    rows = list(rows)
    return Totals(*(sum(getattr(row, field) for row in rows) for field in Totals.__slots__))


@dataclass(frozen=True, slots=True)
class Block:
    """A module with children: its class, and the shape that it puts out, without the batch (None if not called)."""

    kind: str
    output: tuple[int, ...] | None


def layer_table(model: nn.Module, input_size: Sequence[int]) -> list[LayerRow]:
    """A row for each step that `model` takes on one picture of `input_size` (channels, height, width).

    Rows are modules without children, parameters that stand outside of them (class tokens, position
    embeddings), and the matrix products that a larger module computes itself. A module used twice has two
    rows, the second without parameters; one with parameters that the picture never reaches stands at the
    end. So the sums are exact for any network. Identities and dropouts of probability zero are left out.
    `model` itself is not run or changed.
    Raises SightlineError where the network cannot take such a picture.
    """
    return walk_through(model, input_size).rows


def walk_through(model: nn.Module, input_size: Sequence[int]) -> Walk:
    """The finished walk behind `layer_table`: its `rows`, and its `blocks` by name."""
    import torch

    from sightline.models.protocol import first_line, meta_copy

    net = meta_copy(model)
    dtype = next((p.dtype for p in net.parameters() if p.is_floating_point()), torch.float32)
    picture = torch.empty(1, *input_size, dtype=dtype, device="meta")
    walk = Walk(net, picture)
    fast_path = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)  # the fused kernel hides its products from the counter
    try:
        with torch.no_grad(), walk.counter, walk.watch():
            net(picture)
    except (RuntimeError, AssertionError, ValueError, IndexError) as error:
        text = f"The network cannot take an input of {dims(input_size, 'x')}: {first_line(error)}."
        raise SightlineError(text) from None
    finally:
        torch.backends.mha.set_fastpath_enabled(fast_path)
    walk.add_unused()
    return walk


class Walk:
    """Writes down a row for each step while a network runs, by hooks on its modules."""

    def __init__(self, net: nn.Module, picture: torch.Tensor) -> None:
        from torch.utils.flop_counter import FlopCounterMode

        self.counter = FlopCounterMode(display=False)  # two operations for each mult-add
        self.names = {module: name for name, module in net.named_modules()}
        self.rows: list[LayerRow] = []
        self.blocks = {
            name: Block(type(module).__name__, None)
            for module, name in self.names.items()
            if not is_unit(module)
        }
        # What has been put out by a row, by its memory; kept, so that none is used twice.
        self.memory = {picture.untyped_storage()._cdata: picture}
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
            return
        self.blocks[name] = Block(type(module).__name__, shape_of(output))
        if own:  # products of its own, some perhaps with the weights of children that it does not call
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
        text = f"{formula} = {params:,}" if new else ""
        made = self.made(output)
        self.rows.append(
            LayerRow(name, kind, shape_of(output), params, trainable, text, operations // 2, made)
        )

    def made(self, output: Any) -> int:
        """Bytes in float32 of the tensors in `output` whose memory no row put out before."""
        from torch import Tensor
        from torch.utils._pytree import tree_leaves

        numbers = 0
        for tensor in tree_leaves(output):
            if isinstance(tensor, Tensor) and (key := tensor.untyped_storage()._cdata) not in self.memory:
                self.memory[key] = tensor
                numbers += tensor.numel()
        return numbers * FLOAT32

    def add_unused(self) -> None:
        """Rows for the parameters that the picture did not pass, such as those of an auxiliary classifier."""
        for module, name in self.names.items():
            rest = [p for p in module.parameters(recurse=False) if p not in self.counted]
            if rest:
                formula = " + ".join(dims(p.shape) for p in rest)
                self.add(name, f"{type(module).__name__} (unused)", None, rest, formula, 0)


def shape_of(output: Any) -> tuple[int, ...] | None:
    """The shape of what a module puts out, without the batch; of several tensors the first one's."""
    if isinstance(output, tuple | list) and output:
        output = output[0]
    return tuple(output.shape[1:]) if hasattr(output, "shape") else None


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
        text = f"{module.out_channels:,} x {inputs:,} x {height} x {width}"
        return text + (f" + {module.out_channels:,}" if bias is not None else "")
    if isinstance(module, nn.Linear):
        text = f"{module.out_features:,} x {module.in_features:,}"
        return text + (f" + {module.out_features:,}" if bias is not None else "")
    if isinstance(module, _BatchNorm | nn.LayerNorm | nn.GroupNorm):
        sizes = list(module.parameters(recurse=False))
        return f"{len(sizes)} x {sizes[0].numel():,}" if sizes else ""
    return " + ".join(dims(p.shape) for p in module.parameters())


def dims(shape: Sequence[int], by: str = " x ") -> str:
    """`(3, 28, 28)` as `3 x 28 x 28`; a single number is 1."""
    return by.join(f"{n:,}" for n in shape) or "1"
