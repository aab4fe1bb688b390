"""AlexNet, the network that turned the field to deep learning.

    Krizhevsky, Sutskever, Hinton: ImageNet Classification with Deep Convolutional Neural Networks. NIPS 2012
    Krizhevsky: One weird trick for parallelizing convolutional neural networks. 2014, arXiv 1404.5997

What was new: rectified linear units (section 3.1), training on two GPUs (3.2), local response normalisation
(3.3), pooling windows that overlap (3.4), and dropout (4.2), in a network of 60 million parameters.

`alexnet_2012` is the paper's (section 3.5). Its two towers, one on each GPU, see each other in the third
convolution only, so the second, fourth and fifth have two groups:
                                             output   parameters
    conv1   11x11, stride 4, 96          55, 55, 96       34,944
    conv2   5x5, 256, two groups        27, 27, 256      307,456
    conv3   3x3, 384                    13, 13, 384      885,120
    conv4   3x3, 384, two groups        13, 13, 384      663,936
    conv5   3x3, 256, two groups        13, 13, 256      442,624
    fc6     9216 to 4096                       4096   37,752,832
    fc7     4096 to 4096                       4096   16,781,312
    fc8     4096 to 1000                       1000    4,097,000
                                                      60,965,224
Where paper and program differ:
    224 pixels make 55 windows because the authors' program (cuda-convnet) rounds up: the last one hangs over
        the right and the lower edge by 3 pixels. Caffe cuts 227 pixels instead. Here both give 55.
    Response normalisation is the formula as printed, with the sum times alpha; cuda-convnet, Caffe and
        PyTorch take the mean.
    The paper's 253,440 neurons of the first layer are not 55 x 55 x 96 = 290,400.

`alexnet` is the one-tower network of 2014 without response normalisation, in torchvision's layout: parameter
names and shapes, dropout before fc6 and fc7 instead of after.
"""

# In PyTorch's stubs the call of a module is Any.
# mypy: disable-error-code="no-any-return"
from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from sightline.models.protocol import FeatureInfo, image_size, linear_head, require


