"""How fast `sightline fit` trains, beside the loop that people copy from PyTorch's tutorials.

    SIGHTLINE_DATA=... python benchmarks/fit.py [--only NAME] [--rounds N] [--quick]

Theirs: a torchvision data set, the augmentation, ToTensor and Normalize a sample at a time, a DataLoader with two
workers, float32, `loss.item()` every step. Ours: the Trainer of a `fit` with the same network, batch, optimiser and
augmentation; `same`: in float32; `shipped`: in the precision that fit chooses. All in one process with all threads,
in turn, a slice of steps each, for some rounds; workers are started and everything is warm before the clock runs.
Printed: median pictures a second, and the median over rounds of the ratio ours / theirs.
"""

from __future__ import annotations

import argparse
import csv
import os
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from sightline.data import open_dataset
from sightline.training.prepare import prepare
from sightline.training.progress import Quiet
from sightline.training.recipe import read_recipe
from sightline.training.state import Forgetful

Slice = Callable[[int], None]  # train for so many steps
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def endless(loader: Any) -> Iterator[Any]:
    while True:
        yield from loader


def theirs(dataset: Any, model: nn.Module, batch: int, lr: float) -> Slice:
    """The tutorial's loop."""
    from torch.utils.data import DataLoader

    loader = DataLoader(dataset, batch, shuffle=True, num_workers=2, drop_last=True, persistent_workers=True)
    batches = endless(loader)
    optimizer = torch.optim.SGD(model.parameters(), lr=lr, momentum=0.9)
    model.train()

    def run(steps: int) -> None:
        running = 0.0
        for _ in range(steps):
            images, labels = next(batches)
            optimizer.zero_grad()
            loss = F.cross_entropy(model(images), labels)
            loss.backward()
            optimizer.step()
            running += loss.item()

    return run


def ours(source: Path, settings: dict[str, Any]) -> Slice:
    """The Trainer of a fit."""
    recipe = {"schedule": {"name": "constant"}, "label_smoothing": 0.0, "ema": 0.0, "balance": "none"}
    optimizer = {"name": "sgd", "lr": 0.01, "weight_decay": 0.0, "nesterov": False}
    job = prepare(open_dataset(source), read_recipe(recipe | {"optimizer": optimizer} | settings), Quiet())
    trainer = job.trainer
    state = trainer.start()

    def run(steps: int) -> None:
        end = state.step + steps
        while state.step < end:
            trainer.train_epoch(state, Quiet(), Forgetful(), lambda: False, end)
            if state.step % trainer.steps_per_epoch == 0:
                state.epoch += 1

    print(
        f"  ours: {job.recipe.precision}, workers {job.recipe.workers}, {' '.join(job.reasons)}", flush=True
    )
    return run


def arrays(kind: str, data: Path, transform: Any) -> Any:
    """torchvision's MNIST or CIFAR10 over arrays in memory, as after its own reading."""
    from torchvision import datasets

    found: Any = getattr(datasets, kind).__new__(getattr(datasets, kind))
    found.transform, found.target_transform = transform, None
    if kind == "MNIST":
        with np.load(data) as file:
            found.data, found.targets = (
                torch.from_numpy(file["x_train"]),
                torch.from_numpy(file["y_train"]).long(),
            )
    else:
        train = open_dataset(data).split("train")
        chosen = range(0, len(train), 4)
        found.data = np.stack([np.asarray(train.read(i)) for i in chosen])
        found.targets = train.targets[list(chosen)].tolist()
    return found


def mnist(data: Path) -> tuple[Slice, Callable[[str | None], Slice], int]:
    from torchvision.transforms import v2

    from sightline.models import create_model

    transform = v2.Compose(
        [v2.RandomRotation(10), v2.RandomAffine(0, (0.1, 0.1)), v2.ToImage(), v2.ToDtype(torch.float32, True),
         v2.Normalize((0.1307,), (0.3081,))]
    )  # fmt: skip
    source = data / "mnist" / "mnist.npz"
    model = create_model("lecture_net")
    base = {"model": {"name": "lecture_net"}, "batch_size": 64, "augment": "rotate(10) + translate(0.1)"}
    own = lambda precision: ours(source, base | {"precision": precision})  # noqa: E731
    return theirs(arrays("MNIST", source, transform), model, 64, 0.01), own, 64


