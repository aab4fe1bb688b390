"""Everything that determines a training run, as plain data.

A field left at None is chosen from the data set by `training.plan`; what is written into a run has every field
filled, so that the same recipe gives the same run. All errors of a recipe are shown at once.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from sightline.errors import SightlineError, near
from sightline.files import reason

Strategy = Literal["scratch", "finetune", "probe", "auto"]
Objective = Literal["classes", "contrastive"]
Beta = Annotated[float, Field(ge=0, lt=1)]


class Section(BaseModel):
    """A part of the recipe; unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, protected_namespaces=())


class ModelSection(BaseModel):
    """Which network. Keys beyond these two go to its constructor, such as `kernel_size` of lecture_net."""

    model_config = ConfigDict(extra="allow", frozen=True)

    name: str | None = Field(None, description="a name of `sightline models`; None chooses")
    weights: str | None = Field(
        "auto", description="auto (published ones found on this machine), none, a published name, or a file"
    )

    @property
    def arguments(self) -> dict[str, Any]:
        """What goes to the constructor."""
        return dict(self.model_extra or {})


class InputSection(Section):
    """What a picture looks like when it reaches the network."""

    size: int | None = Field(
        None, ge=4, le=1024, description="side of the square that the network sees, pixels"
    )
    channels: Literal[1, 3] | None = Field(None, description="1 grey, 3 RGB; None: grey if the pictures are")
    fit: Literal["crop", "squash"] | None = Field(None, description="cut the centre, or squash to the square")
    resize: int | None = Field(None, ge=4, le=2048, description="short side before the centre cut, pixels")
    store_size: int | None = Field(None, ge=4, le=2048, description="short side kept for training, pixels")
    interpolation: Literal["bilinear", "bicubic"] | None = Field(None, description="of every resize")
    scaled_decoding: bool = Field(False, description="decode large JPEGs for training at a reduced scale")


class OptimizerSection(Section):
    """How the weights move."""

    name: Literal["sgd", "adamw"] | None = Field(None, description="SGD with momentum, or AdamW")
    lr: float | None = Field(None, gt=0, le=100, description="highest learning rate")
    momentum: float = Field(0.9, ge=0, lt=1, description="of SGD")
    nesterov: bool | None = Field(None, description="of SGD")
    betas: tuple[Beta, Beta] = Field((0.9, 0.999), description="of AdamW")
    weight_decay: float | None = Field(None, ge=0, le=1, description="not applied to norms and biases")
    layer_decay: float | None = Field(
        None, gt=0, le=1, description="share of the rate that a stage gets of the next one's (finetune)"
    )


class ScheduleSection(Section):
    """How the learning rate changes over the run."""

    name: Literal["constant", "step", "cosine", "onecycle"] | None = Field(
        None, description="its shape over the run"
    )
    warmup_epochs: float = Field(0.0, ge=0, description="epochs of a linear rise (not for onecycle)")
    rise: float = Field(0.3, gt=0, lt=1, description="share of the run in which onecycle rises")
    step_epochs: int = Field(7, ge=1, description="epochs between the cuts of step")
    gamma: float = Field(0.1, gt=0, le=1, description="factor of each cut of step")
    final: float = Field(0.0, ge=0, le=1, description="share of the rate at the end of cosine")


