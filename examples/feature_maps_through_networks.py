"""One picture on its way through four networks: LeNet-5, AlexNet, a ResNet, a Vision Transformer.

    python examples/feature_maps_through_networks.py [--quick] [PICTURE]

Writes a strip each, `lenet5.png`, `alexnet.png`, ...: the picture (without PICTURE, scikit-learn's photograph of a
flower) as the network sees it, then layer after layer the planes that vary most. Published weights are used where
`sightline models NAME` says that they lie on this machine, or else the random start, whose first layers already
find edges and whose last ones find nothing.

In the first three the planes shrink as they go deeper; in the Transformer they stay 14x14, one number for each patch
and channel, and a class token travels with them.
"""

import sys

from PIL import Image

import sightline
from sightline.models import create_model, local_weights, model_info
from sightline.transforms.preprocess import Preprocess
from sightline.visualization.feature_maps import feature_maps
from sightline.visualization.figures import draw_strip, save_png

arguments = sys.argv[1:]
path = next((a for a in arguments if not a.startswith("--")), None)
names = ["lenet5", "alexnet", "resnet50", "vit_base_patch16_224"]
if "--quick" in arguments:
    names = ["lenet5", "alexnet", "resnet18", "vit_tiny_patch16_224"]

if path:
    picture = sightline.read_image(path)
else:
    from sklearn.datasets import load_sample_image

    picture = Image.fromarray(load_sample_image("flower.jpg"))

for name in names:
    info = model_info(name)
    channels, height, width = info.input
    weights = next(iter(local_weights(name)), None)
    network = create_model(name, weights=weights)
    preprocess = Preprocess((height, width), channels, mean=info.mean, std=info.std)
    record = feature_maps(network, preprocess.normalize(preprocess(picture)[None]))
    save_png(draw_strip(record), f"{name}.png")
    tokens = max((len(one.prefix) for one in record.maps if one.prefix is not None), default=0)
    print(
        f"{name}.png: {len(record.maps)} layers, from {record.maps[0].layer} to {record.maps[-1].layer}",
        end="",
    )
    print(f"; {tokens} token beside the patches" if tokens else "", "" if weights else "(random weights)")
