"""The lecture's augmentation: a flip either way with probability 0.3 and a turn of up to 30 degrees.

    python examples/augment_pictures.py [--quick] [PICTURE]

Nine versions of one picture (without PICTURE, scikit-learn's photograph of a flower) go to `versions.png`; then the
same augmentation is given to the digits, in `digits.png` and in a training. A mirrored digit is another sign or none,
so the second training, with the policy made for digits, is the better one.
"""

import sys

from PIL import Image

import sightline
from sightline.visualization.augmentations import by_class, draw_grid, nine_versions

arguments = sys.argv[1:]
quick = "--quick" in arguments
path = next((a for a in arguments if not a.startswith("--")), None)

if path:
    picture = sightline.read_image(path)
else:
    from sklearn.datasets import load_sample_image

    picture = Image.fromarray(load_sample_image("flower.jpg"))

augment = sightline.Augment.parse("hflip(0.3) + vflip(0.3) + rotate(30)")
draw_grid(nine_versions(picture, augment), tile=200).save("versions.png")
draw_grid(by_class(sightline.open_dataset("digits"), augment)).save("digits.png")
print("pictures: versions.png, digits.png")

for text in (str(augment), "digits"):
    run = sightline.fit("digits", augment=text, epochs=2 if quick else 15, quiet=True)
    print(f"accuracy with {text}: {run.scores.accuracy}")