class Recipe(Section):
    """A training run. `sightline fit --set optimizer.lr=0.01` reaches every field; so does a TOML file."""

    objective: Objective = Field("classes", description="tell classes apart, or match pictures and captions")
    model: ModelSection = ModelSection()  # type: ignore[call-arg]
    strategy: Strategy | None = Field(
        None, description="train all, finetune pretrained weights, probe (new head), or auto: measure"
    )
    features: str | None = Field(None, description="hand-crafted ones instead of a network: hog+color, sift")
    head: Literal["ridge", "softmax", "svm", "none"] | None = Field(
        None, description="fitted on frozen features before any step; none starts from a random one"
    )
    penalty: float | None = Field(None, gt=0, description="of the head; None chooses by leaving pictures out")
    train_from: str | None = Field(None, description="first stage that learns; those before it stay frozen")
    last_stage: str | None = Field(
        None, description="the network ends in this one; those behind it are left out"
    )
    views: int | None = Field(
        None,
        ge=0,
        le=1000,
        description="augmented views kept of a frozen part's activations; 0 augments anew",
    )
    l2_sp: float = Field(0.0, ge=0, le=10, description="pull of the weights towards where they started")
    input: InputSection = InputSection()  # type: ignore[call-arg]
    augment: str | None = Field(None, description="a policy's name or steps such as 'crop(4) + hflip'")
    optimizer: OptimizerSection = OptimizerSection()  # type: ignore[call-arg]
    schedule: ScheduleSection = ScheduleSection()  # type: ignore[call-arg]
    epochs: int | None = Field(None, ge=1, le=100_000, description="passes over the training pictures")
    minutes: float | None = Field(None, gt=0, description="bound on the training time; fixes the steps")
    steps: int | None = Field(None, ge=1, description="optimizer steps; overrides epochs, set by minutes")
    batch_size: int | None = Field(None, ge=1, le=65_536, description="pictures a step")
    label_smoothing: float | None = Field(None, ge=0, lt=1, description="share given to the other classes")
    clip_grad: float | None = Field(
        None, gt=0, description="largest norm of the gradient; None does not clip"
    )
    ema: float | None = Field(None, ge=0, lt=1, description="decay of the averaged weights; 0 keeps none")
    balance: Literal["none", "loss", "sampling"] | None = Field(None, description="for unbalanced classes")
    patience: int | None = Field(None, ge=1, description="epochs without a better one before stopping")
    seed: int = Field(0, ge=0, lt=2**63, description="of splits, start, order and augmentation")
    val_share: float | None = Field(
        None, gt=0, lt=0.9, description="cut from training for choosing the epoch"
    )
    test_share: float | None = Field(None, gt=0, lt=0.9, description="where the data set has no test split")
    precision: Literal["fp32", "bf16"] | None = Field(None, description="of the training's arithmetic")
    device: str | None = Field(None, description="cpu, cuda, cuda:1, mps; None takes a GPU if there is one")
    workers: int | None = Field(None, ge=0, le=256, description="processes that read and augment")
    accumulate: int = Field(1, ge=1, le=1024, description="parts that a batch is computed in, to save memory")
    sync_batchnorm: bool = Field(False, description="batch statistics over all processes, not each its own")

    def updated(self, changes: Mapping[str, Any]) -> Recipe:
        """A copy with dotted keys set: `{"optimizer.lr": 0.1}`. Validated; raises SightlineError."""
        return read_recipe(merge(self.model_dump(), nested(changes)))

    def to_dict(self) -> dict[str, Any]:
        """Nested plain data, as in recipe.json."""
        return self.model_dump(mode="json")


def read_recipe(data: Mapping[str, Any]) -> Recipe:
    """A recipe from nested plain data. Raises SightlineError with every mistake on its own line."""
    problems: list[str] = []
    recipe = None
    try:
        recipe = Recipe.model_validate(data)
    except ValidationError as error:
        problems += [explain(dict(e)) for e in error.errors()]
    problems += model_problems(data.get("model"))
    problems += augment_problems(data.get("augment"))
    problems += features_problems(data.get("features"))
    if recipe is not None:
        problems += cross_problems(recipe)
    if problems or recipe is None:
        if len(problems) == 1:
            end = "" if problems[0].endswith((".", "?", "^")) else "."
            raise SightlineError(f"The recipe has a mistake: {problems[0]}{end}")
        raise SightlineError(
            f"The recipe has {len(problems)} mistakes:\n" + "\n".join(f"  {p}" for p in problems)
        )
    return recipe


def explain(error: dict[str, Any]) -> str:
    """One pydantic error as `key: what is wrong`."""
    key = ".".join(str(part) for part in error["loc"])
    if error["type"] == "extra_forbidden":
        return f"{key}: there is no such field; {meant(key)}"
    if error["type"] in ("model_type", "model_attributes_type"):
        return f"{key}: it is a section, set one of {', '.join(fields_of(key))}"
    message = re.sub(r"^Input |, (unable|got) .*", "", error["msg"])
    message = message[0].lower() + message[1:]
    return (
        f"{key}: it {message}, not {error.get('input')!r}"
        if message.startswith("should")
        else f"{key}: {message}"
    )


def meant(key: str) -> str:
    """What to write instead of an unknown `key`: a field spelled like it, or of that name in a section."""
    section, _, last = key.rpartition(".")
    known = field_names()
    close = [name for name in known if name.endswith(f".{last}")] or near(key, known, n=2)
    if close:
        return f"did you mean {' or '.join(close)}?"
    return f"the fields are {', '.join(fields_of(section))}"


def fields_of(section: str) -> list[str]:
    """The dotted keys in `section`; "" for the whole recipe."""
    return [name for name in field_names() if name.startswith(f"{section}." if section else "")]


def field_names(section: type[BaseModel] = Recipe, prefix: str = "") -> list[str]:
    """Every key of a recipe, dotted."""
    names: list[str] = []
    for name, field in section.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            names += field_names(kind, f"{prefix}{name}.")
        else:
            names.append(prefix + name)
    return names


def model_problems(section: Any) -> list[str]:
    """Mistakes in the network's name and arguments."""
    data = section.model_dump() if isinstance(section, BaseModel) else section
    if not isinstance(data, Mapping):
        return []
    name = data.get("name")
    extra = [key for key in data if key not in ModelSection.model_fields]
    if name is None or not isinstance(name, str):
        return [f"model.{key}: name a network first (model.name)" for key in extra]
    from sightline.models import model_arguments
    from sightline.models.registry import check_arguments

    try:
        known = model_arguments(name)
    except SightlineError as error:
        return [f"model.name: {error}"]
    problems = []
    for key in extra:
        try:
            check_arguments({key: data[key]}, known)
        except SightlineError as error:
            problems.append(f"model.{key}: of {name}, {error}")
    return problems


