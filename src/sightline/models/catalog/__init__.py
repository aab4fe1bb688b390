"""The networks of the lineage, a row each: paper, counts, published errors and published weights.

Parameters and mult-adds are exact and tested against the networks. Errors are given where they were read at
their source, in percent on ImageNet-1k's validation pictures; the protocol matters as much as the figure.
"""

from __future__ import annotations

from itertools import chain

from sightline.models.catalog import (
    alexnet,
    clip,
    dpt,
    efficientnet,
    googlenet,
    lecture,
    pvt,
    resnet,
    resnet9,
    swin,
    vgg,
    vit,
)
from sightline.models.info import ModelInfo

# In the order of the field's history.
FAMILIES = (lecture, alexnet, vgg, googlenet, resnet, resnet9, efficientnet, vit, swin, pvt, dpt, clip)

CATALOG: dict[str, ModelInfo] = {row.name: row for row in chain.from_iterable(f.ROWS for f in FAMILIES)}
