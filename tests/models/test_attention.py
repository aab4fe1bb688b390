"""Attention against PyTorch's own module, and its two paths against each other."""

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from sightline.models.attention import DotProductAttention, SelfAttention, attention_weights

torch.set_num_threads(1)


def inputs(seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Queries, keys and values of another width: two pictures, three heads, five queries, seven keys."""
    generator = torch.Generator().manual_seed(seed)
    return tuple(torch.randn(2, 3, n, d, generator=generator) for n, d in ((5, 8), (7, 8), (7, 6)))  # type: ignore[return-value]


HIDDEN = torch.zeros(5, 7).masked_fill(torch.ones(5, 7).tril(2) == 0, float("-inf"))
BIASES = [
    None,
    torch.linspace(-3, 3, 35).view(5, 7),
    torch.randn(1, 3, 5, 7),
    HIDDEN,
    torch.randn(2, 3, 5, 7),
]


class Whole(nn.Module):
    """Two attentions in a network, one of them inside another module."""

    def __init__(self, attn_drop: float = 0.0) -> None:
        super().__init__()
        self.first = SelfAttention(12, 3, attn_drop)
        self.inner = nn.Sequential(nn.LayerNorm(12), SelfAttention(12, 2, attn_drop))

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x + self.first(x))  # type: ignore[no-any-return]


@pytest.mark.parametrize("bias", BIASES)
def test_both_paths_are_the_formula(bias: Tensor | None) -> None:
    q, k, v = inputs()
    scores = torch.einsum("nhqd,nhkd->nhqk", q.double(), k.double()) / 8**0.5
    weights = (scores if bias is None else scores + bias).exp()
    weights = weights / weights.sum(dim=-1, keepdim=True)
    expected = torch.einsum("nhqk,nhke->nhqe", weights, v.double())
    attention = DotProductAttention()
    fused = attention.attend(q, k, v, bias)
    with attention_weights(attention) as seen:
        explicit = attention.attend(q, k, v, bias)
    assert torch.allclose(fused.double(), expected, atol=1e-5)
    assert torch.allclose(explicit.double(), expected, atol=1e-5)
    assert list(seen) == [""] and torch.allclose(seen[""].double(), weights, atol=1e-6)


def test_equals_pytorchs_module() -> None:
    theirs = nn.MultiheadAttention(12, 3, batch_first=True)
    nn.init.normal_(theirs.in_proj_bias)
    ours = SelfAttention(12, 3)
    ours.qkv.weight, ours.qkv.bias = theirs.in_proj_weight, theirs.in_proj_bias
    ours.proj.load_state_dict(theirs.out_proj.state_dict())
    x = torch.randn(2, 9, 12)
    output, weights = theirs(x, x, x, average_attn_weights=False)
    assert torch.allclose(ours(x), output, atol=1e-6)
    with attention_weights(ours) as seen:
        assert torch.allclose(ours(x), output, atol=1e-6)
    assert torch.allclose(seen[""], weights, atol=1e-6)


def test_gradients_are_the_same() -> None:
    attention, gradients = DotProductAttention(), []
    for look in (False, True):
        leaves = [t.clone().requires_grad_() for t in (*inputs(), BIASES[1])]
        if look:
            with attention_weights(attention):
                out = attention.attend(*leaves)
        else:
            out = attention.attend(*leaves)
        gradients.append(torch.autograd.grad(out.square().sum(), leaves))
    for fused, explicit in zip(*gradients, strict=True):
        assert fused.norm() > 0 and torch.allclose(fused, explicit, atol=1e-5)


def test_collects_by_name_and_leaves_the_model_as_it_was() -> None:
    model = Whole()
    x = torch.randn(4, 5, 12)
    before = {name: dict(module.__dict__) for name, module in model.named_modules()}
    expected = model(x)
    with attention_weights(model) as seen:
        assert seen == {}
        assert torch.allclose(model(x), expected, atol=1e-6)
    assert {name: tuple(w.shape) for name, w in seen.items()} == {
        "first": (4, 3, 5, 5),
        "inner.1": (4, 2, 5, 5),
    }
    for weights in seen.values():
        assert torch.allclose(weights.sum(dim=-1), torch.ones(weights.shape[:-1]), atol=1e-6)
    for name, module in model.named_modules():
        assert module.__dict__.keys() - before[name].keys() <= {"seen"}
        assert getattr(module, "seen", None) is None
    model(x)
    assert seen["first"].shape[0] == 4 and torch.equal(model(x), expected)


def test_an_exception_inside_changes_nothing() -> None:
    model = Whole()
    with pytest.raises(ZeroDivisionError), attention_weights(model):
        raise ZeroDivisionError
    assert model.first.seen is None and model.inner[1].seen is None


def test_looking_while_one_looks() -> None:
    model, x = Whole(), torch.randn(1, 5, 12)
    with attention_weights(model) as outer:
        with attention_weights(model.inner) as inner:
            model(x)
        assert list(outer) == ["first"] and list(inner) == ["1"]
        model(x)
    assert list(outer) == ["first", "inner.1"]


def test_weights_keep_their_graph() -> None:
    model, x = Whole(), torch.randn(1, 5, 12, requires_grad=True)
    with attention_weights(model) as seen:
        model(x)
    (gradient,) = torch.autograd.grad(seen["inner.1"].max(), x)
    assert gradient.abs().sum() > 0


def test_dropout_is_of_training_and_behind_the_weights() -> None:
    model, x = Whole(attn_drop=0.5), torch.randn(1, 5, 12)
    assert torch.equal(model.eval()(x), model(x))
    model.train()
    assert not torch.allclose(model(x), model(x))
    with attention_weights(model) as seen:
        assert not torch.allclose(model(x), model(x))
    assert torch.allclose(seen["first"].sum(dim=-1), torch.ones(1, 3, 5), atol=1e-6)


def test_takes_any_precision() -> None:
    model, x = Whole().eval(), torch.randn(1, 5, 12)
    expected = model(x)
    for look in (False, True):
        with torch.autocast("cpu", torch.bfloat16):
            if look:
                with attention_weights(model) as seen:
                    out = model(x)
                assert torch.allclose(seen["first"].float().sum(dim=-1), torch.ones(1, 3, 5), atol=1e-2)
            else:
                out = model(x)
        assert torch.allclose(out.float(), expected, atol=0.05)


def test_mult_adds_are_those_of_the_two_products() -> None:
    q, k, v = (t.to("meta") for t in inputs())
    attention = DotProductAttention()
    for look in (False, True):
        with FlopCounterMode(display=False) as counter:
            if look:
                with attention_weights(attention):
                    attention.attend(q, k, v)
            else:
                attention.attend(q, k, v)
        assert counter.get_total_flops() == 2 * (2 * 3) * (5 * 7 * 8 + 5 * 7 * 6)


def test_exports_and_compiles_without_a_break() -> None:
    model, x = Whole().eval(), torch.randn(2, 5, 12)
    expected = model(x)
    exported = torch.export.export(model, (x,), dynamic_shapes=({0: torch.export.Dim("n", min=1)},))
    names = [str(node.target) for node in exported.graph.nodes]
    assert sum("scaled_dot_product_attention" in name for name in names) == 2
    more = torch.randn(3, 5, 12)
    assert torch.allclose(exported.module()(more), model(more), atol=1e-6)
    compiled = torch.compile(model, fullgraph=True, backend="eager")
    assert torch.allclose(compiled(x), expected, atol=1e-6)
    with attention_weights(compiled) as seen:
        assert torch.allclose(compiled(x), expected, atol=1e-6)
    assert len(seen) == 2 and torch.allclose(compiled(x), expected, atol=1e-6)
