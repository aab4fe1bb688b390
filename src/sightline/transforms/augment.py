"""Random maps over pictures, spelled as text: `"hflip(0.5) + rotate(30)"`.

Each step is a pure function of a picture and a few uniform numbers in [0, 1). People call an `Augment` with a
random generator; the training loop hands it numbers keyed by (seed, epoch, sample, step), so that what happens to
a sample depends neither on the number of workers nor on where a run was interrupted. The maps are Pillow's on
Pillow images and torchvision's v2 functionals on tensors; our own only where neither has one.
"""

from __future__ import annotations

import ast
import inspect
from collections.abc import Callable
from dataclasses import MISSING, dataclass, fields, replace
from typing import Any, ClassVar, TypeVar

import numpy as np
import torch
from PIL import Image

from sightline.errors import SightlineError, UnknownName
from sightline.transforms.functional import Fill, crop_batch, gaussian_noise
from sightline.transforms.policies import POLICIES
from sightline.transforms.preprocess import to_tensor

Picture = TypeVar("Picture", Image.Image, torch.Tensor)
Size = tuple[int, int]


class Step:
    """One random map. `draws` uniform numbers decide it; `batchable` steps also serve whole batches of one size."""

    draws: ClassVar[int]
    batchable: ClassVar[bool] = False

    def apply(self, image: Any, u: np.ndarray, size: Size | None) -> Any:
        """`image` (Pillow, or tensor of shape (C, H, W)) mapped by `u` of shape (draws,).

        `size` is the (height, width) that the network wants; None leaves the picture's own.
        """
        raise NotImplementedError

    def apply_batch(self, images: torch.Tensor, u: np.ndarray, size: Size | None) -> torch.Tensor:
        """`images` (N, C, H, W) mapped by `u` (N, draws): the same pixels as `apply` one by one."""
        return torch.stack([self.apply(image, row, size) for image, row in zip(images, u, strict=True)])

    def __str__(self) -> str:
        given = [f for f in fields(self) if f.default is MISSING or getattr(self, f.name) != f.default]  # type: ignore[arg-type]
        return f"{NAMES[type(self)]}({', '.join(f'{f.name}={getattr(self, f.name)!r}' for f in given)})"


def check(ok: bool, message: str) -> None:
    if not ok:
        raise ValueError(message)


@dataclass(frozen=True)
class HFlip(Step):
    """Mirror left and right with probability `p`."""

    p: float = 0.5
    draws: ClassVar[int] = 1
    batchable: ClassVar[bool] = True
    axis: ClassVar[int] = -1
    transpose: ClassVar[Image.Transpose] = Image.Transpose.FLIP_LEFT_RIGHT

    def __post_init__(self) -> None:
        check(0 <= self.p <= 1, "p is a probability, 0 to 1")

    def apply(self, image: Picture, u: np.ndarray, size: Size | None) -> Picture:  # noqa: ARG002
        if u[0] >= self.p:
            return image
        return image.transpose(self.transpose) if isinstance(image, Image.Image) else image.flip(self.axis)

    def apply_batch(self, images: torch.Tensor, u: np.ndarray, size: Size | None) -> torch.Tensor:  # noqa: ARG002
        flip = torch.from_numpy(u[:, 0] < self.p).to(images.device)
        return torch.where(flip[:, None, None, None], images.flip(self.axis), images)


@dataclass(frozen=True)
class VFlip(HFlip):
    """Mirror top and bottom with probability `p`."""

    axis: ClassVar[int] = -2
    transpose: ClassVar[Image.Transpose] = Image.Transpose.FLIP_TOP_BOTTOM


@dataclass(frozen=True)
class Crop(Step):
    """Cut the network's size (or the picture's own) at a random place, after padding every side.

    `padding` below 1 is a share of the cut's longer side, from 1 on a number of pixels.
    """

    padding: float = 0.0
    fill: Fill = "zero"
    draws: ClassVar[int] = 2
    batchable: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check(self.padding >= 0, "padding is a share below 1 or a number of pixels, not negative")
        check(self.fill in ("zero", "reflect"), "fill is 'zero' or 'reflect'")

    def apply(self, image: Any, u: np.ndarray, size: Size | None) -> Any:
        if isinstance(image, Image.Image):
            return to_pil(self.apply_batch(to_tensor(image)[None], u[None], size)[0])
        return self.apply_batch(image[None], u[None], size)[0]

    def apply_batch(self, images: torch.Tensor, u: np.ndarray, size: Size | None) -> torch.Tensor:
        height, width = images.shape[-2:]
        size = size or (height, width)
        pad = round(self.padding * max(size)) if self.padding < 1 else round(self.padding)
        if min(height - size[0], width - size[1]) + 2 * pad < 0:
            raise SightlineError(
                f"crop cannot cut {size[0]}x{size[1]} out of pictures of {height}x{width}; "
                "make input.store_size at least the network's size."
            )
        # Whole corners from -pad to (side - size + pad), each as likely.
        top = np.floor(u[:, 0] * (height - size[0] + 2 * pad + 1)).astype(np.int64) - pad
        left = np.floor(u[:, 1] * (width - size[1] + 2 * pad + 1)).astype(np.int64) - pad
        return crop_batch(images, top, left, size, self.fill)


