"""The lecture's two networks, and LeNet-5."""

from __future__ import annotations

from functools import partial

from sightline.models.info import ModelInfo

lecture = partial(
    ModelInfo,
    family="lecture",
    year=None,
    input=(1, 28, 28),
    num_classes=10,
    mean=(0.0,),
    std=(1.0,),
)
lenet = partial(
    ModelInfo,
    family="lenet",
    title="Gradient-Based Learning Applied to Document Recognition",
    reference="https://doi.org/10.1109/5.726791",
    year=1998,
    input=(1, 32, 32),
    num_classes=10,
)

ROWS = (
    lecture(
        name="lecture_net",
        title="A lecture on object recognition",
        reference="",
        params=28_938,
        mult_adds=2_838_080,
        note="416 + 12,832 + 15,690 parameters",
    ),
    lecture(
        name="lecture_vit",
        title="An Image is Worth 16x16 Words",
        reference="https://arxiv.org/abs/2010.11929",
        params=205_066,
        mult_adds=3_541_120,
        note="the lecture's toy: 16 patches and a class token, 4 heads of 16",
    ),
    lenet(
        name="lenet5_1998",
        params=60_000,
        mult_adds=415_680,
        mean=(0.1 / 1.275,),
        std=(1 / 1.275,),
        note="340,908 connections; ten fixed digits; takes paper at -0.1 and ink at 1.175",
    ),
    lenet(
        name="lenet5",
        params=61_706,
        mult_adds=416_520,
        mean=(0.1307,),
        std=(0.3081,),
        note="as written today: full C3, ReLU, max pooling, linear output",
    ),
)
