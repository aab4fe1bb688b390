"""The pyramids, PVT and DPT, against what their authors' code computed (oracles/pyramids.py), and part by part."""

from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from sightline.errors import SightlineError
from sightline.models import create_model, load_weights, model_info
from sightline.models.attention import attention_weights
from sightline.models.protocol import DropPath
from tests.models.oracles.pyramids import NAMES, OTHER_SIZE, SMALL, fill, layout, oracle, pictures, probe

torch.set_num_threads(1)


def small(family: str, **kwargs: Any) -> Any:
    return create_model(f"{family}_tiny", **{"img_size": 64, **SMALL, **kwargs})


def apart(ours: Tensor | Iterable[Tensor], theirs: np.ndarray) -> float:
    """The distance of ours from theirs, over the norm of theirs."""
    ours = ours if isinstance(ours, Tensor) else torch.stack(list(ours))
    expected = torch.from_numpy(theirs)
    assert ours.shape == expected.shape and ours.dtype == expected.dtype and expected.norm() > 0
    return float((ours.detach() - expected).norm() / expected.norm())


def run(model: Any, x: Tensor) -> tuple[Tensor, list[Tensor]]:
    """Logits, and what each stage puts out, as tokens (N, T, C)."""
    outputs: list[Tensor] = []
    for stage in model.feature_info:
        model.get_submodule(stage["module"]).register_forward_hook(lambda _m, _i, out: outputs.append(out))
    logits = model(x)
    return logits, [out if out.ndim == 3 else out.flatten(2).transpose(1, 2) for out in outputs]


@pytest.mark.parametrize("family", ["pvt", "dpt"])
def test_equals_the_authors(family: str) -> None:
    theirs = oracle(family)
    model = fill(small(family).eval())
    with torch.no_grad():
        logits, stages = run(model, pictures(2, 64, 64))
    assert apart(logits, theirs["logits32"]) < 1e-5
    assert len(stages) == 4
    for i, stage in enumerate(stages, start=1):
        assert apart(stage[:1], theirs[f"stage{i}"]) < 1e-5


@pytest.mark.parametrize("family", ["pvt", "dpt"])
def test_equals_the_authors_in_training(family: str) -> None:
    """Logits and the gradients of the picture and of every parameter."""
    theirs = oracle(family)
    model = fill(small(family).double().train())
    x = pictures(2, 64, 64).double().requires_grad_()
    logits = model(x)
    probe(logits).backward()
    assert x.grad is not None
    gradients = {key: parameter.grad.norm() for key, parameter in model.named_parameters()}
    assert apart(logits, theirs["logits64"]) < 1e-8
    assert apart(x.grad[:, :, 1::3, ::3], theirs["gradient64"]) < 1e-8
    assert apart((gradients[key] for key in sorted(gradients)), theirs["gradient_norms64"]) < 1e-8


def test_equals_the_authors_on_another_size() -> None:
    model = fill(small("pvt").eval())
    with torch.no_grad():
        assert apart(model(pictures(1, *OTHER_SIZE)), oracle("pvt")["logits32_other_size"]) < 1e-5


@pytest.mark.full
@pytest.mark.parametrize("name", NAMES)
def test_full_sizes_equal_the_authors(name: str) -> None:
    theirs = oracle(name)
    model = fill(create_model(name).eval())
    x = pictures(1, 224, 224)
    with torch.no_grad():
        assert apart(model(x)[0, :16], theirs["logits32"]) < 1e-5
    fill(model.double().train())
    x = x.double().requires_grad_()
    logits, stages = run(model, x)
    probe(logits).backward()
    assert x.grad is not None
    assert apart(logits[0, :16], theirs["logits64"]) < 1e-8
    assert apart((stage.norm() for stage in stages), theirs["stage_norms64"]) < 1e-8
    assert apart(x.grad[0, :, 100, 100:116], theirs["gradient64"]) < 1e-8
    assert apart(x.grad.norm(), theirs["gradient_norm64"]) < 1e-8


@pytest.mark.parametrize("name", NAMES)
def test_has_the_authors_layout(name: str) -> None:
    with torch.device("meta"):
        assert layout(create_model(name)) == oracle(name)["layout"].tolist()


