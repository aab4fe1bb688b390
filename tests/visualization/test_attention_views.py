"""Attention of ours, timm's and torchvision's: what the kernels compute, where it lies, rollout, positions, boxes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from sightline.errors import SightlineError, UnknownName
from sightline.models.attention import attention_weights
from sightline.visualization.attention import attention, attention_rollout, position_similarity
from sightline.visualization.attention_trace import traced_attention, weights_of
from sightline.visualization.evidence_figures import draw_patch_boxes
from sightline.visualization.patch_boxes import patch_boxes
from tests.visualization.networks import built, picture_for, same_state, state_of

OURS = ("lecture_vit", "vit_tiny_patch16_224", "swin_tiny_patch4_window7_224", "pvt_tiny", "dpt_tiny")


@pytest.mark.parametrize("name", OURS)
def test_the_weights_of_ours(name: str) -> None:
    model, x = built(name), picture_for(name)
    with torch.no_grad(), attention_weights(model) as expected:
        model(x)
    with torch.no_grad(), traced_attention(model) as seen:
        model(x)
    assert list(seen) == list(expected)
    for layer, weights in expected.items():
        assert torch.allclose(seen[layer], weights, atol=1e-6)


class Fused(TorchFunctionMode):
    """Compares each fused call with the weights recomputed from its queries and keys."""

    worst, calls = 0.0, 0

    def __torch_function__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        if func is F.scaled_dot_product_attention:
            value = args[2]
            self.worst = max(
                self.worst, float((weights_of(*args, **(kwargs or {})) @ value - result).abs().max())
            )
            self.calls += 1
        return result


@pytest.mark.parametrize("name", ["vit_registers", "vit_averaged", *OURS])
def test_recomputed_attention_is_the_fused_one(name: str) -> None:
    model = built(name)
    with torch.no_grad(), Fused() as fused:
        model(picture_for(name))
    assert fused.calls >= 2 and fused.worst < 1e-5


def test_every_argument_of_the_fused_call_is_followed() -> None:
    generator = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(2, 4, 5, 8, generator=generator) for _ in range(3))
    few = torch.randn(2, 2, 5, 8, generator=generator)
    allowed = torch.ones(5, 5, dtype=torch.bool).tril()
    for args, more in [
        ((q, k, v), {}), ((q, k, v), {"is_causal": True}), ((q, k, v), {"scale": 0.3}), ((q, k, v, allowed), {}),
        ((q, k, v), {"attn_mask": torch.randn(5, 5, generator=generator)}),
        ((q, few, few), {"enable_gqa": True}),
    ]:  # fmt: skip
        value = args[2].repeat_interleave(2, 1) if more.get("enable_gqa") else args[2]
        assert torch.allclose(
            weights_of(*args, **more) @ value, F.scaled_dot_product_attention(*args, **more), atol=1e-6
        )


def test_torchvisions_multihead_attention() -> None:
    from torchvision.models import VisionTransformer

    torch.manual_seed(0)
    model, x = VisionTransformer(64, 16, 2, 3, 24, 48, num_classes=7).eval(), picture_for("resnet18")
    model.heads.head.weight.data.normal_()
    layer = "encoder.layers.encoder_layer_1.self_attention"
    kept: list[Tensor] = []
    handle = model.get_submodule(layer).register_forward_pre_hook(lambda _m, inputs: kept.append(inputs[0]))
    plain = model(x).detach()
    with torch.no_grad(), traced_attention(model):
        assert torch.allclose(model(x), plain, atol=1e-5)
    handle.remove()
    _, expected = model.get_submodule(layer)(*kept[:1] * 3, need_weights=True, average_attn_weights=False)
    found = attention(model, x, layer=layer)
    assert np.allclose(found.values, expected[0].detach().numpy(), atol=1e-6)
    assert (found.grid, found.prefix) == ((4, 4), 1)


@pytest.mark.parametrize("name", [*OURS, "vit_registers", "vit_averaged", "swin", "maxvit"])
def test_every_layer_lies_over_the_picture(name: str) -> None:
    model, x = built(name), picture_for(name)
    with torch.no_grad(), traced_attention(model) as seen:
        model(x)
    for layer in seen:
        found = attention(model, x, layer=layer)
        assert np.abs(found.values.sum(-1) - 1).max() < 1e-5
        rows, columns = found.grid
        for row, column in ((0, 0), (rows - 1, columns - 1)):
            over = found.from_patch(row, column)
            assert over.shape == (found.heads, *found.key_grid)
            assert (over >= 0).all() and (over.sum((1, 2)) < 1 + 1e-5).all()
        if found.places is not None:
            assert sorted(found.places[found.places >= 0]) == list(range(rows * columns))


def test_registers_and_class_token_stand_apart() -> None:
    model, x = built("vit_registers"), picture_for("vit_registers")  # 64x96, four registers, a class token
    found = attention(model, x, layer="blocks.1.attn")
    assert found.values.shape == (3, 29, 29) and (found.grid, found.prefix) == ((4, 6), 5)
    assert np.array_equal(found.from_patch(2, 3), found.values[:, 5 + 2 * 6 + 3, 5:].reshape(3, 4, 6))
    assert np.array_equal(found.from_token(4), found.values[:, 4, 5:].reshape(3, 4, 6))
    assert np.array_equal(found.mean(), found.from_token(0))
    with pytest.raises(SightlineError, match="has 4 rows and 6 columns"):
        found.from_patch(4, 0)
    with pytest.raises(SightlineError, match="has 5 tokens before its patches"):
        found.from_token(5)


@pytest.mark.parametrize("name", ["swin_tiny_patch4_window7_224", "swin"])
def test_swins_windows_lie_where_the_paper_puts_them(name: str) -> None:
    """Windows of 7 on a map of 16: in the second block shifted by 3, cyclically, then filled up to 21."""
    model, x = built(name), picture_for(name)
    for layer, shift in (("layers.0.blocks.0.attn", 0), ("layers.0.blocks.1.attn", 3)):
        places = attention(model, x, layer=layer).places
        assert places is not None
        expected = np.full((21, 21), -1)
        expected[:16, :16] = np.roll(np.arange(256).reshape(16, 16), (-shift, -shift), (0, 1))
        windows = expected.reshape(3, 7, 3, 7).transpose(0, 2, 1, 3).reshape(9, 49)
        assert np.array_equal(places, windows)


def test_a_window_does_not_see_beyond_itself() -> None:
    model, x = built("swin"), picture_for("swin")
    found = attention(model, x, layer="layers.0.blocks.0.attn").from_patch(8, 3)
    assert found[:, 7:14, :7].sum() == pytest.approx(found.sum()) and found.sum() > 0.99 * len(found)


@pytest.mark.parametrize("name", ["vit_registers", "vit_averaged", "vit_tiny_patch16_224", "lecture_vit"])
def test_rollout_is_the_formula(name: str) -> None:
    model, x = built(name), picture_for(name)
    found = attention_rollout(model, x)
    with torch.no_grad(), traced_attention(model) as seen:
        model(x)
    result = None
    for weights in seen.values():  # Abnar & Zuidema's own: add the identity, normalise the rows, multiply
        mixed = weights[0].mean(0).double() + torch.eye(weights.shape[-1], dtype=torch.float64)
        mixed = mixed / mixed.sum(-1, keepdim=True)
        result = mixed if result is None else mixed @ result
    assert np.allclose(found.values, result.numpy(), atol=1e-6)
    assert np.abs(found.values.sum(1, dtype=np.float64) - 1).max() < 1e-6
    over = found.over_patches()
    if name == "vit_averaged":
        assert found.prefix == 0 and np.allclose(over.ravel(), found.values.mean(0))
    else:
        assert np.array_equal(over.ravel(), found.values[0, found.prefix :])
    assert over.shape == ((4, 6) if name == "vit_registers" else found.grid)


@pytest.mark.parametrize("name", ["swin", "pvt_tiny"])
def test_rollout_needs_one_row_of_tokens(name: str) -> None:
    with pytest.raises(SightlineError, match="do not attend over one row of tokens"):
        attention_rollout(built(name), picture_for(name))


def test_positions() -> None:
    from sightline.models import create_model

    fixed = create_model("vit_tiny_patch16_224", img_size=(64, 96), depth=1, pos_embed="sincos").eval()
    found = position_similarity(fixed)
    assert found.values.shape == (4, 6, 4, 6)
    table = fixed.pos_embed[0, 1:].numpy()
    table /= np.linalg.norm(table, axis=1, keepdims=True)
    assert np.allclose(found.values.reshape(24, 24), table @ table.T, atol=1e-6)
    # Sine and cosine of one frequency: the cosine between two places depends on their distance alone.
    assert found.values[0, 0, 0, 2] == pytest.approx(found.values[3, 3, 3, 5], abs=1e-6)
    assert position_similarity(built("pvt_tiny"), layer="pos_embed2").values.shape == (8, 8, 8, 8)
    assert position_similarity(built("vit_registers")).values.shape == (4, 6, 4, 6)
    with pytest.raises(UnknownName, match="position embedding"):
        position_similarity(built("pvt_tiny"), layer="pos_embed9")
    with pytest.raises(SightlineError, match="has no position embeddings"):
        position_similarity(built("resnet18"))
    with pytest.raises(SightlineError, match="biases for offsets"):
        position_similarity(built("swin"))


def test_boxes_are_the_networks_own() -> None:
    model, x = built("dpt_tiny"), picture_for("dpt_tiny")
    for module in model.modules():
        if hasattr(module, "offset_predictor"):
            module.offset_predictor.weight.data.normal_()
    found = patch_boxes(model, x, stage=3)
    with torch.no_grad():
        assert np.array_equal(found.values, model.boxes(x)[1][0].numpy())
    assert found.grid == (4, 4) and found.values.min() >= 0 and found.values.max() <= 64
    assert (
        found.values[:, :2] == found.values[:, 2:]
    ).any()  # half a box is nothing where its prediction is negative
    drawn = np.asarray(draw_patch_boxes(found, Image.new("RGB", (64, 64), "blue"), side=256))
    assert (drawn == (255, 200, 60)).all(2).any()
    with pytest.raises(SightlineError, match="stages 2 to 4 have them"):
        patch_boxes(model, x, stage=1)
    with pytest.raises(SightlineError, match="dpt_tiny, dpt_small and dpt_medium have boxes"):
        patch_boxes(built("pvt_tiny"), x)


def test_networks_and_layers_without_attention() -> None:
    with pytest.raises(SightlineError, match="has no attention to look at; it is made of Conv2d"):
        attention(built("resnet18"), picture_for("resnet18"))
    with pytest.raises(UnknownName, match=r"did you mean blocks\.1\.attn"):
        attention(built("vit_tiny_patch16_224"), picture_for("vit_tiny_patch16_224"), layer="blocks.11.attn")


@pytest.mark.parametrize("name", ["vit_registers", "swin", "dpt_tiny"])
def test_the_model_is_left_as_it_was(name: str) -> None:
    model, x = built(name).train(), picture_for(name)
    before = state_of(model)
    attention(model, x)
    attention(
        model, x, layer=next(n for n, m in model.named_modules() if type(m).__name__.endswith("Attention"))
    )
    assert same_state(before, state_of(model))

    def interrupt(*_args: object) -> None:
        raise KeyboardInterrupt

    last = [m for m in model.modules() if isinstance(m, nn.Linear)][-1]
    handle = last.register_forward_hook(interrupt)
    for view in (attention, attention_rollout):
        with pytest.raises(KeyboardInterrupt):
            view(model, x)
    handle.remove()
    assert same_state(before, state_of(model))
