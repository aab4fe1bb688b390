"""A head put into a network's last layer, so that one network computes features and decision."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import torch
from torch import nn

from sightline.errors import SightlineError
from sightline.features.heads.base import LinearHead


def fold_head(network: nn.Module, head: LinearHead) -> float:
    """Give `network` a last layer that computes what `head` decides from its features, and return the temperature.

    network: speaks timm's protocol; its classifier is a linear layer (or none yet) fed by
        `forward_head(x, pre_logits=True)`, the features (n, D) that the head was fitted on.
    The network's logits are then the head's (K of them, also for two classes); divided by the temperature that is
    returned, which belongs into the Bundle, their softmax is `head.predict_proba`.

    Raises SightlineError where the head was fitted on another number of features, or the last layer is not linear.
    """
    net = cast(Any, network)
    classes, features = head.coef_.shape
    net.reset_classifier(classes)
    last = net.get_classifier()
    if not isinstance(last, nn.Linear):
        raise SightlineError(
            f"A head folds into a linear last layer; that of {type(network).__name__} is {type(last).__name__}."
        )
    if last.in_features != features:
        raise SightlineError(
            f"The head was fitted on {features} features; the last layer of {type(network).__name__} takes "
            f"{last.in_features}."
        )
    first, layer = next(network.parameters()), cast(Any, last)
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(np.ascontiguousarray(head.coef_)))
        if layer.bias is None:
            layer.bias = nn.Parameter(torch.zeros(classes, dtype=layer.weight.dtype))
        layer.bias.copy_(torch.from_numpy(np.ascontiguousarray(head.intercept_)))
    layer.to(first.device)
    return float(head.temperature_)
