"""The Swin Transformers."""

from __future__ import annotations

from functools import partial

from sightline.models.info import ErrorRate, ModelInfo, PublishedWeights

README = partial(ErrorRate, protocol="1 crop", source="microsoft/Swin-Transformer")

swin = partial(
    ModelInfo,
    family="swin",
    title="Swin Transformer: Hierarchical Vision Transformer using Shifted Windows",
    reference="https://arxiv.org/abs/2103.14030",
    year=2021,
    input=(3, 224, 224),
    num_classes=1000,
)


def authors(name: str, file: str, top1: float, top5: float, size: int = 224) -> PublishedWeights:
    """The authors' weights. At 224 pixels they crop from 256; at 384 they take the whole picture."""
    return PublishedWeights(
        name,
        f"https://github.com/SwinTransformer/storage/releases/download/{file}",
        size=size,
        resize=256 if size == 224 else size,
        interpolation="bicubic",
        top1_error=top1,
        top5_error=top5,
        licence="MIT (microsoft/Swin-Transformer); trained on ImageNet, whose pictures are for research only",
    )


imagenet_1k = partial(authors, "ms_in1k")
imagenet_22k = partial(authors, "ms_in22k_ft_in1k")


def torchvision(file: str, top1: float, top5: float, resize: int) -> PublishedWeights:
    url = f"https://download.pytorch.org/models/{file}"
    return PublishedWeights(
        "IMAGENET1K_V1", url, resize=resize, interpolation="bicubic", top1_error=top1, top5_error=top5
    )


ROWS = (
    swin(
        name="swin_tiny_patch4_window7_224",
        params=28_288_354,
        mult_adds=4_490_566_656,
        errors=(README(18.8, 4.5),),
        weights=(
            imagenet_1k("v1.0.0/swin_tiny_patch4_window7_224.pth", 18.8, 4.5),
            torchvision("swin_t-704ceda3.pth", 18.526, 4.224, resize=232),
        ),
    ),
    swin(
        name="swin_small_patch4_window7_224",
        params=49_606_258,
        mult_adds=8_740_875_264,
        errors=(README(16.8, 3.8),),
        weights=(
            imagenet_1k("v1.0.0/swin_small_patch4_window7_224.pth", 16.8, 3.8),
            torchvision("swin_s-5e29d889.pth", 16.804, 3.64, resize=246),
        ),
    ),
    swin(
        name="swin_base_patch4_window7_224",
        params=87_768_224,
        mult_adds=15_430_946_816,
        errors=(README(16.5, 3.5), README(14.8, 2.5, protocol="1 crop, from ImageNet-22k")),
        weights=(
            imagenet_22k("v1.0.0/swin_base_patch4_window7_224_22kto1k.pth", 14.8, 2.5),
            imagenet_1k("v1.0.0/swin_base_patch4_window7_224.pth", 16.5, 3.5),
            torchvision("swin_b-68c6b09e.pth", 16.418, 3.36, resize=238),
        ),
    ),
    swin(
        name="swin_base_patch4_window12_384",
        input=(3, 384, 384),
        params=87_903_584,
        mult_adds=47_083_134_976,
        errors=(
            README(15.5, 3.0, protocol="whole picture at 384"),
            README(13.6, 2.0, protocol="whole picture at 384, from ImageNet-22k"),
        ),
        weights=(
            imagenet_22k("v1.0.0/swin_base_patch4_window12_384_22kto1k.pth", 13.6, 2.0, size=384),
            imagenet_1k("v1.0.0/swin_base_patch4_window12_384.pth", 15.5, 3.0, size=384),
        ),
    ),
    swin(
        name="swin_large_patch4_window7_224",
        params=196_532_476,
        mult_adds=34_475_759_616,
        errors=(README(13.7, 2.1, protocol="1 crop, from ImageNet-22k"),),
        weights=(imagenet_22k("v1.0.0/swin_large_patch4_window7_224_22kto1k.pth", 13.7, 2.1),),
    ),
)
