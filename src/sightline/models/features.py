"""The features of every stage of a network, ours, torchvision's or timm's alike."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from sightline.errors import SightlineError

if TYPE_CHECKING:
    from torch import Tensor, nn

    from sightline.models.protocol import FeatureInfo


def stage_features(model: nn.Module, x: Tensor) -> list[Tensor]:
    """What each stage of `model.feature_info` makes of the pictures `x` (N, C, H, W): maps (N, num_chs, h, w).

    Channels come first whatever the network works with, tokens stand in their places in the picture, and class
    tokens are left out. The maps carry gradients where these are enabled. Mode and hooks of the network stay as
    they are; its head does not run.

    timm's networks give them by their own `forward_intermediates`, any other by hooks on the modules that its
    `feature_info` names. Raises SightlineError where it has neither, or names a module that does not run.
    """
    if hasattr(model, "forward_intermediates"):
        return list(cast(Any, model).forward_intermediates(x, intermediates_only=True))
    stages: list[FeatureInfo] = cast(Any, getattr(model, "feature_info", []))
    if not stages:
        raise SightlineError(f"{type(model).__name__} names no stages (feature_info) to take features from.")
    modules = dict(model.named_modules())
    channels_last = getattr(model, "channels_last", False)  # in torchvision's Swin
    found: dict[str, Tensor] = {}

    def keep(stage: FeatureInfo, output: Tensor) -> None:
        if output.ndim == 3:  # tokens, those of classes first
            h, w = (side // stage["reduction"] for side in x.shape[2:])
            patches = output[:, output.shape[1] - h * w :]
            output = patches.reshape(len(patches), h, w, -1).movedim(3, 1)
        elif channels_last:
            output = output.movedim(3, 1)
        found[stage["module"]] = output.clone()  # what follows may work in place

    hooks = [
        modules[stage["module"]].register_forward_hook(
            lambda _module, _inputs, output, stage=stage: keep(stage, output)
        )
        for stage in stages
        if stage["module"] in modules
    ]
    try:
        cast(Any, model).forward_features(x)
    finally:
        for hook in hooks:
            hook.remove()
    missing = [stage["module"] for stage in stages if stage["module"] not in found]
    if missing:
        raise SightlineError(f"{type(model).__name__} names stages that do not run: {', '.join(missing)}.")
    return [found[stage["module"]] for stage in stages]
