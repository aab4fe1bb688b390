"""How rows of the catalogue are written down in short."""

from __future__ import annotations

from functools import partial

from sightline.models.info import ErrorRate, PublishedWeights

TORCHVISION = partial(ErrorRate, protocol="1 crop", source="torchvision, IMAGENET1K_V1")


def published(version: int, file: str, top1: float, top5: float, resize: int) -> PublishedWeights:
    url = f"https://download.pytorch.org/models/{file}"
    return PublishedWeights(f"IMAGENET1K_V{version}", url, resize=resize, top1_error=top1, top5_error=top5)


v1 = partial(published, 1, resize=256)  # torchvision's first recipe, close to the papers'
v2 = partial(published, 2, resize=232)  # its longer recipe, which is not the papers'
