"""The Vision Transformers, and DeiT's smaller ones."""

from __future__ import annotations

from functools import partial

from sightline.models.catalog.rows import v1
from sightline.models.info import IMAGENET_MEAN, IMAGENET_STD, ErrorRate, ModelInfo, PublishedWeights

HALF = (0.5, 0.5, 0.5)

# The authors' repository; pictures were resized to a square, without a crop.
GOOGLE = partial(
    ErrorRate,
    top5=None,
    protocol="whole picture at 384, from ImageNet-21k",
    source="google-research/vision_transformer",
)
DEIT = partial(ErrorRate, protocol="1 crop", source="facebookresearch/deit")

vit = partial(
    ModelInfo,
    family="vit",
    title="An Image is Worth 16x16 Words: Transformers for Image Recognition at Scale",
    reference="https://arxiv.org/abs/2010.11929",
    year=2021,
    input=(3, 224, 224),
    num_classes=1000,
    mean=HALF,
    std=HALF,
)
deit = partial(
    vit,
    title="Training data-efficient image transformers & distillation through attention",
    reference="https://arxiv.org/abs/2012.12877",
)

# Steiner et al.: How to train your ViT? (arXiv 2106.10270). The authors' own files; errors as timm measured them.
AUGREG = partial(
    PublishedWeights,
    resize=248,
    interpolation="bicubic",
    mean=HALF,
    std=HALF,
    licence="Apache-2.0 (google-research/vision_transformer); trained on ImageNet, for research only",
)
augreg_21k = partial(AUGREG, "augreg_in21k_ft_in1k")
augreg_1k = partial(AUGREG, "augreg_in1k")


def augreg(start: str, steps: str) -> str:
    """Where the authors keep the weights of one of their runs, fine-tuned on ImageNet-1k at 224 pixels."""
    folder = "https://storage.googleapis.com/vit_models/augreg"
    return f"{folder}/{start}--imagenet2012-steps_20k-lr_{steps}-res_224.npz"


def original(file: str, top1: float, top5: float) -> PublishedWeights:
    """The paper's weights, brought to PyTorch and measured by timm."""
    url = f"https://github.com/rwightman/pytorch-image-models/releases/download/v0.1-vitjx/{file}"
    return AUGREG("orig_in21k_ft_in1k", url, top1_error=top1, top5_error=top5)


def deit_weights(file: str, top1: float, top5: float) -> PublishedWeights:
    return PublishedWeights(
        "fb_in1k",
        f"https://dl.fbaipublicfiles.com/deit/{file}",
        interpolation="bicubic",
        top1_error=top1,
        top5_error=top5,
        licence="Apache-2.0 (facebookresearch/deit); trained on ImageNet-1k, whose pictures are for research only",
    )


def swag(file: str, top1: float, top5: float) -> PublishedWeights:
    """Singh et al. (arXiv 2201.08371): a linear layer on a body trained on 3.6 billion hashtagged pictures."""
    return PublishedWeights(
        "IMAGENET1K_SWAG_LINEAR_V1",
        f"https://download.pytorch.org/models/{file}",
        resize=224,
        interpolation="bicubic",
        mean=IMAGENET_MEAN,
        std=IMAGENET_STD,
        top1_error=top1,
        top5_error=top5,
        licence="CC-BY-NC-4.0 (facebookresearch/SWAG): not for commercial use",
    )