@pytest.mark.parametrize("family", ["pvt", "dpt"])
def test_checkpoints_of_the_authors_load(family: str, tmp_path: Path) -> None:
    """Their training script keeps the state under "model", with the optimiser's beside it."""
    source = fill(small(family))
    state = {"model": source.state_dict(), "optimizer": {"state": {}}, "epoch": 299}
    torch.save(state, tmp_path / "checkpoint_0299.pth")
    model = small(family)
    report = load_weights(model, tmp_path / "checkpoint_0299.pth")
    assert not (report.adapted or report.fresh or report.dropped)
    assert all(torch.equal(value, source.state_dict()[key]) for key, value in model.state_dict().items())


def test_published_weights_are_those_of_the_readme() -> None:
    for size in ("tiny", "small", "medium", "large"):
        info = model_info(f"pvt_{size}")
        (row,) = info.weights
        assert row.url == f"https://github.com/whai362/PVT/releases/download/v2/pvt_{size}.pth"
        assert (row.size, row.resize, row.interpolation) == (224, 256, "bicubic")
        assert row.top1_error == pytest.approx(info.errors[0].top1, abs=0.05)


@pytest.mark.parametrize("family", ["pvt", "dpt"])
def test_features(family: str) -> None:
    model = small(family).eval()
    outputs: list[Tensor] = []
    for stage in model.feature_info:
        model.get_submodule(stage["module"]).register_forward_hook(lambda _m, _i, out: outputs.append(out))
    features = model.forward_features(torch.rand(2, 3, 64, 96))
    assert [tuple(out.shape) for out in outputs] == [
        (2, 16, 16, 24),
        (2, 32, 8, 12),
        (2, 40, 4, 6),
        (2, 7, 64),
    ]
    assert [stage["reduction"] for stage in model.feature_info] == [4, 8, 16, 32]
    assert features.shape == (2, 1 + 6, 64)
    assert torch.equal(model.forward_head(features, pre_logits=True), features[:, 0])


@pytest.mark.parametrize("family", ["pvt", "dpt"])
def test_attention_can_be_looked_at(family: str) -> None:
    """Every token of a stage attends to the reduced map, in the last stage to all tokens."""
    model = fill(small(family).eval())
    x = pictures(1, 64, 64)
    with torch.no_grad():
        expected = model(x)
        with attention_weights(model) as seen:
            assert torch.allclose(model(x), expected, atol=1e-5)
    shapes = {key: tuple(weights.shape[1:]) for key, weights in seen.items()}
    assert shapes == {
        "block1.0.attn": (1, 256, 4),
        "block2.0.attn": (2, 64, 4),
        "block2.1.attn": (2, 64, 4),
        "block3.0.attn": (5, 16, 4),
        "block4.0.attn": (8, 5, 5),
    }


@pytest.mark.parametrize("family", ["pvt", "dpt"])
def test_compiles_and_exports(family: str) -> None:
    """In one graph; exported for a batch of any length, and for pictures of another size."""
    model = fill(small(family, depths=(1, 1, 1, 1)).eval())
    x, wide = pictures(2, 64, 64), pictures(2, 64, 96)
    sizes = {"x": {0: torch.export.Dim("batch", min=1, max=64)}}
    with torch.no_grad():
        compiled = torch.compile(model, fullgraph=True, backend="eager")
        assert torch.allclose(compiled(x), model(x), atol=1e-5)
        exported = torch.export.export(model, (wide,), dynamic_shapes=sizes).module()
        assert torch.allclose(exported(wide[:1]), model(wide[:1]), atol=1e-5)


@pytest.mark.parametrize("family", ["pvt", "dpt"])
def test_checkpointing_changes_memory_alone(family: str) -> None:
    model = fill(small(family, drop_rate=0.1, drop_path_rate=0.3).train())
    gradients, kept = [], []
    for enable in (False, True):
        model.set_grad_checkpointing(enable)
        model.zero_grad()
        sizes: list[int] = []

        def note(tensor: Tensor, to: list[int] = sizes) -> Tensor:
            to.append(tensor.numel())
            return tensor

        torch.manual_seed(0)
        with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
            value = probe(model(pictures(2, 64, 64)))
        kept.append(sum(sizes))
        value.backward()
        gradients.append(torch.cat([parameter.grad.flatten() for parameter in model.parameters()]))
    assert torch.equal(*gradients)
    assert kept[1] < kept[0] / 2


