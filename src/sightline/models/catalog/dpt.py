"""The Deformable Patch-based Transformer. Its weights lie where no program can fetch them (Google Drive)."""

from __future__ import annotations

from functools import partial

from sightline.models.info import ErrorRate, ModelInfo

REPOSITORY = partial(ErrorRate, protocol="1 crop", source="CASIA-IVA-Lab/DPT")
dpt = partial(
    ModelInfo,
    family="dpt",
    title="DPT: Deformable Patch-based Transformer for Visual Recognition",
    reference="https://arxiv.org/abs/2107.14467",
    year=2021,
    input=(3, 224, 224),
    num_classes=1000,
    note="Deformable Patch-based Transformer; weights: https://github.com/CASIA-IVA-Lab/DPT, given as a file",
)

ROWS = (
    dpt(
        name="dpt_tiny",
        params=15_152_942,
        mult_adds=2_135_973_888,
        errors=(REPOSITORY(22.6, None),),
    ),
    dpt(
        name="dpt_small",
        params=26_409_518,
        mult_adds=4_018_763_776,
        errors=(REPOSITORY(19.0, 4.612),),
    ),
    dpt(
        name="dpt_medium",
        params=46_131_758,
        mult_adds=6_862_237_696,
        errors=(REPOSITORY(18.1, None),),
    ),
)
