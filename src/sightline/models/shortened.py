"""A network that ends earlier: what its constructor takes so that a stage in the middle becomes the last one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sightline.errors import SightlineError, UnknownName
from sightline.models.registry import library_of, model_arguments, model_info


def stages_to_end_in(name: str, arguments: Mapping[str, Any]) -> list[str]:
    """The stages that the network `name`, built with `arguments`, can end in beside its last; in their order.

    What enters the classifier is then the mean over the places of what that stage puts out, so the features are
    those of the whole network's stage, number for number. That holds for the residual networks of the lineage; of
    any other network there are none.
    """
    if library_of(name)[0] is not None or model_info(name).family != "resnet":
        return []
    layers = (model_arguments(name) | dict(arguments))["layers"]
    return [f"layer{number}" for number in range(1, len(layers))]


def shortened(name: str, arguments: Mapping[str, Any], stage: str) -> dict[str, Any]:
    """`arguments` of the network `name`, changed so that it ends in `stage`.

    Raises SightlineError where no stage of it can be the last, UnknownName where `stage` is not one of those.
    """
    known = stages_to_end_in(name, arguments)
    if not known:
        raise SightlineError(
            f"{name} cannot end in an earlier stage; residual networks can (resnet18, resnet10_small, ...)."
        )
    if stage not in known:
        raise UnknownName("stage to end in", stage, known)
    whole = model_arguments(name) | dict(arguments)
    kept = known.index(stage) + 1
    return dict(arguments) | {key: tuple(whole[key])[:kept] for key in ("layers", "widths")}