def test_start() -> None:
    """Linear layers, positions and class token are truncated normals of deviation 0.02."""
    torch.manual_seed(0)
    model = create_model("pvt_tiny")
    drawn = {"fc1": model.block4[0].mlp.fc1.weight, "pos_embed1": model.pos_embed1, "cls": model.cls_token}
    for name, values in drawn.items():
        assert float(values.detach().std()) == pytest.approx(0.02, rel=0.1), name
    linear = [module for module in model.modules() if isinstance(module, nn.Linear)]
    assert not any(module.bias.any() for module in linear)
    assert (model.norm.eps, model.block1[0].norm1.eps) == (1e-6, 1e-6)
    assert (model.patch_embed1.norm.eps, model.block1[0].attn.norm.eps) == (1e-5, 1e-5)


def test_dropout_and_stochastic_depth() -> None:
    """Dropout after the positions, after each attention and twice in each MLP; each branch has its drop path."""
    model = small("dpt", depths=(2, 1, 1, 1), drop_rate=0.1, drop_path_rate=0.4).train()
    rates = [module.drop_prob for module in model.modules() if isinstance(module, DropPath)]
    assert rates == pytest.approx([0.1, 0.2, 0.3, 0.4])
    calls: Counter[str] = Counter()
    for name, module in model.named_modules():
        if isinstance(module, nn.Dropout | DropPath):
            assert isinstance(module, DropPath) or module.p == 0.1
            module.register_forward_hook(lambda _m, _i, _o, key=name: calls.update([key]))
    model(torch.rand(2, 3, 64, 64))
    expected = {"pos_drop": 4}
    for block in ("block1.0", "block1.1", "block2.0", "block3.0", "block4.0"):
        expected |= {
            f"{block}.attn.proj_drop": 1,
            f"{block}.mlp.drop1": 1,
            f"{block}.mlp.drop2": 1,
            f"{block}.drop_path": 2,
        }
    del expected["block1.0.drop_path"]  # its rate is zero
    assert calls == expected


def test_decay_spares_the_class_token_alone() -> None:
    model = small("pvt")
    assert model.no_weight_decay() == {"cls_token"} <= dict(model.named_parameters()).keys()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"depths": [1, 1, 1]}, "must name the same stages"),
        ({"depths": [1, 0, 1, 1]}, "at least 1"),
        ({"num_heads": [1, 2, 3, 8]}, "embed_dim 320 does not divide into 3 heads"),
        ({"sr_ratios": [8, 4, 2, 2]}, "the last of sr_ratios is 1"),
        ({"img_size": 31}, "needs at least 32"),
        ({"drop_path_rate": 1.0}, "lie in [0, 1)"),
    ],
)
def test_mistakes_are_one_sentence(arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(SightlineError) as caught:
        create_model("pvt_tiny", **arguments)
    assert words in str(caught.value) and "\n" not in str(caught.value)


def test_smallest_picture_that_is_allowed() -> None:
    assert small("dpt", img_size=32).eval()(torch.rand(1, 3, 32, 32)).shape == (1, 10)


@pytest.mark.parametrize("family", ["pvt", "dpt"])
@pytest.mark.parametrize("size", [96, (64, 128)])
def test_weights_go_to_another_size(family: str, size: Any, tmp_path: Path) -> None:
    """The positions of all stages are interpolated, the class token's stays; DePatch's anchors are the network's."""
    source = fill(small(family))
    torch.save(source.state_dict(), tmp_path / "small.pth")
    model = small(family, img_size=size)
    report = load_weights(model, tmp_path / "small.pth")
    assert report.adapted == ["pos_embed1", "pos_embed2", "pos_embed3", "pos_embed4"]
    assert torch.equal(model.pos_embed4[:, 0], source.pos_embed4[:, 0])
    if family == "dpt":
        assert torch.equal(
            model.patch_embed2.box_coder.anchor, small(family, img_size=size).patch_embed2.box_coder.anchor
        )
