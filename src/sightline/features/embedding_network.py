"""A network up to one of its layers: found, cut there, pooled to a row of numbers a picture.

Where it comes from: a name (with weights), a module, or what training left (a run's folder, a Bundle, a Classifier).
Its layers are the stages of `feature_info` (`layer3`, `blocks.5`) or any module that runs. Several layers are taken
from one pass, and nothing behind the last of them runs.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sightline.bundle import DESCRIPTION_FILE, Bundle, Classifier
from sightline.errors import SightlineError, UnknownName
from sightline.fast import BF16_ROUNDING, ROUNDING, FastNetwork, fast_copy
from sightline.models.protocol import first_line
from sightline.transforms.preprocess import Preprocess

Pool = Literal["avg", "max", "cls", "flatten"]
POOLS: tuple[Pool, ...] = ("avg", "max", "cls", "flatten")
Layer = str | None
"""A layer's name; None is what enters the classifier."""
Model = str | Path | nn.Module | Bundle | Classifier


class Reached(Exception):
    """All layers that were asked for have run: no error, it ends the pass."""


@dataclass(frozen=True)
class Network:
    """A network to take features from, and the map that brings pictures to it. In evaluation mode, never trained.

    precision: `auto` computes in a copy made fast (`sightline.fast`) where that gives the same features but for
    rounding; `fp32` in the network itself.
    """

    module: nn.Module
    preprocess: Preprocess
    device: torch.device
    precision: str = "auto"

    @property
    def stages(self) -> list[str]:
        """The names of its stages, in the order in which they run; none of a module that names none."""
        modules = dict(self.module.named_modules())
        return [row["module"] for row in stage_rows(self.module) if row["module"] in modules]

    def check(self, layer: Layer) -> None:
        """UnknownName unless `layer` is one of its modules (or None)."""
        known = [name for name, _ in self.module.named_modules() if name]
        if layer is not None and layer not in known:
            hint = f"its stages are {', '.join(self.stages)}." if self.stages else ""
            raise UnknownName("layer", layer, known, hint)

    @property
    def size(self) -> tuple[int, int, int]:
        """(channels, height, width) of what it takes."""
        return (self.preprocess.channels, *self.preprocess.size)

    @cached_property
    def answering(self) -> FastNetwork:
        """What computes. Networks that do not speak timm's protocol are taken as they are."""
        speaks = hasattr(self.module, "forward_features") and stage_rows(self.module)
        return fast_copy(self.module, self.size, self.precision) if speaks else FastNetwork(self.module)

    def taps(self, layers: Sequence[Layer], pools: Sequence[Pool | None] | None = None) -> Taps:
        """What takes the features of `layers`, each pooled as `pools` says (None: as it suits)."""
        for layer in layers:
            self.check(layer)
        plain = Taps(self, FastNetwork(self.module), tuple(layers), tuple(pools or (None,) * len(layers)))
        if self.answering.network is self.module:
            return plain
        fast = Taps(self, self.answering, plain.layers, plain.pools)
        # A layer inside of what was folded is another function there: then the network itself answers.
        allowed = BF16_ROUNDING if fast.in_bf16 else ROUNDING
        same = all(
            np.linalg.norm(a - b) <= allowed * np.linalg.norm(a)
            for a, b in zip(plain.probe, fast.probe, strict=True)
        )
        return fast if same else plain

    @cached_property
    def digest(self) -> str:
        """A hash of what it computes from: structure, weights, Preprocess, and versions of what reads and computes.

        Two networks of the same weights whose code differs (a module of your own that was edited) are told apart
        by what they make of one fixed picture, which is in the key of the cache as well.
        """
        import PIL

        from sightline import __version__

        state = hashlib.blake2b(digest_size=20)
        facts = [__version__, torch.__version__, PIL.__version__, repr(self.module)]
        state.update(json.dumps([*facts, self.preprocess.to_dict()], sort_keys=True).encode())
        for name, tensor in sorted(self.module.state_dict().items()):
            if isinstance(tensor, Tensor):
                array = tensor.detach().cpu().contiguous().flatten().view(torch.uint8)
                state.update(f"{name} {tensor.dtype} {tuple(tensor.shape)} ".encode())
                state.update(array.numpy().data)
        return state.hexdigest()


