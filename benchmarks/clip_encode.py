"""CLIP's towers against open_clip's on this machine: the same weights, taking turns.

    python benchmarks/clip_encode.py [--quick] [--only NETWORK] [--threads 2] [--out clip_encode.csv]

Random weights, the same in both. One measurement each a round, in changing order, so that a busy machine troubles
both alike. Two columns of ratios, theirs over ours: above 1 is faster.

    same        both eager, float32, contiguous: what our code costs against theirs
    as shipped  pictures as `Classifier`, zero-shot and search embed them (`sightline.fast`); sentences as zero-shot
                does; against open_clip as it comes: eager, float32

Pictures are of each network's own size. Sentences are labels in the 80 templates, about ten tokens long in a context of
77: what follows a sentence's end is not computed here, hence the ratio; `text-77` has sentences that fill the context.
Each ratio is of medians over the rounds, with a 95 % bootstrap interval over rounds. Wanted: no `same` under 0.97, and
`as shipped` of 1.5 or more in the mean. Last result: clip_encode.csv.
"""

from __future__ import annotations

import argparse
import csv
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parent))
from training import processor

FIELDS = (
    "network", "tower", "batch", "rounds", "threads", "processor", "theirs_ms", "ours_ms", "shipped_ms",
    "same", "same_low", "same_high", "shipped", "shipped_low", "shipped_high",
)  # fmt: skip
# Ours, theirs, pictures at once: about a second's work.
CASES = {
    "clip_rn50": ("RN50-quickgelu", 8),
    "clip_rn101": ("RN101-quickgelu", 8),
    "clip_rn50x4": ("RN50x4-quickgelu", 4),
    "clip_rn50x16": ("RN50x16-quickgelu", 1),
    "clip_vit_base_patch32": ("ViT-B-32-quickgelu", 16),
    "clip_vit_base_patch16": ("ViT-B-16-quickgelu", 8),
    "clip_vit_large_patch14": ("ViT-L-14-quickgelu", 2),
}
ROUNDS, WIDTH, MOST_ROUNDS, MOST_SECONDS = 15, 0.02, 200, 30.0
SENTENCES = 32
Call = Callable[[], object]


def calls(network: str, batch: int) -> dict[str, tuple[Call, Call, Call]]:
    """(theirs, ours, as shipped) for each tower."""
    import open_clip

    from sightline.fast import fast_copy
    from sightline.models import create_model, model_info
    from sightline.models.clip import CLIP
    from sightline.models.clip_classifier import ImageClassifier
    from sightline.zero_shot.imagenet_templates import IMAGENET_TEMPLATES
    from sightline.zero_shot.prompts import fill
    from sightline.zero_shot.texts import encode

    torch.manual_seed(0)
    theirs = open_clip.create_model(CASES[network][0]).eval()
    ours: Any = create_model(network).eval()
    assert isinstance(ours, CLIP)
    ours.load_state_dict(theirs.state_dict(), strict=True)
    size = model_info(network).input
    x = torch.randn(batch, *size)
    tower = ImageClassifier(ours.visual, 0, 3, ours.quick_gelu).eval()
    fast = fast_copy(tower, size)
    labels = ("cat", "dog", "golden retriever", "aeroplane", "rusty screw")
    prompts = [fill(template, label) for label in labels for template in IMAGENET_TEMPLATES]
    short = open_clip.tokenize(prompts[:: len(prompts) // SENTENCES][:SENTENCES])
    full = open_clip.tokenize(["dog " * 80] * 4)
    return {
        "image": (lambda: theirs.encode_image(x), lambda: ours.encode_image(x), lambda: fast.features(x)),
        "text": (
            lambda: theirs.encode_text(short),
            lambda: ours.encode_text(short),
            lambda: encode(ours, short),
        ),
        "text-77": (
            lambda: theirs.encode_text(full),
            lambda: ours.encode_text(full),
            lambda: encode(ours, full),
        ),
    }


def ratio(theirs: list[float], ours: list[float]) -> tuple[float, float, float]:
    """Median over median, and its 95 % bootstrap interval over rounds."""
    a, b = np.array(theirs), np.array(ours)
    draws = np.random.default_rng(0).integers(0, len(a), (2000, len(a)))
    spread = np.median(a[draws], axis=1) / np.median(b[draws], axis=1)
    low, high = np.percentile(spread, [2.5, 97.5])
    return float(np.median(a) / np.median(b)), float(low), float(high)


def measure(three: tuple[Call, Call, Call], quick: bool) -> tuple[list[list[float]], int]:
    """Seconds of each of the three by round; and how many rounds."""
    times: list[list[float]] = [[], [], []]
    for call in three:
        call()
    began = time.perf_counter()
    rounds = 0
    while rounds < (2 if quick else MOST_ROUNDS):
        for k in range(3):
            which = (k + rounds) % 3
            start = time.perf_counter()
            three[which]()
            times[which].append(time.perf_counter() - start)
        rounds += 1
        if rounds >= ROUNDS:
            _, low, high = ratio(times[0], times[1])
            if high - low < 2 * WIDTH or time.perf_counter() - began > MOST_SECONDS:
                break
    return times, rounds


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="two rounds of one network; says nothing")
    parser.add_argument("--only", choices=CASES)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".csv"))
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    names = [options.only] if options.only else ["clip_vit_base_patch32"] if options.quick else list(CASES)
    rows: list[dict[str, Any]] = []
    for name in names:
        batch = CASES[name][1]
        with torch.inference_mode():
            towers = calls(name, 2 if options.quick else batch)
        for tower, three in towers.items():
            with torch.inference_mode():
                times, rounds = measure(three, options.quick)
            same, shipped = ratio(times[0], times[1]), ratio(times[0], times[2])
            count = batch if tower == "image" else SENTENCES if tower == "text" else 4
            values = [name, tower, count, rounds, options.threads, processor()]
            values += [round(1e3 * statistics.median(t), 2) for t in times]
            values += [round(v, 4) for v in (*same, *shipped)]
            rows.append(dict(zip(FIELDS, values, strict=True)))
            print(
                f"{name:26} {tower:8} theirs {values[6]:8.1f} ms  ours {values[7]:8.1f} ms  same {same[0]:.3f} "
                f"[{same[1]:.3f}, {same[2]:.3f}]  as shipped {shipped[0]:.2f} [{shipped[1]:.2f}, {shipped[2]:.2f}]",
                flush=True,
            )
            if not options.quick:
                with options.out.open("w", newline="", encoding="utf-8") as file:
                    writer = csv.DictWriter(file, FIELDS, lineterminator="\n")
                    writer.writeheader()
                    writer.writerows(rows)
    for tower in ("image", "text"):
        chosen = [row["shipped"] for row in rows if row["tower"] == tower]
        print(f"{tower}: as shipped {statistics.mean(chosen):.2f} in the mean of {len(chosen)}")
    print(f"slowest of the towers, same: {min(row['same'] for row in rows):.3f}")


if __name__ == "__main__":
    main()
