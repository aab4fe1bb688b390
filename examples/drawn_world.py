"""A drawn world, small enough to be learnt from scratch and to be tested in every corner.

    python examples/drawn_world.py FOLDER [--pictures N] [--seed S] [--quick]
    python examples/drawn_world.py --sheet FILE.png      # one of each pair; those held out have a frame

8 colours x 8 shapes x 3 sizes x 4 places, one figure a picture, on textured grounds, each with three captions in
sentences of several forms. 13 of the 64 pairs of a colour and a shape (20 %) are held out: no training picture shows
them and no caption names them together, so that whoever names them has understood both words. It is written as a
folder with `captions.csv` (path, caption, split), which `sightline fit --objective contrastive` takes; `things.csv`
(part, path, colour, shape, size, place) tells what the test pictures show, and those of the part `heldout`, pictures
of the pairs that were held out, which no split has.
"""

from __future__ import annotations

import csv
import itertools
import math
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw

SIDE = 64  # pixels of a picture
FINER = 4  # a figure is drawn so many times larger, then reduced: smooth edges

COLOURS = {
    "red": (214, 40, 40), "green": (40, 160, 60), "blue": (40, 80, 220), "yellow": (240, 210, 40),
    "purple": (140, 50, 180), "cyan": (40, 205, 220), "white": (250, 250, 250), "black": (15, 15, 15),
}  # fmt: skip
SHAPES = ("circle", "square", "triangle", "star", "cross", "ring", "heart", "crescent")
SIZES = {"small": 0.15, "medium": 0.21, "large": 0.28}  # radius, as a share of the side
PLACES = {
    "top left": (0.32, 0.32), "top right": (0.68, 0.32), "bottom left": (0.32, 0.68), "bottom right": (0.68, 0.68),
}  # fmt: skip
GROUNDS = ("noise", "stripes", "checks", "clouds")
# The diagonal and five more: of each word one or two pairs are held out of eight, never more.
HELD_OUT = tuple((c, c) for c in range(8)) + tuple((c, (c + 3) % 8) for c in range(0, 8, 2)) + ((5, 0),)

# Sentences of these forms are learnt. Most tell nearly all: the more captions leave out, the more of those of other
# pictures in a batch are right by accident.
FORMS = (
    "a {size} {colour} {shape} at the {place}",
    "a {colour} {shape}",
    "the {shape} at the {place} is {colour}",
    "there is a {colour} {shape} of {size} size at the {place}",
    "at the {place} there is a {size} {shape} , which is {colour}",
    "the thing at the {place} is a {size} {shape} and {colour}",
    "a picture of a {shape} that is {colour} and {size}",
    "{colour} is the {shape} of {size} size",
)
# A form that no caption has; it tells all four.
UNSEEN_FORM = "look , {place} is one {shape} , {colour} and rather {size}"


class Thing(NamedTuple):
    """What a picture shows."""

    colour: str
    shape: str
    size: str
    place: str


def pairs(held_out: bool) -> list[tuple[str, str]]:
    """The pairs (colour, shape) that are held out, or those that are not."""
    names = list(COLOURS)
    return [
        (names[c], SHAPES[s])
        for c, s in itertools.product(range(8), range(8))
        if ((c, s) in HELD_OUT) == held_out
    ]


def draw(thing: Thing, rng: np.random.Generator, side: int = SIDE) -> Image.Image:
    """`thing` on a textured ground, RGB; place, size, angle and colour vary a little."""
    x, y = (at + rng.uniform(-0.05, 0.05) for at in PLACES[thing.place])
    radius = SIZES[thing.size] * rng.uniform(0.93, 1.07)
    angle = rng.uniform(-0.25, 0.25)
    colour = np.clip(np.array(COLOURS[thing.colour]) + rng.integers(-14, 15, 3), 0, 255)
    mask = Image.new("L", (side * FINER, side * FINER))
    pen = ImageDraw.Draw(mask)
    for fill, outline in figure(thing.shape):
        scale = side * FINER * radius
        turned = [
            (side * FINER * x + scale * (u * math.cos(angle) - v * math.sin(angle)),
             side * FINER * y + scale * (u * math.sin(angle) + v * math.cos(angle)))
            for u, v in outline
        ]  # fmt: skip
        pen.polygon(turned, fill=fill)
    picture = Image.fromarray(ground(side, rng))
    picture.paste(tuple(int(c) for c in colour), mask=mask.resize((side, side), Image.Resampling.BOX))
    return picture


