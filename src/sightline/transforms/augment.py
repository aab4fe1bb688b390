"""Random maps over pictures, spelled as text: `"hflip(0.5) + rotate(30)"`.

Each step is a pure function of a picture and a few uniform numbers in [0, 1). People call an `Augment` with a
random generator; the training loop hands it numbers keyed by (seed, epoch, sample, step), so that what happens to
a sample depends neither on the number of workers nor on where a run was interrupted. The maps are Pillow's or
OpenCV's where those are the fastest, else torchvision's v2 functionals; our own only where nobody has one.
"""

from __future__ import annotations

import ast
import inspect
import math
from dataclasses import dataclass, fields, replace
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from PIL import Image

from sightline.errors import SightlineError, UnknownName
from sightline.transforms import automatic, colour, crops, geometry, mixing, noise
from sightline.transforms.mixing import Mixing
from sightline.transforms.policies import POLICIES
from sightline.transforms.step import Picture, Size, Step

STEPS: dict[str, type[Step]] = {
    step.name: step
    for step in (
        geometry.HFlip, geometry.VFlip, geometry.Rotate, geometry.Scale, geometry.Shear, geometry.Perspective,
        geometry.Elastic, crops.Crop, crops.Translate, crops.RandomResizedCrop, crops.ScaleJitter,
        colour.ColorJitter, colour.Grey, colour.PcaColor, noise.Noise, noise.SaltPepper, noise.Blur, noise.Erase,
        automatic.RandAugment, automatic.TrivialAugment, automatic.AutoAugment, automatic.AugMix,
    )
}  # fmt: skip
MIXINGS: dict[str, type[Mixing]] = {"mixup": mixing.MixUp, "cutmix": mixing.CutMix}


