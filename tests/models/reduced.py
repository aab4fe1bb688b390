"""The reduced variant of every network: fewer or narrower blocks, pictures of about 64 pixels.

What tells the variants of a family apart (kinds of blocks, norms, shortcuts, groups, patches, windows) stays as it
is; what only makes them large is reduced. A network of the registry that has no row here fails its tests.
"""

from __future__ import annotations

from typing import Any

from torch import nn

from sightline.models import create_model, model_info

VGG = {"widths": (4, 4, 8, 8, 8), "hidden": 16}  # as many layers as ever
BLOCKS = {"layers": (1, 1, 1, 1), "widths": (16, 16, 32, 32)}
CIFAR = {"layers": (1, 1, 1), "widths": (16, 16, 32)}
HOUSE = {"widths": (8, 16, 16, 32)}
EFFICIENT = {"width_mult": 0.25, "depth_mult": 0.5}
VIT = {"embed_dim": 24, "depth": 2, "num_heads": 3}
SWIN = {"embed_dim": 12, "depths": (2, 1, 2, 1), "num_heads": (1, 2, 3, 4)}
PYRAMID = {"depths": (1, 2, 1, 1), "embed_dims": (8, 16, 20, 32)}
CLIP_TEXT = {
    "embed_dim": 24,
    "context_length": 16,
    "vocab_size": 64,
    "text_width": 16,
    "text_heads": 2,
    "text_layers": 1,
}
CLIP_VIT = {**CLIP_TEXT, "vision_width": 24, "vision_layers": 2, "head_width": 8}
CLIP_RESNET = {**CLIP_TEXT, "vision_width": 8, "vision_layers": (1, 1, 1, 1), "head_width": 32}

ARGUMENTS: dict[str, dict[str, Any]] = {
    "lecture_net": {},
    "lecture_vit": {},
    "lenet5_1998": {},
    "lenet5": {},
    "alexnet_2012": {"widths": (8, 16, 16, 16, 16), "hidden": 32},
    "alexnet": {"widths": (8, 16, 16, 16, 16), "hidden": 32},
    "googlenet_2014": {"width": 0.125},
    "googlenet": {"width": 0.125},
    **{f"vgg{depth}{norm}": VGG for depth in (11, 13, 16, 19) for norm in ("", "_bn")},
    **{f"resnet{depth}": BLOCKS for depth in (18, 34, 50, 101, 152)},
    **{f"resnet{depth}_2015": BLOCKS for depth in (50, 101, 152)},
    **dict.fromkeys(("resnet18_a", "resnet34_a", "resnet34_c", "plain18", "plain34"), BLOCKS),
    **dict.fromkeys(("resnext50_32x4d", "resnext101_32x4d", "resnext101_32x8d", "resnext101_64x4d"), BLOCKS),
    **dict.fromkeys(("wide_resnet50_2", "wide_resnet101_2"), BLOCKS),
    **{f"resnet{depth}": CIFAR for depth in (20, 32, 44, 56, 110)},
    **dict.fromkeys(("resnet10_small", "resnet10_photo"), HOUSE),
    "resnet9_small": {"widths": (8, 8, 16, 16)},
    **{f"efficientnet_b{size}": EFFICIENT for size in range(8)},
    **{f"tf_efficientnet_b{size}": EFFICIENT for size in range(8)},
    **dict.fromkeys(("vit_tiny_patch16_224", "vit_small_patch16_224", "vit_base_patch16_224"), VIT),
    **dict.fromkeys(("vit_large_patch16_224", "vit_large_patch14_224", "vit_huge_patch14_224"), VIT),
    **dict.fromkeys(("vit_small_patch32_224", "vit_base_patch32_224", "vit_large_patch32_224"), VIT),
    **{f"swin_{size}_patch4_window7_224": SWIN for size in ("tiny", "small", "base", "large")},
    "swin_base_patch4_window12_384": SWIN,
    **{f"pvt_{size}": PYRAMID for size in ("tiny", "small", "medium", "large")},
    **{f"dpt_{size}": PYRAMID for size in ("tiny", "small", "medium")},
    **dict.fromkeys(("clip_rn50", "clip_rn101", "clip_rn50x4", "clip_rn50x16", "clip_rn50x64"), CLIP_RESNET),
    **dict.fromkeys(("clip_vit_base_patch32", "clip_vit_base_patch16"), CLIP_VIT),
    **dict.fromkeys(("clip_vit_large_patch14", "clip_vit_large_patch14_336"), CLIP_VIT),
    "clip_small": CLIP_TEXT,
}

# The one network whose outputs are pictures of the ten digits, on pictures of one size.
FIXED = "lenet5_1998"
# One of each kind of code in a family: these are exported in `make test`, all the others in `make test-full`.
EACH_KIND = (
    "lecture_net", "lecture_vit", "lenet5_1998", "lenet5", "alexnet_2012", "alexnet", "googlenet_2014", "googlenet",
    "vgg11_bn", "resnet18", "resnet50", "resnet18_a", "resnext50_32x4d", "resnet9_small", "efficientnet_b0",
    "tf_efficientnet_b0", "vit_tiny_patch16_224", "swin_tiny_patch4_window7_224", "pvt_tiny", "dpt_tiny",
    "clip_rn50", "clip_vit_base_patch32",
)  # fmt: skip


def side(name: str) -> int:
    """The side of the reduced variant's pictures: 64, or what its patches fill, or its own if that is smaller."""
    if "patch14" in name:
        return 56
    return min(model_info(name).input[1], 64)


def other_size(name: str) -> tuple[int, int]:
    """Another size (height, width), not square, that the network can be built for."""
    return (56, 84) if "patch14" in name else (64, 96)


def classes(name: str) -> int:
    """How many classes its tests tell apart."""
    return 10 if name == FIXED else 7


def reduced(name: str, **more: Any) -> nn.Module:
    """The reduced variant of the network `name`; `more` arguments of `create_model` on top."""
    arguments = {"img_size": side(name), "num_classes": classes(name), **ARGUMENTS[name]}
    return create_model(name, **arguments | more)
