"""AlexNet of 2012 and of 2014."""

from __future__ import annotations

from sightline.models.catalog.rows import TORCHVISION, v1
from sightline.models.info import IMAGENET_MEAN, ErrorRate, ModelInfo

ROWS = (
    ModelInfo(
        name="alexnet_2012",
        family="alexnet",
        title="ImageNet Classification with Deep Convolutional Neural Networks",
        reference="https://papers.nips.cc/paper/2012/hash/c399862d3b9d6b76c8436e924a68c45b-Abstract.html",
        year=2012,
        input=(3, 224, 224),
        num_classes=1000,
        params=60_965_224,
        mult_adds=724_406_816,
        mean=IMAGENET_MEAN,
        std=(1 / 255,) * 3,
        errors=(
            ErrorRate(40.7, 18.2, protocol="10-crop", source="Krizhevsky et al. 2012, Table 2"),
            ErrorRate(42.9, 19.8, protocol="1 crop of 227", source="BVLC/caffe, a replica"),
        ),
        note="the paper's two towers; takes pixels on the scale 0..255 less their mean",
    ),
    ModelInfo(
        name="alexnet",
        family="alexnet",
        title="One weird trick for parallelizing convolutional neural networks",
        reference="https://arxiv.org/abs/1404.5997",
        year=2014,
        input=(3, 224, 224),
        num_classes=1000,
        params=61_100_840,
        mult_adds=714_188_480,
        errors=(TORCHVISION(43.478, 20.934),),
        weights=(v1("alexnet-owt-7be5be79.pth", 43.478, 20.934),),
        note="one tower, no response normalisation; the network of 2012 is alexnet_2012",
    ),
)
