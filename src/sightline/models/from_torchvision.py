"""torchvision's networks, taught timm's protocol.

The class of a network gets a subclass with timm's methods, so that module, parameter names and published
weights stay torchvision's own. What differs between its families (where the body ends, how it is pooled,
where the classifier stands) is a row of `FAMILIES`.

Auxiliary classifiers (GoogLeNet, Inception v3) are left out, and both take what any other network takes:
normalised pixels. torchvision's own loader has them renormalise inside; `published` names that
normalisation instead.
"""

from __future__ import annotations

import math
import typing
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, partial
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sightline.errors import SightlineError
from sightline.models.info import TORCHVISION_LICENCE, PublishedWeights
from sightline.models.protocol import FeatureInfo, first_conv, first_line, image_size, meta_copy, require


def until(last: str) -> Callable[[Any, Tensor], Tensor]:
    """A body that runs the network's children in order, up to but without `last`."""

    def body(net: nn.Module, x: Tensor) -> Tensor:
        for name, child in net.named_children():
            if name == last:
                break
            for module in child if isinstance(child, nn.ModuleList) else [child]:
                x = module(x)
        return x

    return body


def vit_body(net: Any, x: Tensor) -> Tensor:
    x = net._process_input(x)
    return cast(Tensor, net.encoder(torch.cat([net.class_token.expand(x.shape[0], -1, -1), x], dim=1)))


def own_pool(net: Any, x: Tensor) -> Tensor:
    return torch.flatten(net.avgpool(x), 1)


def mean_pool(_net: Any, x: Tensor) -> Tensor:
    return torch.flatten(F.adaptive_avg_pool2d(x, 1), 1)


@dataclass(frozen=True, slots=True)
class Family:
    """How a file of torchvision's splits into body, pooling and head.

    head: the child that is the classifier or ends in it. stages: the child whose children the body may be cut
    between, "" for the network itself. size_argument: the constructor's name for the picture's size, if it
    has one. channels_last: whether its stages put out maps (N, h, w, C).
    """

    body: Callable[[Any, Tensor], Tensor]
    pool: Callable[[Any, Tensor], Tensor]
    head: str
    stages: str
    size_argument: str | None = None
    channels_last: bool = False


def unpooled(_net: Any, x: Tensor) -> Tensor:
    return x


FAMILIES = {
    "alexnet": Family(until("avgpool"), own_pool, "classifier", "features"),
    "convnext": Family(until("avgpool"), lambda net, x: net.avgpool(x), "classifier", "features"),
    "densenet": Family(lambda net, x: F.relu(net.features(x)), mean_pool, "classifier", "features"),
    "efficientnet": Family(until("avgpool"), own_pool, "classifier", "features"),
    "googlenet": Family(until("avgpool"), lambda net, x: net.dropout(own_pool(net, x)), "fc", ""),
    "inception": Family(until("avgpool"), lambda net, x: net.dropout(own_pool(net, x)), "fc", ""),
    "maxvit": Family(until("classifier"), unpooled, "classifier", "blocks", "input_size"),
    "mnasnet": Family(until("classifier"), mean_pool, "classifier", "layers"),
    "mobilenetv2": Family(until("classifier"), mean_pool, "classifier", "features"),
    "mobilenetv3": Family(until("avgpool"), own_pool, "classifier", "features"),
    "regnet": Family(until("avgpool"), own_pool, "fc", "trunk_output"),
    "resnet": Family(until("avgpool"), own_pool, "fc", ""),
    "shufflenetv2": Family(until("fc"), mean_pool, "fc", ""),
    "squeezenet": Family(until("classifier"), unpooled, "classifier", "features"),
    "swin_transformer": Family(until("avgpool"), own_pool, "head", "features", channels_last=True),
    "vgg": Family(until("avgpool"), own_pool, "classifier", "features"),
    "vision_transformer": Family(vit_body, lambda _net, x: x[:, 0], "heads", "encoder.layers", "image_size"),
}
WITHOUT_AUXILIARY = ("googlenet", "inception_v3")


