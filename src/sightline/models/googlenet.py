"""GoogLeNet: inception modules, 22 layers of 7 million parameters where AlexNet's 8 have 61 million.

    Szegedy, Liu, Jia, Sermanet, Reed, Anguelov, Erhan, Vanhoucke, Rabinovich: Going Deeper with Convolutions.
        CVPR 2015, arXiv 1409.4842

What was new: a module looks at its input through 1x1, 3x3 and 5x5 windows and a pooling side by side; pointwise
(1x1) convolutions reduce the channels before the costly ones (section 4); the mean of the last maps takes the
place of hidden fully connected layers; and two auxiliary classifiers bring the gradient into the middle of
the network in training (section 5). They are thrown away afterwards.

`googlenet_2014` is the paper's Table 1 and Figure 3: 6,998,552 parameters and 1.58 billion mult-adds without
auxiliary classifiers. Table 1 sums to 6.8 million and 1.5 billion: its first row, 2.7K and 34M, is a separable
convolution (7*7*3*8 + 24*64 = 2,712 weights), where the type and the drawing say 7x7, 64. What the paper
leaves open is as in Caffe's replica, made with its first author's help: the constants of the response
normalisation, and the initialisation. Batch normalisation came later (Ioffe and Szegedy 2015).

`googlenet` is torchvision's, whose published weights were converted from TensorFlow. Against the paper it has
batch normalisation in every convolution instead of a bias, no response normalisation, 3x3 windows where the
paper has 5x5 (an oversight that was kept for the weights' sake), 2x2 windows in the fourth pooling, and half
the dropout. Parameter names and shapes are torchvision's in both. Its weights want pictures of which mean and
deviation are 0.5; torchvision's network renormalises within (`transform_input`), here the Preprocess does.
"""

# In PyTorch's stubs the call of a module is Any.
# mypy: disable-error-code="no-any-return"
from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor, nn

from sightline.models.checkpointing import checkpointed
from sightline.models.protocol import FeatureInfo, image_size, linear_head, require


class BasicConv2d(nn.Module):
    """Convolution and ReLU, with batch normalisation between them, or a bias without it."""

    def __init__(
        self, in_chans: int, out_chans: int, kernel: int, stride: int = 1, *, batch_norm: bool
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_chans, out_chans, kernel, stride, kernel // 2, bias=not batch_norm)
        self.bn = nn.BatchNorm2d(out_chans, eps=1e-3) if batch_norm else nn.Identity()
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.relu(self.bn(self.conv(x)))


class Inception(nn.Module):
    """Figure 2b: four branches over the same input, their channels one after the other.

    widths: a row of Table 1, #1x1, #3x3 reduce, #3x3, #5x5 reduce, #5x5, pool proj. kernel: the third
    branch's window.
    """

    def __init__(self, in_chans: int, widths: Sequence[int], *, kernel: int, batch_norm: bool) -> None:
        super().__init__()
        conv = partial(BasicConv2d, batch_norm=batch_norm)
        one, three_reduce, three, five_reduce, five, pool = widths
        self.branch1 = conv(in_chans, one, 1)
        self.branch2 = nn.Sequential(conv(in_chans, three_reduce, 1), conv(three_reduce, three, 3))
        self.branch3 = nn.Sequential(conv(in_chans, five_reduce, 1), conv(five_reduce, five, kernel))
        self.branch4 = nn.Sequential(nn.MaxPool2d(3, stride=1, padding=1), conv(in_chans, pool, 1))

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.branch1(x), self.branch2(x), self.branch3(x), self.branch4(x)], 1)


