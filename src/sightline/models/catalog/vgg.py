"""VGG's configurations A, B, D and E, and those with batch normalisation."""

from __future__ import annotations

from functools import partial

from sightline.models.catalog.rows import TORCHVISION, v1
from sightline.models.info import ErrorRate, ModelInfo

# Over the whole picture, its short side Q pixels.
DENSE_256 = partial(ErrorRate, protocol="dense, Q=256", source="Simonyan & Zisserman 2015, Table 3")
DENSE_384 = partial(ErrorRate, protocol="dense, Q=384", source="Simonyan & Zisserman 2015, Table 3")
BEST = partial(ErrorRate, protocol="multi-crop and dense", source="Simonyan & Zisserman 2015, Table 5")
HE_ET_AL = partial(ErrorRate, protocol="10-crop", source="He et al. 2016, Table 3")

vgg = partial(
    ModelInfo,
    family="vgg",
    title="Very Deep Convolutional Networks for Large-Scale Image Recognition",
    reference="https://arxiv.org/abs/1409.1556",
    year=2014,
    input=(3, 224, 224),
    num_classes=1000,
)
vgg_bn = partial(vgg, year=None, note="batch normalisation is not in the paper")

ROWS = (
    vgg(
        name="vgg11",
        params=132_863_336,
        mult_adds=7_609_090_048,
        errors=(DENSE_256(29.6, 10.4),),
        weights=(v1("vgg11-8a719046.pth", 30.98, 11.372),),
        note="configuration A",
    ),
    vgg(
        name="vgg13",
        params=133_047_848,
        mult_adds=11_308_466_176,
        errors=(DENSE_256(28.7, 9.9),),
        weights=(v1("vgg13-19584684.pth", 30.072, 10.754),),
        note="configuration B",
    ),
    vgg(
        name="vgg16",
        params=138_357_544,
        mult_adds=15_470_264_320,
        errors=(DENSE_384(25.6, 8.1), BEST(24.4, 7.2), HE_ET_AL(28.07, 9.33)),
        weights=(v1("vgg16-397923af.pth", 28.408, 9.618),),
        note="configuration D",
    ),
    vgg(
        name="vgg19",
        params=143_667_240,
        mult_adds=19_632_062_464,
        errors=(DENSE_384(25.5, 8.0), BEST(24.4, 7.1)),
        weights=(v1("vgg19-dcbb9e9d.pth", 27.624, 9.124),),
        note="configuration E",
    ),
    vgg_bn(
        name="vgg11_bn",
        params=132_868_840,
        mult_adds=7_609_090_048,
        errors=(TORCHVISION(29.63, 10.19),),
        weights=(v1("vgg11_bn-6002323d.pth", 29.63, 10.19),),
    ),
    vgg_bn(
        name="vgg13_bn",
        params=133_053_736,
        mult_adds=11_308_466_176,
        errors=(TORCHVISION(28.414, 9.626),),
        weights=(v1("vgg13_bn-abd245e5.pth", 28.414, 9.626),),
    ),
    vgg_bn(
        name="vgg16_bn",
        params=138_365_992,
        mult_adds=15_470_264_320,
        errors=(TORCHVISION(26.64, 8.484),),
        weights=(v1("vgg16_bn-6c64b313.pth", 26.64, 8.484),),
    ),
    vgg_bn(
        name="vgg19_bn",
        params=143_678_248,
        mult_adds=19_632_062_464,
        errors=(TORCHVISION(25.782, 8.158),),
        weights=(v1("vgg19_bn-c79401a0.pth", 25.782, 8.158),),
    ),
)
