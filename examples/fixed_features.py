"""Fixed features: a pretrained network stays as it is, a linear classifier stands on it (Example 2, second half).

    python examples/fixed_features.py [--quick] [DATA [WEIGHTS]]

DATA is a folder of class folders with train and test (or val), such as the ants and bees of the PyTorch tutorial
(https://download.pytorch.org/tutorial/hymenoptera_data.zip). ResNet-18 with its published weights, which are fetched on
the first use, or with those of the file WEIGHTS. An Embedding is a scikit-learn transformer, so any classifier may
follow. With --quick there is nothing to fetch: a small network trained on handwritten digits 0 to 4 gives the features
for 5 to 9.
"""

import sys
import tempfile
from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits
from sklearn.pipeline import make_pipeline

import sightline
from sightline.data.split import make_splits
from sightline.features import Embedding
from sightline.features.heads import RidgeHead, SoftmaxHead

arguments = sys.argv[1:]
data, weights = ([a for a in arguments if not a.startswith("--")] + [None, None])[:2]

if "--quick" in arguments or data is None:
    digits, folder = load_digits(), Path(tempfile.mkdtemp())
    for name, chosen in (("low", digits.target < 5), ("high", digits.target >= 5)):
        pictures = (digits.images[chosen] * 15).astype("uint8")
        np.savez(folder / f"{name}.npz", x=pictures, y=digits.target[chosen])
    network, data = sightline.fit(folder / "low.npz", model="resnet20", epochs=2).path, folder / "high.npz"
else:
    network = "resnet18"

dataset = make_splits(sightline.open_dataset(data), seed=0)
train, test = dataset.split("train"), dataset.split("test")
for layer in (None, "layer3", "layer2"):
    for head in (SoftmaxHead(), RidgeHead()):
        classifier = make_pipeline(Embedding(network, layer, weights=weights or "auto"), head).fit(
            train, train.targets
        )
        share = (classifier.predict(test) == test.targets).mean()
        print(
            f"{layer or 'the last features':18} {type(head).__name__:12} {share:.1%} of {len(test)} test pictures"
        )
