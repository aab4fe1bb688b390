"""A small CLIP from scratch, and the proof that it understood words: it names what it was never told.

    python examples/clip_from_scratch.py [--quick] [--seed S] [--out FOLDER] [--figure FILE.png] [CAPTIONS]

Without CAPTIONS it draws a world (`drawn_world.py`) of 8 colours x 8 shapes in which 13 of the 64 pairs are held out,
learns pictures and captions into one space, and then names pictures of the held-out pairs among all 64 by sentences
alone. Beside it: the answer of the nearest training caption, which can never be right, for no caption names these
pairs; and how well the sentences of a form that no caption has are ranked. With CAPTIONS (a manifest of path,caption
or a folder with captions) it trains on those, and tells recall against chance.
"""

from __future__ import annotations

import sys
import tempfile
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np
import torch
from drawn_world import COLOURS, PLACES, SHAPES, SIZES, UNSEEN_FORM, Thing, read_things, write_world
from PIL import Image, ImageDraw, ImageFont

import sightline
from sightline.data import read_image
from sightline.data.captions import open_captions
from sightline.evaluation import Estimate
from sightline.evaluation.intervals import wilson
from sightline.models.clip import CLIP
from sightline.models.clip_folder import KeptClip, encode_texts

PAIRS = list(product(COLOURS, SHAPES))
# What a pair is called, in forms that training has seen; their embeddings are averaged, as the paper does.
NAMES = (
    "a {colour} {shape}",
    "a picture of a {shape} that is {colour} and {size}",
    "{colour} is the {shape} of {size} size",
)


@dataclass(frozen=True)
class Understanding:
    """On pictures of a part. pair, colour, shape: named among 64 pairs. nearest_*: of the nearest training caption
    that tells them. unseen_*: the true sentence of the unseen form, at 1 and 5 among all 768."""

    pair: Estimate
    colour: Estimate
    shape: Estimate
    nearest_pair: Estimate
    nearest_colour: Estimate
    nearest_shape: Estimate
    unseen_at_1: Estimate
    unseen_at_5: Estimate
    unseen_rank: float


def share(hits: list[bool] | np.ndarray) -> Estimate:
    """The share of hits with Wilson's interval."""
    low, high = wilson(int(np.sum(hits)), len(hits))
    return Estimate(float(np.mean(hits)), float(low), float(high), len(hits))


@torch.inference_mode()
def picture_embeddings(model: CLIP, kept: KeptClip, pictures: list[Path]) -> torch.Tensor:
    """(N, D), of length one."""
    rows = []
    for start in range(0, len(pictures), 128):
        batch = torch.stack([kept.preprocess(read_image(path)) for path in pictures[start : start + 128]])
        rows.append(model.encode_image(kept.preprocess.normalize(batch), normalize=True))
    return torch.cat(rows)


def pair_embeddings(model: CLIP, kept: KeptClip) -> torch.Tensor:
    """(64, D), of length one: each pair of PAIRS in several sentences."""
    rows = []
    for colour, shape in PAIRS:
        told = {f.format(colour=colour, shape=shape, size=size) for f in NAMES for size in SIZES}
        rows.append(encode_texts(model, kept.tokenizer, sorted(told)).mean(0))
    return torch.nn.functional.normalize(torch.stack(rows), dim=1)


def understanding(run: Path, world: Path, part: str) -> Understanding:
    """What the CLIP in the folder `run` understood of the pictures of `part` (test, heldout) of the world."""
    kept = KeptClip.load(run)
    model = kept.model()
    pictures, shown = read_things(world, part)
    seen = picture_embeddings(model, kept, pictures)

    answers = [PAIRS[i] for i in (seen @ pair_embeddings(model, kept).T).argmax(1).tolist()]
    captions = sorted(set(open_captions(world).split("train").all_captions()[0]))
    captions = [
        c for c in captions if any(w in c.split() for w in COLOURS) and any(w in c.split() for w in SHAPES)
    ]
    nearest = [
        captions[i].split()
        for i in (seen @ encode_texts(model, kept.tokenizer, captions).T).argmax(1).tolist()
    ]

    everything = [Thing(c, s, size, place) for (c, s), size, place in product(PAIRS, SIZES, PLACES)]
    told = encode_texts(model, kept.tokenizer, [UNSEEN_FORM.format(**t._asdict()) for t in everything])
    near = seen @ told.T
    own = near.gather(1, torch.tensor([everything.index(thing) for thing in shown])[:, None])
    rank = (near >= own).sum(1).numpy()
    return Understanding(
        pair=share([a == (t.colour, t.shape) for a, t in zip(answers, shown, strict=True)]),
        colour=share([a[0] == t.colour for a, t in zip(answers, shown, strict=True)]),
        shape=share([a[1] == t.shape for a, t in zip(answers, shown, strict=True)]),
        nearest_pair=share([{t.colour, t.shape} <= set(n) for n, t in zip(nearest, shown, strict=True)]),
        nearest_colour=share([t.colour in n for n, t in zip(nearest, shown, strict=True)]),
        nearest_shape=share([t.shape in n for n, t in zip(nearest, shown, strict=True)]),
        unseen_at_1=share(rank <= 1),
        unseen_at_5=share(rank <= 5),
        unseen_rank=float(np.median(rank)),
    )


