"""Layer tables: the lecture's to the letter, and exact sums for networks of any make."""

import json

import pytest
import torch
from torch import nn

from sightline.errors import SightlineError
from sightline.models import create_model
from sightline.visualization.layers import layer_table, totals

torch.set_num_threads(1)


def test_lectures_table() -> None:
    rows = layer_table(create_model("lecture_net"), (1, 28, 28))
    assert [(r.kind, r.output, r.params, r.formula) for r in rows] == [
        ("Conv2d 5x5", (16, 28, 28), 416, "16 x 1 x 5 x 5 + 16 = 416"),
        ("ReLU", (16, 28, 28), 0, ""),
        ("MaxPool2d 2x2/2", (16, 14, 14), 0, ""),
        ("Conv2d 5x5", (32, 14, 14), 12_832, "32 x 16 x 5 x 5 + 32 = 12,832"),
        ("ReLU", (32, 14, 14), 0, ""),
        ("MaxPool2d 2x2/2", (32, 7, 7), 0, ""),
        ("Linear", (10,), 15_690, "10 x 1,568 + 10 = 15,690"),
    ]
    assert [r.name for r in rows] == ["conv1.0", "conv1.1", "conv1.2", "conv2.0", "conv2.1", "conv2.2", "out"]
    # a multiply-add for each weight at each pixel
    assert [r.mult_adds for r in rows if r.params] == [400 * 784, 12_800 * 196, 15_680]
    total = totals(rows)
    assert (total.params, total.trainable, total.mult_adds) == (28_938, 28_938, 2_838_080)


def test_kernel_size_changes_the_table() -> None:
    rows = layer_table(create_model("lecture_net", kernel_size=3), (1, 28, 28))
    assert rows[0].formula == "16 x 1 x 3 x 3 + 16 = 160" and rows[0].kind == "Conv2d 3x3"


def test_frozen_parameters_are_not_trainable() -> None:
    model = create_model("lecture_net")
    model.conv1.requires_grad_(False)
    rows = layer_table(model, (1, 28, 28))
    assert (rows[0].params, rows[0].trainable) == (416, 0)
    assert totals(rows).trainable == 28_938 - 416


def test_the_network_is_left_as_it_is() -> None:
    model = create_model("resnet18", layers=(1,), widths=(8,)).train()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    hooks = [len(m._forward_hooks) for m in model.modules()]
    layer_table(model, (3, 64, 64))
    assert model.training and all(torch.equal(before[k], v) for k, v in model.state_dict().items())
    assert [len(m._forward_hooks) for m in model.modules()] == hooks
    assert {p.device.type for p in model.parameters()} == {"cpu"}


# Parameters and mult-adds as measured on the libraries' own networks, independently of this table.
OTHERS = {
    "torchvision/alexnet": (61_100_840, 714_188_480),
    "torchvision/efficientnet_b0": (5_288_548, 385_814_752),
    "torchvision/densenet121": (7_978_856, 2_834_161_664),
    "torchvision/vit_b_32": (88_224_232, 4_409_186_304),
    "torchvision/swin_t": (28_288_354, 4_490_566_656),
    "torchvision/maxvit_t": (30_919_624, 5_558_046_720),
    "torchvision/regnet_y_400mf": (4_344_144, 401_842_848),
    "timm/vit_small_patch16_224": (22_050_664, 4_598_882_304),
    "timm/swin_tiny_patch4_window7_224": (28_288_354, 4_490_566_656),
    "timm/mobilenetv2_140": (6_108_776, 582_195_824),
}


@pytest.mark.parametrize("name", OTHERS)
def test_sums_are_exact_for_others_networks(name: str) -> None:
    with torch.device("meta"):
        model = create_model(name)
    rows = layer_table(model, (3, 224, 224))
    total = totals(rows)
    assert (total.params, total.mult_adds) == OTHERS[name]
    for row in rows:  # each formula is true
        if row.formula:
            left, right = row.formula.replace(",", "").split(" = ")
            assert eval(left.replace("x", "*")) == int(right) == row.params, row


