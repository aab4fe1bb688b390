"""ResNet, its variants of 2015, ResNeXt and the wide ones."""

from __future__ import annotations

from functools import partial

from sightline.models.catalog.rows import TORCHVISION, v1, v2
from sightline.models.info import ErrorRate, ModelInfo

TABLE_3 = partial(ErrorRate, protocol="10-crop", source="He et al. 2016, Table 3")
MSRA = partial(ErrorRate, protocol="1 crop", source="KaimingHe/deep-residual-networks")
FB_RESNET = partial(ErrorRate, protocol="1 crop", source="facebook/fb.resnet.torch")
RESNEXT_REPOSITORY = partial(ErrorRate, protocol="1 crop", source="facebookresearch/ResNeXt")
WRN_REPOSITORY = partial(ErrorRate, protocol="1 crop", source="szagoruyko/wide-residual-networks")

resnet = partial(
    ModelInfo,
    family="resnet",
    title="Deep Residual Learning for Image Recognition",
    reference="https://arxiv.org/abs/1512.03385",
    year=2015,
    input=(3, 224, 224),
    num_classes=1000,
)
cifar_resnet = partial(
    resnet,
    input=(3, 32, 32),
    num_classes=10,
    mean=(0.4914, 0.4822, 0.4465),
    std=(0.2470, 0.2435, 0.2616),
    note="the paper's network for CIFAR-10",
)
house_resnet = partial(
    resnet,
    year=None,
    num_classes=10,
    note="not in the paper: its basic blocks, one a stage, for training small sets from scratch",
)
resnext = partial(
    resnet,
    title="Aggregated Residual Transformations for Deep Neural Networks",
    reference="https://arxiv.org/abs/1611.05431",
    year=2017,
)
wide = partial(
    resnet,
    title="Wide Residual Networks",
    reference="https://arxiv.org/abs/1605.07146",
    year=2016,
)

V15 = "stride in the 3x3 convolution, as in fb.resnet.torch; the paper's network is {}_2015"
V1 = "stride in the first 1x1 convolution, as in the paper"

