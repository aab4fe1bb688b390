"""Families of one network at several sizes: EfficientNet, and the Deformable Patch-based Transformer."""

from __future__ import annotations

import math
from typing import Any, cast

from sightline.reproduce.record import Reproduction, Row, exact, rounded
from sightline.visualization.summary import build_empty, own_size, summarize

EFFICIENTNET = "Tan and Le 2019 (arXiv 1905.11946), Table 2; coefficients: the authors' code"
# Width, depth, side of the picture; parameters and FLOPs as printed.
SCALES = {
    "b0": (1.0, 1.0, 224, "5.3 M", "0.39 G"),
    "b1": (1.0, 1.1, 240, "7.8 M", "0.70 G"),
    "b2": (1.1, 1.2, 260, "9.2 M", "1.0 G"),
    "b3": (1.2, 1.4, 300, "12 M", "1.8 G"),
    "b4": (1.4, 1.8, 380, "19 M", "4.2 G"),
    "b5": (1.6, 2.2, 456, "30 M", "9.9 G"),
    "b6": (1.8, 2.6, 528, "43 M", "19 G"),
    "b7": (2.0, 3.1, 600, "66 M", "37 G"),
}
B0_BLOCKS = (1, 2, 2, 3, 3, 4, 1)  # in the seven stages
B0_FEATURES = 1280  # channels before the classifier


def efficientnet(name: str, title: str) -> Reproduction:
    """What the coefficients make of B0, and what that costs."""
    rows: list[Row] = []
    for size, (width, depth, side, params, flops) in SCALES.items():
        network = f"efficientnet_{size}"
        model = build_empty(network, own_size(network), None, {})
        summary = summarize(network)
        blocks = sum(type(module).__name__ == "MBConv" for module in model.modules())
        repeated = sum(math.ceil(depth * repeats) for repeats in B0_BLOCKS)
        b = size.upper()
        rows += [
            exact(f"{b}: width {width}: features", round(B0_FEATURES * width), cast(Any, model).num_features),
            exact(f"{b}: depth {depth}: blocks", repeated, blocks),
            exact(f"{b}: resolution", f"{side}x{side}", "{1}x{2}".format(*summary.input_size)),
            rounded(f"{b}: parameters", params, summary.totals.params),
            rounded(f"{b}: FLOPs", flops, summary.totals.mult_adds),
        ]
    remarks = (
        "Width, depth and resolution are to grow as 1.1^phi, 1.2^phi and 1.15^phi, where 1.1^2 x 1.2 x 1.15^2 = 1.92: "
        "about twice the cost for each step of phi. The published coefficients follow this roughly: those of B7 would "
        "be phi = 7.3 by width, 6.2 by depth and 7.0 by resolution.",
        "Features: 1280 x width. Blocks: the number of each stage x depth, rounded up. FLOPs are multiply-adds; where "
        "they differ, parameters, blocks and resolution agree: the network is the paper's, its sum was another.",
    )
    return Reproduction(name, title, EFFICIENTNET, tuple(rows), remarks)


def dpt(name: str, title: str) -> Reproduction:
    """Parameters and FLOPs."""
    published = {
        "pvt_tiny": ("13.2 M", None),
        "pvt_small": ("24.5 M", None),
        "pvt_medium": ("44.2 M", None),
        "pvt_large": ("61.4 M", None),
        "dpt_tiny": ("15.2 M", "2.1 G"),
        "dpt_small": ("26.4 M", "4.0 G"),
        "dpt_medium": ("46.1 M", "6.9 G"),
    }
    rows: list[Row] = []
    for network, (params, flops) in published.items():
        total = summarize(network).totals
        rows.append(rounded(f"{network}: parameters", params, total.params))
        if flops:
            rows.append(rounded(f"{network}: FLOPs", flops, total.mult_adds))
    remark = (
        "DPT is the Deformable Patch-based Transformer of Chen et al. 2021, not the Dense Prediction Transformer of "
        "the same letters."
    )
    source = "the authors' repositories, CASIA-IVA-Lab/DPT and whai362/PVT"
    return Reproduction(name, title, source, tuple(rows), (remark,))
