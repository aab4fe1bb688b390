"""The Pyramid Vision Transformer."""

from __future__ import annotations

from functools import partial

from sightline.models.info import ErrorRate, ModelInfo, PublishedWeights

REPOSITORY = partial(ErrorRate, protocol="1 crop", source="whai362/PVT")
pvt = partial(
    ModelInfo,
    family="pvt",
    title="Pyramid Vision Transformer: A Versatile Backbone for Dense Prediction without Convolutions",
    reference="https://arxiv.org/abs/2102.12122",
    year=2021,
    input=(3, 224, 224),
    num_classes=1000,
)


def imagenet(name: str, top1: float, top5: float | None = None) -> tuple[PublishedWeights]:
    return (
        PublishedWeights(
            name="IMAGENET1K",
            url=f"https://github.com/whai362/PVT/releases/download/v2/{name}.pth",
            interpolation="bicubic",
            top1_error=top1,
            top5_error=top5,
            licence="Apache-2.0 (whai362/PVT); trained on ImageNet-1k, whose pictures are for research only",
        ),
    )


ROWS = (
    pvt(
        name="pvt_tiny",
        params=13_229_288,
        mult_adds=1_932_911_616,
        errors=(REPOSITORY(24.9, None),),
        weights=imagenet("pvt_tiny", 24.9),
    ),
    pvt(
        name="pvt_small",
        params=24_485_864,
        mult_adds=3_815_701_504,
        errors=(REPOSITORY(20.2, 5.05),),
        weights=imagenet("pvt_small", 20.236, 5.05),
    ),
    pvt(
        name="pvt_medium",
        params=44_208_104,
        mult_adds=6_659_175_424,
        errors=(REPOSITORY(18.8, None),),
        weights=imagenet("pvt_medium", 18.8),
    ),
    pvt(
        name="pvt_large",
        params=61_369_320,
        mult_adds=9_813_765_632,
        errors=(REPOSITORY(18.3, None),),
        weights=imagenet("pvt_large", 18.3),
    ),
)