@dataclass(frozen=True)
class Augment:
    """A chain of random maps, in the order written; `mixing` are those over whole batches, which come last.

    `Augment.parse("crop(4) + hflip")` builds one from text or from a named policy; `str` gives the text back.
    `size` is the (height, width) that crops cut to; None keeps each picture's own.
    """

    steps: tuple[Step, ...] = ()
    size: Size | None = None
    mixing: tuple[Mixing, ...] = ()

    @property
    def draws(self) -> int:
        """How many uniform numbers decide one picture."""
        return sum(step.draws for step in self.steps)

    @property
    def mixing_draws(self) -> int:
        """How many uniform numbers decide how one batch is mixed."""
        return sum(step.draws for step in self.mixing)

    def __call__(self, image: Picture, rng: np.random.Generator | None = None) -> Picture:
        """One random version of `image` (Pillow in L or RGB, or uint8 tensor); `rng` makes it repeatable.

        A tensor (C, H, W) is one picture; in a batch (N, C, H, W) each picture is drawn for by itself. Batches are
        not mixed here: that takes their labels too, and is what `mix` does. Raises SightlineError for pictures of
        another kind.
        """
        rng = rng or np.random.default_rng()
        if isinstance(image, Image.Image):
            if image.mode not in ("L", "RGB"):
                raise SightlineError(
                    f"Pictures are augmented in the mode RGB or L, not {image.mode}; convert them first."
                )
        elif image.dtype != torch.uint8 or image.ndim not in (3, 4) or image.shape[-3] not in (1, 3):
            raise SightlineError(
                "Tensors are augmented as uint8 of shape (C, H, W) or (N, C, H, W) with 1 or 3 channels, not "
                f"{str(image.dtype).removeprefix('torch.')} of shape {tuple(image.shape)}; augment before scaling."
            )
        elif image.ndim == 4:
            return self.apply_batch(image, rng.random((len(image), self.draws)))
        return self.apply(image, rng.random(self.draws))

    def apply(self, image: Picture, u: np.ndarray) -> Picture:
        """The version of `image` that `u` of shape (draws,) decides."""
        start = 0
        for step in self.steps:
            image = step.apply(image, u[start : start + step.draws], self.size)
            start += step.draws
        return image

    def apply_batch(self, images: torch.Tensor, u: np.ndarray) -> torch.Tensor:
        """The versions of uint8 `images` (N, C, H, W) that `u` (N, draws) decides; the pixels of `apply` to each."""
        start = 0
        for step in self.steps:
            images = step.apply_batch(images, u[:, start : start + step.draws], self.size)
            start += step.draws
        return images

    def mix(
        self, images: torch.Tensor, targets: torch.Tensor, u: np.ndarray
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """`images` (N, C, H, W) and `targets` (N, classes), one-hot or soft, mixed as `u` (mixing_draws,) decides."""
        start = 0
        for step in self.mixing:
            images, targets = step.mix(images, targets, u[start : start + step.draws])
            start += step.draws
        return images, targets

    def split(self) -> tuple[Augment, Augment]:
        """(head, tail): the steps to take a picture at a time, and those after them that batches are faster in.

        The columns of `u` are split in the same order: the head's, then the tail's.
        """
        cut = len(self.steps)
        while cut and self.steps[cut - 1].batchable:
            cut -= 1
        return Augment(self.steps[:cut], self.size), Augment(self.steps[cut:], self.size, self.mixing)

    def resized(self, size: Size | None) -> Augment:
        """The same chain, cutting to `size`."""
        return replace(self, size=size)

    def __str__(self) -> str:
        return " + ".join(map(str, (*self.steps, *self.mixing))) or "none"

    @classmethod
    def parse(cls, text: str, size: Size | None = None) -> Augment:
        """Read `text`: a policy's name, or steps joined by `+`, such as `"crop(4) + hflip(0.5)"`.

        Raises SightlineError with the place of the mistake marked.
        """
        text = " ".join(text.split())
        spelled = POLICIES[text].steps if text in POLICIES else text
        if spelled in ("", "none"):
            return cls((), size)
        try:
            tree = ast.parse(spelled, mode="eval").body
            placed = read_steps(tree, spelled)
        except SyntaxError as error:
            column = min(error.offset - 1, len(spelled)) if error.offset else len(spelled)
            raise mistake(spelled, column, "this is not a step such as hflip(0.5)") from None
        except (ValueError, RecursionError, MemoryError):  # a zero byte, or thousands of steps
            raise SightlineError(
                "The augmentation cannot be read; it is steps such as hflip(0.5), joined by +."
            ) from None
        steps = [step for _, step in placed if isinstance(step, Step)]
        last = [step for _, step in placed if isinstance(step, Mixing)]
        for (_, before), (column, step) in pairwise(placed):
            if isinstance(before, Mixing) and isinstance(step, Step):
                why = f"{before.name} mixes whole batches, so it comes after all other steps"
                raise mistake(spelled, column, why)
        return cls(tuple(steps), size, tuple(last))


def read_steps(node: ast.expr, text: str) -> list[tuple[int, Step | Mixing]]:
    """The steps of a parsed sum, left to right, each with its place in the text."""
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return read_steps(node.left, text) + read_steps(node.right, text)
    column = len(text.encode()[: node.col_offset].decode())  # Python counts bytes
    call = node if isinstance(node, ast.Call) else ast.Call(func=node, args=[], keywords=[])
    if not isinstance(call.func, ast.Name):
        raise mistake(text, column, "steps are calls such as hflip(0.5), joined by +")
    name = call.func.id
    if name in POLICIES:
        if isinstance(node, ast.Call):
            raise mistake(text, column, f"{name} is a policy and is written without brackets")
        policy = Augment.parse(name)
        members: tuple[Step | Mixing, ...] = (*policy.steps, *policy.mixing)
        return [(column, step) for step in members]
    known: dict[str, Any] = {**STEPS, **MIXINGS}
    if name not in known:
        unknown = UnknownName("augmentation", name, [*known, *POLICIES])
        raise mistake(text, column, str(unknown).rstrip("."))
    try:
        return [(column, build(known[name], call))]
    except (TypeError, ValueError) as error:
        raise mistake(text, column, f"{name}: {error}") from None


def build(make: Any, call: ast.Call) -> Step | Mixing:
    """The step of the class `make` that `call` spells. Raises TypeError or ValueError for wrong arguments."""
    args, named = [literal(a) for a in call.args], {k.arg or "**": literal(k.value) for k in call.keywords}
    if len(named) < len(call.keywords):
        raise ValueError("an argument is given twice")
    given = inspect.signature(make).bind(*args, **named)
    for field in fields(make):
        if field.name in given.arguments:
            check_kind(field.name, given.arguments[field.name], field.default)
    step: Step | Mixing = make(*given.args, **given.kwargs)
    return step


def literal(node: ast.expr) -> Any:
    """The number or the quoted word that is written there."""
    try:
        return ast.literal_eval(node)
    except ValueError:
        raise ValueError(f"{ast.unparse(node)} is neither a number nor a word in quotes") from None


def check_kind(name: str, value: Any, default: Any) -> None:
    """Numbers where numbers are expected, whole ones where the default is whole; words are the step's own matter."""
    number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if isinstance(default, int) and not (number and isinstance(value, int)):
        raise ValueError(f"{name} is a whole number, not {value!r}")
    if isinstance(default, float) and not number:
        raise ValueError(f"{name} is a number, not {value!r}")
    if isinstance(default, str) and not (number or isinstance(value, str)):
        raise ValueError(f"{name} is a word in quotes, not {value!r}")


def mistake(text: str, column: int, why: str) -> SightlineError:
    return SightlineError(
        f"The augmentation cannot be read at character {column + 1}: {why}.\n  {text}\n  {' ' * column}^"
    )