def cifar(data: Path) -> tuple[Slice, Callable[[str | None], Slice], int]:
    from torchvision.models import resnet18
    from torchvision.transforms import v2

    transform = v2.Compose(
        [v2.RandomCrop(32, 4, padding_mode="reflect"), v2.RandomHorizontalFlip(), v2.ToImage(),
         v2.ToDtype(torch.float32, True), v2.Normalize(MEAN, STD)]
    )  # fmt: skip
    source = data / "cifar10" / "cifar10.tar.gz"
    model = resnet18(num_classes=10)
    model.conv1, model.maxpool = nn.Conv2d(3, 64, 3, 1, 1, bias=False), nn.Identity()
    base = {
        "model": {"name": "resnet18", "weights": "none", "stem": "cifar"}, "strategy": "scratch",
        "input": {"size": 32, "fit": "squash"}, "batch_size": 128, "augment": "crop(4, 'reflect') + hflip",
    }  # fmt: skip
    own = lambda precision: ours(source, base | {"precision": precision})  # noqa: E731
    return theirs(arrays("CIFAR10", source, transform), model, 128, 0.01), own, 128


def photos(data: Path) -> tuple[Slice, Callable[[str | None], Slice], int]:
    from torchvision.datasets import ImageFolder
    from torchvision.models import resnet18
    from torchvision.transforms import v2

    transform = v2.Compose(
        [v2.RandomResizedCrop(224, (0.35, 1.0)), v2.RandomHorizontalFlip(), v2.ToImage(),
         v2.ToDtype(torch.float32, True), v2.Normalize(MEAN, STD)]
    )  # fmt: skip
    source = data / "flowers5"
    folder = source / "train" if (source / "train").is_dir() else source
    base = {
        "model": {"name": "resnet18", "weights": "none"}, "strategy": "scratch",
        "input": {"size": 224, "fit": "squash"}, "batch_size": 32, "augment": "random_resized_crop(0.35) + hflip",
    }  # fmt: skip
    own = lambda precision: ours(source, base | {"precision": precision})  # noqa: E731
    return theirs(ImageFolder(str(folder), transform), resnet18(num_classes=5), 32, 0.01), own, 32


# Name, what builds both sides, steps a slice.
ROWS = [("mnist lecture_net", mnist, 150), ("cifar10 resnet18", cifar, 3), ("photos resnet18", photos, 3)]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", help="the row of this name alone")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--quick", action="store_true", help="one round of one step: does it run?")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".csv"))
    chosen = parser.parse_args()
    data = Path(os.environ["SIGHTLINE_DATA"])
    rounds = 1 if chosen.quick else chosen.rounds
    rows: list[dict[str, object]] = []
    for name, build, steps in ROWS:
        if chosen.only not in (None, name):
            continue
        print(name, flush=True)
        peer, own, batch = build(data)
        sides = {"theirs": peer, "same": own("fp32"), "shipped": own(None)}
        steps = 1 if chosen.quick else steps
        speeds: dict[str, list[float]] = {side: [] for side in sides}
        for turn in range(rounds + 1):
            for side, run in sides.items():
                begun = time.perf_counter()
                run(steps)
                if turn:  # the first is warming up
                    speeds[side].append(batch * steps / (time.perf_counter() - begun))
        for side in ("same", "shipped"):
            ratio = statistics.median(o / t for o, t in zip(speeds[side], speeds["theirs"], strict=True))
            row = {
                "row": name, "column": side, "threads": torch.get_num_threads(), "rounds": rounds, "steps": steps,
                "theirs": round(statistics.median(speeds["theirs"]), 1),
                "ours": round(statistics.median(speeds[side]), 1), "ratio": round(ratio, 3),
            }  # fmt: skip
            rows.append(row)
            print(
                f"  {side:8} theirs {row['theirs']:>8}   ours {row['ours']:>8} pictures/s   ratio {row['ratio']}",
                flush=True,
            )
    if not chosen.quick and not chosen.only:
        with chosen.out.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)


if __name__ == "__main__":
    main()
