"""Which way to reuse a pretrained network? Ask before training, then let `auto` follow the advice.

    python examples/advice.py [--quick] [DATA] [NETWORK]

DATA is a folder of class folders, NETWORK a run of `sightline fit` or a published network's name (resnet18, whose
weights are fetched on the first use). With --quick there is nothing to fetch: a small network trained on handwritten
digits 0 to 4 is to be reused for 5 to 9.
"""

import sys
import tempfile
from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits

import sightline

arguments = [a for a in sys.argv[1:] if not a.startswith("--")]
settings = {}

if "--quick" in sys.argv or not arguments:
    digits, folder = load_digits(), Path(tempfile.mkdtemp())
    for name, chosen in (("low", digits.target < 5), ("high", digits.target >= 5)):
        pictures = (digits.images[chosen] * 15).astype("uint8")
        np.savez(folder / f"{name}.npz", x=pictures[::3], y=digits.target[chosen][::3])
    network = sightline.fit(folder / "low.npz", model="resnet20", epochs=2, quiet=True).path
    data, settings = folder / "high.npz", {"epochs": 2}
else:
    data, network = arguments[0], (arguments[1:] or ["resnet18"])[0]

reuse = {"weights": network} if Path(network).is_dir() else {"model": network}
advice = sightline.advise(data, **reuse, **settings)
for line in advice.reasons:
    print(line)
for p in advice.predictions:
    print(f"{p.name:18} {p.accuracy:.1%} ({p.low:.1%} to {p.high:.1%})  {p.minutes:.2f} minutes")

run = sightline.fit(data, strategy="auto", **reuse, **settings)
print(f"{run.recipe.strategy}: balanced accuracy {run.scores.balanced_accuracy} on the test pictures")
