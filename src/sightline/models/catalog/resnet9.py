"""ResNet-9, at half of its widths."""

from __future__ import annotations

from sightline.models.info import ModelInfo

ROWS = (
    ModelInfo(
        name="resnet9_small",
        family="resnet9",
        title="How to Train Your ResNet",
        reference="https://github.com/davidcpage/cifar10-fast",
        year=2018,
        input=(3, 32, 32),
        num_classes=10,
        params=1_646_122,
        mult_adds=95_259_136,
        note="half of the widths, and a bias in the last layer",
    ),
)
