"""GoogLeNet as in the paper, and torchvision's."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from sightline.models.catalog.rows import TORCHVISION, v1
from sightline.models.info import IMAGENET_MEAN, ErrorRate, ModelInfo

HALF = (0.5, 0.5, 0.5)

googlenet = partial(
    ModelInfo,
    family="googlenet",
    title="Going Deeper with Convolutions",
    reference="https://arxiv.org/abs/1409.4842",
    year=2014,
    input=(3, 224, 224),
    num_classes=1000,
)

ROWS = (
    googlenet(
        name="googlenet_2014",
        params=13_378_280,
        mult_adds=1_582_671_872,
        mean=IMAGENET_MEAN,
        std=(1 / 255,) * 3,
        errors=(ErrorRate(31.3, 11.1, protocol="1 crop", source="BVLC/caffe, a replica"),),
        note="6,998,552 parameters without its auxiliary classifiers; takes pixels on the scale 0..255 less "
        "their mean; the paper gives top-5 errors only (Table 3): 10.07 for 1 crop, 9.15 for 10, 7.89 for 144",
    ),
    googlenet(
        name="googlenet",
        params=13_004_888,
        mult_adds=1_498_376_192,
        mean=HALF,
        std=HALF,
        errors=(TORCHVISION(30.222, 10.47),),
        # torchvision normalises as for ImageNet, and once more to these within its network.
        weights=(replace(v1("googlenet-1378be20.pth", 30.222, 10.47), mean=HALF, std=HALF),),
        note="6,624,904 parameters without its auxiliary classifiers; batch normalisation and 3x3 windows in "
        "the place of 5x5 are not in the paper, whose network is googlenet_2014",
    ),
)
