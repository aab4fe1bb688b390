"""Fine-tuning: a pretrained network with a new head, trained on from there (the lecture's Example 2, first half).

    python examples/finetune_a_network.py [--quick] [DATA [WEIGHTS]]

DATA is a folder of class folders, such as the ants and bees of the PyTorch tutorial
(https://download.pytorch.org/tutorial/hymenoptera_data.zip). ResNet-18 with its published weights, which are fetched on
the first use, or with those of the file WEIGHTS. The new head is fitted first, on the frozen features; then all layers
move, the early ones least. With --quick there is nothing to fetch: a small network trained on handwritten digits 0 to 4
learns 5 to 9.
"""

import sys
import tempfile
from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits

import sightline

arguments = sys.argv[1:]
data, weights = ([a for a in arguments if not a.startswith("--")] + [None, None])[:2]

if "--quick" in arguments or data is None:
    digits, folder = load_digits(), Path(tempfile.mkdtemp())
    for name, chosen in (("low", digits.target < 5), ("high", digits.target >= 5)):
        pictures = (digits.images[chosen] * 15).astype("uint8")
        np.savez(folder / f"{name}.npz", x=pictures, y=digits.target[chosen])
    start = sightline.fit(folder / "low.npz", model="resnet20", epochs=2)
    run = sightline.fit(folder / "high.npz", weights=start.path, strategy="finetune", epochs=1)
else:
    run = sightline.fit(data, model="resnet18", weights=weights or "DEFAULT", strategy="finetune")

head, *later = [row for row in run.history if "val_accuracy" in row]
print(f"the head alone: {head['val_accuracy']:.1%} of the validation pictures")
print(f"fine-tuned:     {max(row['val_accuracy'] for row in later):.1%}")
print("test split:    ", run.scores.accuracy)
print("report:        ", run.report)
