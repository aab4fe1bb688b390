"""Features old and learned, as scikit-learn transformers, and the linear heads on them.

    hog, sift, colour    HOG, BagOfSIFT, ColorHistogram: made by hand, before networks
    heads                RidgeHead, SoftmaxHead, SVMHead: linear classifiers that fold into a network
    seen                 what each of the hand-crafted ones sees in a picture, as data and drawn
    spelling, network    hand-crafted features as text and on disk, and as a network
    embedding            Embedding: what a network makes of pictures

The names below are imported when they are first used: scikit-learn takes seconds.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

HOMES = {
    "Embedding": "embedding",
    "HEADS": "heads",
    "RidgeHead": "heads",
    "SVMHead": "heads",
    "SoftmaxHead": "heads",
    "fold_head": "heads",
    "make_head": "heads",
    "HOG": "hog",
    "BagOfSIFT": "sift",
    "ColorHistogram": "colour",
    "make_features": "spelling",
    "save_features": "spelling",
    "load_features": "spelling",
}
"""The names to be had from here, and the module of each."""

__all__ = sorted(HOMES)


def __getattr__(name: str) -> Any:
    if name not in HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{HOMES[name]}"), name)