@dataclass(frozen=True)
class Translate(Step):
    """Shift by up to `fraction` of each side, a whole number of pixels; what enters is black."""

    fraction: float = 0.1
    draws: ClassVar[int] = 2
    batchable: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check(0 <= self.fraction <= 1, "fraction is a share of the side, 0 to 1")

    def apply(self, image: Any, u: np.ndarray, size: Size | None) -> Any:
        if isinstance(image, Image.Image):
            return to_pil(self.apply_batch(to_tensor(image)[None], u[None], size)[0])
        return self.apply_batch(image[None], u[None], size)[0]

    def apply_batch(self, images: torch.Tensor, u: np.ndarray, size: Size | None) -> torch.Tensor:  # noqa: ARG002
        height, width = images.shape[-2:]
        top = np.rint((2 * u[:, 0] - 1) * self.fraction * height).astype(np.int64)
        left = np.rint((2 * u[:, 1] - 1) * self.fraction * width).astype(np.int64)
        return crop_batch(images, top, left, (height, width), "zero")


@dataclass(frozen=True)
class Rotate(Step):
    """Turn by up to `degrees` either way about the centre, bilinear, the same size; the corners are black."""

    degrees: float = 15.0
    draws: ClassVar[int] = 1

    def __post_init__(self) -> None:
        check(0 <= self.degrees <= 180, "degrees lies between 0 and 180")

    def apply(self, image: Picture, u: np.ndarray, size: Size | None) -> Picture:  # noqa: ARG002
        angle = (2 * float(u[0]) - 1) * self.degrees
        if isinstance(image, Image.Image):
            return image.rotate(angle, Image.Resampling.BILINEAR)
        from torchvision.transforms.v2 import InterpolationMode
        from torchvision.transforms.v2 import functional as F

        turned: torch.Tensor = F.rotate(image, angle, interpolation=InterpolationMode.BILINEAR)
        return turned


@dataclass(frozen=True)
class RandomResizedCrop(Step):
    """Cut a random part of the area, with a random aspect ratio, and resize it to the network's size.

    Szegedy et al. 2014, section 6; the drawing is torchvision's: ten tries, then the largest centre part.
    """

    scale_min: float = 0.08
    scale_max: float = 1.0
    ratio: float = 4 / 3
    draws: ClassVar[int] = 40

    def __post_init__(self) -> None:
        check(
            0 < self.scale_min <= self.scale_max <= 1, "0 < scale_min <= scale_max <= 1, shares of the area"
        )
        check(self.ratio >= 1, "ratio is the widest aspect, 1 or more")

    def box(self, height: int, width: int, u: np.ndarray) -> tuple[int, int, int, int]:
        """(top, left, height, width) of the part, drawn by `u` (40,)."""
        log_ratio = np.log(self.ratio)
        for area, aspect, y, x in u.reshape(10, 4):
            target = height * width * (self.scale_min + area * (self.scale_max - self.scale_min))
            ratio = np.exp((2 * aspect - 1) * log_ratio)
            w, h = round(float(np.sqrt(target * ratio))), round(float(np.sqrt(target / ratio)))
            if 0 < w <= width and 0 < h <= height:
                return int(y * (height - h + 1)), int(x * (width - w + 1)), h, w
        w = min(width, round(height * self.ratio))
        h = min(height, round(width * self.ratio))
        return (height - h) // 2, (width - w) // 2, h, w

    def apply(self, image: Picture, u: np.ndarray, size: Size | None) -> Picture:
        if isinstance(image, Image.Image):
            top, left, h, w = self.box(image.height, image.width, u)
            out = size or (image.height, image.width)
            part = image.crop((left, top, left + w, top + h))
            return part.resize(out[::-1], Image.Resampling.BILINEAR)
        from torchvision.transforms.v2 import functional as F

        top, left, h, w = self.box(image.shape[-2], image.shape[-1], u)
        out = size or (image.shape[-2], image.shape[-1])
        cut: torch.Tensor = F.resized_crop(image, top, left, h, w, list(out), antialias=True)
        return cut