def augment_problems(text: Any) -> list[str]:
    """Mistakes in the augmentation's text."""
    if not isinstance(text, str):
        return []
    from sightline.transforms.augment import Augment

    try:
        Augment.parse(text)
    except SightlineError as error:
        return [f"augment: {error}"]
    return []


def cross_problems(recipe: Recipe) -> list[str]:
    """Fields that are right alone and wrong together."""
    problems = []
    shape = recipe.input
    if shape.resize is not None and shape.fit == "squash":
        problems.append("input.resize: it goes with fit = 'crop'; squash has only input.size")
    if shape.resize is not None and shape.size is not None and shape.resize < shape.size:
        problems.append(f"input.resize: it must be at least input.size ({shape.size}), not {shape.resize}")
    if (recipe.val_share or 0) + (recipe.test_share or 0) >= 0.95:
        problems.append("val_share, test_share: together they leave nothing to train on")
    if recipe.optimizer.nesterov and recipe.optimizer.momentum == 0:
        problems.append("optimizer.nesterov: it needs a momentum above 0; set optimizer.nesterov=false")
    problems += transfer_problems(recipe)
    weights = (recipe.model.weights or "none").lower()
    if recipe.strategy in ("finetune", "probe", "auto") and weights == "none":
        problems.append(
            f"strategy: {recipe.strategy} starts from weights; set model.weights, or strategy = 'scratch'"
        )
    return problems


def transfer_problems(recipe: Recipe) -> list[str]:
    """Fields that need pretrained weights, where these are ruled out; and those that exclude each other."""
    own = {
        "train_from": recipe.train_from is not None,
        "last_stage": recipe.last_stage is not None,
        "l2_sp": recipe.l2_sp > 0,
        "head": recipe.head not in (None, "none"),
    }
    problems = [
        f"{field}: it goes with strategy = 'finetune' or 'probe', not scratch"
        for field, given in own.items()
        if given and recipe.strategy == "scratch"
    ]
    problems += [
        f"{field}: strategy = 'auto' chooses it; leave it out"
        for field in ("train_from", "last_stage")
        if own[field] and recipe.strategy == "auto"
    ]
    if recipe.strategy == "probe" and recipe.head == "none":
        problems.append("head: a probe is nothing but a head; take ridge, softmax or svm")
    if recipe.views and recipe.train_from is None:
        problems.append("views: it needs train_from, the first stage that learns")
    return problems


def features_problems(text: Any) -> list[str]:
    """Mistakes in the text of hand-crafted features."""
    if not isinstance(text, str):
        return []
    from sightline.features.spelling import parse_features

    try:
        parse_features(text)
    except SightlineError as error:
        return [f"features: {error}"]
    return []


def parse_settings(settings: Iterable[str]) -> dict[str, Any]:
    """`["optimizer.lr=0.1", "augment=none"]` as {dotted key: value}; values are TOML, or else plain text."""
    out: dict[str, Any] = {}
    for setting in settings:
        key, equals, text = setting.partition("=")
        if not equals or not all(part.strip() for part in key.split(".")):
            raise SightlineError(f"--set takes KEY=VALUE, such as --set optimizer.lr=0.1, not {setting!r}.")
        out[key.strip()] = parse_value(text.strip())
    return out


def parse_value(text: str) -> Any:
    if text == "null":  # TOML has no word for it
        return None
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def load_recipe_file(path: str | Path) -> dict[str, Any]:
    """Nested data of a TOML (or JSON) recipe file."""
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise SightlineError(
            f"There is no recipe file {path}; give a TOML file or leave --recipe out."
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise SightlineError(f"The recipe file {path} cannot be read: {reason(error)}.") from None
    kind = "JSON" if path.suffix == ".json" else "TOML"
    try:
        data = json.loads(text) if kind == "JSON" else tomllib.loads(text)
    except ValueError as error:
        raise SightlineError(f"The recipe file {path} is not valid {kind}: {error}.") from None
    if not isinstance(data, dict):
        raise SightlineError(f"The recipe file {path} holds no fields but a {type(data).__name__}.")
    return data


def nested(flat: Mapping[str, Any]) -> dict[str, Any]:
    """Dotted keys as nested dictionaries."""
    out: dict[str, Any] = {}
    for key, value in flat.items():
        *parents, last = key.split(".")
        place = out
        for parent in parents:
            place = place.setdefault(parent, {})
            if not isinstance(place, dict):
                raise SightlineError(
                    f"{key} cannot be set where {parent} is {place!r}; {parent} is a section."
                )
        place[last] = value
    return out


def merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """`base` with `over` on top, section by section."""
    out = dict(base)
    for key, value in over.items():
        inner = out.get(key)
        if isinstance(value, Mapping) and isinstance(inner, Mapping):
            out[key] = merge(inner, value)
        else:
            out[key] = value
    return out
