"""Weights into networks: from a file, from a run or bundle, or by a published name.

A file in another published layout is brought into the network's own first, by its family's `convert_state_dict`.
What the network has in another shape than the file is adapted where that has one sensible meaning (the first
convolution for another number of channels, positions for another grid or window) and starts fresh where the
task itself has changed (the classifier). Everything else must fit, name for name and shape for shape; what
does not is an error, never a silent half. The report says what became of each parameter.

Only tensors are read: safetensors, PyTorch files without code in their pickles, TorchScript archives without running
theirs, NumPy archives.
"""

from __future__ import annotations

import json
import pickle
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from sightline.errors import SightlineError, UnknownName
from sightline.home import home
from sightline.models.info import PublishedWeights
from sightline.models.registry import library_of, published_weights

if TYPE_CHECKING:
    from torch import Tensor, nn

SUFFIXES = (".safetensors", ".pth", ".pt", ".npz")
NESTED = (
    "state_dict",
    "model_state_dict",
    "model",
    "model_ema",
    "state_dict_ema",
)  # training checkpoints' keys
PREFIXES = ("module.", "_orig_mod.", "model.")  # DistributedDataParallel's, torch.compile's, Lightning's
AUXILIARY = (
    "aux1.",
    "aux2.",
    "AuxLogits.",
)  # classifiers of GoogLeNet and Inception v3, used in training only
WINDOW_BIAS = "relative_position_bias_table"


@dataclass(frozen=True, slots=True)
class WeightsReport:
    """What became of a network's parameters (by name) when weights were loaded.

    kept: as in the source. adapted: from the source, to another shape. fresh: not from the source.
    dropped: in the source, without a place in the network.
    """

    source: str
    kept: list[str]
    adapted: list[str]
    fresh: list[str]
    dropped: list[str]

    def summary(self) -> str:
        """One sentence for a person."""
        total = len(self.kept) + len(self.adapted) + len(self.fresh)
        parts = [f"{len(self.kept)} of {total} parameter tensors kept from {self.source}"]
        for names, what in ((self.adapted, "adapted"), (self.fresh, "fresh"), (self.dropped, "left aside")):
            if names:
                parts.append(f"{some(names)} {what}")
        return "; ".join(parts) + "."


def load_weights(model: nn.Module, source: str | Path) -> WeightsReport:
    """Load `source` into `model`, in place.

    source: a `.safetensors`, `.pth`, `.pt` or `.npz` file; a folder with a `model.safetensors` (a run, a bundle); or
        the name of a published set (`available_weights`; "DEFAULT" is the recommended one), which is
        downloaded on the first use.
    Raises SightlineError, with the network unchanged, where the source cannot be had, read or fitted.
    """
    name = cast(str, getattr(model, "architecture", type(model).__name__))
    if hasattr(model, "architecture"):
        check_arguments(model, name, source)
    path = file_of(source)
    if path is not None:
        if hasattr(model, "architecture"):
            check_hash(path, name)
        return fit(model, read_state_dict(path), str(path), name)
    if not hasattr(model, "architecture"):
        raise SightlineError(
            f"There is no file {source}, and this network has no name to look weights up by."
        )
    row = find_published(name, str(source))
    library, rest = library_of(name)
    local = local_file(name, row)
    if library == "timm" and local is None:
        from sightline.models import from_timm

        return fit(model, from_timm.published_state(rest, row.name), f"{name} {row.name}", name)
    if local is None:
        local = download(name, row)
    check_hash(local, name)
    return fit(model, read_state_dict(local), f"{row.name} ({row.file})", name)


def available_weights(name: str) -> list[str]:
    """The names of the published sets of weights of the network `name`, the recommended one first."""
    return [row.name for row in published_weights(name)]


def local_weights(name: str) -> list[Path]:
    """The published files of the network `name` that lie on this machine, the recommended one first."""
    found = (local_file(name, row) for row in published_weights(name))
    return [path for path in found if path is not None]


# ---------------------------------------------------------------------------------------------- finding
def file_of(source: str | Path) -> Path | None:
    """The file that `source` means; None where it can only be a published name."""
    path = Path(source).expanduser()
    if path.is_dir():
        inside = path / "model.safetensors"
        if not inside.is_file():
            raise SightlineError(
                f"The folder {path} holds no model.safetensors; give a run, a bundle or a file."
            )
        return inside
    if path.is_file():
        return path
    if isinstance(source, Path) or path.suffix in SUFFIXES or len(path.parts) > 1:
        raise SightlineError(f"There is no file {path} to load weights from.")
    return None


def find_published(name: str, wanted: str) -> PublishedWeights:
    rows = published_weights(name)
    if not rows:
        raise SightlineError(
            f"No weights of {name} are published under a name such as {wanted}; give a file."
        )
    if wanted.upper() == "DEFAULT":
        return rows[0]
    for row in rows:
        if row.name == wanted:
            return row
    raise UnknownName(f"set of weights for {name}", wanted, [row.name for row in rows])


