"""LeNet-5, which read the digits on cheques.

    LeCun, Bottou, Bengio, Haffner: Gradient-Based Learning Applied to Document Recognition.
    Proceedings of the IEEE 86(11), November 1998, doi 10.1109/5.726791; section II-B

`lenet5_1998` is the paper's network, layer for layer:
                                                                        parameters   connections
    C1   5x5 convolution to 6 maps                                             156       122,304
    S2   sum of 2x2 pixels, times a coefficient, plus a bias                    12         5,880
    C3   5x5 convolution to 16 maps, each from some of S2's (Table I)        1,516       151,600
    S4   as S2                                                                  32         2,000
    C5   5x5 convolution to 120 maps of one pixel                           48,120        48,120
    F6   84 units, fully connected                                          10,164        10,164
    OUT  squared distance from F6 to a fixed picture of each digit               0           840
                                                                            60,000       340,908
All units up to F6 are squashed by 1.7159 tanh(2/3 a). The output's distances are penalties: the smallest wins.
Here they are negated, so that the largest logit wins as in every other network.
The paper feeds 32x32 pixels, the white background at -0.1 and the ink at 1.175. For pictures in which ink is 1
and paper 0, as in MNIST's files, that is mean 0.0784 and standard deviation 0.7843 (`model_info` has them).

`lenet5` is the same body as it is written today: every map of C3 sees every map of S2, ReLU, max pooling, a
linear output: 61,706 parameters. It takes any number of classes, and pictures from 28x28 on.

Not from the paper: the ten pictures of digits. The paper shows them (Figure 3) and gives no numbers;
`BITMAPS` is our own drawing of the digits in that style, 7 pixels wide and 12 high, and does not claim to
be the same pixel for pixel.
"""

# In PyTorch's stubs the call of a module is Any.
# mypy: disable-error-code="no-any-return"
from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sightline.errors import SightlineError
from sightline.models.protocol import FeatureInfo, image_size, linear_head, meta_copy, require

C3_TABLE = (  # Table I: the maps of S2 that each map of C3 sees
    # six maps see three neighbouring maps
    (0, 1, 2), (1, 2, 3), (2, 3, 4), (3, 4, 5), (0, 4, 5), (0, 1, 5),
    # six see four neighbouring maps, and three see four others
    (0, 1, 2, 3), (1, 2, 3, 4), (2, 3, 4, 5), (0, 3, 4, 5), (0, 1, 4, 5), (0, 1, 2, 5),
    (0, 1, 3, 4), (1, 2, 4, 5), (0, 2, 3, 5),
    # the last sees all
    (0, 1, 2, 3, 4, 5),
)  # fmt: skip

BITMAPS = """
....... ....... ....... ....... ....... ....... ....... ....... ....... .......
..###.. ...##.. .#####. .#####. ....##. ####### ..####. ####### .#####. .#####.
.##.##. ..###.. ##...## ##...## ...###. ##..... .##.... ##...## ##...## ##...##
##...## .####.. .....## .....## ..####. ##..... ##..... .....## ##...## ##...##
##...## ...##.. .....## .....## .##.##. ##..... ##..... ....##. ##...## ##...##
##...## ...##.. ....##. ..####. ##..##. ######. ######. ....##. .#####. ##...##
##...## ...##.. ...##.. .....## ##..##. .....## ##...## ...##.. ##...## .######
##...## ...##.. ..##... .....## ####### .....## ##...## ...##.. ##...## .....##
##...## ...##.. .##.... .....## ....##. .....## ##...## ..##... ##...## .....##
.##.##. ...##.. ##..... ##...## ....##. ##...## ##...## ..##... ##...## ....##.
..###.. .###### ####### .#####. ....##. .#####. .#####. ..##... .#####. .####..
....... ....... ....... ....... ....... ....... ....... ....... ....... .......
"""


def digit_bitmaps() -> Tensor:
    """The fixed centres of the output units, (10, 84): ink +1, paper -1, twelve rows of seven pixels."""
    rows = [line.split() for line in BITMAPS.strip().splitlines()]
    digits = ["".join(row[digit] for row in rows) for digit in range(10)]
    return torch.tensor([[1.0 if pixel == "#" else -1.0 for pixel in digit] for digit in digits])


class Squash(nn.Module):
    """f(a) = A tanh(S a) with A = 1.7159 and S = 2/3, so that f(1) = 1 and f(-1) = -1 (Appendix A)."""

    def forward(self, a: Tensor) -> Tensor:
        return 1.7159 * torch.tanh(2 / 3 * a)


class Subsample(nn.Module):
    """S2, S4: per map, the sum of 2x2 pixels times a trainable coefficient, plus a trainable bias."""

    def __init__(self, maps: int) -> None:
        super().__init__()
        self.coefficient = nn.Parameter(torch.empty(maps))
        self.bias = nn.Parameter(torch.empty(maps))

    def forward(self, x: Tensor) -> Tensor:
        total = 4 * F.avg_pool2d(x, 2)
        return total * self.coefficient[:, None, None] + self.bias[:, None, None]


