"""The lecture's own two networks, and what its slides say of others."""

from __future__ import annotations

from typing import Any, cast

from sightline.reproduce.record import Reproduction, Row, exact, rounded
from sightline.visualization.layers import dims
from sightline.visualization.summary import build_empty, own_size, summarize

SLIDES = "the lecture's slides"


def net(name: str, title: str) -> Reproduction:
    """Output shapes and parameters of each layer of `Net`."""
    published = (
        ("convolution 1", "16x28x28", 416),
        ("ReLU 1", "16x28x28", 0),
        ("max pooling 1", "16x14x14", 0),
        ("convolution 2", "32x14x14", 12_832),
        ("ReLU 2", "32x14x14", 0),
        ("max pooling 2", "32x7x7", 0),
        ("linear layer", "10", 15_690),
    )
    summary = summarize("lecture_net")
    rows: list[Row] = []
    for (what, output, params), layer in zip(published, summary.rows, strict=True):
        rows.append(exact(f"{what}: output", output, dims(layer.output or (), "x")))
        if params:
            rows.append(exact(f"{what}: parameters", params, layer.params, layer.formula))
    rows.append(exact("parameters in all", 28_938, summary.totals.params))
    rows.append(exact("trainable parameters", 28_938, summary.totals.trainable))
    remark = (
        'A slide counts a linear layer as "input x output + 3": what is added are the biases, one for each '
        "output, here 10."
    )
    return Reproduction(name, title, SLIDES, tuple(rows), (remark,))


def vit(name: str, title: str) -> Reproduction:
    """The toy on which the slides explain attention."""
    summary = summarize("lecture_vit")
    model = build_empty("lecture_vit", own_size("lecture_vit"), None, {})
    of = {row.name: row for row in summary.rows}
    _, down, across = of["patch_embed.proj"].output or (0, 0, 0)
    tokens, width = of["blocks.0.attn.proj"].output or (0, 0)
    heads = cast(Any, model).blocks[0].attn.num_heads
    rows = (
        exact("patches", 16, down * across),
        exact("numbers in a projected patch", 64, (of["patch_embed.proj"].output or (0,))[0]),
        exact("tokens, with the class token", 17, tokens),
        exact("position embedding", "17x64", dims(model.get_parameter("pos_embed").shape[1:], "x")),
        exact("parameters of a LayerNorm", 128, of["blocks.0.norm1"].params, of["blocks.0.norm1"].formula),
        exact("heads", 4, heads),
        exact("width of a head", 16, width // heads),
        exact("heads put side by side", 64, width),
    )
    remarks = (
        "Positions: a slide has the sine in both branches; in the odd one it is a cosine, and the exponent counts "
        "pairs of channels.",
        "LayerNorm: a slide divides by sqrt(sigma + eps); it is sqrt(sigma^2 + eps), for each token alone, not over "
        "a mini-batch.",
        "Attention: scores are divided by sqrt(width of a head), here sqrt(16), not by sqrt(width of a token).",
        'MLP: a slide has "GELU at the end"; it stands between the two linear layers.',
        "Head: heads divide the token's width among them (ViT-B: 12 of 64 are 768), so the classifier is "
        "Linear(768, classes).",
        "A 224x224 picture in patches of 16 has 196 patches and, with the class token, 197 position embeddings, "
        "not 196.",
    )
    return Reproduction(name, title, SLIDES, rows, remarks)


def slides(name: str, title: str) -> Reproduction:
    """Statements that a look at the networks decides."""
    from torch import nn

    def layers(network: str, kind: type[nn.Module]) -> int:
        model = build_empty(network, own_size(network), None, {})
        return sum(isinstance(module, kind) for module in model.modules())

    rows = [
        rounded("AlexNet: parameters", "60 M", summarize("alexnet_2012").totals.params),
        rounded("VGG-16: parameters", "138 M", summarize("vgg16").totals.params),
    ]
    for depth in (16, 19):
        conv, linear = layers(f"vgg{depth}", nn.Conv2d), layers(f"vgg{depth}", nn.Linear)
        note = f"{conv} convolutions and {linear} linear layers: {conv + linear} layers with weights"
        rows.append(exact(f"VGG-{depth}: convolutions", depth, conv, note))
    google = summarize("googlenet_2014", arguments={"aux_logits": False}).totals.params
    note = "without auxiliary classifiers; the paper: 12 times fewer than AlexNet, and its table adds up to 6.8 M"
    rows.append(rounded("GoogLeNet: parameters", "4 M", google, note))
    normed = "yes" if layers("googlenet_2014", nn.BatchNorm2d) else "no"
    note = "it came with Inception v2, and RMSprop with Inception v3"
    rows.append(exact("GoogLeNet (2014): batch normalisation", "yes", normed, note))
    remarks = (
        'GoogLeNet: a 1x1 convolution is pointwise, not "depth wise".',
        "ResNet: shortcuts have no gates (those of Highway networks have); 3.57 % is an ensemble of six networks, on "
        "the test set.",
        "AlexNet: 15.3 % is an ensemble of seven networks; one alone has 18.2 % on the validation set. GoogLeNet's "
        "6.67 % is seven networks on 144 crops.",
        'EfficientNet: "4.04 %" beside the table is none of its cells; B7 has 3.03 % (validation) and 3.06 % (test) '
        "top-5 error.",
        "Years: LeNet-5 1998, not 1999; Attention Is All You Need 2017, not 2021; EfficientNet 2019, not 2020; ILSVRC "
        "ran from 2010 to 2017.",
    )
    return Reproduction(name, title, SLIDES, tuple(rows), remarks)
