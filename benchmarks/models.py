"""The lineage against torchvision and timm: time and memory of prediction and of a training step.

    python benchmarks/models.py [--quick] [--only NETWORK] [--out models.csv]

Ours and theirs are made of the very same tensors, weights and statistics alike: two copies of one network differ by up
to five hundredths, by where in memory each came to lie. They take turns in one process, one measurement each a round in
a drawn order, so that a busy machine troubles both alike. Two columns of ratios, theirs over ours: above 1 is faster.

    same        both eager, float32, contiguous: what our code costs against theirs
    as shipped  what `Classifier` does for prediction (`sightline.fast`) and `fit` for a training step (channels last,
                bf16 autocasting, fused optimiser) against theirs as it comes: eager, float32, SGD

Each ratio is of medians over the rounds, with a 95 % bootstrap interval over the rounds. Memory
is the peak of what one call allocates on top of what was there before it (weights and input), added up from the
allocator's own events in PyTorch's profiler; workspaces within oneDNN are not in it. Both run the same oneDNN. PVT and
DPT have no installed reference and no row.

The rows go to `models.csv` beside this file as they come, and as a table to stdout; last results: see that file. At
the end a network trained on digits is asked both ways: how often does what is shipped decide as float32 does?
A full run takes half an hour on two cores.
"""

from __future__ import annotations

import argparse
import copy
import csv
import math
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # the profiler tells of itself otherwise

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

sys.path.insert(0, str(Path(__file__).parent))
from training import processor

Call = Callable[[], Any]
# At least so many rounds, and on until the interval of `same` is no wider than twice WIDTH or the seconds are spent:
# when to stop depends on the width alone, never on where the ratio lies.
ROUNDS, WIDTH, MOST_SECONDS = 20, 0.01, 120.0
FIELDS = (
    "network", "reference", "task", "batch", "rounds", "threads", "processor",
    "theirs_ms", "ours_ms", "shipped_ms", "same", "same_low", "same_high", "shipped", "shipped_low", "shipped_high",
    "theirs_mb", "ours_mb", "memory",
)  # fmt: skip


@dataclass(frozen=True)
class Case:
    """Ours, theirs, and how many pictures at once are predicted and trained on: about a second's work."""

    network: str
    reference: str
    batch: int
    train_batch: int
    image_size: int = 224

    def build(self) -> tuple[nn.Module, nn.Module]:
        """(ours, theirs), of the same tensors."""
        from sightline.models import create_model

        library, _, name = self.reference.partition("/")
        arguments: dict[str, Any] = {"aux_logits": False} if self.network == "googlenet" else {}
        if library == "timm":  # which drops no paths unless it is told to
            arguments = {"drop_path_rate": 0.0}
        theirs: nn.Module
        if library == "timm":
            import timm

            theirs = timm.create_model(name, **arguments)
        else:
            import torchvision

            more = {**arguments, "init_weights": False} if arguments else {}
            theirs = torchvision.models.get_model(name, weights=None, **more)
        ours = create_model(self.network, **arguments)
        fill(theirs)
        ours.load_state_dict(theirs.state_dict(keep_vars=True), strict=True, assign=True)
        return ours, theirs


CASES = (
    Case("alexnet", "torchvision/alexnet", 32, 8),
    Case("vgg16", "torchvision/vgg16", 4, 2),
    Case("googlenet", "torchvision/googlenet", 16, 8),
    Case("resnet18", "torchvision/resnet18", 32, 8),
    Case("resnet50", "torchvision/resnet50", 8, 4),
    Case("resnext50_32x4d", "torchvision/resnext50_32x4d", 8, 2),
    Case("efficientnet_b0", "torchvision/efficientnet_b0", 16, 4),
    Case("tf_efficientnet_b0", "timm/tf_efficientnet_b0", 8, 4),
    Case("vit_small_patch16_224", "timm/vit_small_patch16_224", 8, 4),
    Case("swin_tiny_patch4_window7_224", "timm/swin_tiny_patch4_window7_224", 4, 2),
)