def figure(shape: str) -> list[tuple[int, list[tuple[float, float]]]]:
    """The outlines of a shape of radius 1, y downwards: (255 to fill or 0 to clear, points)."""

    def arc(radius: float, x: float = 0.0) -> list[tuple[float, float]]:
        return [(x + radius * math.cos(t), radius * math.sin(t)) for t in np.linspace(0, 2 * math.pi, 60)]

    def spikes(count: int, inner: float) -> list[tuple[float, float]]:
        turn = math.pi / count
        radii = [1.0, inner] * count
        return [(r * math.sin(k * turn), -r * math.cos(k * turn)) for k, r in enumerate(radii)]

    if shape == "circle":
        return [(255, arc(0.95))]
    if shape == "ring":
        return [(255, arc(1.0)), (0, arc(0.55))]
    if shape == "crescent":
        return [(255, arc(1.0)), (0, arc(0.85, 0.5))]
    if shape == "square":
        return [(255, [(-0.85, -0.85), (0.85, -0.85), (0.85, 0.85), (-0.85, 0.85)])]
    if shape == "triangle":
        return [(255, [(0.0, -1.0), (0.95, 0.75), (-0.95, 0.75)])]
    if shape == "star":
        return [(255, spikes(5, 0.4))]
    if shape == "cross":
        a = 0.32
        corners = [
            (-a, -1),
            (a, -1),
            (a, -a),
            (1, -a),
            (1, a),
            (a, a),
            (a, 1),
            (-a, 1),
            (-a, a),
            (-1, a),
            (-1, -a),
        ]
        return [(255, [(float(x), float(y)) for x, y in [*corners, (-a, -a)]])]
    t = np.linspace(0, 2 * math.pi, 60)  # the heart's curve
    x, y = 16 * np.sin(t) ** 3, 13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t)
    return [(255, list(zip((x / 17).tolist(), (-y / 17).tolist(), strict=True)))]


