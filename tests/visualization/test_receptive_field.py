"""Receptive fields against the gradient's: the pixels on which a unit of a network made linear depends."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sightline.errors import SightlineError, UnknownName
from sightline.models import create_model
from sightline.visualization.receptive_field import ReceptiveField, receptive_field, receptive_fields
from tests.models.reduced import ARGUMENTS, reduced, side

CONVOLUTIONAL = [
    name
    for name in ARGUMENTS
    if not name.startswith(("vit", "swin", "pvt", "dpt", "lecture_vit", "clip_vit"))
]
# Variants that differ in depth alone are one network once they are reduced.
EACH = (
    "lecture_net", "lenet5_1998", "lenet5", "alexnet_2012", "alexnet", "googlenet_2014", "googlenet", "vgg11",
    "vgg16_bn", "resnet18", "resnet50", "resnet50_2015", "resnet18_a", "resnet34_c", "plain18", "resnext50_32x4d",
    "resnet20", "resnet10_small", "resnet10_photo", "efficientnet_b0", "efficientnet_b4", "tf_efficientnet_b0",
    "tf_efficientnet_b3",
)  # fmt: skip
OTHERS = (
    "timm/convnext_atto",
    "timm/efficientnet_b0",
    "timm/resnet10t",
    "timm/mobilenetv3_small_050",
    "timm/res2net50_26w_4s",
)


def made_linear(model: nn.Module) -> nn.Module:
    """All weights positive, maxima made means, squeeze-and-excitation left out: every path counts and none cancels.

    On a positive picture each ReLU (and, to the sign, each SiLU and tanh) then lets everything through.
    """
    torch.manual_seed(0)
    for module in list(model.modules()):
        for name, child in module.named_children():
            if isinstance(child, nn.MaxPool2d):
                mean = nn.AvgPool2d(child.kernel_size, child.stride, child.padding, child.ceil_mode)
                setattr(module, name, mean)
        if "Squeeze" in type(module).__name__:
            module.register_forward_hook(lambda _module, inputs, _output: inputs[0])
    for parameter in model.parameters():
        if parameter.ndim == 1:  # some norms start at zero
            nn.init.constant_(parameter, 0.5)
        else:
            nn.init.uniform_(parameter, 0.5 / parameter[0].numel(), 1.5 / parameter[0].numel())
    return model.double().eval()


def depends_on(model: nn.Module, x: Tensor, layer: str, row: int, column: int) -> tuple[int, int, int, int]:
    """The box of the pixels that the unit's gradient is not zero at."""
    found = {}
    handle = model.get_submodule(layer).register_forward_hook(
        lambda _m, _i, output: found.update(unit=output)
    )
    x = x.requires_grad_()
    model(x)
    handle.remove()
    (gradient,) = torch.autograd.grad(found["unit"][0, :, row, column].sum(), x)
    rows, columns = (gradient[0].abs().sum((0, axis)).nonzero().flatten() for axis in (2, 1))
    return int(rows[0]), int(columns[0]), int(rows[-1]) + 1, int(columns[-1]) + 1


def agree_at_every_stage(model: nn.Module, size: tuple[int, int, int]) -> None:
    fields = receptive_fields(model, size)
    linear = made_linear(model)
    checked = 0
    for stage in model.feature_info:
        field = fields[stage["module"]]
        rows, columns = field.grid
        for at in {(0, 0), (rows // 2, columns // 2), (rows - 1, columns - 1), (0, columns - 1)}:
            x = torch.rand(1, *size, dtype=torch.float64) + 0.5
            assert field.box(*at) == depends_on(linear, x, stage["module"], *at), (stage, at, field)
            checked += 1
    assert checked


@pytest.mark.parametrize("name", EACH)
def test_stages_of_the_lineage_see_what_their_gradient_says(name: str) -> None:
    model = reduced(name)
    agree_at_every_stage(model, (model.in_chans, side(name), side(name)))


@pytest.mark.full
@pytest.mark.parametrize("name", [name for name in CONVOLUTIONAL if name not in EACH])
def test_stages_of_all_variants_see_what_their_gradient_says(name: str) -> None:
    model = reduced(name)
    agree_at_every_stage(model, (model.in_chans, side(name), side(name)))


@pytest.mark.parametrize("name", OTHERS)
def test_stages_of_timms_see_what_their_gradient_says(name: str) -> None:
    agree_at_every_stage(create_model(name), (3, 64, 96))


# Araujo et al. 2019, doi 10.23915/distill.00021, the table of networks.
PUBLISHED = {
    ("alexnet_2012", "features.pool5"): (195, 32),
    ("vgg16", "features"): (212, 32),
    ("resnet50_2015", "layer4"): (483, 32),
    ("resnet101_2015", "layer4"): (1027, 32),
    ("resnet152_2015", "layer4"): (1507, 32),
}


@pytest.mark.parametrize(("name", "layer"), PUBLISHED)
def test_the_published_sizes(name: str, layer: str) -> None:
    with torch.device("meta"):
        field = receptive_field(create_model(name), layer)
    assert field.size == (PUBLISHED[name, layer][0],) * 2
    assert field.stride == (PUBLISHED[name, layer][1],) * 2


def test_one_window_by_hand() -> None:
    """Three rows and five columns, a step of (2, 1), dilation (1, 2), padding (1, 0): a field of 3 x 9 pixels."""
    model = nn.Sequential(nn.Conv2d(1, 1, (3, 5), stride=(2, 1), padding=(1, 0), dilation=(1, 2)))
    field = receptive_field(model, "0", (1, 11, 12))
    assert field == ReceptiveField("0", (3, 9), (2, 1), (-1, 0), (6, 4), (11, 12))
    assert field.box(0, 0) == (0, 0, 2, 9)
    assert field.box(5, 3) == (9, 3, 11, 12)


class Branches(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        small = F.avg_pool2d(x, 3, stride=1, padding=1)
        wide = F.max_pool2d(F.pad(x, (4, 2, 1, 0)), (2, 7), stride=1)
        return torch.cat([small, wide, x.relu()], 1)


def test_where_branches_meet_the_widest_wins() -> None:
    """Rows: -1..1 of the first, -1..0 of the second; columns: -1..1 and -4..2."""
    field = receptive_field(nn.Sequential(Branches()), "0", (1, 8, 8))
    assert (field.start, field.size) == ((-1, -4), (3, 7))


def test_units_that_see_everything_are_told_why() -> None:
    for name, layer, why in (
        ("lecture_net", "out", "laid out flat"),
        ("vit_tiny_patch16_224", "blocks.1", "cat"),
        ("vgg11", "avgpool", "windows of several sizes"),
    ):
        model = reduced(name)
        with pytest.raises(SightlineError, match=f"no receptive field short of the whole picture: .*{why}"):
            receptive_field(model, layer, (model.in_chans, side(name), side(name)))
    with pytest.raises(UnknownName, match="layer4"):
        receptive_field(reduced("resnet18"), "layer44")
    with pytest.raises(SightlineError, match="cannot take an input of 1x64x64"):
        receptive_field(reduced("resnet18"), "layer4", (1, 64, 64))


def test_the_network_is_left_as_it_is() -> None:
    model = reduced("resnet18").train()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    receptive_fields(model, (3, 64, 64))
    assert model.training and not any(module._forward_hooks for module in model.modules())
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())