@dataclass(frozen=True)
class Noise(Step):
    """Add Gaussian noise of standard deviation `std`, as a share of the whole range."""

    std: float = 0.05
    draws: ClassVar[int] = 1

    def __post_init__(self) -> None:
        check(0 <= self.std <= 1, "std is a share of the range, 0 to 1")

    def apply(self, image: Picture, u: np.ndarray, size: Size | None) -> Picture:  # noqa: ARG002
        if isinstance(image, Image.Image):
            return Image.fromarray(gaussian_noise(np.asarray(image), self.std, float(u[0])))
        noisy = gaussian_noise(image.cpu().numpy(), self.std, float(u[0]))
        return torch.from_numpy(noisy).to(image.device)


STEPS: dict[str, type[Step]] = {
    "hflip": HFlip,
    "vflip": VFlip,
    "crop": Crop,
    "translate": Translate,
    "rotate": Rotate,
    "random_resized_crop": RandomResizedCrop,
    "noise": Noise,
}
NAMES = {step: name for name, step in STEPS.items()}


@dataclass(frozen=True)
class Augment:
    """A chain of random maps, in the order written.

    `Augment.parse("crop(4) + hflip")` builds one from text or from a named policy; `str` gives the text back.
    `size` is the (height, width) that crops cut to; None keeps each picture's own.
    """

    steps: tuple[Step, ...] = ()
    size: Size | None = None

    @property
    def draws(self) -> int:
        """How many uniform numbers decide one picture."""
        return sum(step.draws for step in self.steps)

    @property
    def batchable(self) -> bool:
        """Whether every step serves a whole batch at once."""
        return all(step.batchable for step in self.steps)

    def __call__(self, image: Picture, rng: np.random.Generator | None = None) -> Picture:
        """One random version of `image` (Pillow, or uint8 tensor (C, H, W)); `rng` makes it repeatable."""
        return self.apply(image, (rng or np.random.default_rng()).random(self.draws))

    def apply(self, image: Picture, u: np.ndarray) -> Picture:
        """The version of `image` that `u` of shape (draws,) decides."""
        start = 0
        for step in self.steps:
            image = step.apply(image, u[start : start + step.draws], self.size)
            start += step.draws
        return image

    def apply_batch(self, images: torch.Tensor, u: np.ndarray) -> torch.Tensor:
        """The versions of uint8 `images` (N, C, H, W) that `u` (N, draws) decides; the same pixels as `apply`."""
        start = 0
        for step in self.steps:
            images = step.apply_batch(images, u[:, start : start + step.draws], self.size)
            start += step.draws
        return images

    def resized(self, size: Size | None) -> Augment:
        """The same chain, cutting to `size`."""
        return replace(self, size=size)

    def __str__(self) -> str:
        return " + ".join(map(str, self.steps)) or "none"

    @classmethod
    def parse(cls, text: str, size: Size | None = None) -> Augment:
        """Read `text`: a policy's name, or steps joined by `+`, such as `"crop(4) + hflip(0.5)"`.

        Raises SightlineError with the place of the mistake marked.
        """
        spelled = POLICIES[text.strip()].steps if text.strip() in POLICIES else text
        if spelled.strip() in ("", "none"):
            return cls((), size)
        try:
            tree = ast.parse(spelled.strip(), mode="eval").body
        except SyntaxError as error:
            raise mistake(
                spelled.strip(), (error.offset or 1) - 1, "this is not a step such as hflip(0.5)"
            ) from None
        return cls(tuple(read_steps(tree, spelled.strip())), size)


def read_steps(node: ast.expr, text: str) -> list[Step]:
    """The steps of a parsed sum, left to right."""
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return read_steps(node.left, text) + read_steps(node.right, text)
    call = node if isinstance(node, ast.Call) else ast.Call(func=node, args=[], keywords=[])
    if not isinstance(call.func, ast.Name):
        raise mistake(text, node.col_offset, "steps are calls such as hflip(0.5), joined by +")
    name = call.func.id
    if name in POLICIES and not call.args and not call.keywords:
        return list(Augment.parse(name).steps)
    if name not in STEPS:
        unknown = UnknownName("augmentation", name, [*STEPS, *POLICIES])
        raise mistake(text, node.col_offset, str(unknown).rstrip("."))
    build: Callable[..., Step] = STEPS[name]
    try:
        args = [ast.literal_eval(a) for a in call.args]
        named = {str(k.arg): ast.literal_eval(k.value) for k in call.keywords}
        inspect.signature(build).bind(*args, **named)
        return [build(*args, **named)]
    except (TypeError, ValueError) as error:
        raise mistake(text, node.col_offset, f"{name}: {error}") from None


def mistake(text: str, column: int, why: str) -> SightlineError:
    return SightlineError(
        f"The augmentation cannot be read at character {column + 1}: {why}.\n  {text}\n  {' ' * column}^"
    )


def to_pil(tensor: torch.Tensor) -> Image.Image:
    """A uint8 tensor (C, H, W) as a Pillow image, grey for one channel."""
    array = tensor.cpu().numpy()
    return Image.fromarray(array[0] if array.shape[0] == 1 else array.transpose(1, 2, 0))
