"""What the views into a network cost, in forward passes of it, beside Captum and pytorch-grad-cam.

    python benchmarks/looking.py [--quick] [--only VIEW] [--rounds 5] [--threads 2] [--out looking.csv]

ResNet-50 on one picture of 224x224, random weights (the deconvnet on AlexNet; the strongest pictures of all units of
one layer over 1,000 pictures). Each row is a view by one tool, in a process of its own: `seconds` is the fastest call
once all is loaded, `forwards` is that over the fastest forward pass of the same process, taken in turns with it;
`cold` is the whole process with a single call, imports included. Ours has to stay under the view's limit, and neither
slower nor colder than another tool. Last result: looking.csv. Without the tools installed only our rows come.
"""

from __future__ import annotations

import argparse
import csv
import importlib.util
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

FIELDS = ("view", "tool", "seconds", "forwards", "limit", "cold", "threads", "processor")
PICTURES = 1000
PATCH, STRIDE = 32, 32  # of occlusion, in pixels

Call = Callable[[], object]


def looked_at(name: str = "resnet50", side: int = 224) -> tuple[Any, Any, Call]:
    """The network, a picture, and its forward pass, which is what views are measured in."""
    import torch

    from sightline.models import create_model

    torch.manual_seed(0)
    model, x = create_model(name).eval(), torch.randn(1, 3, side, side)

    def forward() -> None:
        with torch.no_grad():
            model(x)

    return model, x, forward


def feature_maps_ours(side: int) -> tuple[Call, Call]:
    from sightline.visualization import feature_maps

    model, x, forward = looked_at(side=side)
    return lambda: feature_maps(model, x), forward


def feature_maps_captum(side: int) -> tuple[Call, Call]:
    import torch
    from captum.attr import LayerActivation

    model, x, forward = looked_at(side=side)
    kinds = torch.nn.Conv2d, torch.nn.MaxPool2d
    view = LayerActivation(model, [m for m in model.modules() if isinstance(m, kinds)])
    return lambda: view.attribute(x), forward


def grad_cam_ours(side: int) -> tuple[Call, Call]:
    from sightline.visualization import grad_cam

    model, x, forward = looked_at(side=side)
    return lambda: grad_cam(model, x), forward


def grad_cam_captum(side: int) -> tuple[Call, Call]:
    from captum.attr import LayerGradCam

    model, x, forward = looked_at(side=side)
    return lambda: LayerGradCam(model, model.layer4).attribute(x, target=0), forward


def grad_cam_pytorch_grad_cam(side: int) -> tuple[Call, Call]:
    from pytorch_grad_cam import GradCAM
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    model, x, forward = looked_at(side=side)

    def view() -> None:
        with GradCAM(model=model, target_layers=[model.layer4[-1]]) as cam:
            cam(input_tensor=x, targets=[ClassifierOutputTarget(0)])

    return view, forward


def occlusion_ours(side: int) -> tuple[Call, Call]:
    from sightline.visualization import occlusion

    model, x, _ = looked_at(side=side)
    return lambda: occlusion(model, x, patch=PATCH, stride=STRIDE), every_window(model, side)


def occlusion_captum(side: int) -> tuple[Call, Call]:
    from captum.attr import Occlusion

    model, x, _ = looked_at(side=side)
    view = Occlusion(model)
    arguments = {"sliding_window_shapes": (3, PATCH, PATCH), "strides": (3, STRIDE, STRIDE)}
    # As many pictures at once as ours takes.
    return lambda: view.attribute(x, target=0, perturbations_per_eval=32, **arguments), every_window(
        model, side
    )


