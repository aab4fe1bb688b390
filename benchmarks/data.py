"""The input pipeline against torchvision's: ImageFolder (Pillow loader), transforms v2 and DataLoader with two workers.

    python benchmarks/data.py [--pictures 600] [--rounds 3] [--data FOLDER]

JPEGs of 500x375 (drawn, or those of --data, a folder of class folders) to training batches of 64 at 224 pixels, cut and
flipped at random; to batches for evaluation; and 32x32 pictures from memory to training batches. Each side uses both
cores as it does by itself: torchvision by two worker processes, Sightline by two threads. Ours are uint8, as the
network's own first step normalises them; `with_normalisation` counts that step for us, too. The two take turns, and the
figures are medians over the rounds of the ratio of pictures a second. Last result in data.csv.
"""

from __future__ import annotations

import argparse
import csv
import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from check import draw
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from sightline.data import ImageDataset, open_dataset
from sightline.data.image_io import read_image
from sightline.pipeline.cache import Canonical, Prepared, read_all
from sightline.pipeline.loader import PlainPictures, TrainLoader, TrainPictures
from sightline.pipeline.order import epoch_order
from sightline.transforms.augment import Augment
from sightline.transforms.preprocess import IMAGENET_MEAN, IMAGENET_STD, Preprocess

SIZE, BATCH, WORKERS = 224, 64, 2
SMALL, SMALL_COUNT, SMALL_BATCH = 32, 20_000, 128
# What is promised: pictures a second, ours over theirs.
LIMITS = {"first epoch": 1.2, "later epochs": 5.0, "evaluation": 1.4, "32x32 from memory": 10.0}


def rate(batches: Iterable[Any], count: int) -> float:
    """Pictures a second of going through `batches` once."""
    begun = time.perf_counter()
    seen = 0
    for batch in batches:
        seen += len(batch[0])
    assert seen == count, (seen, count)
    return count / (time.perf_counter() - begun)


# Theirs.


def training_v2(size: int, *, cut: bool) -> Any:
    from torchvision.transforms import v2

    crop = v2.RandomResizedCrop(size, scale=(0.35, 1.0)) if cut else v2.RandomCrop(size, 4)
    return v2.Compose([crop, v2.RandomHorizontalFlip(), *to_float()])


def evaluation_v2() -> Any:
    from torchvision.transforms import v2

    return v2.Compose([v2.Resize(256), v2.CenterCrop(SIZE), *to_float()])


def to_float() -> list[Any]:
    from torchvision.transforms import v2

    return [
        v2.PILToTensor(),
        v2.ToDtype(torch.float32, scale=True),
        v2.Normalize(IMAGENET_MEAN, IMAGENET_STD),
    ]


def theirs(folder: Path, transform: Any, *, shuffle: bool) -> DataLoader[Any]:
    from torchvision.datasets import ImageFolder

    return DataLoader(
        ImageFolder(str(folder), transform),
        BATCH,
        shuffle=shuffle,
        num_workers=WORKERS,
        persistent_workers=True,
    )


class InMemory(Dataset[Any]):
    """As torchvision.datasets.CIFAR10: an array, of which each item is made a Pillow image."""

    def __init__(self, pictures: np.ndarray, transform: Any) -> None:
        self.pictures, self.transform = pictures, transform

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        return self.transform(Image.fromarray(self.pictures[index])), 0


# Ours.


def ours(dataset: ImageDataset, held: Prepared, stage: Canonical, augment: str, size: int) -> TrainLoader:
    preprocess = Preprocess((size, size))
    return TrainLoader(TrainPictures(dataset, stage, Augment.parse(augment), preprocess, 0, held), 0)


