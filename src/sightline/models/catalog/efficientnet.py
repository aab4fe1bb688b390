"""EfficientNet b0 to b7, as torchvision has them (`efficientnet_*`) and as the paper does (`tf_efficientnet_*`)."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial

from sightline.models.info import ErrorRate, ModelInfo, PublishedWeights

TABLE_8 = partial(ErrorRate, protocol="1 crop", source="Tan and Le 2019, Table 8")
AUTHORS = partial(ErrorRate, top5=None, protocol="1 crop", source="tensorflow/tpu, with AutoAugment")
GITHUB = "https://github.com/huggingface/pytorch-image-models/releases/download/v0.1-weights"
LICENCE = "Apache-2.0 (TensorFlow's TPU models, by way of timm); trained on {}, whose pictures are for research only"

# Resolution, and how much of the picture's short side the authors' weights see; parameters, mult-adds; errors:
# top-1 and top-5 of the paper's Table 8, top-1 of the weights that the authors trained with AutoAugment.
SIZES = {
    "b0": (224, 0.875, 5_288_548, 385_814_752, 22.89, 6.65, 22.7),
    "b1": (240, 0.882, 7_794_184, 686_802_832, 20.87, 5.53, 20.8),
    "b2": (260, 0.890, 9_109_994, 993_561_872, 19.93, 5.10, 19.7),
    "b3": (300, 0.904, 12_233_232, 1_827_141_392, 18.41, 4.33, 18.3),
    "b4": (380, 0.922, 19_341_616, 4_393_771_024, 17.11, 3.63, 17.0),
    "b5": (456, 0.934, 30_389_784, 10_266_384_752, 16.40, 3.29, 16.3),
    "b6": (528, 0.942, 43_040_704, 19_067_593_536, 16.05, 3.24, 15.8),
    "b7": (600, 0.949, 66_347_960, 37_745_884_192, 15.74, 3.03, 15.5),
}

# torchvision's: version, file, size, resize, interpolation, errors as torchvision measured them.
TORCHVISIONS = {
    "b0": ((1, "b0_rwightman-7f5810bc", 224, 256, "bicubic", 22.308, 6.468),),
    "b1": (
        (2, "b1-c27df63c", 240, 255, "bilinear", 20.162, 5.066),
        (1, "b1_rwightman-bac287d4", 240, 256, "bicubic", 21.358, 5.814),
    ),
    "b2": ((1, "b2_rwightman-c35c1473", 288, 288, "bicubic", 19.392, 4.69),),
    "b3": ((1, "b3_rwightman-b3899882", 300, 320, "bicubic", 17.992, 3.946),),
    "b4": ((1, "b4_rwightman-23ab8bcd", 380, 384, "bicubic", 16.616, 3.406),),
    "b5": ((1, "b5_lukemelas-1a07897c", 456, 456, "bicubic", 16.556, 3.372),),
    "b6": ((1, "b6_lukemelas-24a108a5", 528, 528, "bicubic", 15.992, 3.084),),
    "b7": ((1, "b7_lukemelas-c5b4e57e", 600, 600, "bicubic", 15.878, 3.092),),
}

# The authors', converted by timm: tag, file, errors as timm measured them. `ns_jft` learned from 300 million more
# pictures by Noisy Student, `ap` with adversarial examples (AdvProp), `ra` with RandAugment, `aa` with AutoAugment.
AUTHORS_OWN = {
    "b0": (
        ("ns_jft_in1k", "b0_ns-c0e6a31c", 21.32, 5.628),
        ("ap_in1k", "b0_ap-f262efe1", 22.9, 6.742),
        ("aa_in1k", "b0_aa-827b6e33", 23.118, 6.73),
        ("in1k", "b0-0af12548", 23.458, 6.992),
    ),
    "b1": (
        ("ns_jft_in1k", "b1_ns-99dd0c41", 18.612, 4.244),
        ("ap_in1k", "b1_ap-44ef0a3d", 20.712, 5.684),
        ("aa_in1k", "b1_aa-ea7a6ee0", 21.16, 5.798),
        ("in1k", "b1-5c1377c4", 21.454, 5.904),
    ),
    "b2": (
        ("ns_jft_in1k", "b2_ns-00306e48", 17.588, 3.762),
        ("ap_in1k", "b2_ap-2f8e7636", 19.7, 4.968),
        ("aa_in1k", "b2_aa-60c94f97", 19.926, 5.094),
        ("in1k", "b2-e393ef04", 20.388, 5.286),
    ),
    "b3": (
        ("ns_jft_in1k", "b3_ns-9d44bf68", 15.946, 3.074),
        ("ap_in1k", "b3_ap-aad25bdd", 18.158, 4.386),
        ("aa_in1k", "b3_aa-84b4657e", 18.352, 4.276),
        ("in1k", "b3-e3bd6955", 19.122, 4.692),
    ),
    "b4": (
        ("ns_jft_in1k", "b4_ns-d6313a46", 14.844, 2.518),
        ("ap_in1k", "b4_ap-dedb23e6", 16.754, 3.608),
        ("aa_in1k", "b4_aa-818f208c", 16.96, 3.702),
        ("in1k", "b4-74ee3bed", 17.402, 3.868),
    ),
    "b5": (
        ("ns_jft_in1k", "b5_ns-6f26d0cf", 13.904, 2.256),
        ("ap_in1k", "b5_ap-9e82fae8", 15.742, 3.016),
        ("ra_in1k", "b5_ra-9a3e5369", 16.166, 3.236),
        ("aa_in1k", "b5_aa-99018a74", 16.304, 3.288),
        ("in1k", "b5-c6949ce9", 16.83, 3.466),
    ),
    "b6": (
        ("ns_jft_in1k", "b6_ns-51548356", 13.524, 2.136),
        ("ap_in1k", "b6_ap-4ffb161f", 15.206, 2.862),
        ("aa_in1k", "b6_aa-80ba17e4", 15.876, 3.11),
    ),
    "b7": (
        ("ns_jft_in1k", "b7_ns-1dbc32de", 13.15, 1.92),
        ("ap_in1k", "b7_ap-ddb28fec", 14.868, 2.744),
        ("ra_in1k", "b7_ra-6c08e654", 15.074, 2.78),
        ("aa_in1k", "b7_aa-076e3472", 15.576, 3.092),
    ),
}

efficientnet = partial(
    ModelInfo,
    family="efficientnet",
    title="EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks",
    reference="https://arxiv.org/abs/1905.11946",
    year=2019,
    num_classes=1000,
)


def torchvisions(
    version: int, file: str, size: int, resize: int, interpolation: str, top1: float, top5: float
) -> PublishedWeights:
    name, url = f"IMAGENET1K_V{version}", f"https://download.pytorch.org/models/efficientnet_{file}.pth"
    return PublishedWeights(name, url, size, resize, interpolation, top1_error=top1, top5_error=top5)


def authors_own(size: int, crop: float, tag: str, file: str, top1: float, top5: float) -> PublishedWeights:
    row = PublishedWeights(
        name=tag,
        url=f"{GITHUB}/tf_efficientnet_{file}.pth",
        size=size,
        resize=math.floor(size / crop),
        interpolation="bicubic",
        top1_error=top1,
        top5_error=top5,
        licence=LICENCE.format("ImageNet-1k and JFT-300M" if "jft" in tag else "ImageNet-1k"),
    )
    half = (0.5, 0.5, 0.5)
    return replace(row, mean=half, std=half) if tag.startswith("ap") else row


def pair(name: str) -> tuple[ModelInfo, ModelInfo]:
    """The rows of `efficientnet_NAME` and `tf_efficientnet_NAME`."""
    size, crop, params, mult_adds, top1, top5, authors_top1 = SIZES[name]
    row = partial(efficientnet, input=(3, size, size), params=params, mult_adds=mult_adds)
    ours = row(
        name=f"efficientnet_{name}",
        errors=(TABLE_8(top1, top5),),
        weights=tuple(torchvisions(*entry) for entry in TORCHVISIONS[name]),
        note=f"padding alike on all sides, as in torchvision; the paper's network is tf_efficientnet_{name}",
    )
    papers = row(
        name=f"tf_efficientnet_{name}",
        errors=(TABLE_8(top1, top5), AUTHORS(authors_top1)),
        weights=tuple(authors_own(size, crop, *entry) for entry in AUTHORS_OWN[name]),
        note="TensorFlow's SAME padding, as in the paper",
    )
    return ours, papers


PAIRS = [pair(name) for name in SIZES]
ROWS = tuple(ours for ours, _ in PAIRS) + tuple(papers for _, papers in PAIRS)
