"""ResNet's and ResNeXt's tables of stages, and the arithmetic of one block of each."""

from __future__ import annotations

from typing import cast

from sightline.reproduce.record import Reproduction, Row, exact, rounded
from sightline.visualization.summary import Summary, build_empty, own_size, summarize

RESNET = "He et al. 2016 (arXiv 1512.03385)"
RESNEXT = "Xie et al. 2017 (arXiv 1611.05431)"
STAGES = {"conv2_x": "layer1", "conv3_x": "layer2", "conv4_x": "layer3", "conv5_x": "layer4"}


def side(summary: Summary, module: str) -> str:
    """The maps that a module puts out, `56x56`."""
    by_name = {row.name: row.output for row in summary.rows} | {
        n: b.output for n, b in summary.blocks.items()
    }
    _, height, width = by_name[module] or (0, 0, 0)
    return f"{height}x{width}"


def resnet(name: str, title: str) -> Reproduction:
    """Sizes of the maps, layers with weights, FLOPs of the five depths."""
    first = summarize("resnet50_2015")
    rows = [exact("conv1: output", "112x112", side(first, "conv1"))]
    sizes = zip(STAGES.items(), ("56x56", "28x28", "14x14", "7x7"), strict=True)
    rows += [exact(f"{stage}: output", size, side(first, module)) for (stage, module), size in sizes]
    published = {
        "resnet18": (18, "1.8 G"),
        "resnet34": (34, "3.6 G"),
        "resnet50_2015": (50, "3.8 G"),
        "resnet101_2015": (101, "7.6 G"),
        "resnet152_2015": (152, "11.3 G"),
    }
    for network, (depth, flops) in published.items():
        summary = summarize(network)
        weighted = [
            r for r in summary.rows if r.kind.startswith(("Conv", "Linear")) and "downsample" not in r.name
        ]
        rows.append(
            exact(
                f"{network}: layers with weights", depth, len(weighted), "shortcuts' projections not counted"
            )
        )
        rows.append(rounded(f"{network}: FLOPs", flops, summary.totals.mult_adds))
    later = summarize("resnet50").totals.mult_adds
    remarks = (
        "FLOPs are multiply-adds. The 2015 networks have the stride in a bottleneck's first 1x1 convolution; with the "
        "stride in the 3x3, as in torchvision and in ResNeXt's paper, "
        f"ResNet-50 has {later:,}: the same parameters, another network.",
        "conv2_x begins with the 3x3 max pooling of stride 2, a row that the slide has lost.",
    )
    return Reproduction(name, title, f"{RESNET}, Table 1", tuple(rows), remarks)


def weights(network: str, block: str) -> tuple[int, str]:
    """(weights of the three convolutions of a block, without its projection; the sum that they are)."""
    model = build_empty(network, own_size(network), None, {})
    shapes = [tuple(model.get_parameter(f"{block}.conv{i}.weight").shape) for i in (1, 2, 3)]
    counts = [outputs * inputs * height * width for outputs, inputs, height, width in shapes]
    return sum(counts), " + ".join(f"{count:,}" for count in counts)


def blocks(name: str, title: str) -> Reproduction:
    """The sums on the slides beside the blocks themselves."""
    swapped = "the slide swaps the two sums; "
    grouped = "the slide counts the first 1x1 as 512 x 32 instead of 512 x 512; "
    published = (
        ("resnet50", "layer1.1", "ResNet, 256 -> 64 -> 256", 70_144, swapped),
        ("resnext50_32x4d", "layer1.1", "ResNeXt, 256 -> 32 x 4 -> 256", 69_632, swapped),
        ("resnet50", "layer3.0", "ResNet, first of conv4", 983_040, ""),
        ("resnet50", "layer4.0", "ResNet, first of conv5", 3_932_160, ""),
        ("resnext50_32x4d", "layer3.0", "ResNeXt, first of conv4", 614_400, grouped),
        ("resnext50_32x4d", "layer4.0", "ResNeXt, first of conv5", 3_440_640, ""),
    )
    rows: list[Row] = []
    for network, block, what, count, note in published:
        ours, formula = weights(network, block)
        rows.append(exact(what, count, ours, note + formula))
    remarks = (
        "Weights of the three convolutions, 1x1, 3x3 and 1x1, without the shortcut's projection and without norms.",
        "256*64 + 64*3*3*64 + 64*256 = 69,632; 32*(256*4 + 4*3*3*4 + 4*256) = 70,144.",
    )
    return Reproduction(
        name, title, "the lecture's slides, after Xie et al. 2017, Figure 1", tuple(rows), remarks
    )


def resnext(name: str, title: str) -> Reproduction:
    """Widths of the stages, parameters and FLOPs of both."""
    from torch import nn

    columns = {
        "ResNet-50": ("resnet50", 1, (64, 128, 256, 512), "25.5 M", "4.1 G"),
        "ResNeXt-50": ("resnext50_32x4d", 32, (128, 256, 512, 1024), "25.0 M", "4.2 G"),
    }
    rows: list[Row] = []
    for column, (network, paths, widths, params, flops) in columns.items():
        summary = summarize(network)
        model = build_empty(network, own_size(network), None, {})
        for (stage, module), width in zip(STAGES.items(), widths, strict=True):
            conv = cast(nn.Conv2d, model.get_submodule(f"{module}.0.conv2"))
            rows.append(exact(f"{column}, {stage[:5]}: width of the 3x3", width, conv.out_channels))
        rows.append(exact(f"{column}: cardinality", paths, conv.groups))
        rows.append(rounded(f"{column}: parameters", params, summary.totals.params))
        rows.append(rounded(f"{column}: FLOPs", flops, summary.totals.mult_adds))
    remark = (
        "At the same cost the error falls with the cardinality (23.9 to 22.2 %, one crop): it takes neither more "
        "layers nor fewer parameters."
    )
    return Reproduction(name, title, f"{RESNEXT}, Table 1", tuple(rows), (remark,))
