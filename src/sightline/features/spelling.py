"""Hand-crafted features as text, `hog(cell=4) + color`, and on disk: text and sizes as JSON, numbers as safetensors."""

from __future__ import annotations

import ast
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from sightline.errors import SightlineError, UnknownName, near
from sightline.features.colour import ColorHistogram
from sightline.features.hog import HOG
from sightline.features.pictures import PictureFeatures
from sightline.features.sift import BagOfSIFT
from sightline.files import reason, write_beside

FEATURES: dict[str, type[PictureFeatures]] = {"hog": HOG, "sift": BagOfSIFT, "color": ColorHistogram}
DESCRIPTION_FILE, ARRAYS_FILE = "features.json", "features.safetensors"
EXAMPLE = "such as 'hog(cell=4) + color'"


def parse_features(text: str) -> list[PictureFeatures]:
    """The transformers that `text` spells, not fitted: names joined by +, each with any parameters in brackets.

    Raises SightlineError where the text is no such thing.
    """
    try:
        tree = ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError):
        raise SightlineError(f"Features are names joined by +, {EXAMPLE}, not {text!r}.") from None
    parts = []
    while isinstance(tree, ast.BinOp) and isinstance(tree.op, ast.Add):
        parts.append(tree.right)
        tree = tree.left
    return [_one(part, text) for part in (tree, *reversed(parts))]


def _one(node: ast.expr, text: str) -> PictureFeatures:
    call = node if isinstance(node, ast.Call) else ast.Call(func=node, args=[], keywords=[])
    if not isinstance(call.func, ast.Name) or call.args:
        raise SightlineError(f"Features are names joined by +, {EXAMPLE}, not {text!r}.")
    name = call.func.id
    if name not in FEATURES:
        raise UnknownName("hand-crafted feature", name, FEATURES)
    made = FEATURES[name]()
    known = made.get_params()
    for keyword in call.keywords:
        key = keyword.arg or ""
        if key not in known:
            close = near(key, known)
            rest = f"did you mean {' or '.join(close)}?" if close else f"it takes {', '.join(known)}."
            raise SightlineError(f"{name} has no parameter {key!r}; {rest}")
        try:
            value = ast.literal_eval(keyword.value)
        except ValueError:
            raise SightlineError(
                f"{key} of {name} is a number, a word in quotes or a list of numbers."
            ) from None
        if not _alike(value, known[key]):
            raise SightlineError(f"{key} of {name} takes a value such as {known[key]!r}, not {value!r}.")
        made.set_params(**{key: value})
    return made


def _alike(value: Any, default: Any) -> bool:
    """Whether `value` may stand for `default`; where that is None, a positive whole number or a pair of them may."""
    if default is None:
        numbers = value if isinstance(value, list | tuple) else [value]
        return value is None or all(type(n) is int and n > 0 for n in numbers)
    if isinstance(default, tuple):
        return (
            isinstance(value, list | tuple) and bool(value) and all(type(n) is int and n > 0 for n in value)
        )
    if type(default) is int and type(value) is int:
        return value >= 0
    return type(value) is type(default)


def spell_features(parts: list[PictureFeatures]) -> str:
    """The text that `parse_features` makes `parts` of: the parameters that are not the default ones."""
    names = {kind: name for name, kind in FEATURES.items()}
    spelled = []
    for part in parts:
        default = type(part)().get_params()
        said = [f"{key}={value!r}" for key, value in part.get_params().items() if value != default[key]]
        spelled.append(names[type(part)] + (f"({','.join(said)})".replace(" ", "") if said else ""))
    return "+".join(spelled)


def parts_of(transformer: Any) -> list[PictureFeatures]:
    """The hand-crafted transformers of one of them, or of a union of them. SightlineError for anything else."""
    from sklearn.pipeline import FeatureUnion

    parts = (
        [one for _, one in transformer.transformer_list]
        if isinstance(transformer, FeatureUnion)
        else [transformer]
    )
    for part in parts:
        if not isinstance(part, PictureFeatures):
            known = ", ".join(kind.__name__ for kind in FEATURES.values())
            raise SightlineError(
                f"What can be kept is {known} and unions of them, not {type(part).__name__}."
            )
    return parts


def make_features(text: str) -> Any:
    """The transformer that `text` spells: one of the hand-crafted ones, or a union of several."""
    from sklearn.pipeline import make_union

    parts = parse_features(text)
    return parts[0] if len(parts) == 1 else make_union(*parts)


def save_features(transformer: Any, folder: str | Path) -> None:
    """Write a fitted transformer (or a union) into `folder`: features.json and features.safetensors, no pickle."""
    from safetensors.numpy import save
    from sklearn.utils.validation import check_is_fitted

    parts = parts_of(transformer)
    arrays: dict[str, np.ndarray] = {}
    for i, part in enumerate(parts):
        check_is_fitted(part)
        arrays |= {f"{i}.{name}": np.ascontiguousarray(getattr(part, name)) for name in part.learned}
    description = {
        "features": spell_features(parts),
        "sizes": [list(part.size_) for part in parts],
        "grey": [part.grey_ for part in parts],
    }
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    write_beside(folder / ARRAYS_FILE, save(arrays))
    write_beside(folder / DESCRIPTION_FILE, json.dumps(description, indent=2) + "\n")


def load_features(folder: str | Path) -> Any:
    """The fitted transformer that `save_features` wrote. Raises SightlineError where it is missing or broken."""
    from safetensors import SafetensorError
    from safetensors.numpy import load
    from sklearn.pipeline import make_union

    folder = Path(folder)
    try:
        description = json.loads((folder / DESCRIPTION_FILE).read_text(encoding="utf-8"))
        arrays = load((folder / ARRAYS_FILE).read_bytes())
        parts = parse_features(description["features"])
        for i, part in enumerate(parts):
            height, width = description["sizes"][i]
            part.settle((int(height), int(width)), bool(description["grey"][i]))
            restore(part, {name: arrays[f"{i}.{name}"] for name in part.learned})
    except FileNotFoundError as error:
        raise SightlineError(f"{folder} holds no features: {Path(error.filename).name} is missing.") from None
    except (OSError, ValueError, KeyError, TypeError, IndexError, SafetensorError) as error:
        raise SightlineError(f"The features in {folder} cannot be read: {reason(error)}.") from None
    return parts[0] if len(parts) == 1 else make_union(*parts)


def restore(part: PictureFeatures, arrays: Mapping[str, np.ndarray]) -> None:
    """Give `part`, settled already, what it had learned."""
    for name in part.learned:
        setattr(part, name, arrays[name])
