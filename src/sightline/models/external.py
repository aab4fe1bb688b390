"""The doors behind `create_model`: `torchvision/NAME`, `timm/NAME`, and `features/TEXT` for hand-crafted features."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Sequence
from typing import Any

from torch import nn

from sightline.errors import UnknownName
from sightline.models import from_timm, from_torchvision
from sightline.models.info import ModelInfo, PublishedWeights
from sightline.models.registry import COMMON, check_arguments

# What the constructors take besides `create_model`'s own arguments and yet is not the caller's to set.
OURS = {*COMMON, "image_size", "input_size", "aux_logits", "init_weights", "transform_input"}
# A floor above this one, and so called by its name alone: hand-crafted features read pictures, networks do not.
HANDCRAFTED = "sightline.features.network"


def names(library: str) -> list[str]:
    """The classification networks of "torchvision" or "timm"; importing either takes some seconds."""
    if library == "features":
        return []  # any text that spells features is one
    return from_timm.names() if library == "timm" else from_torchvision.names()


def known(library: str, name: str) -> None:
    """UnknownName unless the library has a network of that name (in timm's case with or without a tag)."""
    bare = name.partition(".")[0] if library == "timm" else name
    if bare not in names(library):
        hint = f"`sightline models '{library}/*'` lists them."
        raise UnknownName(f"network of {library}'s", name, names(library), hint)


def create(
    library: str,
    name: str,
    num_classes: int | None,
    in_chans: int | None,
    img_size: int | Sequence[int] | None,
    kwargs: dict[str, Any],
) -> nn.Module:
    """Build a network of a library; see `sightline.models.create_model`."""
    classes = 1000 if num_classes is None else num_classes
    if library == "features":
        check_arguments(kwargs, {})
        made: nn.Module = importlib.import_module(HANDCRAFTED).FeaturesNetwork(
            name, classes, in_chans or 3, img_size
        )
        return made
    check_arguments(kwargs, arguments(library, name))
    if library == "timm":
        return from_timm.create(name, num_classes, in_chans, img_size, kwargs)
    return from_torchvision.create(name, classes, in_chans or 3, img_size, kwargs)


def arguments(library: str, name: str) -> dict[str, Any]:
    """The keyword arguments of the network's class that are plain data, with their defaults."""
    if library == "features":
        return {}  # they stand in the name
    known(library, name)
    cls = from_timm.network_class(name) if library == "timm" else from_torchvision.network_class(name)
    return {
        p.name: p.default
        for p in inspect.signature(cls).parameters.values()
        if isinstance(p.default, bool | int | float | str) and p.name not in OURS
    }


def published(library: str, name: str) -> tuple[PublishedWeights, ...]:
    """The network's published sets of weights, the recommended one first."""
    if library == "features":
        return ()
    known(library, name)
    return from_timm.published(name) if library == "timm" else from_torchvision.published(name)


def info(library: str, name: str) -> ModelInfo:
    """What the library says of a network. timm does not say how many parameters it has."""
    if library == "features":
        found: ModelInfo = importlib.import_module(HANDCRAFTED).info(name)
        return found
    weights = published(library, name)
    input_size: tuple[int, int, int]
    if library == "timm":
        cfg, params = from_timm.config(name), None
        input_size, classes = cfg.input_size, cfg.num_classes
        mean, std = tuple(cfg.mean), tuple(cfg.std)
    else:
        side, params = from_torchvision.native_size(name), from_torchvision.parameters(name)
        input_size, classes = (3, side, side), 1000
        mean, std = weights[0].mean, weights[0].std
    return ModelInfo(
        name=f"{library}/{name}",
        family=library,
        title=f"{library}'s {name}",
        reference="",
        year=None,
        input=input_size,
        num_classes=classes,
        params=params,
        mult_adds=None,
        mean=mean,
        std=std,
        weights=weights,
    )