ROWS = (
    resnet(
        name="resnet18",
        params=11_689_512,
        mult_adds=1_814_073_344,
        errors=(FB_RESNET(30.43, 10.76),),
        weights=(v1("resnet18-f37072fd.pth", 30.242, 10.922),),
    ),
    resnet(
        name="resnet34",
        params=21_797_672,
        mult_adds=3_663_761_408,
        errors=(TABLE_3(24.52, 7.46),),
        weights=(v1("resnet34-b627a593.pth", 26.686, 8.58),),
        note="shortcuts of option B",
    ),
    resnet(
        name="resnet50",
        params=25_557_032,
        mult_adds=4_089_184_256,
        errors=(FB_RESNET(24.01, 7.02),),
        weights=(v2("resnet50-11ad3fa6.pth", 19.142, 4.566), v1("resnet50-0676ba61.pth", 23.87, 7.138)),
        note=V15.format("resnet50"),
    ),
    resnet(
        name="resnet101",
        params=44_549_160,
        mult_adds=7_801_405_440,
        errors=(FB_RESNET(22.44, 6.21),),
        weights=(v2("resnet101-cd907fc2.pth", 18.114, 4.22), v1("resnet101-63fe2227.pth", 22.626, 6.454)),
        note=V15.format("resnet101"),
    ),
    resnet(
        name="resnet152",
        params=60_192_808,
        mult_adds=11_513_626_624,
        errors=(FB_RESNET(22.16, 6.16),),
        weights=(v2("resnet152-f82ba261.pth", 17.716, 3.998), v1("resnet152-394f9c45.pth", 21.688, 5.954)),
        note=V15.format("resnet152"),
    ),
    resnet(
        name="resnet50_2015",
        params=25_557_032,
        mult_adds=3_857_973_248,
        errors=(TABLE_3(22.85, 6.71), MSRA(24.7, 7.8)),
        note=V1,
    ),
    resnet(
        name="resnet101_2015",
        params=44_549_160,
        mult_adds=7_570_194_432,
        errors=(TABLE_3(21.75, 6.05), MSRA(23.6, 7.1)),
        note=V1,
    ),
    resnet(
        name="resnet152_2015",
        params=60_192_808,
        mult_adds=11_282_415_616,
        errors=(TABLE_3(21.43, 5.71), MSRA(23.0, 6.7)),
        note=V1,
    ),
    resnet(
        name="resnet18_a",
        params=11_515_688,
        mult_adds=1_794_805_760,
        note="shortcuts of option A, which have no parameters",
    ),
    resnet(
        name="resnet34_a",
        params=21_623_848,
        mult_adds=3_644_493_824,
        errors=(TABLE_3(25.03, 7.76),),
        note="shortcuts of option A, which have no parameters",
    ),
    resnet(
        name="resnet34_c",
        params=22_716_840,
        mult_adds=3_830_747_136,
        errors=(TABLE_3(24.19, 7.40),),
        note="shortcuts of option C, all projections",
    ),
    resnet(name="plain18", params=11_515_688, mult_adds=1_794_805_760, note="no shortcuts"),
    resnet(
        name="plain34",
        params=21_623_848,
        mult_adds=3_644_493_824,
        errors=(TABLE_3(28.54, 10.02),),
        note="no shortcuts",
    ),
    resnext(
        name="resnext50_32x4d",
        params=25_028_904,
        mult_adds=4_230_479_872,
        errors=(RESNEXT_REPOSITORY(22.2, None),),
        weights=(
            v2("resnext50_32x4d-1a0047aa.pth", 18.802, 4.66),
            v1("resnext50_32x4d-7cdf4587.pth", 22.382, 6.302),
        ),
    ),
    resnext(
        name="resnext101_32x4d",
        params=44_177_704,
        mult_adds=7_969_996_800,
        errors=(RESNEXT_REPOSITORY(21.2, 5.6),),
    ),
    resnext(
        name="resnext101_32x8d",
        title="Exploring the Limits of Weakly Supervised Pretraining",
        reference="https://arxiv.org/abs/1805.00932",
        year=2018,
        params=88_791_336,
        mult_adds=16_414_015_488,
        errors=(TORCHVISION(20.688, 5.474),),
        weights=(
            v2("resnext101_32x8d-110c445d.pth", 17.166, 3.772),
            v1("resnext101_32x8d-8ba56ff5.pth", 20.688, 5.474),
        ),
    ),
    resnext(
        name="resnext101_64x4d",
        params=83_455_272,
        mult_adds=15_460_270_080,
        errors=(RESNEXT_REPOSITORY(20.4, 5.3),),
        weights=(v1("resnext101_64x4d-173b62eb.pth", 16.754, 3.546, resize=232),),
    ),
    wide(
        name="wide_resnet50_2",
        params=68_883_240,
        mult_adds=11_398_021_120,
        errors=(WRN_REPOSITORY(21.9, 5.79),),
        weights=(
            v2("wide_resnet50_2-9ba9bcbe.pth", 18.398, 4.242),
            v1("wide_resnet50_2-95faca4d.pth", 21.532, 5.914),
        ),
    ),
    wide(
        name="wide_resnet101_2",
        params=126_886_696,
        mult_adds=22_753_050_624,
        errors=(TORCHVISION(21.152, 5.716),),
        weights=(
            v2("wide_resnet101_2-d733dc28.pth", 17.49, 3.98),
            v1("wide_resnet101_2-32ee1156.pth", 21.152, 5.716),
        ),
    ),
    cifar_resnet(name="resnet20", params=269_722, mult_adds=40_551_040),
    cifar_resnet(name="resnet32", params=464_154, mult_adds=68_862_592),
    cifar_resnet(name="resnet44", params=658_586, mult_adds=97_174_144),
    cifar_resnet(name="resnet56", params=853_018, mult_adds=125_485_696),
    cifar_resnet(name="resnet110", params=1_727_962, mult_adds=252_887_680),
    house_resnet(name="resnet10_small", input=(3, 32, 32), params=1_228_970, mult_adds=63_801_856),
    house_resnet(name="resnet10_photo", input=(3, 128, 128), params=1_228_970, mult_adds=255_199_744),
)