def every_window(model: Any, side: int) -> Call:
    """The forward passes that occlusion cannot do without: the picture's and each window's, 32 at once."""
    import torch

    windows = (-(-(side - PATCH) // STRIDE) + 1) ** 2

    def forward() -> None:
        with torch.no_grad():
            model(torch.zeros(1, 3, side, side))
            for start in range(0, windows, 32):
                model(torch.zeros(min(32, windows - start), 3, side, side))

    return forward


def deconvolve_ours(side: int) -> tuple[Call, Call]:
    from sightline.visualization import deconvolve

    model, x, forward = looked_at("alexnet", side)
    return lambda: deconvolve(model, x, layer="features.12", channel=3), forward


def deconvolve_captum(side: int) -> tuple[Call, Call]:
    import warnings

    import torch
    from captum.attr import NeuronDeconvolution

    warnings.simplefilter("ignore")
    model, x, forward = looked_at("alexnet", side)
    for module in model.modules():
        if isinstance(module, torch.nn.ReLU):
            module.inplace = False
    view, x = NeuronDeconvolution(model, model.features[12]), x.requires_grad_()
    return lambda: view.attribute(x, (3, 0, 0)), forward


def top_9_ours(side: int, pictures: int = PICTURES) -> tuple[Call, Call]:
    """Beside one pass of the same pictures through the network up to the layer."""
    import torch

    from sightline.visualization import top_activations

    model, _, _ = looked_at(side=side)
    few = torch.randn(32, 3, side, side)
    stream = [few[i % 32] for i in range(pictures)]

    def forward() -> None:
        with torch.no_grad():
            for start in range(0, pictures, 32):
                body = model.maxpool(model.relu(model.bn1(model.conv1(few[: min(32, pictures - start)]))))
                model.layer2(model.layer1(body))

    return lambda: top_activations(model, stream, layer="layer2", k=9), forward


# View, limit in forward passes, and for each tool what prepares it.
VIEWS: list[tuple[str, float | None, dict[str, Callable[[int], tuple[Call, Call]]]]] = [
    ("feature_maps", 1.5, {"sightline": feature_maps_ours, "captum": feature_maps_captum}),
    (
        "grad_cam",
        3.5,
        {
            "sightline": grad_cam_ours,
            "captum": grad_cam_captum,
            "pytorch_grad_cam": grad_cam_pytorch_grad_cam,
        },
    ),
    ("occlusion", 1.15, {"sightline": occlusion_ours, "captum": occlusion_captum}),
    ("deconvolve", None, {"sightline": deconvolve_ours, "captum": deconvolve_captum}),
    ("top_9", 1.15, {"sightline": top_9_ours}),
]
TOOLS = {view: tools for view, _, tools in VIEWS}


def inside(view: str, tool: str, rounds: int, quick: bool) -> None:
    """What a row's own process does; prints its seconds, and those of the forward pass. No rounds: one call alone."""
    prepare = TOOLS[view][tool]
    side = 96 if quick else 224
    call, forward = top_9_ours(side, 64) if quick and prepare is top_9_ours else prepare(side)
    if not rounds:
        call()
        return
    times: dict[Call, list[float]] = {call: [], forward: []}
    if view != "top_9":  # a thousand pictures: what the first one takes longer is lost among them
        for job in (forward, call):
            job()
    for _ in range(rounds):
        for job, taken in times.items():
            begin = time.perf_counter()
            job()
            taken.append(time.perf_counter() - begin)
    print(json.dumps([min(times[call]), min(times[forward])]))


def measure(view: str, tool: str, limit: float | None, options: argparse.Namespace) -> dict[str, Any]:
    """A row, from two processes: one warm, one cold."""
    command = [sys.executable, __file__, "--inside", view, tool]
    environment = {**os.environ, "OMP_NUM_THREADS": str(options.threads)}
    rounds = min(options.rounds, {"occlusion": 3, "top_9": 1}.get(view, options.rounds))

    def run(n: int) -> str:
        extra = ["--rounds", str(n), *(["--quick"] if options.quick else [])]
        return subprocess.run(
            command + extra, env=environment, check=True, stdout=subprocess.PIPE, text=True
        ).stdout

    seconds, forward = json.loads(run(rounds).splitlines()[-1])
    begin = time.perf_counter()
    run(0)
    cold = time.perf_counter() - begin
    return {
        "view": view,
        "tool": tool,
        "seconds": round(seconds, 4),
        "forwards": round(seconds / forward, 2),
        "limit": limit if tool == "sightline" and limit else "",
        "cold": round(cold, 2),
        "threads": options.threads,
        "processor": platform.processor() or platform.machine(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="pictures of 96x96, and 64 of them")
    parser.add_argument("--only", choices=sorted(TOOLS))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--inside", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.inside:
        inside(*options.inside, options.rounds, options.quick)
        return
    rows = []
    print(*FIELDS[:6], sep="\t")
    for view, limit, tools in VIEWS:
        for tool in tools:
            if options.only not in (None, view) or importlib.util.find_spec(tool) is None:
                continue
            rows.append(measure(view, tool, limit, options))
            print(*(rows[-1][field] for field in FIELDS[:6]), sep="\t", flush=True)
            if options.out:  # after each row: what has been measured is not lost when it is stopped
                with options.out.open("w", newline="") as file:
                    writer = csv.DictWriter(file, FIELDS)
                    writer.writeheader()
                    writer.writerows(rows)


if __name__ == "__main__":
    main()
