"""CLIPs small enough for a test, ours and open_clip's, with the same weights."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from sightline.models import create_model
from sightline.models.clip import CLIP

TEXT = {"context_length": 77, "text_width": 32, "text_heads": 2, "text_layers": 2}
RESNET = {"vision_width": 16, "embed_dim": 24, **TEXT}
VIT = {"vision_width": 48, "vision_layers": 3, "head_width": 16, "embed_dim": 24, **TEXT}
# What tells the nine sizes apart stays: kinds of tower, blocks in a stage (some), patches.
SIZES: dict[str, dict[str, Any]] = {
    "clip_rn50": RESNET | {"vision_layers": (1, 2, 1, 1), "img_size": 64},
    "clip_rn101": RESNET | {"vision_layers": (1, 1, 3, 1), "img_size": 64},
    "clip_rn50x4": RESNET | {"vision_layers": (1, 2, 2, 1), "img_size": 96, "vision_width": 20, "head_width": 32},
    "clip_rn50x16": RESNET | {"vision_layers": (1, 2, 3, 1), "img_size": 64, "vision_width": 24},
    "clip_rn50x64": RESNET | {"vision_layers": (1, 1, 3, 2), "img_size": 96, "vision_width": 32},
    "clip_vit_base_patch32": VIT | {"img_size": 64},
    "clip_vit_base_patch16": VIT | {"img_size": 64},
    "clip_vit_large_patch14": VIT | {"img_size": 56, "vision_layers": 4},
    "clip_vit_large_patch14_336": VIT | {"img_size": 84, "vision_layers": 4},
}  # fmt: skip


def small(name: str, **more: Any) -> CLIP:
    model = create_model(name, **(SIZES[name] | more))
    assert isinstance(model, CLIP)
    return model.eval()


def theirs(name: str, quick_gelu: bool = True, **more: Any) -> nn.Module:
    """open_clip's network for what `small` makes, its numbers drawn so that nothing is at its start."""
    import open_clip

    ours = SIZES[name] | more
    vision: dict[str, Any] = {
        "image_size": ours["img_size"],
        "layers": ours["vision_layers"],
        "width": ours["vision_width"],
        "head_width": ours.get("head_width", 64),
    }
    if "vit" in name:
        vision["patch_size"] = int(name.split("patch")[1].split("_")[0])
    model = open_clip.CLIP(
        embed_dim=ours["embed_dim"],
        quick_gelu=quick_gelu,
        vision_cfg=vision,
        text_cfg={
            "context_length": ours["context_length"],
            "vocab_size": ours.get("vocab_size", 49408),
            "width": ours["text_width"],
            "heads": ours["text_heads"],
            "layers": ours["text_layers"],
        },
    )
    randomise(model)
    return model.eval()


def randomise(model: nn.Module) -> None:
    """Leaves no bias, norm or running statistic at its start, so that equality means something."""
    generator = torch.Generator().manual_seed(0)
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        if "num_batches" in name or "mask" in name or name == "logit_scale":
            continue
        if tensor.ndim == 1:
            positive = name.endswith(("weight", "running_var"))
            tensor.data.uniform_(0.5 if positive else -0.5, 1.5 if positive else 0.5, generator=generator)
        else:
            tensor.data.normal_(std=1.2 * tensor[0].numel() ** -0.5, generator=generator)
    if hasattr(model, "logit_scale"):
        model.logit_scale.data.fill_(3.3)


def pictures(side: int, count: int = 2) -> Tensor:
    return torch.randn(count, 3, side, side, generator=torch.Generator().manual_seed(1))


def sentences(context: int = 77, vocabulary: int = 49408) -> Tensor:
    """Three sentences of 2, 9 and as many tokens as there is room for, start and end besides."""
    generator = torch.Generator().manual_seed(2)
    rows = torch.zeros(3, context, dtype=torch.long)
    for row, count in zip(rows, (2, 9, context - 2), strict=True):
        row[0] = vocabulary - 2
        row[1 : count + 1] = torch.randint(1, vocabulary - 2, (count,), generator=generator)
        row[count + 1] = vocabulary - 1
    return rows
