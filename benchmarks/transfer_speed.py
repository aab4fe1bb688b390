"""Frozen features and a head found along its whole path, against PyTorch's transfer-learning tutorial.

    SIGHTLINE_DATA=... python benchmarks/transfer_speed.py [--weights NAME|FILE] [--pictures N] [--epochs N]

Both take the same thousand pictures (flowers5, training split, stratified), the same ResNet-18 with the same weights,
and are tested on the same test pictures (all of the test split), nothing kept from before.

    tutorial   https://docs.pytorch.org/tutorials/beginner/transfer_learning_tutorial.html: the network frozen under a
               new head; RandomResizedCrop(224) and flips, DataLoader with batches of 4 and 2 workers; SGD 0.001 with
               momentum 0.9, a tenth every 7 epochs; float32; 20 epochs. Its validation after each epoch is
               timed by itself, and not counted: it would be on our side of the comparison twice.
    ours       the features of every picture once, by `Embedding`; a head with its penalty chosen out of all
               of its path

Seconds are the whole of it, from the pictures' files to the accuracy on the test pictures. The table goes to
stdout and to the CSV beside this file. Where no published weights are on this machine the network has
random ones: the time is the same, the accuracies say less.
"""

from __future__ import annotations

import argparse
import csv
import os
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from torch import nn

import sightline
from sightline.data import ImageDataset
from sightline.features import Embedding
from sightline.features.embedding_network import Network, open_network, preprocess_for
from sightline.features.heads import HEADS
from sightline.models import available_weights, create_model, local_weights
from sightline.transforms.preprocess import IMAGENET_MEAN, IMAGENET_STD


def stratified(dataset: ImageDataset, count: int) -> ImageDataset:
    """About `count` pictures, evenly from every class."""
    each = -(-count // len(dataset.classes))
    chosen = [np.flatnonzero(dataset.targets == target)[:each] for target in range(len(dataset.classes))]
    return dataset.subset(np.sort(np.concatenate(chosen))[:count])


class Pictures(torch.utils.data.Dataset[tuple[torch.Tensor, int]]):
    """What the tutorial's ImageFolder gives."""

    def __init__(self, dataset: ImageDataset, transform: object) -> None:
        self.dataset, self.transform = dataset, transform

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        picture, target = self.dataset[index]
        return self.transform(picture), target  # type: ignore[operator]


def tutorial(
    train: ImageDataset, test: ImageDataset, state: dict[str, torch.Tensor], epochs: int
) -> tuple[float, float, float]:
    """(accuracy, seconds without, and seconds with its validation after each epoch)."""
    from torchvision import models, transforms

    begun = time.perf_counter()
    torch.manual_seed(0)
    augment = transforms.Compose(
        [
            transforms.RandomResizedCrop(224), transforms.RandomHorizontalFlip(),
            transforms.ToTensor(), transforms.Normalize(IMAGENET_MEAN, IMAGENET_STD),
        ]
    )  # fmt: skip
    plain = transforms.Compose(
        [
            transforms.Resize(256), transforms.CenterCrop(224),
            transforms.ToTensor(), transforms.Normalize(IMAGENET_MEAN, IMAGENET_STD),
        ]
    )  # fmt: skip
    model = models.resnet18()
    model.load_state_dict(state)
    for parameter in model.parameters():
        parameter.requires_grad = False
    model.fc = nn.Linear(model.fc.in_features, len(train.classes))
    loaders = [
        torch.utils.data.DataLoader(Pictures(part, how), batch_size=4, shuffle=True, num_workers=2)
        for part, how in ((train, augment), (test, plain))
    ]
    optimizer = torch.optim.SGD(model.fc.parameters(), lr=0.001, momentum=0.9)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=7, gamma=0.1)
    criterion = nn.CrossEntropyLoss()
    accuracy, validating = 0.0, 0.0
    for epoch in range(epochs):
        model.train()
        for inputs, labels in loaders[0]:
            optimizer.zero_grad()
            criterion(model(inputs), labels).backward()
            optimizer.step()
        scheduler.step()
        before = time.perf_counter()
        model.eval()
        with torch.no_grad():
            right = sum(int((model(inputs).argmax(1) == labels).sum()) for inputs, labels in loaders[1])
        accuracy = max(accuracy, right / len(test))  # the tutorial keeps the best epoch
        if epoch + 1 < epochs:
            validating += time.perf_counter() - before
    whole = time.perf_counter() - begun
    return accuracy, whole - validating, whole


def ours(train: ImageDataset, test: ImageDataset, network: Network, head: str) -> tuple[float, float]:
    """(accuracy, seconds)."""
    begun = time.perf_counter()
    embedding = Embedding(network.module, preprocess=network.preprocess, cache=False).fit()
    fitted = HEADS[head]().fit(embedding.transform(train), train.targets)
    accuracy = float((fitted.predict(embedding.transform(test)) == test.targets).mean())
    return accuracy, time.perf_counter() - begun


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--weights", help="a published name, a file, or none; default: published ones at hand"
    )
    parser.add_argument("--pictures", type=int, default=1000)
    parser.add_argument("--test", type=int, default=500, help="test pictures; fewer for trying")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".csv"))
    chosen = parser.parse_args()
    data = os.environ.get("SIGHTLINE_DATA")
    if not data:
        sys.exit("SIGHTLINE_DATA is not set; it names the folder with flowers5")
    os.environ["SIGHTLINE_HOME"] = os.environ.get("SIGHTLINE_HOME") or tempfile.mkdtemp()
    whole = sightline.open_dataset(Path(data) / "flowers5")
    train, test = (
        stratified(whole.split(name), n) for name, n in (("train", chosen.pictures), ("test", chosen.test))
    )
    weights = chosen.weights or (available_weights("resnet18")[0] if local_weights("resnet18") else "none")
    # Both see the pictures as the published ResNet-18 does, whatever those of the weights' own training were.
    network = open_network("resnet18", weights, preprocess_for("resnet18", "DEFAULT"))
    state = network.module.state_dict() | {
        name: value for name, value in create_model("resnet18").state_dict().items() if name.startswith("fc.")
    }
    rows = []
    for head in ("ridge", "softmax"):
        accuracy, seconds = ours(train, test, network, head)
        rows.append({"way": f"features and {head}", "accuracy": accuracy, "seconds": seconds})
    accuracy, seconds, validated = tutorial(train, test, state, chosen.epochs)
    rows.append({"way": "tutorial", "accuracy": accuracy, "seconds": seconds})
    rows.append({"way": "tutorial with its validation", "accuracy": accuracy, "seconds": validated})
    with chosen.out.open("w", newline="") as file:
        fields = ("way", "weights", "pictures", "epochs", "threads", "accuracy", "seconds", "tutorial_takes")
        writer = csv.DictWriter(file, fields, lineterminator="\n")
        writer.writeheader()
        for row in rows:
            ratio = seconds / float(row["seconds"])
            writer.writerow(
                {
                    "way": row["way"], "weights": Path(weights).name, "pictures": len(train), "epochs": chosen.epochs,
                    "threads": torch.get_num_threads(), "accuracy": round(float(row["accuracy"]), 4),
                    "seconds": round(float(row["seconds"]), 1), "tutorial_takes": round(ratio, 1),
                }
            )  # fmt: skip
            print(f"{row['way']:30} {row['accuracy']:.3f}   {row['seconds']:8.1f} s   tutorial {ratio:.1f} x")


if __name__ == "__main__":
    main()
