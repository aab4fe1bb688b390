"""Names to networks: one `create_model` for the lineage, for `torchvision/NAME` and for `timm/NAME`.

Listing and describing the lineage imports neither torch nor any network; building one imports its family's
file.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from sightline.errors import SightlineError, UnknownName, near
from sightline.models.catalog import CATALOG
from sightline.models.info import ModelInfo, PublishedWeights

if TYPE_CHECKING:
    from torch import nn

LIBRARIES = ("torchvision", "timm", "features")
COMMON = ("num_classes", "in_chans", "img_size")  # create_model's own arguments, taken by every network


def library_of(name: str) -> tuple[str | None, str]:
    """("timm", "NAME") for `timm/NAME`, ("torchvision", "NAME") for `torchvision/NAME`, else (None, name)."""
    library, slash, rest = name.partition("/")
    if not slash:
        return None, name
    if library not in LIBRARIES:
        raise UnknownName("library of networks", library, LIBRARIES)
    return library, rest


def list_models(pattern: str | None = None) -> list[str]:
    """The lineage's names, if given a `pattern` (`*`, `?`, `[...]`) those that match it.

    `torchvision/...` and `timm/...` patterns list those libraries' networks (and import them: some seconds).
    """
    if pattern is None:
        return list(CATALOG)
    library, _ = library_of(pattern)
    if library is None:
        names = list(CATALOG)
    else:
        from sightline.models import external

        names = [f"{library}/{name}" for name in external.names(library)]
    return [name for name in names if fnmatchcase(name, pattern)]


def model_info(name: str) -> ModelInfo:
    """What is known about the network `name`; UnknownName suggests near names."""
    library, rest = library_of(name)
    if library is not None:
        from sightline.models import external

        return external.info(library, rest)
    if name not in CATALOG:
        raise UnknownName("network", name, CATALOG, "`sightline models` lists them.")
    return CATALOG[name]


def model_arguments(name: str) -> dict[str, Any]:
    """The keyword arguments that `create_model(name, ...)` takes beyond its own, with their defaults."""
    library, rest = library_of(name)
    if library is not None:
        from sightline.models import external

        return external.arguments(library, rest)
    parameters = inspect.signature(constructor(name)).parameters.values()
    return {p.name: p.default for p in parameters if p.name not in COMMON}


def published_weights(name: str) -> tuple[PublishedWeights, ...]:
    """The published sets of weights of the network `name`, the recommended one first."""
    library, rest = library_of(name)
    if library is not None:
        from sightline.models import external

        return external.published(library, rest)
    return model_info(name).weights


def constructor(name: str) -> Callable[..., nn.Module]:
    """What builds the network `name` of the lineage: a class, or a class with some of its arguments set."""
    info = model_info(name)
    variants: dict[str, Callable[..., nn.Module]]
    variants = importlib.import_module(f"sightline.models.{info.family}").VARIANTS
    return variants[name]


def create_model(
    name: str,
    *,
    num_classes: int | None = None,
    in_chans: int | None = None,
    img_size: int | Sequence[int] | None = None,
    weights: str | Path | None = None,
    **kwargs: Any,
) -> nn.Module:
    """Build the network `name`, a plain `nn.Module` over normalised float tensors (N, in_chans, H, W).

    num_classes, in_chans, img_size (a side or (height, width)): None takes the network's own (`model_info`).
        num_classes=0 leaves the classifier out, as in timm.
    weights: None leaves the random start; else a published name or a file, see `load_weights`.
    kwargs: the network's own arguments, see `model_arguments`.

    The module speaks timm's protocol (`sightline.models.protocol`) and carries its name as `architecture`.
    Raises UnknownName, or SightlineError for what the network cannot take, before anything is computed.
    """
    for what, value, least in (("num_classes", num_classes, 0), ("in_chans", in_chans, 1)):
        if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < least):
            raise SightlineError(f"{name}: {what} is a whole number of at least {least}, not {value!r}.")
    library, rest = library_of(name)
    try:
        if library is not None:
            from sightline.models import external

            model = external.create(library, rest, num_classes, in_chans, img_size, kwargs)
        else:
            info = model_info(name)
            if weights is not None:
                from sightline.models.weights import needed_arguments

                kwargs = needed_arguments(name, weights) | kwargs
            check_arguments(kwargs, model_arguments(name))
            model = constructor(name)(
                num_classes=info.num_classes if num_classes is None else num_classes,
                in_chans=info.input[0] if in_chans is None else in_chans,
                img_size=img_size,
                **{k: tuple(v) if isinstance(v, list) else v for k, v in kwargs.items()},
            )
    except UnknownName:
        raise
    except SightlineError as error:
        raise SightlineError(f"{name}: {error}") from None
    cast(Any, model).architecture = name
    if weights is not None:
        from sightline.models.weights import load_weights

        load_weights(model, weights)
    return model


def check_arguments(given: Mapping[str, Any], known: Mapping[str, Any]) -> None:
    """SightlineError for an argument that is not `known`, or whose value is of another kind than its default."""
    for key, value in given.items():
        if key not in known:
            close = near(key, known)
            takes = ", ".join(known) or "none of its own"
            rest = f"did you mean {' or '.join(close)}?" if close else f"it takes {takes}."
            raise SightlineError(f"there is no argument {key!r}; {rest}")
        if not same_kind(value, known[key]):
            raise SightlineError(f"{key} takes a value such as {known[key]!r}, not {value!r}.")


def same_kind(value: Any, default: Any) -> bool:
    """Whether `value` may stand for `default`: of its type, a whole number for a float, a list for a tuple."""
    if default is None:
        return True
    if isinstance(default, tuple | list):
        return isinstance(value, tuple | list) and all(same_kind(v, default[0]) for v in value)
    if isinstance(default, float):
        return isinstance(value, int | float) and not isinstance(value, bool)
    return type(value) is type(default)