class AlexNet(nn.Module):
    """Five convolutions (`features`), three fully connected layers (`classifier`), `avgpool` between them.

    stages: the parts of `features` that end the four resolutions, with their channels.
    """

    def __init__(
        self,
        features: nn.Sequential,
        avgpool: nn.Module,
        classifier: nn.Sequential,
        stages: Sequence[tuple[str, int]],
        in_chans: int,
        num_classes: int,
    ) -> None:
        super().__init__()
        self.num_classes, self.in_chans = num_classes, in_chans
        self.features, self.avgpool, self.classifier = features, avgpool, classifier
        self.feature_info = [
            FeatureInfo(num_chs=chans, reduction=reduction, module=f"features.{name}")
            for (name, chans), reduction in zip(stages, (4, 8, 16, 32), strict=True)
        ]
        self.num_features = stages[-1][1]
        self.head_hidden_size = next(m for m in classifier if isinstance(m, nn.Linear)).out_features

    def forward_features(self, x: Tensor) -> Tensor:
        """(N, in_chans, H, W) -> (N, 256, h, w), 6x6 for pictures of 224."""
        return self.features(x)

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """(N, 256, h, w) -> logits (N, num_classes), or fc7 (N, 4096) with `pre_logits`."""
        x = torch.flatten(self.avgpool(x), 1)
        *hidden, out = self.classifier
        for layer in hidden:
            x = layer(x)
        return x if pre_logits else out(x)

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_chans, H, W) -> logits (N, num_classes)."""
        return self.forward_head(self.forward_features(x))

    def get_classifier(self) -> nn.Module:
        return self.classifier[-1]

    def reset_classifier(self, num_classes: int) -> None:
        self.num_classes = num_classes
        self.classifier[-1] = linear_head(self.head_hidden_size, num_classes)


def check(widths: Sequence[int], hidden: int, drop_rate: float) -> None:
    require(len(widths) == 5 and min(widths) >= 1, f"widths are of five convolutions, not {list(widths)}.")
    require(hidden >= 1, f"hidden is at least 1, not {hidden}.")
    require(0 <= drop_rate < 1, "drop_rate lies in [0, 1).")


def alexnet(
    *,
    widths: Sequence[int] = (64, 192, 384, 256, 256),
    hidden: int = 4096,
    num_classes: int = 1000,
    in_chans: int = 3,
    img_size: int | Sequence[int] | None = None,
    drop_rate: float = 0.5,
) -> AlexNet:
    """The network of 2014 as in torchvision, with PyTorch's own initialisation.

    widths: channels of the convolutions. hidden: units of fc6 and fc7. drop_rate: dropout before each of them.
    img_size: only checked; any size from 63 on will do, the last maps are averaged to 6x6.
    Raises SightlineError where the arguments make no network.
    """
    check(widths, hidden, drop_rate)
    image_size(img_size, 224, minimum=63)
    a, b, c, d, e = widths
    features = nn.Sequential(
        nn.Conv2d(in_chans, a, 11, stride=4, padding=2),  # B, 64, 55, 55
        nn.ReLU(inplace=True),
        nn.MaxPool2d(3, stride=2),
        nn.Conv2d(a, b, 5, padding=2),  # B, 192, 27, 27
        nn.ReLU(inplace=True),
        nn.MaxPool2d(3, stride=2),
        nn.Conv2d(b, c, 3, padding=1),  # B, 384, 13, 13
        nn.ReLU(inplace=True),
        nn.Conv2d(c, d, 3, padding=1),  # B, 256, 13, 13
        nn.ReLU(inplace=True),
        nn.Conv2d(d, e, 3, padding=1),  # B, 256, 13, 13
        nn.ReLU(inplace=True),
        nn.MaxPool2d(3, stride=2),  # B, 256, 6, 6
    )
    classifier = nn.Sequential(
        nn.Dropout(drop_rate),
        nn.Linear(e * 6 * 6, hidden),
        nn.ReLU(inplace=True),
        nn.Dropout(drop_rate),
        nn.Linear(hidden, hidden),
        nn.ReLU(inplace=True),
        linear_head(hidden, num_classes),
    )
    stages = (("1", a), ("4", b), ("11", e), ("12", e))
    return AlexNet(features, nn.AdaptiveAvgPool2d(6), classifier, stages, in_chans, num_classes)


def alexnet_2012(
    *,
    widths: Sequence[int] = (96, 256, 384, 384, 256),
    hidden: int = 4096,
    num_classes: int = 1000,
    in_chans: int = 3,
    img_size: int | Sequence[int] | None = None,
    drop_rate: float = 0.5,
) -> AlexNet:
    """The paper's network, initialised as in section 5; layers are named as in Caffe.

    widths: channels of the convolutions, both towers together. hidden: units of fc6 and fc7. drop_rate:
    dropout behind each of them. img_size: side or (height, width), at least 64; the inputs of fc6 follow
    from it.
    Raises SightlineError where the arguments make no network.
    """
    check(widths, hidden, drop_rate)
    a, b, c, d, e = widths
    require(all(w % 2 == 0 for w in (a, b, c, d, e)), "widths are even: each tower has half of the channels.")
    sides = image_size(img_size, 224, minimum=64)
    overhang = [-(side - 11) % 4 for side in sides]  # 3 pixels where the side is 224, none where it is 227
    windows = [(side + over - 11) // 4 + 1 for side, over in zip(sides, overhang, strict=True)]  # 55
    height, width = ((n - 7) // 8 for n in windows)  # three poolings of n to (n - 1) // 2: 6
    features = OrderedDict[str, nn.Module](
        edge=nn.ZeroPad2d((0, overhang[1], 0, overhang[0])),
        conv1=nn.Conv2d(in_chans, a, 11, stride=4),  # B, 96, 55, 55
        relu1=nn.ReLU(inplace=True),
        norm1=response_norm(),
        pool1=nn.MaxPool2d(3, stride=2),
        conv2=nn.Conv2d(a, b, 5, padding=2, groups=2),  # B, 256, 27, 27
        relu2=nn.ReLU(inplace=True),
        norm2=response_norm(),
        pool2=nn.MaxPool2d(3, stride=2),
        conv3=nn.Conv2d(b, c, 3, padding=1),  # B, 384, 13, 13
        relu3=nn.ReLU(inplace=True),
        conv4=nn.Conv2d(c, d, 3, padding=1, groups=2),  # B, 384, 13, 13
        relu4=nn.ReLU(inplace=True),
        conv5=nn.Conv2d(d, e, 3, padding=1, groups=2),  # B, 256, 13, 13
        relu5=nn.ReLU(inplace=True),
        pool5=nn.MaxPool2d(3, stride=2),  # B, 256, 6, 6
    )
    classifier = OrderedDict[str, nn.Module](
        fc6=nn.Linear(e * height * width, hidden),
        relu6=nn.ReLU(inplace=True),
        drop6=nn.Dropout(drop_rate),
        fc7=nn.Linear(hidden, hidden),
        relu7=nn.ReLU(inplace=True),
        drop7=nn.Dropout(drop_rate),
        fc8=linear_head(hidden, num_classes),
    )
    for name, layer in (features | classifier).items():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            nn.init.normal_(layer.weight, std=0.01)
            if layer.bias is not None:  # positive inputs for the ReLUs in the early stages of learning
                nn.init.constant_(layer.bias, float(name in ("conv2", "conv4", "conv5", "fc6", "fc7")))
    stages = (("relu1", a), ("relu2", b), ("relu5", e), ("pool5", e))
    return AlexNet(
        nn.Sequential(features), nn.Identity(), nn.Sequential(classifier), stages, in_chans, num_classes
    )


def response_norm() -> nn.Module:
    """Section 3.3: b = a / (2 + 1e-4 times the sum of squares over five neighbouring maps) ** 0.75."""
    return nn.LocalResponseNorm(5, alpha=5 * 1e-4, beta=0.75, k=2)  # PyTorch divides alpha by 5


VARIANTS: dict[str, Callable[..., AlexNet]] = {"alexnet": alexnet, "alexnet_2012": alexnet_2012}
