"""What the authors' own PVT and DPT compute, in pyramids.npz, and how those numbers were made.

    git clone https://github.com/whai362/PVT          (at 57e2dfa, file classification/pvt.py)
    git clone https://github.com/CASIA-IVA-Lab/DPT    (at 62e6322, folder classification/models)
    python -m tests.models.oracles.pyramids PVT DPT

Run with PyTorch 2.15, one thread. Weights and pictures are functions of names and shapes alone, so they need
no storing. Two things are changed in the authors' files, in memory: their CUDA kernel is replaced by the
PyTorch equivalent that stands beside it in the same file, and sampling places keep float64 where all is
float64 (the kernel knew float32 alone).
"""

import importlib
import sys
import types
import warnings
import zlib
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

FILE = Path(__file__).with_name("pyramids.npz")
DEPTHS = {"tiny": (2, 2, 2, 2), "small": (3, 4, 6, 3), "medium": (3, 4, 18, 3), "large": (3, 8, 27, 3)}
NAMES = ("pvt_tiny", "pvt_small", "pvt_medium", "pvt_large", "dpt_tiny", "dpt_small", "dpt_medium")
SMALL = {"depths": (1, 2, 1, 1), "embed_dims": (16, 32, 40, 64), "num_classes": 10}  # at 64 pixels
OTHER_SIZE = (96, 80)  # for the small PVT, whose positions are learned at 64 pixels


def oracle(name: str) -> dict[str, np.ndarray]:
    """The stored arrays of the network `name`."""
    with np.load(FILE) as stored:
        return {key.split("/")[1]: stored[key] for key in stored.files if key.split("/")[0] == name}


def layout(model: nn.Module) -> list[str]:
    """Names and shapes of a state, sorted."""
    return sorted(f"{key} {list(value.shape)}" for key, value in model.state_dict().items())


def fill(model: nn.Module) -> nn.Module:
    """Give every parameter numbers that follow from its name and shape (Philox counters, keyed by the name)."""
    for name, parameter in model.named_parameters():
        raw = np.random.Philox(key=zlib.crc32(name.encode())).random_raw(parameter.numel())
        values = torch.from_numpy((raw / 2.0**64 - 0.5) * 12**0.5).view_as(parameter)  # mean 0, variance 1
        if parameter.ndim == 1:
            is_scale = "norm" in name and name.endswith("weight")
            values = values * 0.1 + (1.0 if is_scale or name.endswith("wh_bias") else 0.0)
        elif "embed" in name.rsplit(".", 1)[-1] or name == "cls_token":
            values = values * 0.1
        else:
            values = values * parameter[0].numel() ** -0.5
        parameter.data.copy_(values)
    return model


def pictures(count: int, height: int, width: int) -> Tensor:
    """Smooth waves in every channel (count, 3, height, width), so that no rounding is blown up."""
    y, x = torch.meshgrid(
        torch.arange(height, dtype=torch.float64) / 64,
        torch.arange(width, dtype=torch.float64) / 64,
        indexing="ij",
    )
    planes = [
        torch.sin(5 * x * (1 + k % 3) + k) + torch.cos(4 * y * (1 + k % 2) - 2 * k) for k in range(count * 3)
    ]
    return torch.stack(planes).view(count, 3, height, width).float()


def probe(logits: Tensor) -> Tensor:
    """A number to take gradients of."""
    return (logits * torch.linspace(-1, 2, logits.numel()).view_as(logits).to(logits)).sum()


# ------------------------------------------------------------------------------------------- the authors' code
def load_pvt(repository: Path) -> types.ModuleType:
    sys.path.insert(0, str(repository / "classification"))
    return importlib.import_module("pvt")


def load_dpt(repository: Path) -> types.ModuleType:
    sys.modules["MultiScaleDeformableAttention"] = types.ModuleType("the CUDA kernel")
    package = types.ModuleType("authors_dpt")
    package.__path__ = []
    sys.modules[package.__name__] = package
    for part in ("box_coder", "ms_deform_attn_func", "depatch_embed", "dpt"):
        module = types.ModuleType(f"authors_dpt.{part}")
        module.__package__ = package.__name__
        sys.modules[module.__name__] = module
        text = (repository / "classification" / "models" / "dpt" / f"{part}.py").read_text(encoding="utf-8")
        if part == "depatch_embed":
            assert text.count(".to(torch.float)") == 1
            text = text.replace(".to(torch.float)", "")
        exec(compile(text, part, "exec"), module.__dict__)
        if part == "ms_deform_attn_func":
            module.MSDeformAttnFunction = kernel(module.ms_deform_attn_core_pytorch)
    return sys.modules["authors_dpt.dpt"]