class TableConvolution(nn.Module):
    """C3: a 5x5 convolution in which a map sees only the maps that `C3_TABLE` lists for it.

    It has a kernel for each of the table's 60 links and a bias for each of its 16 maps. For the convolution
    the kernels are laid into their places among 16 x 6, zeros elsewhere.
    """

    links: Tensor

    def __init__(self) -> None:
        super().__init__()
        links = [6 * target + source for target, row in enumerate(C3_TABLE) for source in row]
        self.register_buffer("links", torch.tensor(links), persistent=False)
        self.weight = nn.Parameter(torch.empty(60, 5, 5))
        self.bias = nn.Parameter(torch.empty(16))

    def forward(self, x: Tensor) -> Tensor:
        kernels = self.weight.new_zeros(16 * 6, 5, 5).index_copy(0, self.links, self.weight)
        return F.conv2d(x, kernels.view(16, 6, 5, 5), self.bias)


class RBFOutput(nn.Module):
    """Ten Euclidean radial basis functions: the logit is minus the squared distance to a digit's bitmap."""

    bitmaps: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("bitmaps", digit_bitmaps())

    def forward(self, x: Tensor) -> Tensor:
        return -(x[:, None, :] - self.bitmaps).square().sum(dim=2)  # B, 10


class LeNet5Of1998(nn.Module):
    """The paper's LeNet-5. Ten classes, the digits 0 to 9 in this order, and 32x32 pixels only.

    Trained best with `map_loss`: plain cross-entropy of these logits leaves the distances free to grow, and
    learns slower.
    Raises SightlineError for another number of classes or another size.
    """

    def __init__(
        self, *, num_classes: int = 10, in_chans: int = 1, img_size: int | Sequence[int] | None = None
    ) -> None:
        super().__init__()
        require_ten(num_classes)
        size = image_size(img_size, 32)
        require(size == (32, 32), f"it takes pictures of 32x32 pixels, not {size[0]}x{size[1]}.")
        self.num_classes, self.in_chans = num_classes, in_chans
        self.c1 = nn.Conv2d(in_chans, 6, 5)  # B, 6, 28, 28
        self.squash1 = Squash()
        self.s2 = Subsample(6)  # B, 6, 14, 14
        self.squash2 = Squash()
        self.c3 = TableConvolution()  # B, 16, 10, 10
        self.squash3 = Squash()
        self.s4 = Subsample(16)  # B, 16, 5, 5
        self.squash4 = Squash()
        self.c5 = nn.Conv2d(16, 120, 5)  # B, 120, 1, 1
        self.squash5 = Squash()
        self.f6 = nn.Linear(120, 84)
        self.squash6 = Squash()
        self.out = RBFOutput()
        self.num_features, self.head_hidden_size = 120, 84
        self.feature_info = feature_info("squash2", "squash4", "squash5")
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Each unit's weights and bias uniform in +-2.4 / fan-in, the number of its inputs."""
        for layer in (self.c1, self.c5, self.f6):
            uniform_(layer, 2.4 / layer.weight[0].numel())
        for pooling in (self.s2, self.s4):
            uniform_(pooling, 2.4 / 4)
        uniform_(self.c3, 2.4 / 25)
        with torch.no_grad():  # C3's maps see three, four or six maps of 25 inputs
            sources = [len(row) for row in C3_TABLE]
            self.c3.bias.div_(torch.tensor(sources))
            self.c3.weight.div_(torch.tensor([n for n in sources for _ in range(n)])[:, None, None])

    def forward_features(self, x: Tensor) -> Tensor:
        """(N, in_chans, 32, 32) -> C5's maps (N, 120, 1, 1)."""
        x = self.squash2(self.s2(self.squash1(self.c1(x))))
        x = self.squash4(self.s4(self.squash3(self.c3(x))))
        return self.squash5(self.c5(x))

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """(N, 120, 1, 1) -> minus the distances (N, 10), or F6 (N, 84) with `pre_logits`."""
        x = self.squash6(self.f6(torch.flatten(x, 1)))
        return x if pre_logits else self.out(x)

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_chans, 32, 32) -> logits (N, 10), minus the squared distances."""
        return self.forward_head(self.forward_features(x))

    def get_classifier(self) -> nn.Module:
        return self.out

    def reset_classifier(self, num_classes: int) -> None:
        """Nothing to do for ten classes, the bitmaps are fixed; SightlineError for any other number."""
        require_ten(num_classes)


def uniform_(module: nn.Module, bound: float) -> None:
    for parameter in module.parameters():
        nn.init.uniform_(parameter, -bound, bound)


def require_ten(num_classes: int) -> None:
    if num_classes != 10:
        raise SightlineError(
            f"its outputs are fixed pictures of the ten digits, it cannot tell {num_classes} classes apart; "
            "lenet5 takes any number."
        )


def feature_info(*modules: str) -> list[FeatureInfo]:
    """The three stages of either LeNet-5: after S2, S4 and C5."""
    stages = zip((6, 16, 120), (2, 4, 4), modules, strict=True)
    return [FeatureInfo(num_chs=c, reduction=r, module=m) for c, r, m in stages]


def map_loss(logits: Tensor, targets: Tensor, j: float = 1.0) -> Tensor:
    """The paper's criterion (equation 9), the mean of y_target + log(exp(-j) + sum_i exp(-y_i)), y = -logits.

    It is cross-entropy with one more class, for rubbish, of the constant penalty `j`: where all distances
    exceed it, there is still a pull towards the target's bitmap. The paper leaves the value of `j` open.
    """
    rubbish = logits.new_full((len(logits), 1), -j)
    return F.cross_entropy(torch.cat([logits, rubbish], dim=1), targets)


def connections(net: LeNet5Of1998) -> dict[str, int]:
    """The connections of each layer as the paper counts them, from the layer's own weights and output size.

    A shared weight is one connection for each pixel that it computes, a bias too; a subsampling unit has
    its four inputs and a bias; an output unit one for each unit of F6.
    """
    pixels: dict[str, int] = {}
    layers = ("c1", "s2", "c3", "s4", "c5", "f6", "out")
    model = meta_copy(net)
    for name in layers:
        model.get_submodule(name).register_forward_hook(
            lambda _module, _inputs, output, name=name: pixels.update({name: math.prod(output.shape[2:])})
        )
    model(torch.empty(1, net.in_chans, 32, 32, device="meta"))
    counts: dict[str, int] = {}
    for name in layers:
        module = net.get_submodule(name)
        if isinstance(module, Subsample):
            counts[name] = module.coefficient.numel() * pixels[name] * (4 + 1)
        elif isinstance(module, RBFOutput):
            counts[name] = module.bitmaps.numel()
        else:
            counts[name] = sum(p.numel() for p in module.parameters()) * pixels[name]
    return counts


class LeNet5(nn.Module):
    """LeNet-5 as it is written today: full C3, ReLU, max pooling, a linear output.

    img_size: side or (height, width), at least 28. Below 32 the first convolution pads by two pixels, which
    makes the 32x32 of the paper out of MNIST's 28x28; above 35 C5 has more than one pixel, and F6 more
    inputs.
    """

    def __init__(
        self, *, num_classes: int = 10, in_chans: int = 1, img_size: int | Sequence[int] | None = None
    ) -> None:
        super().__init__()
        size = image_size(img_size, 32, minimum=28)
        padding = 2 if min(size) < 32 else 0
        self.num_classes, self.in_chans = num_classes, in_chans
        self.c1 = nn.Conv2d(in_chans, 6, 5, padding=padding)  # B, 6, 28, 28
        self.relu1 = nn.ReLU()
        self.s2 = nn.MaxPool2d(2)  # B, 6, 14, 14
        self.c3 = nn.Conv2d(6, 16, 5)  # B, 16, 10, 10
        self.relu3 = nn.ReLU()
        self.s4 = nn.MaxPool2d(2)  # B, 16, 5, 5
        self.c5 = nn.Conv2d(16, 120, 5)  # B, 120, 1, 1
        self.relu5 = nn.ReLU()
        height, width = (((side + 2 * padding - 4) // 2 - 4) // 2 - 4 for side in size)
        self.f6 = nn.Linear(120 * height * width, 84)
        self.relu6 = nn.ReLU()
        self.out = linear_head(84, num_classes)
        self.num_features, self.head_hidden_size = 120, 84
        self.feature_info = feature_info("s2", "s4", "relu5")

    def forward_features(self, x: Tensor) -> Tensor:
        """(N, in_chans, H, W) -> C5's maps (N, 120, h, w), one pixel for pictures of 28 to 35."""
        x = self.s2(self.relu1(self.c1(x)))
        x = self.s4(self.relu3(self.c3(x)))
        return self.relu5(self.c5(x))

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """(N, 120, h, w) -> logits (N, num_classes), or F6 (N, 84) with `pre_logits`."""
        x = self.relu6(self.f6(torch.flatten(x, 1)))
        return x if pre_logits else self.out(x)

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_chans, H, W) -> logits (N, num_classes)."""
        return self.forward_head(self.forward_features(x))

    def get_classifier(self) -> nn.Module:
        return self.out

    def reset_classifier(self, num_classes: int) -> None:
        self.num_classes = num_classes
        self.out = linear_head(84, num_classes)


VARIANTS: dict[str, Callable[..., nn.Module]] = {"lenet5": LeNet5, "lenet5_1998": LeNet5Of1998}
