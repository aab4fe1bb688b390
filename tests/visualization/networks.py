"""Networks that the views are tried on: the lineage's reduced ones, six of timm's, and small ones made for a case."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sightline.models import model_info
from tests.models.reduced import EACH_KIND, reduced, side

LINEAGE = EACH_KIND
POOLED_LINEAR = (
    "googlenet_2014", "resnet18", "resnet50", "resnext50_32x4d", "efficientnet_b0", "swin_tiny_patch4_window7_224",
)  # fmt: skip
TIMM_NAMES = (
    "swin", "vit_registers", "vit_averaged", "convnext", "efficientnet", "resnet", "densenet", "maxvit",
)  # fmt: skip


def timm_network(name: str) -> nn.Module:
    """One of timm's, small enough for a test; random weights, the same each time."""
    import timm

    torch.manual_seed(0)
    makes: dict[str, Callable[[], nn.Module]] = {
        "swin": lambda: timm.create_model(
            "swin_tiny_patch4_window7_224",
            img_size=64,
            depths=(2, 2, 1, 1),
            embed_dim=24,
            num_heads=(1, 2, 3, 4),
            num_classes=7,
        ),
        "vit_registers": lambda: timm.create_model(
            "vit_tiny_patch16_224", img_size=(64, 96), depth=3, reg_tokens=4, num_classes=7
        ),
        "vit_averaged": lambda: timm.create_model(
            "vit_tiny_patch16_224", img_size=64, depth=2, class_token=False, global_pool="avg", num_classes=7
        ),
        "convnext": lambda: timm.create_model("convnext_atto", depths=(1, 1, 2, 1), num_classes=7),
        "efficientnet": lambda: timm.create_model("efficientnet_b0", num_classes=7),
        "resnet": lambda: timm.create_model("resnet10t", num_classes=7),
        "densenet": lambda: timm.create_model("densenet121", block_config=(1, 1, 2, 1), num_classes=7),
        "maxvit": lambda: timm.create_model("maxvit_pico_rw_256", img_size=64, num_classes=7),
    }
    return makes[name]().eval()


def lineage_network(name: str) -> nn.Module:
    torch.manual_seed(0)
    return reduced(name).eval()


def picture_for(name: str) -> Tensor:
    """A normalised picture that the network `name` takes: noise, so that nothing is equal by chance."""
    generator = torch.Generator().manual_seed(1)
    if name in TIMM_NAMES:
        return torch.randn(1, 3, 64, 96 if name == "vit_registers" else 64, generator=generator)
    return torch.randn(1, model_info(name).input[0], side(name), side(name), generator=generator)


class Plain(nn.Module):
    """One's own network: functional ReLUs, one of them in place, and a linear layer on the mean."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv1 = nn.Conv2d(3, 8, 3, padding=1)
        self.conv2 = nn.Conv2d(8, 12, 3, padding=1)
        self.fc = nn.Linear(12, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(F.relu(self.conv1(x)), 2)
        return self.fc(F.relu(self.conv2(x), inplace=True).mean((2, 3)))


class PlainWithModules(nn.Module):
    """The same with its ReLUs as modules, as Captum needs them."""

    def __init__(self, like: Plain) -> None:
        super().__init__()
        self.conv1, self.conv2, self.fc = like.conv1, like.conv2, like.fc
        self.relu1, self.relu2 = nn.ReLU(), nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(self.relu1(self.conv1(x)), 2)
        return self.fc(self.relu2(self.conv2(x)).mean((2, 3)))


def state_of(model: nn.Module) -> dict[str, Any]:
    """All that a view could change: modes, gradients, hooks, weights, and attributes of the module itself."""
    return {
        "modes": [module.training for module in model.modules()],
        "wanted": [p.requires_grad for p in model.parameters()],
        "grads": [None if p.grad is None else p.grad.clone() for p in model.parameters()],
        "hooks": [
            (len(m._forward_hooks), len(m._forward_pre_hooks), len(m._backward_hooks))
            for m in model.modules()
        ],
        "weights": [tensor.clone() for tensor in model.state_dict().values()],
        "attributes": [sorted(vars(module)) for module in model.modules()],
    }


def same_state(one: dict[str, Any], other: dict[str, Any]) -> bool:
    plain = all(one[key] == other[key] for key in ("modes", "wanted", "hooks", "attributes"))
    pairs = [
        *zip(one["grads"], other["grads"], strict=True),
        *zip(one["weights"], other["weights"], strict=True),
    ]
    return plain and all((a is None) == (b is None) and (a is None or torch.equal(a, b)) for a, b in pairs)


def built(name: str) -> nn.Module:
    return timm_network(name) if name in TIMM_NAMES else lineage_network(name)