def tell(world: Path, run: Path) -> None:
    """Print what was understood, of pairs that were seen and of those that were held out."""
    for part, what in (("test", "pairs that were trained on"), ("heldout", "pairs that were held out")):
        found = understanding(run, world, part)
        print(f"\n{found.pair.n} pictures of {what} (chance: pair 1.6%, colour and shape 12.5%)")
        for name, pair, colour, shape in (
            ("named by a sentence", found.pair, found.colour, found.shape),
            ("by the nearest caption", found.nearest_pair, found.nearest_colour, found.nearest_shape),
        ):
            print(f"  {name:23} pair {pair}  colour {colour}  shape {shape}")
        print(f"  sentences of an unseen form: the true one of 768 is first {found.unseen_at_1}, ", end="")
        print(f"among five {found.unseen_at_5}, median rank {found.unseen_rank:g}")


def figure(world: Path, run: Path, path: Path, shown: int = 6) -> None:
    """Draw the pictures nearest to some sentences, of test pictures and of pairs that were held out, as a PNG.

    A white frame: the picture shows what the sentence says.
    """
    kept = KeptClip.load(run)
    model = kept.model()
    pictures, things = (
        seen + held
        for seen, held in zip(*(read_things(world, part) for part in ("test", "heldout")), strict=True)
    )
    embedded = picture_embeddings(model, kept, pictures)
    wanted = [
        ("a red circle", {"red", "circle"}),
        ("a picture of a crescent that is black and large", {"black", "crescent", "large"}),
        ("the star at the top left is yellow", {"yellow", "star", "top left"}),
        (UNSEEN_FORM.format(**Thing("blue", "ring", "small", "bottom right")._asdict()), {"blue", "ring", "small"}),
        ("something white at the bottom left", {"white", "bottom left"}),
    ]  # fmt: skip
    side, line = 80, 22
    page = Image.new("RGB", (shown * (side + 8) + 8, len(wanted) * (side + line + 12) + 8), (40, 40, 40))
    pen = ImageDraw.Draw(page)
    for row, (sentence, words) in enumerate(wanted):
        top = 8 + row * (side + line + 12)
        pen.text((8, top), sentence, "white", font=ImageFont.load_default(14))
        near = embedded @ encode_texts(model, kept.tokenizer, [sentence])[0]
        for column, index in enumerate(near.argsort(descending=True)[:shown].tolist()):
            left, upper = 8 + column * (side + 8), top + line
            if words <= set(things[index]):
                pen.rectangle((left - 3, upper - 3, left + side + 2, upper + side + 2), fill="white")
            page.paste(
                read_image(pictures[index]).resize((side, side), Image.Resampling.NEAREST), (left, upper)
            )
    page.quantize(128, dither=Image.Dither.NONE).save(path, optimize=True)


def main() -> None:
    arguments = sys.argv[1:]
    quick = "--quick" in arguments
    values = {"--seed": "0", "--out": None, "--figure": None}
    places = []
    rest = iter(arguments)
    for word in rest:
        if word in values:
            values[word] = next(rest)
        elif not word.startswith("--"):
            places.append(Path(word))
    seed = int(values["--seed"] or 0)
    settings = {"epochs": 1, "model": "clip_small", "model.vision_width": 8} if quick else {}
    with tempfile.TemporaryDirectory() as folder:
        world = (
            places[0] if places else write_world(Path(folder) / "world", 200 if quick else 6000, seed).parent
        )
        out = values["--out"] or Path(folder) / "run"
        run = sightline.fit(world, out=out, objective="contrastive", seed=seed, **settings)
        ways = {
            "caption of a picture": run.retrieval.image_to_text,
            "picture of a caption": run.retrieval.text_to_image,
        }
        for name, way in ways.items():
            told = "  ".join(f"@{k} {way.recall[k]} (chance {way.chance[k]:.1%})" for k in way.recall)
            print(f"{name}: recall {told}")
        if not places:
            tell(world, run.path)
            if values["--figure"]:
                figure(world, run.path, Path(values["--figure"]))


if __name__ == "__main__":
    main()