def fill(model: nn.Module) -> None:
    """Weights that differ from a start of zeros: torchvision's ViT begins with a head of them."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.Linear) and not module.weight.any():
                module.weight.normal_(std=0.02, generator=generator)


# ------------------------------------------------------------------------------------------------ what is timed
def predictions(case: Case, ours: nn.Module, theirs: nn.Module, batch: int) -> tuple[Call, Call, Call]:
    """(theirs, ours, as shipped) for one batch."""
    from sightline.fast import fast_copy

    x = torch.randn(batch, 3, case.image_size, case.image_size)
    shipped = fast_copy(ours.eval(), x.shape[1:])
    theirs.eval()
    with torch.inference_mode():
        expected = theirs(x)
        difference = (ours(x) - expected).norm() / expected.norm()
        assert difference < 1e-5, f"{case.network} computes another function: {difference:.1e}"
    inference = torch.inference_mode()
    return inference(lambda: theirs(x)), inference(lambda: ours(x)), inference(lambda: shipped.logits(x))


def training_steps(case: Case, ours: nn.Module, theirs: nn.Module) -> tuple[Call, Call, Call]:
    """(theirs, ours, as shipped) for one step: forward, backward, SGD with momentum."""
    from sightline.fast import cpu_has_bf16
    from sightline.training.optim import make_optimizer
    from sightline.training.recipe import Recipe, read_recipe

    x = torch.randn(case.train_batch, 3, case.image_size, case.image_size)
    y = torch.randint(0, 1000, (case.train_batch,))
    x_last = x.contiguous(memory_format=torch.channels_last)
    fast = copy.deepcopy(ours).to(memory_format=torch.channels_last)
    recipe: Recipe = read_recipe({"optimizer": {"name": "sgd", "lr": 1e-4, "momentum": 0.9}})
    plain = torch.optim.SGD(theirs.parameters(), lr=1e-4, momentum=0.9)  # ours are the same
    fused = make_optimizer(fast, recipe)
    bf16 = cpu_has_bf16()

    def step(model: nn.Module, optimizer: torch.optim.Optimizer, pictures: torch.Tensor, low: bool) -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=low):
            logits = model(pictures)
        F.cross_entropy(logits.float(), y).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)  # each step begins with the same memory

    for model in (theirs, ours, fast):
        model.train()
    return (
        lambda: step(theirs, plain, x, False),
        lambda: step(ours, plain, x, False),
        lambda: step(fast, fused, x_last, bf16),
    )


# ------------------------------------------------------------------------------------------------- measuring
def take_turns(calls: Sequence[Call]) -> np.ndarray:
    """Seconds (rounds, calls). In a drawn order: a call pays for what the one before it left behind."""
    rounds: list[list[float]] = []
    orders = np.random.default_rng(0)
    started = time.perf_counter()
    while True:
        row = [0.0] * len(calls)
        for which in orders.permutation(len(calls)):
            begun = time.perf_counter()
            calls[which]()
            row[which] = time.perf_counter() - begun
        rounds.append(row)
        if len(rounds) > ROUNDS and len(rounds) % 5 == 1:
            times = np.array(rounds[1:])  # the first round warms up
            _, low, high = ratio(times[:, 0], times[:, 1])
            if high - low < 2 * WIDTH or time.perf_counter() - started > MOST_SECONDS:
                return times


def ratio(slow: np.ndarray, fast: np.ndarray, draws: int = 2000) -> tuple[float, float, float]:
    """(ratio of medians, its 95 % bootstrap interval) of seconds (rounds,)."""
    chosen = np.random.default_rng(0).integers(0, len(slow), (draws, len(slow)))
    low, high = np.quantile(np.median(slow[chosen], 1) / np.median(fast[chosen], 1), (0.025, 0.975))
    return float(np.median(slow) / np.median(fast)), float(low), float(high)


def peak_memory(call: Call) -> float:
    """MB that a call has allocated at once, beyond what there was before it."""
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        call()
    events = profiler.profiler.kineto_results.events()
    changes = sorted((e.start_ns(), e.nbytes()) for e in events if e.name() == "[memory]")
    return float(np.cumsum([size for _, size in changes]).max(initial=0)) / 1e6


def measure(case: Case, task: str, batch: int, calls: tuple[Call, Call, Call]) -> dict[str, Any]:
    """One row."""
    times = take_turns(calls)
    theirs, ours, shipped = times.T
    same, as_shipped = ratio(theirs, ours), ratio(theirs, shipped)
    theirs_mb, ours_mb = peak_memory(calls[0]), peak_memory(calls[1])
    medians = [round(float(np.median(one)) * 1000, 2) for one in times.T]
    figures = [*medians, *(round(value, 4) for value in (*same, *as_shipped))]
    memory = [round(theirs_mb, 2), round(ours_mb, 2), round(ours_mb / theirs_mb, 4)]
    head = [case.network, case.reference, task, batch, len(times), torch.get_num_threads(), processor()]
    return dict(zip(FIELDS, [*head, *figures, *memory], strict=True))


def decisions() -> tuple[int, int]:
    """(pictures decided alike by what is shipped and by float32, pictures), of a network trained on digits."""
    import sightline
    from sightline.bundle import Bundle, Classifier

    with tempfile.TemporaryDirectory() as folder:
        # 32 pixels: at the digits' own 8 the last maps are a single pixel, and float32 is what is shipped.
        settings: dict[str, Any] = {"input.size": 32, "epochs": 3, "model": "resnet10_small"}
        run = sightline.fit("digits", out=Path(folder) / "run", quiet=True, **settings)
        test = run.part(sightline.open_dataset("digits"), "test")[0]
        bundle = Bundle.load(run.path)
        answers = [
            Classifier(bundle, precision=p).probabilities_of(test)[1].argmax(1) for p in ("auto", "fp32")
        ]
    return int((answers[0] == answers[1]).sum()), len(answers[0])


# --------------------------------------------------------------------------------------------------- the table
def line(row: dict[str, Any]) -> str:
    def shown(key: str) -> str:
        return f"{row[key]:5.2f} [{row[key + '_low']:.2f}, {row[key + '_high']:.2f}]"

    name = f"{row['network']:30} {row['task']:8} {row['batch']:3}"
    return f"{name}   {shown('same'):22} {shown('shipped'):22} {row['memory']:.3f}"


def geometric_mean(values: Sequence[float]) -> float:
    return math.exp(statistics.mean(map(math.log, values)))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--quick", action="store_true", help="two small networks on small pictures: does it run?"
    )
    parser.add_argument("--only", help="only this network of ours")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".csv"))
    chosen = parser.parse_args()
    cases: Sequence[Case] = [case for case in CASES if chosen.only in (None, case.network)]
    if chosen.quick:  # nothing to conclude from
        cases = [
            Case(c.network, c.reference, 2, 2, 64) for c in cases if c.network in ("resnet18", "alexnet")
        ]
    torch.manual_seed(0)
    rows: list[dict[str, Any]] = []
    print(f"{'network':30} {'task':8} {'N':>3}   {'same':22} {'as shipped':22} memory")
    for case in cases:
        ours, theirs = case.build()
        for task, batch in (("predict", 1), ("predict", case.batch), ("train", case.train_batch)):
            train = task == "train"
            calls = training_steps(case, ours, theirs) if train else predictions(case, ours, theirs, batch)
            rows.append(measure(case, task, batch, calls))
            print(line(rows[-1]), flush=True)
            with chosen.out.open("w", newline="") as file:  # after each row: nothing is lost
                writer = csv.DictWriter(file, FIELDS, lineterminator="\n")
                writer.writeheader()
                writer.writerows(rows)
    means = [geometric_mean([row[key] for row in rows]) for key in ("same", "shipped", "memory")]
    print(f"{'geometric mean':44}   {means[0]:5.2f} {'':16} {means[1]:5.2f} {'':16} {means[2]:.3f}")
    alike, asked = decisions()
    print(f"decisions as shipped and in float32, of a network trained on digits: {alike} of {asked} alike")


if __name__ == "__main__":
    main()