def kernel(equivalent: Any) -> type:
    class Kernel:
        @staticmethod
        def apply(
            value: Tensor, shapes: Tensor, _start: Tensor, places: Tensor, weights: Tensor, _: int
        ) -> Tensor:
            return equivalent(value, [tuple(s) for s in shapes.tolist()], places, weights.to(value))

    return Kernel


def build(code: types.ModuleType, name: str, size: int, depths: Any, dims: Any, classes: int) -> nn.Module:
    """The network as the authors' registered functions make it, at any size and width."""
    settings: dict[str, Any] = {
        "img_size": size,
        "patch_size": 4,
        "embed_dims": list(dims),
        "num_heads": [1, 2, 5, 8],
        "mlp_ratios": [8, 8, 4, 4],
        "qkv_bias": True,
        "norm_layer": partial(nn.LayerNorm, eps=1e-6),
        "depths": list(depths),
        "sr_ratios": [8, 4, 2, 1],
        "num_classes": classes,
    }
    if name.startswith("pvt"):
        return code.PyramidVisionTransformer(**settings)
    patches = code._build_patch_embeds(list(dims), size, [False, True, True, True])
    return code.DeformablePatchTransformer(patch_embeds=patches, **settings)


def stages_of(model: Any, x: Tensor) -> tuple[Tensor, list[Tensor]]:
    """Logits, and what the last block of each stage puts out: tokens (N, T, C)."""
    found: list[Tensor] = []
    hooks = [
        blocks[-1].register_forward_hook(lambda _m, _i, out: found.append(out))
        for blocks in (model.block1, model.block2, model.block3, model.block4)
    ]
    logits = model(x)
    for hook in hooks:
        hook.remove()
    return logits, found


def main() -> None:
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    code = {"pvt": load_pvt(Path(sys.argv[1])), "dpt": load_dpt(Path(sys.argv[2]))}
    arrays: dict[str, Tensor] = {}
    layouts: dict[str, np.ndarray] = {}
    for name in ("pvt", "dpt"):
        model: Any = build(code[name], name, 64, *SMALL.values())
        x = pictures(2, 64, 64)
        fill(model.eval())
        with torch.no_grad():
            logits, stages = stages_of(model, x)
            arrays[f"{name}/logits32"] = logits
            for i, stage in enumerate(stages, start=1):
                arrays[f"{name}/stage{i}"] = stage[:1]
            if name == "pvt":
                arrays[f"{name}/logits32_other_size"] = model(pictures(1, *OTHER_SIZE))
        fill(model.double().train())
        x = x.double().requires_grad_()
        logits = model(x)
        probe(logits).backward()
        arrays[f"{name}/logits64"] = logits
        arrays[f"{name}/gradient64"] = x.grad[:, :, 1::3, ::3]
        gradients = {key: parameter.grad.norm() for key, parameter in model.named_parameters()}
        arrays[f"{name}/gradient_norms64"] = torch.stack([gradients[key] for key in sorted(gradients)])
        for i in (2, 3, 4) if name == "dpt" else ():
            arrays[f"{name}/boxes{i}"] = model.get_submodule(f"patch_embed{i}").box_coder.boxes
    for name in NAMES:
        model = build(code[name[:3]], name, 224, DEPTHS[name[4:]], (64, 128, 320, 512), 1000)
        x = pictures(1, 224, 224)
        layouts[f"{name}/layout"] = np.array(layout(model))
        fill(model.eval())
        with torch.no_grad():
            arrays[f"{name}/logits32"] = model(x)[0, :16]
        fill(model.double().train())
        x = x.double().requires_grad_()
        logits, stages = stages_of(model, x)
        probe(logits).backward()
        arrays[f"{name}/logits64"] = logits[0, :16]
        arrays[f"{name}/stage_norms64"] = torch.stack([stage.norm() for stage in stages])
        arrays[f"{name}/gradient64"] = x.grad[0, :, 100, 100:116]
        arrays[f"{name}/gradient_norm64"] = x.grad.norm()
        for i in (2, 3, 4) if name.startswith("dpt") else ():
            arrays[f"{name}/boxes{i}"] = model.get_submodule(f"patch_embed{i}").box_coder.boxes[:, ::7]
        print(name, (arrays[f"{name}/logits32"] - logits[0, :16]).norm() / logits[0, :16].norm())
    np.savez_compressed(FILE, **layouts, **{key: value.detach().numpy() for key, value in arrays.items()})


if __name__ == "__main__":
    main()
