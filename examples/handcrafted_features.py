"""The old school: HOG, SIFT and colour with a linear classifier, what each of them sees, and a run made of them.

    python examples/handcrafted_features.py [--quick] [DATA]

Without DATA it takes the digits that come with scikit-learn. Prints the accuracy of each kind of features in a
scikit-learn pipeline (5-fold cross-validation of the training pictures), fits the best as a run, and writes
`hog.png`, `sift.png` and `colours.png`: a test picture as each of them sees it.
"""

import sys

from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline

import sightline
from sightline.features import RidgeHead, make_features
from sightline.features.seen import colour_shares, draw_colours, draw_hog, draw_sift, hog_cells, sift_words

arguments = [a for a in sys.argv[1:] if a != "--quick"]
quick = "--quick" in sys.argv
dataset = sightline.make_splits(sightline.open_dataset(arguments[0] if arguments else "digits"), seed=0)
train, test = dataset.split("train"), dataset.split("test")
if quick:
    train = train.subset(range(0, len(train), 4))

accuracy = {}
for text in ("hog(size=32)", "sift(size=32,k=64)", "color(size=32)", "hog(size=32)+sift(size=32,k=64)"):
    pipeline = make_pipeline(make_features(text), RidgeHead())
    accuracy[text] = cross_val_score(pipeline, train, train.targets, cv=2 if quick else 5).mean()
    print(f"{text:32} {accuracy[text]:.1%}")

best = max(accuracy, key=accuracy.__getitem__)
run = sightline.fit(dataset, features=best, head="ridge", quiet=True)
print(f"\n{best}, fitted and tested: {run.scores.accuracy}\n{run.report}")

picture = test.read(0)
draw_hog(hog_cells(make_features("hog(cell=4,size=32)").fit(train), picture)).save("hog.png")
draw_sift(sift_words(make_features("sift(size=32,k=64)").fit(train), picture)).save("sift.png")
draw_colours(colour_shares(make_features("color(size=32)").fit(train), picture)).save("colours.png")