@dataclass(frozen=True)
class Taps:
    """`layers` of a network, each pooled. `answering` computes: the network, or its fast copy."""

    network: Network
    answering: FastNetwork
    layers: tuple[Layer, ...]
    pools: tuple[Pool | None, ...]

    @property
    def in_bf16(self) -> bool:
        return self.answering.autocast or self.answering.dtype == torch.bfloat16

    @cached_property
    def probe(self) -> list[NDArray[np.float32]]:
        """The features of two fixed pictures of noise, one array (2, F) a layer."""
        generator = torch.Generator().manual_seed(0)
        images = torch.randint(0, 256, (2, *self.network.size), generator=generator, dtype=torch.uint8)
        return self(images)

    @property
    def lengths(self) -> list[int]:
        """How many numbers a picture has in each layer."""
        return [part.shape[1] for part in self.probe]

    @cached_property
    def keys(self) -> list[str]:
        """A hash for each layer of all that its features depend on but the picture."""
        way = [self.in_bf16, self.answering.network is self.network.module, str(self.network.device)]
        return [
            hashlib.blake2b(
                json.dumps([self.network.digest, layer, pool, *way]).encode() + answer.tobytes(),
                digest_size=20,
            ).hexdigest()
            for layer, pool, answer in zip(self.layers, self.pools, self.probe, strict=True)
        ]

    @torch.inference_mode()
    def __call__(self, images: Tensor) -> list[NDArray[np.float32]]:
        """uint8 (N, C, H, W) -> for each layer float32 (N, F)."""
        x = self.answering.prepared(self.network.preprocess.normalize(images.to(self.network.device)))
        found: dict[int, Tensor] = {}
        with self.watching(found), self.answering.casting(x):
            try:
                self.run(x, found)
            except Reached:
                pass
            except (RuntimeError, TypeError, ValueError, AssertionError, IndexError) as error:
                shape = "x".join(map(str, x.shape[1:]))
                raise SightlineError(
                    f"{type(self.network.module).__name__} cannot take pictures of {shape}: {first_line(error)}."
                ) from error
        missing = [str(layer) for place, layer in enumerate(self.layers) if place not in found]
        if missing:
            raise SightlineError(f"The layer {missing[0]} did not run, so that it has no features.")
        return [found[place].cpu().numpy() for place in range(len(self.layers))]

    def run(self, x: Tensor, found: dict[int, Tensor]) -> None:
        """One pass, as far as it must go."""
        network: Any = self.answering.network
        wanted = [place for place, layer in enumerate(self.layers) if layer is None]
        if not wanted:
            network(x)
            return
        if hasattr(network, "forward_head"):
            out = network.forward_head(network.forward_features(x), pre_logits=True)
        else:
            out = network(x)
        for place in wanted:
            found[place] = self.pooled(out, None, self.pools[place])

    @contextmanager
    def watching(self, found: dict[int, Tensor]) -> Iterator[None]:
        """Within, what the layers put out is pooled into `found` at once: what follows may write over it."""
        modules = dict(self.answering.network.named_modules())

        def hook(place: int) -> Any:
            def keep(_module: nn.Module, _inputs: Any, output: Any) -> None:
                found[place] = self.pooled(output, self.layers[place], self.pools[place])
                if len(found) == len(self.layers):
                    raise Reached

            return keep

        handles = [
            modules[layer].register_forward_hook(hook(place))
            for place, layer in enumerate(self.layers)
            if layer is not None
        ]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def pooled(self, output: Any, layer: Layer, pool: Pool | None) -> Tensor:
        """What a layer put out as (N, F) in float32. Raises SightlineError where that pooling has no meaning."""
        if isinstance(output, tuple | list) and output:
            output = output[0]
        if not isinstance(output, Tensor) or output.ndim < 2:
            raise SightlineError(f"A layer that puts out {type(output).__name__} has no features to pool.")
        if output.ndim == 2 or pool == "flatten":
            return output.float().flatten(1).clone()
        network: Any = self.network.module
        if output.ndim == 3:  # tokens (N, T, C), class tokens first
            prefix = self.class_tokens(layer, output.shape[1])
            if pool == "cls" or (pool is None and prefix):
                if not prefix:
                    raise SightlineError("pool='cls' needs a class token; take avg, max or flatten.")
                return output[:, 0].float().clone()
            tokens = output[:, prefix:].float()
            return tokens.amax(1) if pool == "max" else tokens.mean(1)
        if pool == "cls":
            raise SightlineError("pool='cls' needs a class token; take avg, max or flatten.")
        last = getattr(network, "channels_last", False) or getattr(network, "output_fmt", "") == "NHWC"
        maps = output.float().movedim(-1, 1) if last else output.float()
        return maps.flatten(2).amax(2) if pool == "max" else maps.flatten(2).mean(2)

    def class_tokens(self, layer: Layer, tokens: int) -> int:
        """How many of a layer's `tokens` stand before those of the picture's places."""
        height, width = self.network.preprocess.size
        for row in stage_rows(self.network.module):
            if layer is not None and f"{layer}.".startswith(f"{row['module']}."):
                return max(0, tokens - (height // int(row["reduction"])) * (width // int(row["reduction"])))
        return int(getattr(self.network.module, "num_prefix_tokens", 0))


# ------------------------------------------------------------------------------------------------- finding
def open_network(
    model: Model,
    weights: str | Path | None = "auto",
    preprocess: Preprocess | None = None,
    device: str = "cpu",
    precision: str = "auto",
) -> Network:
    """The network that `model` means.

    model: a name of `create_model`; a folder with a model.json (a run, a Bundle); a module, Bundle or Classifier.
    weights: of a name. `auto` is the recommended published set, fetched if it is not on this machine; `none` a random
        start, the same each time; else a published name, a file or a run.
    preprocess: in the place of what belongs to the weights; a module that no library made needs one.
    Raises SightlineError where the network, its weights or its Preprocess cannot be had.
    """
    if isinstance(model, Classifier):
        module, own = model.network, model.preprocess
    elif isinstance(model, Bundle):
        module, own = model.model(), model.preprocess
    elif isinstance(model, nn.Module):
        module = model
        own = preprocess or preprocess_of_module(model)
    elif isinstance(model, str | Path) and (Path(model).expanduser() / DESCRIPTION_FILE).is_file():
        bundle = Bundle.load(model)
        module, own = bundle.model(), bundle.preprocess
    elif isinstance(model, str):
        return open_named(model, weights, preprocess, device, precision)
    else:
        what = (
            f"There is no {DESCRIPTION_FILE} in {model}"
            if isinstance(model, Path)
            else f"{model!r} is no network"
        )
        raise SightlineError(f"{what}; give a name, a run made by `sightline fit`, a module or a Bundle.")
    place = torch.device(device)
    if module.training or next(module.parameters(), torch.empty(0)).device != place:
        import copy

        module = copy.deepcopy(module)  # the caller's stays as it is
    return Network(module.eval().to(place), preprocess or own, place, precision)


def open_named(
    name: str, weights: str | Path | None, preprocess: Preprocess | None, device: str, precision: str
) -> Network:
    """The network `name` of `create_model` with `weights`; see `open_network`."""
    from sightline.models import create_model, load_weights, model_info
    from sightline.models.weights import local_file

    info = model_info(name)
    wanted = str(weights or "none")
    if wanted == "auto":
        if not info.weights:
            raise SightlineError(
                f"No weights of {name} are published; give a file or a run as weights, or weights='none' for a random "
                "start."
            )
        local = [row.name for row in info.weights if local_file(name, row) is not None]
        wanted = local[0] if local else "DEFAULT"
    preprocess = preprocess or preprocess_for(name, wanted)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = create_model(name, in_chans=preprocess.channels, img_size=preprocess.size)
    if wanted != "none":
        load_weights(module, wanted)
    place = torch.device(device)
    return Network(module.eval().to(place), preprocess, place, precision)


def preprocess_for(name: str, weights: str | Path) -> Preprocess:
    """What belongs to the network `name` with `weights`: the published set's, that of the run they come from, or the
    size and the normalisation that the network was made for.
    """
    from sightline.models import model_info, published_weights

    info = model_info(name)
    rows = published_weights(name)
    row = next(
        (r for r in rows if weights == r.name or (str(weights).upper() == "DEFAULT" and r is rows[0])), None
    )
    if row is not None:
        interpolation = "bicubic" if row.interpolation == "bicubic" else "bilinear"
        return Preprocess(
            (row.size, row.size),
            resize=max(row.resize, row.size),
            interpolation=cast(Any, interpolation),
            mean=row.mean,
            std=row.std,
        )
    bundle = described(weights)
    if bundle is not None:
        return Preprocess.from_dict(bundle["preprocess"])
    channels, height, width = info.input
    return Preprocess((height, width), cast(Any, channels), mean=info.mean, std=info.std)


def described(weights: str | Path) -> dict[str, Any] | None:
    """The model.json that lies beside the weights of a run or Bundle, whose folder or file `weights` is; else None."""
    from sightline.bundle import WEIGHTS_FILE, read_description

    path = Path(weights).expanduser()
    folder = path.parent if path.name == WEIGHTS_FILE else path
    return read_description(folder) if (folder / DESCRIPTION_FILE).is_file() else None


def preprocess_of_module(module: nn.Module) -> Preprocess:
    """Of a module that `create_model` or timm made. Raises SightlineError for any other."""
    from sightline.models import model_info

    cfg = getattr(module, "pretrained_cfg", None)
    if cfg:
        cfg = dict(cfg if isinstance(cfg, dict) else vars(cfg))
        channels, height, width = cfg["input_size"]
        resize = round(min(height, width) / (cfg.get("crop_pct") or 1))
        way: Any = "bicubic" if cfg.get("interpolation") == "bicubic" else "bilinear"
        return Preprocess(
            (height, width), channels, resize=max(resize, height, width), interpolation=way,
            mean=tuple(cfg["mean"]), std=tuple(cfg["std"]),
        )  # fmt: skip
    name = getattr(module, "architecture", None)
    if name is None:
        raise SightlineError(
            f"What pictures {type(module).__name__} takes is not known; give its Preprocess as preprocess."
        )
    info = model_info(name)
    return Preprocess(info.input[1:], cast(Any, info.input[0]), resize=None, mean=info.mean, std=info.std)


def stage_rows(module: nn.Module) -> list[dict[str, Any]]:
    """The rows of a network's `feature_info`, ours or timm's; none where it has none."""
    info: Any = getattr(module, "feature_info", None)
    rows = getattr(info, "info", info)
    return list(rows) if isinstance(rows, list | tuple) else []
