"""The lecture's two networks against its slides."""

import math

import pytest
import torch
from torch import nn

from sightline.models import create_model
from sightline.models.attention import attention_weights

torch.set_num_threads(1)


def parameters(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


def test_lecture_net_is_the_slides() -> None:
    model = create_model("lecture_net")
    assert [parameters(part) for part in (model.conv1, model.conv2, model.out)] == [416, 12_832, 15_690]
    assert parameters(model) == 28_938 and all(p.requires_grad for p in model.parameters())
    x = torch.rand(2, 1, 28, 28)
    shapes = []
    for layer in (*model.conv1, *model.conv2):
        x = layer(x)
        shapes.append(tuple(x.shape[1:]))
    assert shapes == [(16, 28, 28), (16, 28, 28), (16, 14, 14), (32, 14, 14), (32, 14, 14), (32, 7, 7)]


@pytest.mark.parametrize("kernel", [1, 2, 3, 4, 7])
def test_kernel_size_changes_filters_and_nothing_else(kernel: int) -> None:
    model = create_model("lecture_net", kernel_size=kernel)
    area = kernel * kernel
    assert parameters(model) == (area * 16 + 16) + (area * 16 * 32 + 32) + 15_690
    assert model.conv1[0].weight.shape == (16, 1, kernel, kernel)
    assert model(torch.rand(1, 1, 28, 28)).shape == (1, 10)


def test_widths_channels_and_size_are_free() -> None:
    model = create_model("lecture_net", widths=(4, 6), in_chans=3, img_size=(33, 50), num_classes=3)
    assert parameters(model) == (25 * 3 * 4 + 4) + (25 * 4 * 6 + 6) + (6 * 8 * 12 * 3 + 3)
    assert model(torch.rand(2, 3, 33, 50)).shape == (2, 3)


def test_odd_kernels_pad_as_the_slide_does() -> None:
    conv = create_model("lecture_net").conv1[0]
    x = torch.rand(1, 1, 28, 28)
    assert torch.equal(conv(x), nn.functional.conv2d(x, conv.weight, conv.bias, padding=2))


def test_lecture_vit_is_the_slides() -> None:
    model = create_model("lecture_vit").eval()
    x = torch.rand(2, 1, 28, 28)
    assert model.patch_embed(x).shape == (2, 16, 64)
    assert model.forward_features(x).shape == (2, 17, 64)
    assert parameters(model.norm) == 128 and model.pos_embed.shape == (1, 17, 64)
    assert model.blocks[0].attn.num_heads == 4


def test_attention_is_the_formula() -> None:
    """softmax(Q K^T / sqrt(16)) V in each of four heads of 16, side by side, projected."""
    torch.manual_seed(0)
    attention = create_model("lecture_vit").blocks[0].attn
    x = torch.randn(1, 17, 64)
    q, k, v = (
        x @ w.T + b for w, b in zip(attention.qkv.weight.split(64), attention.qkv.bias.split(64), strict=True)
    )
    heads = []
    for h in range(4):
        part = slice(16 * h, 16 * (h + 1))
        scores = torch.softmax(q[..., part] @ k[..., part].transpose(1, 2) / math.sqrt(16), dim=-1)
        heads.append(scores @ v[..., part])
    expected = torch.cat(heads, dim=-1) @ attention.proj.weight.T + attention.proj.bias
    assert torch.allclose(attention(x), expected, atol=1e-5)


def test_attention_maps_can_be_looked_at() -> None:
    model = create_model("lecture_vit").eval()
    with attention_weights(model) as seen:
        model(torch.rand(2, 1, 28, 28))
    assert list(seen) == [f"blocks.{i}.attn" for i in range(4)]
    assert seen["blocks.1.attn"].shape == (2, 4, 17, 17)
    assert torch.allclose(seen["blocks.1.attn"].sum(dim=-1), torch.ones(2, 4, 17), atol=1e-5)


def test_lecture_vit_has_timms_layout() -> None:
    """Loads into timm's Vision Transformer of the same size, and computes the same."""
    from timm.models.vision_transformer import VisionTransformer

    theirs = VisionTransformer(
        img_size=28, patch_size=7, in_chans=1, num_classes=10, embed_dim=64, depth=4, num_heads=4, mlp_ratio=4
    ).eval()
    ours = create_model("lecture_vit").eval()
    theirs.load_state_dict(ours.state_dict(), strict=True)
    x = torch.rand(2, 1, 28, 28)
    assert torch.allclose(ours(x), theirs(x), atol=1e-5)