ROWS = (
    deit(
        name="vit_tiny_patch16_224",
        params=5_717_416,
        mult_adds=1_253_683_200,
        errors=(DEIT(27.8, 8.9),),
        weights=(
            augreg_21k(
                augreg("Ti_16-i21k-300ep-lr_0.001-aug_none-wd_0.03-do_0.0-sd_0.0", "0.03"),
                top1_error=24.548,
                top5_error=7.142,
            ),
            deit_weights("deit_tiny_patch16_224-a1311bcf.pth", 27.798, 8.876),
        ),
        note="DeiT-Ti",
    ),
    vit(
        name="vit_small_patch32_224",
        params=22_878_952,
        mult_adds=1_142_909_952,
        errors=(GOOGLE(20.42),),
        weights=(
            augreg_21k(
                augreg("S_32-i21k-300ep-lr_0.001-aug_light1-wd_0.03-do_0.0-sd_0.0", "0.03"),
                top1_error=23.990,
                top5_error=6.734,
            ),
        ),
    ),
    deit(
        name="vit_small_patch16_224",
        params=22_050_664,
        mult_adds=4_598_882_304,
        errors=(DEIT(20.1, 5.0), GOOGLE(16.27)),
        weights=(
            augreg_21k(
                augreg("S_16-i21k-300ep-lr_0.001-aug_light1-wd_0.03-do_0.0-sd_0.0", "0.03"),
                top1_error=18.598,
                top5_error=3.850,
            ),
            augreg_1k(
                augreg("S_16-i1k-300ep-lr_0.001-aug_medium2-wd_0.1-do_0.0-sd_0.0", "0.01"),
                top1_error=21.158,
                top5_error=5.720,
            ),
            deit_weights("deit_small_patch16_224-cd65a155.pth", 20.146, 5.032),
        ),
        note="DeiT-S",
    ),
    vit(
        name="vit_base_patch32_224",
        params=88_224_232,
        mult_adds=4_409_186_304,
        errors=(GOOGLE(18.34),),
        weights=(
            augreg_21k(
                augreg("B_32-i21k-300ep-lr_0.001-aug_medium1-wd_0.03-do_0.0-sd_0.0", "0.03"),
                top1_error=19.268,
                top5_error=4.426,
            ),
            augreg_1k(
                augreg("B_32-i1k-300ep-lr_0.001-aug_medium2-wd_0.1-do_0.1-sd_0.1", "0.01"),
                top1_error=25.092,
                top5_error=8.230,
            ),
            v1("vit_b_32-d86f8d99.pth", 24.088, 7.534),
        ),
    ),
    vit(
        name="vit_base_patch16_224",
        params=86_567_656,
        mult_adds=17_563_828_224,
        errors=(GOOGLE(15.47), DEIT(18.2, 4.4)),
        weights=(
            augreg_21k(
                augreg("B_16-i21k-300ep-lr_0.001-aug_medium1-wd_0.1-do_0.0-sd_0.0", "0.01"),
                top1_error=15.466,
                top5_error=2.700,
            ),
            original("jx_vit_base_p16_224-80ecf9dd.pth", 18.218, 3.878),
            augreg_1k(
                augreg("B_16-i1k-300ep-lr_0.001-aug_strong2-wd_0.1-do_0.1-sd_0.1", "0.01"),
                top1_error=20.846,
                top5_error=5.892,
            ),
            deit_weights("deit_base_patch16_224-b5f2ef4d.pth", 18.154, 4.406),
            v1("vit_b_16-c867db91.pth", 18.928, 4.682),
            swag("vit_b_16_lc_swag-4e70ced5.pth", 18.114, 3.82),
        ),
    ),
    vit(
        name="vit_large_patch32_224",
        params=306_535_400,
        mult_adds=15_377_539_072,
        errors=(GOOGLE(18.11),),
        weights=(v1("vit_l_32-c7638314.pth", 23.028, 6.93),),
    ),
    vit(
        name="vit_large_patch16_224",
        params=304_326_632,
        mult_adds=61_554_712_576,
        errors=(GOOGLE(15.53),),
        weights=(
            augreg_21k(
                augreg("L_16-i21k-300ep-lr_0.001-aug_medium1-wd_0.1-do_0.1-sd_0.1", "0.01"),
                top1_error=14.144,
                top5_error=2.178,
            ),
            v1("vit_l_16-852ce7e3.pth", 20.338, 5.362, resize=242),
            swag("vit_l_16_lc_swag-4d563306.pth", 14.854, 2.578),
        ),
    ),
    vit(
        name="vit_large_patch14_224",
        params=304_203_752,
        mult_adds=81_013_006_336,
        note="not in the paper: the shape of CLIP's largest",
    ),
    vit(
        name="vit_huge_patch14_224",
        params=632_045_800,
        mult_adds=167_295_109_120,
        weights=(swag("vit_h_14_lc_swag-c1eb923e.pth", 14.292, 2.27),),
    ),
)
