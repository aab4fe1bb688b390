"""A copy of a network that answers faster: batch norm folded into convolutions, channels last, bf16 where it pays.

    folding        a batch norm behind a convolution is, in use, a scale and a shift of the convolution's own:
                   W' = W s, b' = (b - mean) s + beta with s = gamma / sqrt(var + eps). Exact but for rounding
    channels last  the order of numbers in memory that convolutions are quickest in
    bf16           weights and what flows between layers in 16 bits, where the device multiplies those in hardware

The network itself is left as it is. What the copy says is compared with what the network says, once, before it is
used; where they differ by more than rounding explains, the next slower way is taken.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from sightline.errors import SightlineError
from sightline.models.protocol import meta_copy
from sightline.visualization.layers import layer_table, totals

PRECISIONS = ("auto", "fp32")
# Networks below this many mult-adds a picture gain nothing from bf16.
BF16_MULT_ADDS = 1_000_000
# Families of which a part computes places in the picture: in 8 bits of mantissa these would move.
# Autocasting leaves such parts in float32.
PLACES_INSIDE = ("sightline.models.dpt",)
# The largest difference from the network's own logits, relative to their length, that rounding explains.
ROUNDING, BF16_ROUNDING = 1e-4, 0.1


class FastNetwork:
    """A network to be asked only: normalised pictures (N, C, H, W) in float32 in, float32 out.

    dtype: of its weights. autocast: whether it runs under bf16 autocasting.
    """

    def __init__(self, network: nn.Module, *, autocast: bool = False) -> None:
        self.network = network
        self.dtype = next((p.dtype for p in network.parameters()), torch.float32)
        self.autocast = autocast

    def logits(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, num_classes)."""
        with self.casting(x):
            return cast(Tensor, self.network(self.prepared(x))).float()

    def features(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> what enters the last layer, (N, head_hidden_size)."""
        network: Any = self.network
        with self.casting(x):
            hidden = network.forward_head(network.forward_features(self.prepared(x)), pre_logits=True)
            return cast(Tensor, hidden).float()

    def prepared(self, x: Tensor) -> Tensor:
        return x.to(self.dtype).contiguous(memory_format=torch.channels_last)

    def casting(self, x: Tensor) -> Any:
        return torch.autocast(x.device.type, dtype=torch.bfloat16) if self.autocast else nullcontext()


@torch.inference_mode(False)
def fast_copy(network: nn.Module, size: Sequence[int], precision: str = "auto") -> FastNetwork:
    """What answers for `network` on pictures of `size` (channels, height, width), on the device that it is on.

    precision: "auto" chooses; "fp32" is the network itself, to the bit of what it computes.
    Networks below a few million mult-adds gain nothing and are taken as they are, too.
    Raises SightlineError for another precision.
    """
    if precision not in PRECISIONS:
        raise SightlineError(f"precision is {' or '.join(PRECISIONS)}, not {precision}.")
    plain = FastNetwork(network)
    if precision == "fp32" or totals(layer_table(network, size)).mult_adds < BF16_MULT_ADDS:
        return plain
    folded: nn.Module = fold(network, size).to(memory_format=torch.channels_last)
    ways = [FastNetwork(folded)]
    if bf16_pays(network, size):
        inside = type(network).__module__ in PLACES_INSIDE
        ways.insert(0, FastNetwork(folded, autocast=True) if inside else FastNetwork(in_bf16(folded)))
    device = next(network.parameters()).device
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, *size, generator=generator).to(device)
    with torch.inference_mode():
        expected = plain.logits(x)
        return next((way for way in ways if agrees(way, x, expected)), plain)


def agrees(way: FastNetwork, x: Tensor, expected: Tensor) -> bool:
    """Whether it says what is expected, as far as its precision allows; also where it cannot run at all."""
    try:
        said = way.logits(x)
    except (RuntimeError, TypeError, NotImplementedError):  # a layer that knows no such numbers
        return False
    allowed = BF16_ROUNDING if way.autocast or way.dtype == torch.bfloat16 else ROUNDING
    # NaN is not below anything.
    return bool((said - expected).norm() <= allowed * expected.norm())


def bf16_pays(network: nn.Module, size: Sequence[int]) -> bool:
    """Whether the device multiplies bf16 in hardware, and the network's maps are large enough for it."""
    device = next(network.parameters()).device
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    # On feature maps of a single pixel bf16 convolutions were seen to give NaN now and then.
    smallest = min(size[1:]) / cast(Any, network).feature_info[-1]["reduction"]
    return device.type == "cpu" and cpu_has_bf16() and smallest >= 2


def cpu_has_bf16() -> bool:
    """Whether the processor multiplies bf16 in hardware; emulated, it is slower than float32."""
    able = torch.cpu.get_capabilities()
    return bool(able.get("avx512_bf16") or able.get("amx_bf16"))


def in_bf16(network: nn.Module) -> nn.Module:
    """A copy with weights in bf16. Batch norms that are left keep their statistics in float32."""
    network = copy.deepcopy(network)
    for module in network.modules():
        if not isinstance(module, nn.modules.batchnorm._BatchNorm):
            for tensor in (*module.parameters(recurse=False), *module.buffers(recurse=False)):
                if tensor.is_floating_point():
                    tensor.data = tensor.data.bfloat16()
    return network


# -------------------------------------------------------------------------------------------------- folding
def fold(network: nn.Module, size: Sequence[int]) -> nn.Module:
    """A copy in which every batch norm that alone follows a convolution is part of that convolution."""
    network = copy.deepcopy(network).eval().requires_grad_(False)
    for conv_name, norm_name in foldable(network, size):
        conv = cast(nn.Conv2d, network.get_submodule(conv_name))
        norm = cast(nn.BatchNorm2d, network.get_submodule(norm_name))
        assert norm.running_mean is not None and norm.running_var is not None
        with torch.no_grad():
            # In float64: the fold is then exact to one rounding.
            mean, var = norm.running_mean.double(), norm.running_var.double()
            gamma = torch.ones_like(mean) if norm.weight is None else norm.weight.double()
            beta = torch.zeros_like(mean) if norm.bias is None else norm.bias.double()
            bias = torch.zeros_like(mean) if conv.bias is None else conv.bias.double()
            scale = gamma / (var + norm.eps).sqrt()
            weight = (conv.weight.double() * scale[:, None, None, None]).to(conv.weight.dtype)
            shift = ((bias - mean) * scale + beta).to(conv.weight.dtype)
        # What a class of its own does with a bias that it did not have is not known.
        plain = type(conv) is nn.Conv2d
        conv.weight = nn.Parameter(weight, requires_grad=False)
        conv.bias = nn.Parameter(shift, requires_grad=False) if plain else None
        parent, _, last = norm_name.rpartition(".")
        setattr(network.get_submodule(parent), last, nn.Identity() if plain else Shift(shift))
    return network


class Shift(nn.Module):
    """A number added to each channel: what is left of a batch norm where the convolution cannot take it over."""

    def __init__(self, shift: Tensor) -> None:
        super().__init__()
        self.shift: Tensor
        self.register_buffer("shift", shift[:, None, None])

    def forward(self, x: Tensor) -> Tensor:
        return x + self.shift


def foldable(network: nn.Module, size: Sequence[int]) -> list[tuple[str, str]]:
    """Names of (convolution, batch norm) where the norm's input is the convolution's output and nothing else reads it.

    Found by watching every operation of one run without data, so it does not depend on how the modules are
    called or ordered. Both run once in it.
    """
    net = meta_copy(network)
    watch = Watch()
    convs = {conv.weight: name for name, conv in net.named_modules() if isinstance(conv, nn.Conv2d)}
    norms = {norm: name for name, norm in net.named_modules() if type(norm) is nn.BatchNorm2d}
    inputs: list[tuple[str, Tensor]] = []
    for norm, name in norms.items():
        norm.register_forward_pre_hook(lambda _, given, name=name: inputs.append((name, given[0])))
    with torch.inference_mode(False), torch.no_grad(), watch:
        net(torch.empty(1, *size, dtype=next(net.parameters()).dtype, device="meta"))
    calls = Counter(name for name, _ in inputs)
    owners = Counter(convs[conv.weight] for conv in net.modules() if isinstance(conv, nn.Conv2d))
    found = []
    for name, given in inputs:
        weight = watch.weights.get(id(given))
        conv = convs.get(weight) if weight is not None else None
        if (
            conv is not None
            and calls[name] == owners[conv] == watch.used[weight] == watch.reads[id(given)] == 1
            and cast(Any, net.get_submodule(name)).running_mean is not None
        ):
            found.append((conv, name))
    return found


class Watch(TorchDispatchMode):
    """Notes which convolution made a tensor, and how many operations read it."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.weights: dict[int, nn.Parameter] = {}  # by the id of the convolution's output
        self.used: Counter[Any] = Counter()  # how many convolutions a weight made
        self.reads: Counter[int] = Counter()
        self.kept: list[Tensor] = []  # so that no id is given twice

    def __torch_dispatch__(self, func: Any, _types: Any, args: Any = (), kwargs: Any = None) -> Any:
        for leaf in tree_leaves((args, kwargs)):
            if id(leaf) in self.weights:
                self.reads[id(leaf)] += 1
        out = func(*args, **(kwargs or {}))
        if func is torch.ops.aten.convolution.default and isinstance(args[1], nn.Parameter):
            self.weights[id(out)] = args[1]
            self.used[args[1]] += 1
            self.kept.append(out)
        return out
