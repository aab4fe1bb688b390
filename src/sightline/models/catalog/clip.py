"""CLIP's nine published sizes. Parameters are of both towers, mult-adds of the image tower on one picture.

Errors are zero-shot: no picture of ImageNet's was trained on; 1,000 class names in the 80 templates.
"""

from __future__ import annotations

from functools import partial

from sightline.models.info import ErrorRate, ModelInfo, PublishedWeights

MEAN = (0.48145466, 0.4578275, 0.40821073)
STD = (0.26862954, 0.26130258, 0.27577711)
ZERO_SHOT = partial(
    ErrorRate, top5=None, protocol="zero-shot, 80 templates", source="mlfoundations/open_clip"
)

row = partial(
    ModelInfo,
    family="clip",
    title="Learning Transferable Visual Models From Natural Language Supervision",
    reference="https://arxiv.org/abs/2103.00020",
    year=2021,
    num_classes=0,
    mean=MEAN,
    std=STD,
)


def published(
    name: str, url: str, size: int, quick_gelu: bool, licence: str, error: float | None
) -> PublishedWeights:
    return PublishedWeights(
        name,
        url,
        size=size,
        resize=size,
        interpolation="bicubic",
        mean=MEAN,
        std=STD,
        top1_error=error,
        licence=licence,
        arguments={"quick_gelu": quick_gelu},
    )  # fmt: skip


def openai(path: str, error: float, size: int = 224) -> PublishedWeights:
    """OpenAI's TorchScript archive; the folder is named by the file's SHA-256."""
    url = f"https://openaipublic.azureedge.net/clip/models/{path}"
    licence = "MIT (openai/CLIP); trained on 400 million pairs from the web that are not published"
    return published("openai", url, size, True, licence, error)


def open_clip(name: str, file: str, quick_gelu: bool, data: str) -> PublishedWeights:
    url = f"https://github.com/mlfoundations/open_clip/releases/download/v0.2-weights/{file}"
    licence = f"MIT (mlfoundations/open_clip); trained on {data}"
    return published(name, url, 224, quick_gelu, licence, None)


YFCC, CC12M, LAION = "YFCC15M", "Conceptual Captions 12M", "LAION"

ROWS = (
    row(
        name="clip_rn50",
        input=(3, 224, 224),
        params=102_007_137,
        mult_adds=5_793_153_024,
        errors=(ZERO_SHOT(40.18),),
        weights=(
            openai("afeb0e10f9e5a86da6080e35cf09123aca3b358a0c3e3b6c78a7b63bc04b6762/RN50.pt", 40.18),
            open_clip("yfcc15m", "rn50-quickgelu-yfcc15m-455df137.pt", True, YFCC),
            open_clip("cc12m", "rn50-quickgelu-cc12m-f000538c.pt", True, CC12M),
        ),
    ),
    row(
        name="clip_rn101",
        input=(3, 224, 224),
        params=119_688_033,
        mult_adds=9_504_325_632,
        errors=(ZERO_SHOT(37.72),),
        weights=(
            openai("8fa8567bab74a42d41c5915025a8e4538c3bdbe8804a470a72f30b0d94fab599/RN101.pt", 37.72),
            open_clip("yfcc15m", "rn101-quickgelu-yfcc15m-3e04b30e.pt", True, YFCC),
        ),
    ),
    row(
        name="clip_rn50x4",
        input=(3, 288, 288),
        params=178_300_601,
        mult_adds=20_581_048_320,
        errors=(ZERO_SHOT(33.73),),
        weights=(
            openai("7e526bd135e493cef0776de27d5f42653e6b4c8bf9e0f653bb11773263205fdd/RN50x4.pt", 33.73, 288),
        ),
    ),
    row(
        name="clip_rn50x16",
        input=(3, 384, 384),
        params=290_979_217,
        mult_adds=72_868_337_664,
        errors=(ZERO_SHOT(29.28),),
        weights=(
            openai("52378b407f34354e150460fe41077663dd5b39c54cd0bfd2b27167a4a06ec9aa/RN50x16.pt", 29.28, 384),
        ),
    ),
    row(
        name="clip_rn50x64",
        input=(3, 448, 448),
        params=623_258_305,
        mult_adds=260_126_777_344,
        errors=(ZERO_SHOT(26.09),),
        weights=(
            openai("be1cfb55d75a9666199fb2206c106743da0f6468c9d327f3e0d0a543a9919d9c/RN50x64.pt", 26.09, 448),
        ),
    ),
    row(
        name="clip_vit_base_patch32",
        input=(3, 224, 224),
        params=151_277_313,
        mult_adds=4_408_811_520,
        errors=(ZERO_SHOT(36.68),),
        weights=(
            openai("40d365715913c9da98579312b702a82c18be219cc2a73407c4526f58eba950af/ViT-B-32.pt", 36.68),
            open_clip("laion400m_e32", "vit_b_32-quickgelu-laion400m_e32-46683a32.pt", True, LAION),
            open_clip("laion2b_e16", "vit_b_32-laion2b_e16-af8dbd0c.pth", False, LAION),
        ),
    ),
    row(
        name="clip_vit_base_patch16",
        input=(3, 224, 224),
        params=149_620_737,
        mult_adds=17_563_453_440,
        errors=(ZERO_SHOT(31.66),),
        weights=(
            openai("5806e77cd80f8b59890b7e101eabd078d9fb84e6937f9e85e4ecb61988df416f/ViT-B-16.pt", 31.66),
            open_clip("laion400m_e32", "vit_b_16-laion400m_e32-55e67d44.pt", False, LAION),
        ),
    ),
    row(
        name="clip_vit_large_patch14",
        input=(3, 224, 224),
        params=427_616_513,
        mult_adds=81_012_768_768,
        errors=(ZERO_SHOT(24.46),),
        weights=(
            openai("b8cca3fd41ae0c99ba7e8951adf17d267cdb84cd88be6f7c2e0eca1737a03836/ViT-L-14.pt", 24.46),
            open_clip("laion400m_e32", "vit_l_14-laion400m_e32-3d133497.pt", False, LAION),
        ),
    ),
    row(
        name="clip_vit_large_patch14_336",
        input=(3, 336, 336),
        params=427_944_193,
        mult_adds=190_959_894_528,
        errors=(ZERO_SHOT(23.44),),
        weights=(
            openai(
                "3035c92b350959924f9f00213499208652fc7ea050643e8b385c2dac08641f02/ViT-L-14-336px.pt",
                23.44,
                336,
            ),
        ),
    ),
    row(
        name="clip_small",
        input=(3, 64, 64),
        params=5_649_073,
        mult_adds=67_954_688,
        year=None,
        note="not in the paper: for training on a few thousand pairs, with a vocabulary of their own",
    ),
)
