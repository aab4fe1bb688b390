"""The tables by name."""

from __future__ import annotations

from collections.abc import Callable

from sightline.errors import UnknownName
from sightline.reproduce import lecture, scaling, stages
from sightline.reproduce.record import Reproduction

TABLES: dict[str, tuple[str, Callable[[str, str], Reproduction]]] = {
    "lecture-net": ("The lecture's Net: its layer table", lecture.net),
    "lecture-vit": ("The lecture's toy Vision Transformer", lecture.vit),
    "lecture-slides": ("What the lecture's slides say of other networks", lecture.slides),
    "resnet": ("ResNet: stages and FLOPs (Table 1)", stages.resnet),
    "blocks": ("A bottleneck of ResNet against one of ResNeXt", stages.blocks),
    "resnext": ("ResNet-50 against ResNeXt-50 32x4d (Table 1)", stages.resnext),
    "efficientnet": ("EfficientNet: compound scaling, B0 to B7", scaling.efficientnet),
    "dpt": ("Deformable Patch-based Transformer, and the PVT it stands on", scaling.dpt),
}


def reproduce(name: str) -> Reproduction:
    """The table `name` of `TABLES`, computed now; UnknownName suggests near names."""
    if name not in TABLES:
        raise UnknownName("table", name, TABLES, "`sightline reproduce` lists them.")
    title, make = TABLES[name]
    return make(name, title)
