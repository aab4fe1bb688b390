"""timm's networks, which speak the protocol already."""

from __future__ import annotations

import math
import typing
from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from sightline.errors import SightlineError
from sightline.models.info import PublishedWeights
from sightline.models.protocol import first_line, image_size, meta_copy, require


def names() -> list[str]:
    """All of timm's networks, sorted."""
    import timm

    return list(timm.list_models())


def config(name: str) -> Any:
    """timm's record of the network's recommended weights: sizes, normalisation, where they are."""
    from timm.models import PretrainedCfg, get_pretrained_cfg

    return get_pretrained_cfg(name) or PretrainedCfg()


def network_class(name: str) -> Any:
    """The class whose constructor takes the network's arguments."""
    from timm.models import model_entrypoint, split_model_name_tag

    return typing.get_type_hints(model_entrypoint(split_model_name_tag(name)[0])).get("return", nn.Module)


def build(name: str, **kwargs: Any) -> nn.Module:
    """timm's own network with random weights."""
    import timm

    model: nn.Module = timm.create_model(name, **kwargs)
    return model


def create(
    name: str,
    num_classes: int | None,
    in_chans: int | None,
    img_size: int | Sequence[int] | None,
    kwargs: dict[str, Any],
) -> nn.Module:
    """Build timm's `name`; `img_size` goes to the constructor where the architecture has a fixed one."""
    given = {"num_classes": num_classes, "in_chans": in_chans}
    options = kwargs | {k: v for k, v in given.items() if v is not None}
    fixed = config(name).fixed_input_size
    if img_size is not None and fixed:
        options["img_size"] = image_size(img_size, 0)
    try:
        model = build(name, **options)
    except (TypeError, ValueError, RuntimeError, AssertionError) as error:
        raise SightlineError(f"timm cannot build it so: {first_line(error)}") from None
    if img_size is not None and not fixed:
        height, width = image_size(img_size, 0)
        fits = runs_at(model, (height, width)) or not runs_at(model, config(name).input_size[1:])
        require(fits, f"it cannot take pictures of {height}x{width} pixels.")
    return model


def runs_at(model: nn.Module, size: tuple[int, int]) -> bool:
    """Whether the network takes pictures of `size`, tried without data (which a few of timm's cannot do)."""
    try:
        meta_copy(model)(torch.empty(1, cast(int, model.in_chans), *size, device="meta"))
    except (RuntimeError, AssertionError, ValueError, IndexError):
        return False
    return True


def published(name: str) -> tuple[PublishedWeights, ...]:
    """The published sets of `name` (its tags), the recommended one first."""
    from timm.models import get_arch_pretrained_cfgs, split_model_name_tag

    arch, wanted = split_model_name_tag(name)
    recommended = wanted or config(arch).tag
    cfgs = [cfg for cfg in get_arch_pretrained_cfgs(arch).values() if cfg.has_weights]
    rows = []
    for cfg in sorted(cfgs, key=lambda cfg: cfg.tag != recommended):
        hub = f"https://huggingface.co/{cfg.hf_hub_id}/resolve/main/model.safetensors"
        rows.append(
            PublishedWeights(
                name=cfg.tag or "default",
                url=hub if cfg.hf_hub_id else str(cfg.url),
                size=cfg.input_size[1],
                resize=math.floor(cfg.input_size[1] / cfg.crop_pct),
                interpolation=cfg.interpolation,
                mean=tuple(cfg.mean),
                std=tuple(cfg.std),
                licence=cfg.license or "see its page",
            )
        )
    return tuple(rows)


def published_state(name: str, tag: str) -> dict[str, Tensor]:
    """The published weights `tag` of timm's `name`, in its present layout; timm fetches and caches them."""
    from timm.models import split_model_name_tag

    arch = split_model_name_tag(name)[0]
    try:
        model = build(f"{arch}.{tag}" if tag != "default" else arch, pretrained=True)
    except (OSError, RuntimeError, ValueError) as error:
        raise SightlineError(
            f"timm could not fetch {tag} of {arch} ({first_line(error)}); download model.safetensors from "
            f"https://huggingface.co/timm/{arch}.{tag} elsewhere and give the file's path as the weights."
        ) from None
    return dict(model.state_dict())
