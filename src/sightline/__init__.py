"""Object recognition from end to end: a folder of pictures in; a trained, measured classifier out.

    import sightline

    run = sightline.fit("photos/")
    print(run.scores.accuracy)
    run.classifier.predict("x.jpg")

The names below are imported when they are first used, so that `import sightline` costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sightline.api import ablate, advise, check, evaluate, fit, load, predict, summary
    from sightline.bundle import Bundle, Classifier
    from sightline.data import ImageDataset, make_splits, open_dataset, read_image
    from sightline.errors import SightlineError, UnreadableImage
    from sightline.models import create_model, list_models, model_info
    from sightline.run import Run
    from sightline.training.recipe import Recipe
    from sightline.transforms.augment import Augment
    from sightline.transforms.preprocess import Preprocess

__version__ = "0.1.0"

HOMES = {
    "api": ("ablate", "advise", "check", "evaluate", "fit", "load", "predict", "summary"),
    "bundle": ("Bundle", "Classifier"),
    "data": ("ImageDataset", "make_splits", "open_dataset", "read_image"),
    "errors": ("SightlineError", "UnreadableImage"),
    "models": ("create_model", "list_models", "model_info"),
    "run": ("Run",),
    "training.recipe": ("Recipe",),
    "transforms.augment": ("Augment",),
    "transforms.preprocess": ("Preprocess",),
}
HOME_OF = {name: module for module, names in HOMES.items() for name in names}

__all__ = [  # noqa: RUF022
    "fit", "evaluate", "load", "predict", "check", "ablate", "advise", "summary",
    "open_dataset", "make_splits", "read_image", "ImageDataset",
    "create_model", "list_models", "model_info",
    "Augment", "Preprocess", "Recipe", "Run", "Bundle", "Classifier",
    "SightlineError", "UnreadableImage",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name in HOME_OF:
        return getattr(import_module(f"sightline.{HOME_OF[name]}"), name)
    raise AttributeError(f"module 'sightline' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *HOME_OF])