def test_attention_is_counted_and_shown() -> None:
    rows = {row.name: row for row in layer_table(create_model("lecture_vit"), (1, 28, 28))}
    # scores and their use: 4 heads, 17 x 17 pairs of tokens, 16 numbers each, twice
    assert rows["blocks.0.attn"].mult_adds == 2 * 4 * 17 * 17 * 16
    assert rows["cls_token"].formula == "1 x 1 x 64 = 64"
    assert rows["pos_embed"].formula == "1 x 17 x 64 = 1,088"
    assert rows["norm"].formula == "2 x 64 = 128"


def test_attention_of_pytorchs_is_one_row() -> None:
    rows = layer_table(
        nn.Sequential(nn.Flatten(2), nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)), (4, 2, 4)
    )
    attention = next(row for row in rows if row.kind == "MultiheadAttention")
    assert attention.params == 4 * 8 * 8 + 4 * 8
    # four projections of 4 tokens, scores and their use
    assert attention.mult_adds == 4 * 4 * 8 * 8 + 2 * 4 * 4 * 8
    assert torch.backends.mha.get_fastpath_enabled()


class Odd(nn.Module):
    """A module used twice, one never used, a parameter of its own, and a product without a module."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(3))
        self.twice = nn.Linear(3, 3)
        self.never = nn.Linear(5, 7)
        self.nothing = nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.twice(self.twice(x)) * self.scale
        return self.nothing(x @ x.transpose(1, 2))


def test_odd_modules() -> None:
    rows = layer_table(nn.Sequential(nn.Flatten(2), nn.Unflatten(2, (3,)), Odd()), (2, 3, 1))
    found = [(row.name, row.kind, row.params, row.mult_adds) for row in rows[2:]]
    assert found == [
        ("2.scale", "Parameter", 3, 0),
        ("2.twice", "Linear", 12, 18),
        ("2.twice", "Linear", 0, 18),
        ("2", "Odd products", 0, 12),
        ("2.never", "Linear (unused)", 42, 0),
    ]


def test_wrong_input_is_one_sentence() -> None:
    with pytest.raises(SightlineError, match=r"cannot take an input of 3x28x28: \w+.*\.$"):
        layer_table(create_model("lecture_net"), (3, 28, 28))


def test_rows_are_plain_data() -> None:
    rows = layer_table(create_model("lecture_net"), (1, 28, 28))
    data = json.loads(json.dumps([row.to_dict() for row in rows]))
    assert data[0] == {
        "name": "conv1.0",
        "kind": "Conv2d 5x5",
        "output": [16, 28, 28],
        "params": 416,
        "trainable": 416,
        "formula": "16 x 1 x 5 x 5 + 16 = 416",
        "mult_adds": 313_600,
        "activation_bytes": 16 * 28 * 28 * 4,
    }
    assert json.loads(json.dumps(totals(rows).to_dict()))["params"] == 28_938


def test_activations_are_what_the_layers_put_out() -> None:
    rows = layer_table(create_model("lecture_net"), (1, 28, 28))
    numbers = [16 * 28 * 28, 16 * 28 * 28, 16 * 14 * 14, 32 * 14 * 14, 32 * 14 * 14, 32 * 7 * 7, 10]
    assert [row.activation_bytes for row in rows] == [4 * n for n in numbers]
    assert totals(rows).activation_bytes == 4 * 42_346


def test_activations_in_place_or_in_view_take_no_memory() -> None:
    net = nn.Sequential(
        nn.Flatten(2), nn.Linear(4, 6), nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(12, 3), nn.ReLU()
    )
    rows = layer_table(net.half(), (2, 2, 2))  # counted in float32 whatever the network is in
    assert [row.activation_bytes for row in rows] == [0, 2 * 6 * 4, 0, 0, 3 * 4, 3 * 4]


def test_activations_of_every_output_count() -> None:
    class Two(nn.Module):
        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            return x + 1, x[:, :1] + 1

    rows = layer_table(nn.Sequential(Two()), (2, 3, 3))
    assert [(row.output, row.activation_bytes) for row in rows] == [((2, 3, 3), (18 + 9) * 4)]