class InceptionAux(nn.Module):
    """An auxiliary classifier (section 5): `pool` to so many `cells`, a pointwise convolution, two linear layers.

    widths: channels of the convolution, units of the hidden layer.
    """

    def __init__(
        self,
        in_chans: int,
        *,
        pool: nn.Module,
        cells: int,
        widths: tuple[int, int],
        num_classes: int,
        drop_rate: float,
        batch_norm: bool,
    ) -> None:
        super().__init__()
        chans, self.hidden = widths
        self.pool = pool
        self.conv = BasicConv2d(in_chans, chans, 1, batch_norm=batch_norm)  # B, 128, 4, 4
        self.fc1 = nn.Linear(chans * cells, self.hidden)
        self.relu = nn.ReLU(inplace=True)
        self.dropout = nn.Dropout(drop_rate)
        self.fc2 = linear_head(self.hidden, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.flatten(self.conv(self.pool(x)), 1)
        return self.fc2(self.dropout(self.relu(self.fc1(x))))


MODULES = {  # Table 1
    "3a": (64, 96, 128, 16, 32, 32),
    "3b": (128, 128, 192, 32, 96, 64),
    "4a": (192, 96, 208, 16, 48, 64),
    "4b": (160, 112, 224, 24, 64, 64),
    "4c": (128, 128, 256, 24, 64, 64),
    "4d": (112, 144, 288, 32, 64, 64),
    "4e": (256, 160, 320, 32, 128, 128),
    "5a": (256, 160, 320, 32, 128, 128),
    "5b": (384, 192, 384, 48, 128, 128),
}
AUXILIARY = {"inception4a": "aux1", "inception4d": "aux2"}  # what they stand on


class GoogLeNet(nn.Module):
    """A stem, nine inception modules, global average pooling, one linear layer.

    In training the loss is that of the logits plus `aux_weight` times that of each auxiliary classifier;
    `forward_auxiliary` gives them all. `forward` gives the logits alone.

    paper: the network of 2014; otherwise torchvision's.
    width: all numbers of channels are multiplied by it.
    aux_logits: whether the two auxiliary classifiers are there.
    drop_rate, aux_drop_rate: dropout before the classifier, and inside the auxiliary ones.
    img_size: side or (height, width), at least 15, or 31 with `paper`. The body takes any such size, whatever
        it was built with; the paper's auxiliary classifiers only the one that they were built for.
    Raises SightlineError where the arguments make no network.
    """

    aux_weight = 0.3  # section 5

    def __init__(
        self,
        *,
        paper: bool = False,
        width: float = 1.0,
        aux_logits: bool = True,
        num_classes: int = 1000,
        in_chans: int = 3,
        img_size: int | Sequence[int] | None = None,
        drop_rate: float = 0.2,
        aux_drop_rate: float = 0.7,
    ) -> None:
        super().__init__()
        require(width > 0, f"width is more than 0, not {width}.")
        require(0 <= drop_rate < 1 and 0 <= aux_drop_rate < 1, "drop_rate and aux_drop_rate lie in [0, 1).")
        sides = image_size(img_size, 224, minimum=31 if paper else 15)
        self.num_classes, self.in_chans = num_classes, in_chans
        self.grad_checkpointing = False

        def wide(chans: int) -> int:
            return max(1, round(chans * width))

        conv = partial(BasicConv2d, batch_norm=not paper)
        pool = partial(nn.MaxPool2d, stride=2, ceil_mode=True)
        norm = partial(nn.LocalResponseNorm, 5, alpha=1e-4, beta=0.75, k=1) if paper else nn.Identity
        body: dict[str, nn.Module] = {
            "conv1": conv(in_chans, wide(64), 7, 2),  # B, 64, 112, 112
            "maxpool1": pool(3),  # B, 64, 56, 56
            "norm1": norm(),
            "conv2": conv(wide(64), wide(64), 1),
            "conv3": conv(wide(64), wide(192), 3),  # B, 192, 56, 56
            "norm2": norm(),
            "maxpool2": pool(3),  # B, 192, 28, 28
        }
        last = wide(192)
        chans = {"conv1": wide(64), "conv3": last}
        for row, numbers in MODULES.items():
            name, widths = f"inception{row}", [wide(n) for n in numbers]
            # B, 256, 28, 28 in 3a to B, 1024, 7, 7 in 5b
            body[name] = Inception(last, widths, kernel=5 if paper else 3, batch_norm=not paper)
            chans[name] = last = widths[0] + widths[2] + widths[4] + widths[5]
            if row == "3b":
                body["maxpool3"] = pool(3)  # B, 480, 14, 14
            elif row == "4e":
                body["maxpool4"] = pool(3 if paper else 2)  # B, 832, 7, 7
        self.order = list(body)
        for name, module in body.items():
            self.add_module(name, module)

        self.taps = AUXILIARY if aux_logits else {}
        maps = [(side + 1) // 16 for side in sides]  # of 4a and 4d: 14, 14
        windows = [min(5, m) for m in maps]  # the paper's 5x5; the whole map where it is smaller
        strided = math.prod((m - w) // 3 + 1 for m, w in zip(maps, windows, strict=True))
        for name, head in self.taps.items():
            aux = InceptionAux(
                chans[name],
                pool=nn.AvgPool2d((windows[0], windows[1]), stride=3) if paper else nn.AdaptiveAvgPool2d(4),
                cells=strided if paper else 16,
                widths=(wide(128), wide(1024)),
                num_classes=num_classes,
                drop_rate=aux_drop_rate,
                batch_norm=not paper,
            )
            self.add_module(head, aux)

        stages = ("conv1", "conv3", "inception3b", "inception4e", "inception5b")
        self.feature_info = [
            FeatureInfo(num_chs=chans[name], reduction=2 ** (i + 1), module=name)
            for i, name in enumerate(stages)
        ]
        self.num_features = self.head_hidden_size = last
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.dropout = nn.Dropout(drop_rate)
        self.fc = linear_head(last, num_classes)
        self.reset_parameters(paper)

    def reset_parameters(self, paper: bool) -> None:
        """Caffe's replica: uniform in +-sqrt(3 / fan-in), biases 0.2, of classifiers 0; torchvision: N(0, 0.01^2)."""
        last = [self.fc, *(aux.fc2 for aux in self.auxiliary())]
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear) and not paper:
                nn.init.normal_(module.weight, std=0.01)
            elif isinstance(module, nn.Conv2d | nn.Linear):
                bound = math.sqrt(3 / module.weight[0].numel())
                nn.init.uniform_(module.weight, -bound, bound)
                assert module.bias is not None
                nn.init.constant_(module.bias, 0.0 if module in last else 0.2)

    def auxiliary(self) -> list[InceptionAux]:
        """The auxiliary classifiers, the lower one first."""
        return [module for module in self.children() if isinstance(module, InceptionAux)]

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Keep the output of each module for the backward pass, which computes their insides again."""
        self.grad_checkpointing = enable

    def tapped(self, x: Tensor, taps: dict[str, str]) -> tuple[Tensor, list[Tensor]]:
        """The features, and what the classifiers in `taps` say on the way."""
        said = []
        for name in self.order:
            module = self.get_submodule(name)
            again = self.grad_checkpointing and torch.is_grad_enabled()
            x = checkpointed(module, x) if again else module(x)
            if name in taps:
                said.append(self.get_submodule(taps[name])(x))
        return x, said

    def forward_features(self, x: Tensor) -> Tensor:
        """(N, in_chans, H, W) -> (N, 1024, h, w), 7x7 for pictures of 224."""
        return self.tapped(x, {})[0]

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """(N, 1024, h, w) -> logits (N, num_classes), or the mean of the maps (N, 1024) with `pre_logits`."""
        x = self.dropout(torch.flatten(self.avgpool(x), 1))
        return x if pre_logits else self.fc(x)

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_chans, H, W) -> logits (N, num_classes)."""
        return self.forward_head(self.forward_features(x))

    def forward_auxiliary(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        """(N, in_chans, H, W) -> logits (N, num_classes), and a list of those of the auxiliary classifiers."""
        x, said = self.tapped(x, self.taps)
        return self.forward_head(x), said

    def get_classifier(self) -> nn.Module:
        return self.fc

    def reset_classifier(self, num_classes: int) -> None:
        """Puts fresh last layers, in the auxiliary classifiers too."""
        self.num_classes = num_classes
        self.fc = linear_head(self.num_features, num_classes)
        for aux in self.auxiliary():
            aux.fc2 = linear_head(aux.hidden, num_classes)


VARIANTS: dict[str, Callable[..., GoogLeNet]] = {
    "googlenet": GoogLeNet,
    "googlenet_2014": partial(GoogLeNet, paper=True, drop_rate=0.4),
}