def weights_folder() -> Path:
    """Where downloaded weights are kept."""
    return home() / "weights"


def local_file(name: str, row: PublishedWeights) -> Path | None:
    """The file of `row`, if it lies in our folder or in the cache of the library that publishes it."""
    if name.startswith("timm/"):
        from huggingface_hub import try_to_load_from_cache

        _, _, _, owner, repository, *_ = row.url.split("/")
        cached = (
            try_to_load_from_cache(f"{owner}/{repository}", row.file) if "huggingface" in row.url else None
        )
        return Path(cached) if isinstance(cached, str) else None
    import torch

    for folder in (weights_folder(), Path(torch.hub.get_dir()) / "checkpoints"):
        if (folder / row.file).is_file():
            return folder / row.file
    return None


def download(name: str, row: PublishedWeights) -> Path:
    """Fetch the file of `row` into our folder, checked against the hash in its name."""
    import torch

    folder = weights_folder()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(
            row.url, str(folder / row.file), row.sha256, progress=sys.stderr.isatty()
        )
    except (OSError, RuntimeError) as error:  # no network, no such page, full disk; or a wrong hash
        raise SightlineError(
            f"The weights {row.name} of {name} could not be fetched from {row.url} ({error}); "
            f"put the file {row.file} into {folder}, or give its path as the weights."
        ) from None
    return folder / row.file


# ---------------------------------------------------------------------------------------------- reading
def read_state_dict(path: Path) -> dict[str, Tensor]:
    """The named tensors of a file, out of whatever a training checkpoint wraps them in. Runs no code."""
    import torch

    from sightline.models.protocol import first_line
    from sightline.models.torchscript import is_torchscript, read_torchscript

    if path.suffix not in SUFFIXES:
        raise SightlineError(
            f"{path} is none of {', '.join(SUFFIXES)}, the files that weights are read from."
        )
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            data: Any = load_file(path)
        elif path.suffix == ".npz":
            import numpy as np

            with np.load(path, allow_pickle=False) as arrays:
                data = {key: torch.from_numpy(arrays[key]) for key in arrays.files}
        elif is_torchscript(path):
            data = read_torchscript(path)
        else:
            data = torch.load(path, map_location="cpu", weights_only=True)
    except SightlineError:
        raise
    except pickle.UnpicklingError as error:
        if "global" in str(error).lower():
            raise SightlineError(
                f"{path} holds more than tensors, and loading the rest would run its code; "
                "save its state_dict alone, best as .safetensors."
            ) from None
        raise SightlineError(f"{path} is damaged or no file of PyTorch's.") from None
    except Exception as error:  # a damaged file fails in whatever way its first wrong byte asks for
        raise SightlineError(f"{path} cannot be read as weights: {first_line(error)}.") from None
    for key in NESTED:
        if isinstance(data, dict) and isinstance(data.get(key), dict):
            data = data[key]
            break
    if not isinstance(data, dict):
        raise SightlineError(f"{path} holds no named tensors but a {type(data).__name__}.")
    state = {str(k): v for k, v in data.items() if isinstance(v, torch.Tensor)}
    if not state:
        raise SightlineError(f"{path} holds no named tensors.")
    return state


def needed_arguments(name: str, source: str | Path) -> dict[str, Any]:
    """Arguments that the network `name` must be built with for the weights `source`, where these say so.

    They say so in the list of what is published, by name or by the file's name; in the open_clip_config.json beside
    them, if they are a file of open_clip's; or in the model.json of a run or bundle.
    """
    path = file_of(source)
    if path is None:
        return dict(find_published(name, str(source)).arguments)
    row = next((row for row in published_weights(name) if row.file == path.name), None)
    if row is not None:
        return dict(row.arguments)
    ours, theirs = path.parent / "model.json", path.parent / "open_clip_config.json"
    config = ours if path.name == "model.safetensors" and ours.is_file() else theirs
    if not config.is_file():
        return {}
    try:
        said = json.loads(config.read_text(encoding="utf-8"))
        if config == ours:
            return {key: value for key, value in said["arguments"].items() if key == "quick_gelu"}
        return {"quick_gelu": bool(said["model_cfg"].get("quick_gelu", False))}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise SightlineError(f"{config} is no description of a network; remove it or mend it.") from None


def check_arguments(model: nn.Module, name: str, source: str | Path) -> None:
    """SightlineError where the network was built with other arguments than the weights need."""
    for key, value in needed_arguments(name, source).items():
        if getattr(model, key, value) != value:
            raise SightlineError(
                f"The weights {source} need {name} built with {key}={value} (--set model.{key}={str(value).lower()})."
            )