def epoch_of(loader: TrainLoader, count: int, epoch: int, batch: int) -> Iterable[Any]:
    return loader.epoch(epoch, np.array_split(epoch_order(count, 0, epoch), -(-count // batch)))


def normalised(batches: Iterable[Any], size: int) -> Iterable[Any]:
    """The step that the network takes first, on the batches."""
    preprocess = Preprocess((size, size))
    for batch in batches:
        yield (preprocess.normalize(batch.images),)


# What is measured.


def jpegs(folder: Path, rounds: int) -> dict[str, list[float]]:
    """Ratios of a first epoch, of later ones and of an evaluation."""
    dataset = open_dataset(folder)
    n = len(dataset)
    stage = Canonical(SIZE, "crop")
    other, plain = (
        theirs(folder, training_v2(SIZE, cut=True), shuffle=True),
        theirs(folder, evaluation_v2(), shuffle=False),
    )
    rate(other, n), rate(plain, n)  # its workers have started, and the files are in the system's memory
    ratios: dict[str, list[float]] = {}

    def add(name: str, value: float) -> None:
        ratios.setdefault(name, []).append(value)

    for turn in range(rounds):
        base = rate(other, n)
        begun = time.perf_counter()
        held = read_all(dataset, stage, "RGB")
        loader = ours(dataset, held, stage, "random_resized_crop(0.35) + hflip", SIZE)
        rate(epoch_of(loader, n, 0, BATCH), n)
        add("first epoch", n / (time.perf_counter() - begun) / base)
        base = rate(other, n)
        add("later epochs", rate(epoch_of(loader, n, 1 + turn, BATCH), n) / base)
        add(
            "later epochs, with_normalisation",
            rate(normalised(epoch_of(loader, n, 50 + turn, BATCH), SIZE), n) / base,
        )
        base = rate(plain, n)
        preprocess = Preprocess((SIZE, SIZE), resize=256)
        add("evaluation", rate(PlainPictures(dataset, preprocess).batches(BATCH), n) / base)
        evaluated = normalised(PlainPictures(dataset, preprocess).batches(BATCH), SIZE)
        add("evaluation, with_normalisation", rate(evaluated, n) / base)
        add("torchvision, pictures a second", base)
    return ratios


def small(rounds: int) -> dict[str, list[float]]:
    """The ratio for pictures that are in memory as an array."""
    pictures = np.random.default_rng(0).integers(0, 256, (SMALL_COUNT, SMALL, SMALL, 3), dtype=np.uint8)
    other = DataLoader(
        InMemory(pictures, training_v2(SMALL, cut=False)),
        SMALL_BATCH, shuffle=True, num_workers=WORKERS, persistent_workers=True,
    )  # fmt: skip
    from sightline.data.dataset import Arrays

    dataset = ImageDataset(Arrays([("x", pictures)]), np.zeros(SMALL_COUNT), ["a"], name="small")
    held = Prepared(np.arange(SMALL_COUNT), list(pictures), [])
    loader = ours(dataset, held, Canonical(SMALL, "squash"), "crop(4) + hflip", SMALL)
    rate(other, SMALL_COUNT)
    ratios: dict[str, list[float]] = {"32x32 from memory": [], "32x32 from memory, with_normalisation": []}
    for turn in range(rounds):
        base = rate(other, SMALL_COUNT)
        for name, wrap in (("32x32 from memory", iter), ("32x32 from memory, with_normalisation", as_small)):
            mine = rate(wrap(epoch_of(loader, SMALL_COUNT, turn, SMALL_BATCH)), SMALL_COUNT)
            ratios[name].append(mine / base)
    return ratios


def as_small(batches: Iterable[Any]) -> Iterable[Any]:
    return normalised(batches, SMALL)


def decoding(folder: Path, rounds: int) -> dict[str, list[float]]:
    """`read_image` of bytes over libjpeg-turbo's decoding alone, as OpenCV calls it; in one thread."""
    import cv2

    cv2.setNumThreads(1)
    contents = [path.read_bytes() for path in sorted(folder.rglob("*.jpg"))[:300]]

    def alone(content: bytes) -> Any:
        return cv2.imdecode(
            np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION
        )

    def seconds(decode: Callable[[bytes], Any]) -> float:
        begun = time.thread_time()
        for content in contents:
            decode(content)
        return time.thread_time() - begun

    assert all(np.array_equal(np.asarray(read_image(c)), alone(c)) for c in contents[:50])
    return {
        "decoding, of libjpeg-turbo's alone": [seconds(alone) / seconds(read_image) for _ in range(rounds)]
    }


def difference(folder: Path) -> tuple[int, float]:
    """The largest and the mean difference, of 255, between Preprocess and torchvision's preset on Pillow images."""
    from torchvision.transforms import v2

    preset, preprocess = (
        v2.Compose([v2.Resize(256), v2.CenterCrop(SIZE), v2.PILToTensor()]),
        Preprocess((SIZE, SIZE), resize=256),
    )
    most, total, count = 0, 0.0, 0
    for path in sorted(folder.rglob("*.jpg"))[:100]:
        picture = read_image(path)
        apart = (preset(picture).int() - preprocess(picture).int()).abs()
        most, total, count = max(most, int(apart.max())), total + float(apart.double().mean()), count + 1
    return most, total / count


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pictures", type=int, default=600)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--data", type=Path, help="a folder of class folders with JPEGs, in place of drawn ones"
    )
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".csv"))
    arguments = parser.parse_args()
    torch.set_num_threads(1)  # a batch's pictures are shared out to threads; what is left is small
    with tempfile.TemporaryDirectory() as place:
        folder = arguments.data or Path(place) / "drawn"
        if not arguments.data:
            draw(folder, arguments.pictures)
        ratios = (
            jpegs(folder, arguments.rounds) | small(arguments.rounds) | decoding(folder, arguments.rounds)
        )
        most, mean = difference(folder)
    rows: list[tuple[str, object, object]] = [
        ("data", arguments.data.name if arguments.data else "drawn, 500x375", ""),
        ("pictures", arguments.pictures, ""),
        *((name, round(median(values), 2), LIMITS.get(name, "")) for name, values in ratios.items()),
        ("largest difference of Preprocess, of 255", most, 1),
        ("mean difference of Preprocess, of 255", round(mean, 4), 0.03),
        ("machine", f"{platform.machine()}, {os.cpu_count()} cores", ""),
        ("torch", torch.__version__, ""),
    ]
    with arguments.out.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["figure", "measured", "limit"])
        writer.writerows(rows)
    for name, measured, limit in [("figure", "measured", "limit"), *rows]:
        print(f"{name:<42} {measured!s:>18} {limit!s:>8}")
    kept = all(median(ratios[name]) >= limit for name, limit in LIMITS.items()) and most <= 1 and mean < 0.03
    return 0 if kept else 1


if __name__ == "__main__":
    sys.exit(main())