class TimmProtocol(nn.Module):
    """timm's protocol for a network of torchvision's. See `sightline.models.protocol`."""

    family: str
    num_classes: int
    in_chans: int
    num_features: int
    head_hidden_size: int
    feature_info: list[FeatureInfo]
    classifier_name: str
    make_classifier: Callable[[int], nn.Module]
    num_prefix_tokens: int  # the class token that stands before the patches
    channels_last: bool  # whether stages put out maps (N, h, w, C)

    def forward_features(self, x: Tensor) -> Tensor:
        return FAMILIES[self.family].body(self, x)

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        family = FAMILIES[self.family]
        x = family.pool(self, x)
        head = self.get_submodule(family.head)
        classifier = self.get_classifier()
        for module in head if isinstance(head, nn.Sequential) else [head]:
            if not (pre_logits and module is classifier):
                x = module(x)
        return torch.flatten(x, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.forward_head(self.forward_features(x))

    def get_classifier(self) -> nn.Module:
        return self.get_submodule(self.classifier_name)

    def reset_classifier(self, num_classes: int) -> None:
        parent, _, name = self.classifier_name.rpartition(".")
        self.num_classes = num_classes
        new = self.make_classifier(num_classes) if num_classes > 0 else nn.Identity()
        self.get_submodule(parent).add_module(name, new)


@cache
def speaking(cls: type[nn.Module]) -> type[TimmProtocol]:
    """`cls`, a class of torchvision's, with timm's methods in front of its own."""
    return type(cls.__name__, (TimmProtocol, cls), {"__module__": cls.__module__})


def names() -> list[str]:
    """torchvision's classification networks, without quantised ones."""
    import torchvision.models

    return list(torchvision.models.list_models(module=torchvision.models))


def network_class(name: str) -> Any:
    """The class whose constructor takes the network's arguments."""
    from torchvision.models import get_model_builder

    return typing.get_type_hints(get_model_builder(name))["return"]


def build(name: str, **kwargs: Any) -> nn.Module:
    """torchvision's own network with random weights, without auxiliary classifiers."""
    from torchvision.models import get_model

    if name in WITHOUT_AUXILIARY:
        kwargs = kwargs | {"aux_logits": False, "init_weights": True}
    net: nn.Module
    try:
        net = get_model(name, weights=None, **kwargs)
    except NotImplementedError:  # RegNet computes its widths with tensors, which cannot be on the meta device
        with torch.device("cpu"):
            net = get_model(name, weights=None, **kwargs)
        net = net.to("meta")
    return net


def create(
    name: str, num_classes: int, in_chans: int, img_size: int | Sequence[int] | None, kwargs: dict[str, Any]
) -> nn.Module:
    """Build torchvision's `name` and teach it the protocol; see `sightline.models.create_model`."""
    from torchvision.models import get_model_builder

    family = get_model_builder(name).__module__.rpartition(".")[2]
    own_size = native_size(name)
    size = image_size(img_size, own_size)
    argument = FAMILIES[family].size_argument
    if argument == "image_size":
        require(size[0] == size[1], f"it takes square pictures, not {size[0]}x{size[1]}.")
        kwargs = kwargs | {argument: size[0]}
    elif argument is not None:
        kwargs = kwargs | {argument: size}
    # A network without classes is built with some and loses them below, so that its head is found.
    try:
        net = build(name, num_classes=num_classes or 1000, **kwargs)
    except (TypeError, ValueError, RuntimeError, AssertionError) as error:
        raise SightlineError(f"torchvision cannot build it so: {first_line(error)}") from None
    if in_chans != 3:
        widen_stem(net, in_chans)
    native = size if argument else (own_size, own_size)
    return teach(net, family, num_classes, in_chans, size, native)


def teach(
    net: nn.Module,
    family: str,
    num_classes: int,
    in_chans: int,
    size: tuple[int, int],
    native: tuple[int, int],
) -> TimmProtocol:
    """Make `net` speak the protocol, in place; SightlineError if it cannot take pictures of `size`."""
    head_name = FAMILIES[family].head
    head = net.get_submodule(head_name)
    layers = [(n, m) for n, m in head.named_modules(prefix=head_name) if isinstance(m, nn.Linear | nn.Conv2d)]
    classifier_name, classifier = layers[-1]
    net.__class__ = speaking(cast(Any, type(net)))
    net = cast(TimmProtocol, net)
    net.family, net.num_classes, net.in_chans = family, num_classes, in_chans
    net.classifier_name = classifier_name
    bias = classifier.bias is not None
    if isinstance(classifier, nn.Linear):
        net.make_classifier = partial(nn.Linear, classifier.in_features, bias=bias)
    else:
        net.make_classifier = partial(nn.Conv2d, classifier.in_channels, kernel_size=1, bias=bias)
    net.channels_last = FAMILIES[family].channels_last
    net.num_prefix_tokens = 1 if family == "vision_transformer" else 0
    if num_classes == 0:
        net.reset_classifier(0)
    # Borders weigh more in small pictures, so strides are read off at the size that the network is made for.
    try:
        features, hidden, net.feature_info = trace(net, native)
        if size != native:
            trace(net, size)
    except (RuntimeError, AssertionError, ValueError) as error:
        raise SightlineError(f"it cannot take pictures of {size[0]}x{size[1]}: {first_line(error)}") from None
    net.num_features, net.head_hidden_size = features, hidden
    return net


def trace(net: TimmProtocol, size: tuple[int, int]) -> tuple[int, int, list[FeatureInfo]]:
    """(num_features, head_hidden_size, feature_info) from a run without data on pictures of `size`.

    A stage ends where the next part of the body has another resolution.
    """
    model = cast(TimmProtocol, meta_copy(net))
    root = FAMILIES[model.family].stages
    stages: list[FeatureInfo] = []

    def note(name: str, output: Tensor) -> None:
        if output.ndim == 3:  # tokens, behind a class token
            cells, chans = output.shape[1] - 1, output.shape[2]
        elif model.channels_last:
            cells, chans = output.shape[1] * output.shape[2], output.shape[3]
        else:
            cells, chans = output.shape[2] * output.shape[3], output.shape[1]
        # Pixels of the picture that a side of a cell spans; borders make it uneven, nominally it is a power
        # of 2.
        reduction = 2 ** round(math.log2(size[0] * size[1] / cells) / 2)
        if stages and stages[-1]["reduction"] == reduction and output.ndim == 4:
            stages.pop()
        stages.append(FeatureInfo(num_chs=chans, reduction=reduction, module=f"{root}.{name}".lstrip(".")))

    hooks = [
        part.register_forward_hook(lambda _module, _inputs, output, name=name: note(name, output))
        for name, part in model.get_submodule(root).named_children()
    ]
    features = model.forward_features(torch.empty(1, net.in_chans, *size, device="meta"))
    for hook in hooks:  # the head's own modules are no stages
        hook.remove()
    hidden = model.forward_head(features, pre_logits=True)
    return features.shape[-1 if features.ndim == 3 else 1], hidden.shape[1], stages


def widen_stem(net: nn.Module, in_chans: int) -> None:
    """Replace the first convolution by a fresh one over `in_chans` channels."""
    found = first_conv(net)
    assert found is not None  # every classification network of torchvision's begins with a convolution
    name, old = found
    new = nn.Conv2d(
        in_chans,
        old.out_channels,
        cast(Any, old.kernel_size),
        cast(Any, old.stride),
        cast(Any, old.padding),
        bias=old.bias is not None,
    )
    nn.init.kaiming_normal_(new.weight, mode="fan_out", nonlinearity="relu")
    parent, _, leaf = name.rpartition(".")
    net.get_submodule(parent).add_module(leaf, new)


def published(name: str) -> tuple[PublishedWeights, ...]:
    """The published sets of `name`, the recommended one first."""
    import torchvision.models as tv

    enum = tv.get_model_weights(name)
    default = enum.DEFAULT.name
    rows = []
    for entry in sorted(enum, key=lambda entry: entry.name != default):
        preset = entry.transforms()
        metrics = entry.meta["_metrics"]["ImageNet-1K"]
        # These two renormalise ImageNet's mean and deviation to 0.5 inside; outside is where it belongs.
        half = name in WITHOUT_AUXILIARY
        rows.append(
            PublishedWeights(
                name=entry.name,
                url=entry.url,
                size=preset.crop_size[0],
                resize=preset.resize_size[0],
                interpolation=preset.interpolation.value,
                mean=(0.5, 0.5, 0.5) if half else tuple(preset.mean),
                std=(0.5, 0.5, 0.5) if half else tuple(preset.std),
                top1_error=percent(metrics["acc@1"]),
                top5_error=percent(metrics["acc@5"]),
                licence=entry.meta.get("license", TORCHVISION_LICENCE),
            )
        )
    return tuple(rows)


def native_size(name: str) -> int:
    """The side of the pictures that the network is made for: the smallest that weights were published for."""
    return min(row.size for row in published(name))


def parameters(name: str) -> int:
    """The network's parameters at its native size, without auxiliary classifiers."""
    from torchvision.models import get_model_weights

    if name in WITHOUT_AUXILIARY:  # where torchvision's own figure has them in one case, and not in the other
        with torch.device("meta"):
            return sum(p.numel() for p in build(name).parameters())
    smallest = min(get_model_weights(name), key=lambda entry: entry.transforms().crop_size[0])
    return int(smallest.meta["num_params"])


def percent(accuracy: float) -> float | None:
    """The error in percent; None where torchvision has no figure (a set of features without classifier)."""
    return None if math.isnan(accuracy) else round(100 - accuracy, 3)