def ground(side: int, rng: np.random.Generator) -> np.ndarray:
    """A texture in two muted colours, uint8 (side, side, 3)."""
    first = rng.uniform(80, 170) + rng.uniform(-20, 20, 3)
    second = first + rng.uniform(-45, 45) + rng.uniform(-15, 15, 3)
    y, x = np.mgrid[:side, :side]
    kind = GROUNDS[rng.integers(len(GROUNDS))]
    if kind == "noise":
        share = rng.uniform(0, 1, (side, side))
    elif kind == "stripes":
        turn = rng.uniform(0, math.pi)
        share = np.sin((x * math.cos(turn) + y * math.sin(turn)) * rng.uniform(0.3, 0.9)) * 0.5 + 0.5
    elif kind == "checks":
        width = rng.integers(4, 9)
        share = ((x // width + y // width) % 2).astype(float)
    else:
        coarse = Image.fromarray((rng.uniform(0, 255, (6, 6))).astype(np.uint8))
        share = np.asarray(coarse.resize((side, side), Image.Resampling.BICUBIC)) / 255.0
    texture = first + share[..., None] * (second - first) + rng.normal(0, 4, (side, side, 1))
    return np.clip(texture, 0, 255).astype(np.uint8)


def sentences(thing: Thing, count: int, rng: np.random.Generator) -> list[str]:
    """`count` captions of `thing`, each of another form."""
    return [FORMS[k].format(**thing._asdict()) for k in rng.choice(len(FORMS), count, replace=False)]


def things(count: int, held_out: bool, rng: np.random.Generator) -> Iterator[Thing]:
    """`count` things of the pairs that are held out, or of those that are not, evenly over the pairs."""
    known = pairs(held_out)
    for k in range(count):
        colour, shape = known[k % len(known)]
        yield Thing(colour, shape, str(rng.choice(list(SIZES))), str(rng.choice(list(PLACES))))


def write_world(folder: Path, pictures: int = 6000, seed: int = 0, side: int = SIDE) -> Path:
    """Draw the world into `folder`: `pictures` for training, a tenth as many each for validation and test, and as
    many of the pairs that are held out. Returns captions.csv."""
    rng = np.random.default_rng(seed)
    rest = max(64, pictures // 10)
    captions: list[tuple[str, ...]] = []
    truth: list[tuple[str, ...]] = []
    for part, count in (("train", pictures), ("val", rest), ("test", rest), ("heldout", rest)):
        (folder / part).mkdir(parents=True, exist_ok=True)
        for k, thing in enumerate(things(count, part == "heldout", rng)):
            name = f"{part}/{k:05}.png"
            draw(thing, rng, side).save(folder / name, compress_level=1)
            if part != "heldout":
                captions += [(name, caption, part) for caption in sentences(thing, 3, rng)]
            if part in ("test", "heldout"):
                truth.append((part, name, *thing))
    for name, header, lines in (
        ("captions.csv", ("path", "caption", "split"), captions),
        ("things.csv", ("part", "path", *Thing._fields), truth),
    ):
        with (folder / name).open("w", encoding="utf-8", newline="") as file:
            csv.writer(file, lineterminator="\n").writerows([header, *lines])
    return folder / "captions.csv"


def read_things(folder: Path, part: str) -> tuple[list[Path], list[Thing]]:
    """The pictures of `part`, `test` or `heldout`, and what they show."""
    with (folder / "things.csv").open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["part"] == part]
    shown = [Thing(row["colour"], row["shape"], row["size"], row["place"]) for row in rows]
    return [folder / row["path"] for row in rows], shown


def sheet() -> Image.Image:
    """One picture of each pair, colours down and shapes across; those that are held out have a white frame."""
    rng = np.random.default_rng(0)
    cell = SIDE + 8
    page = Image.new("RGB", (8 * cell, 8 * cell), (60, 60, 60))
    for row, column in itertools.product(range(8), range(8)):
        size, place = list(SIZES)[(row + column) % 3], list(PLACES)[(3 * row + column) % 4]
        left, top = column * cell + 4, row * cell + 4
        if (row, column) in HELD_OUT:
            ImageDraw.Draw(page).rectangle((left - 3, top - 3, left + SIDE + 2, top + SIDE + 2), fill="white")
        page.paste(draw(Thing(list(COLOURS)[row], SHAPES[column], size, place), rng), (left, top))
    return page


def main() -> None:
    arguments = sys.argv[1:]
    quick = "--quick" in arguments
    given = dict(itertools.pairwise(arguments))
    if "--sheet" in given:
        sheet().quantize(128, dither=Image.Dither.NONE).save(given["--sheet"], optimize=True)
        print(given["--sheet"])
        return
    count = int(given.get("--pictures", 100 if quick else 6000))
    with tempfile.TemporaryDirectory() as empty:
        place = Path(arguments[0]) if arguments and not arguments[0].startswith("--") else Path(empty)
        captions = write_world(place, count, int(given.get("--seed", 0)))
        rows = list(csv.DictReader(captions.open(encoding="utf-8")))
        print(f"{len({row['path'] for row in rows}):,} pictures and {len(rows):,} captions in {captions}")
        print(*(f"  {row['path']}: {row['caption']}" for row in rows[:3]), sep="\n")


if __name__ == "__main__":
    main()