def check_hash(path: Path, name: str) -> None:
    """SightlineError where a file with the name of one that is published for the network is not that file."""
    import hashlib

    expected = {row.file: row.sha256 for row in published_weights(name)}.get(path.name)
    if expected is None:
        return
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if not found.startswith(expected):
        raise SightlineError(f"{path} is damaged: its SHA-256 begins {found[:8]}, not {expected}; remove it.")


# ---------------------------------------------------------------------------------------------- fitting
def fit(model: nn.Module, state: dict[str, Tensor], source: str, name: str) -> WeightsReport:
    """Put the tensors of `state` into `model` by the rules at the top of this file."""
    from sightline.models.adapting import (
        adapt_positions,
        adapt_stem,
        adapt_window_bias,
        are_positions,
        grid_of,
        side_of,
    )
    from sightline.models.protocol import classifier_names, first_conv

    own = model.state_dict()
    state = own_layout(model, strip_prefixes(state, own))
    heads = (*(f"{head}." for head in classifier_names(model)), *AUXILIARY)
    stem = first_conv(model)
    stem_weight = f"{stem[0]}.weight" if stem else ""

    for head in heads:  # one that does not fit starts fresh as a whole
        here, there = ({k: v.shape for k, v in s.items() if k.startswith(head)} for s in (own, state))
        if here != there:
            state = {key: value for key, value in state.items() if key not in here}

    result = dict(own)
    parameters = [key for key, _ in model.named_parameters()]
    adapted, fresh, missing, misfits = [], [], [], []
    for key, mine in own.items():
        theirs = state.get(key)
        if theirs is None:
            if key.startswith(heads):
                fresh.append(key)
            elif not key.endswith("num_batches_tracked"):  # absent from files of PyTorch before 0.4.1
                missing.append(key)
        elif theirs.shape == mine.shape:
            result[key] = theirs
        elif key == stem_weight and theirs.shape[:1] + theirs.shape[2:] == mine.shape[:1] + mine.shape[2:]:
            result[key] = adapt_stem(theirs, mine.shape[1])
            adapted.append(key)
        elif key not in parameters:  # it follows from the pictures' size, as DePatch's anchors do
            continue
        elif (grid := grid_of(model, key, mine)) and are_positions(
            theirs, mine, prefix := mine.shape[-2] - grid[0] * grid[1]
        ):
            result[key] = adapt_positions(theirs, grid, prefix)
            adapted.append(key)
        elif key.endswith(WINDOW_BIAS) and theirs.shape[1:] == mine.shape[1:] and side_of(len(theirs)):
            window = cast(Any, model.get_submodule(key.rpartition(".")[0])).window_size
            result[key] = adapt_window_bias(theirs, window)
            adapted.append(key)
        else:
            misfits.append(f"{key} ({shape(theirs)} there, {shape(mine)} here)")
    dropped = [key for key in state if key not in own and key.startswith(heads)]
    surplus = [key for key in state if key not in own and key not in dropped]

    body = [key for key in own if not key.startswith(heads) and not key.endswith("num_batches_tracked")]
    if len(missing) == len(body):
        raise SightlineError(f"{source} is of another network than {name}: it has {some(list(state))}.")
    problems = (("it lacks", missing), ("it has besides", surplus), ("of another shape are", misfits))
    wrong = [f"{what} {some(keys)}" for what, keys in problems if keys]
    if wrong:
        raise SightlineError(f"{source} does not fit {name}: {'; '.join(wrong)}.")

    model.load_state_dict(result)
    kept = [key for key in parameters if key not in adapted and key not in fresh]
    return WeightsReport(source, kept, adapted, fresh, dropped)


def strip_prefixes(state: dict[str, Tensor], own: dict[str, Tensor]) -> dict[str, Tensor]:
    """Without the prefixes that wrappers put before all names, unless they are the network's own."""
    for prefix in PREFIXES * 2:  # wrappers stand around wrappers, in either order
        ours = any(key.startswith(prefix) for key in own)
        if not ours and all(key.startswith(prefix) for key in state):
            state = {key.removeprefix(prefix): value for key, value in state.items()}
    return state


def own_layout(model: nn.Module, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """`state` through its family's `convert_state_dict`, if that leaves fewer names that the network lacks."""
    convert = getattr(sys.modules[type(model).__module__], "convert_state_dict", None)
    if convert is None:
        return state
    own = model.state_dict().keys()
    converted: dict[str, Tensor] = convert(state)
    return converted if len(converted.keys() - own) < len(state.keys() - own) else state


def shape(tensor: Tensor) -> str:
    return "x".join(str(n) for n in tensor.shape) or "a single number"


def some(names: list[str]) -> str:
    """Up to three of `names`, and how many more there are."""
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
