"""From pictures and a pretrained network to advice: measure, try, predict every strategy, choose, and say why."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from sightline.advising.combined import combined
from sightline.advising.constants import FOLDS, LARGE, TRYING
from sightline.advising.curve import Curve
from sightline.advising.evidence import LEVEL, Depth, Evidence, looked_at, measure
from sightline.advising.prediction import (
    Measured,
    Prediction,
    chosen,
    interval_of_minutes,
    quadrant,
    seconds_of,
)
from sightline.advising.smoothed import Smoothed
from sightline.advising.trials import (
    Trials,
    affordable,
    can_be_tried,
    rounds_for,
    run_trials,
    seconds_to_read,
    tried_recipe,
)
from sightline.data import ImageDataset
from sightline.errors import SightlineError
from sightline.features.embedding_network import Network
from sightline.models.shortened import stages_to_end_in
from sightline.pipeline.cache import Failure
from sightline.training.build import build_model, input_size
from sightline.training.plan import Facts, Planner, gather_facts
from sightline.training.prepare import canonical_stage, choose_device, make_preprocess
from sightline.training.progress import Quiet
from sightline.training.recipe import Recipe
from sightline.training.transfer_order import order_of

if TYPE_CHECKING:
    from rich.console import RenderableType
    from torch import nn


@dataclass(frozen=True, slots=True)
class Advice:
    """What was measured of a data set and a network, and what follows.

    size, nearness: the quadrant, `small` or `large` and `near` or `far`; where it lies in it: pictures a class, and by
    how much (in logits) what the network learned tells the classes apart better than the better of hand-crafted
    features and random weights. predictions: of every strategy; advised and runner_up are of them.
    minutes: the bound that was given; what takes longer was not advised. trials: of the strategies that were tried.
    """

    name: str
    model: str
    weights: str
    evidence: Evidence
    predictions: tuple[Prediction, ...]
    advised: Prediction
    runner_up: Prediction | None
    size: str
    nearness: str
    per_class: float
    near_by: float
    minutes: float | None = None
    notes: tuple[str, ...] = field(default=())
    trials: Trials | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "data": self.name,
            "model": self.model,
            "weights": self.weights,
            "advised": self.advised.to_dict(),
            "runner_up": self.runner_up and self.runner_up.to_dict(),
            "quadrant": {
                "size": self.size, "nearness": self.nearness, "per_class": self.per_class, "near_by": self.near_by,
            },
            "level": LEVEL,
            "predictions": [p.to_dict() for p in self.predictions],
            "evidence": asdict(self.evidence),
            "trials": self.trials and asdict(self.trials),
            "minutes": self.minutes,
            "notes": list(self.notes),
            "reasons": self.reasons,
        }  # fmt: skip

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Advice:
        """Back from `to_dict`."""

        def prediction(row: Mapping[str, Any]) -> Prediction:
            return Prediction(**{key: value for key, value in row.items() if key != "name"})

        seen = dict(data["evidence"])
        seen["depths"] = tuple(Depth(**row) for row in seen["depths"])
        curve = seen["curve"]
        covariance = tuple(tuple(row) for row in curve["covariance"])
        lists = {key: tuple(curve[key]) for key in ("sizes", "errors", "tested")}
        seen["curve"] = Curve(**(curve | lists | {"covariance": covariance}))
        seen["smoothed"] = Smoothed(**seen["smoothed"])
        seen["failures"] = tuple(Failure(**row) for row in seen["failures"])
        seen["classes"], seen["counts"] = tuple(seen["classes"]), tuple(seen["counts"])
        place, tried = data["quadrant"], data["trials"]
        return cls(
            data["data"],
            data["model"],
            data["weights"],
            Evidence(**seen),
            tuple(prediction(row) for row in data["predictions"]),
            prediction(data["advised"]),
            prediction(data["runner_up"]) if data["runner_up"] else None,
            place["size"],
            place["nearness"],
            place["per_class"],
            place["near_by"],
            data["minutes"],
            tuple(data["notes"]),
            tried and Trials.from_dict(tried),
        )

    @property
    def reasons(self) -> list[str]:
        """Why, in sentences."""
        return reasons_of(self)

    def __rich__(self) -> RenderableType:
        from sightline.advising.table import advice_table

        return advice_table(self)


def advise(
    whole: ImageDataset,
    recipe: Recipe,
    watcher: Quiet | None = None,
    trying: float = TRYING,
) -> Advice:
    """How to reuse the pretrained network of `recipe` for the pictures `whole`, whose test split is not looked at.

    recipe: its model, weights, input and so on are kept; its strategy is what is asked for. recipe.minutes bounds what
    may be advised. trying: seconds that trials may take, by what is foreseen.
    Raises SightlineError where there is no such network, no weights to reuse, or too few pictures.
    """
    watch, train = watcher or Quiet(), whole.split("train")
    facts, val = gather_facts(train), len(whole.split("val")) if whole.has_split("val") else 0
    planner = Planner(recipe.model_copy(update={"strategy": None}), facts, choose_device(recipe.device).type)
    planner.network()
    name, weights = planner.value("model.name"), planner.value("model.weights") or "none"
    if weights == "none":
        raise SightlineError(
            f"There is nothing to reuse: no pretrained weights of {name} are on this machine. Give a run, a file or a "
            "published name with --weights."
        )
    probe = planned(recipe, facts, {"strategy": "probe"})
    model, _ = build_model(probe, len(train.classes))
    stage = canonical_stage(probe)
    mode: Any = "L" if probe.input.channels == 1 else "RGB"
    preprocess = make_preprocess(probe, train, None, stage, mode)
    network = Network(model.eval(), preprocess, choose_device(recipe.device))
    evidence = measure(whole, network, recipe.seed, watch)

    probed, from_stage = stages_of(evidence, model, stages_to_end_in(name, probe.model.arguments))
    behind = share_behind(model, input_size(probe), from_stage)
    own = {key: value for key, value in shape_of(recipe).items() if key != "model.name"}
    kinds: dict[str, dict[str, Any]] = {
        "scratch": {"strategy": "scratch", "model.weights": "none"} | own,
        "probe": {"strategy": "probe"},
    }
    if probed is not None:
        kinds["probe@"] = {"strategy": "probe", "last_stage": probed}
    kinds["finetune"] = {"strategy": "finetune"}
    if from_stage is not None:
        kinds["finetune@"] = {"strategy": "finetune", "train_from": from_stage}
    recipes = {kind: tried_recipe(planned(recipe, facts, kinds[kind]), len(train)) for kind in kinds}
    areas = {kind: ((one.input.size or 1) / (probe.input.size or 1)) ** 2 for kind, one in recipes.items()}

    def seconds(kind: str, pictures: int, others: int) -> float:
        return seconds_of(kind, recipes[kind], evidence, pictures, others, behind, areas[kind])

    spans = {kind: interval_of_minutes(seconds(kind, len(train), val)) for kind in kinds}
    looked = readable(looked_at(whole, recipe.seed), evidence)
    held = len(looked) // FOLDS
    reading = 2 * len(looked) * seconds_to_read(looked, probe)
    costs = {
        kind: FOLDS * (seconds(kind, len(looked) - held, held) + reading)
        for kind in kinds
        if recipe.minutes is None or spans[kind][0] <= recipe.minutes
    }
    afforded = affordable(costs, trying) if can_be_tried(looked) else []
    wanted = {kind: recipes[kind] for kind in kinds if kind in afforded}
    trials = None
    if wanted:
        in_time = int(trying / sum(costs[kind] for kind in wanted))
        rounds = max(1, min(rounds_for(len(looked)), in_time))
        trials = run_trials(looked, wanted, recipe.seed, watch, rounds)

    measured = Measured.of(evidence)
    told = combined(tuple(kinds), measured, evidence.effective, trials)
    tested = dict(zip(trials.kinds, trials.tested, strict=True)) if trials else {}
    stages = {"probe@": probed, "finetune@": from_stage}
    predictions = [
        Prediction(kind, stages.get(kind), *told.accuracy(kind), *spans[kind], settings, tested.get(kind, 0))
        for kind, settings in kinds.items()
    ]
    fitting = [p for p in predictions if recipe.minutes is None or p.minutes <= recipe.minutes]
    notes: tuple[str, ...] = ()
    if not fitting:
        fitting = [min(predictions, key=lambda p: p.minutes)]
        notes = (f"None is expected to take {recipe.minutes:g} minutes only; the quickest is advised.",)
    advised = chosen(fitting)
    others = [p for p in fitting if p is not advised]
    size, near = quadrant(measured.near_by, measured.per_class, LARGE)
    return Advice(
        whole.name,
        name,
        weights,
        evidence,
        tuple(predictions),
        advised,
        max(others, key=lambda p: p.accuracy, default=None),
        size,
        near,
        measured.per_class,
        measured.near_by,
        recipe.minutes,
        notes,
        trials,
    )


def readable(pictures: ImageDataset, evidence: Evidence) -> ImageDataset:
    """Those of the pictures looked at that could be read."""
    failed = {failure.ref for failure in evidence.failures}
    return pictures.without([i for i, ref in enumerate(pictures.refs()) if ref in failed])


def planned(recipe: Recipe, facts: Facts, settings: Mapping[str, Any]) -> Recipe:
    """The complete recipe of a strategy, without a bound on its time."""
    wanted = recipe.updated(changes_of(recipe, settings) | {"minutes": None})
    return Planner(wanted, facts, choose_device(recipe.device).type).plan()[0]


def changes_of(recipe: Recipe, settings: Mapping[str, Any]) -> dict[str, Any]:
    """What makes of `recipe` that of a strategy. From scratch nothing of the weights is left but their network."""
    changes: dict[str, Any] = {"train_from": None, "last_stage": None, **settings}
    if settings["strategy"] == "scratch":
        changes |= {"model.weights": "none", "head": None, "l2_sp": 0.0, "views": None} | shape_of(recipe)
    return changes


def shape_of(recipe: Recipe) -> dict[str, Any]:
    """Name and arguments of the network whose weights `recipe` starts from, where a run says so."""
    from sightline.features.embedding_network import described

    wanted = recipe.model.weights or "none"
    found = described(wanted) if wanted not in ("auto", "none") else None
    if found is None or recipe.model.name not in (None, found["architecture"]):
        return {}
    own = {key: value for key, value in found["arguments"].items() if key not in ("in_chans", "img_size")}
    return {"model.name": found["architecture"]} | {f"model.{key}": value for key, value in own.items()}


def stages_of(evidence: Evidence, model: nn.Module, to_end_in: list[str]) -> tuple[str | None, str | None]:
    """(the stage to probe, the stage to fine-tune from): the earlier one that tells the classes apart best, of those
    that the network can end in; and what comes behind the best of all, or the last one.
    """
    modules = dict(model.named_modules())
    stages = [d for d in evidence.depths if d.layer and any(True for _ in modules[d.layer].parameters())]
    earlier = [d for d in stages if d.layer in to_end_in]
    probed = max(earlier, key=lambda d: d.accuracy).layer if earlier else None
    if len(stages) < 2:
        return probed, None
    best = max(range(len(stages)), key=lambda i: stages[i].accuracy)
    return probed, stages[min(best + 1, len(stages) - 1)].layer


def share_behind(model: nn.Module, size: tuple[int, int, int], stage: str | None) -> float:
    """The share of the network's mult-adds that lie in `stage` and behind it; all of them where there is none."""
    from sightline.visualization.layers import layer_table

    if stage is None:
        return 1.0
    starts = order_of(model, size).starts
    rows = layer_table(model, size)
    total = sum(row.mult_adds for row in rows)
    behind = sum(row.mult_adds for row in rows if starts.get(row.name, len(starts)) >= starts[stage])
    return behind / max(1, total)


def reasons_of(advice: Advice) -> list[str]:
    """Why, in sentences: the quadrant, the depth, the choice, what was tried, what more pictures would give."""
    seen, best = advice.evidence, advice.advised
    total, classes = sum(seen.counts), sum(count > 0 for count in seen.counts)
    depth = "what enters the classifier" if seen.best.layer is None else seen.best.layer
    lines = [
        f"{advice.size.capitalize()} and {advice.nearness}: {total:,} training pictures of {classes} classes; in the "
        f"mean of the classes, what the network learned tells {seen.last.accuracy:.1%} of them apart, hand-crafted "
        f"features {seen.handcrafted:.1%}, random weights {seen.random:.1%}.",
        f"The classes are told apart best at {depth}: {seen.best.accuracy:.1%} leave-one-out "
        f"({seen.best.low:.1%} to {seen.best.high:.1%}).",
        f"Advised: {best.name}, {spelled(best)}.",
    ]
    if advice.runner_up is not None:
        lines.append(f"Runner-up: {advice.runner_up.name}, {spelled(advice.runner_up)}.")
    if advice.trials is not None:
        kinds, held = ", ".join(advice.trials.kinds), max(advice.trials.tested)
        often = f", divided {advice.trials.rounds} times" if advice.trials.rounds > 1 else ""
        lines.append(f"Tried on {held:,} pictures, {FOLDS} folds{often}: {kinds}.")
    untried = [p.name for p in advice.predictions if not p.tried]
    if untried:
        lines.append(
            f"Not tried, as that would take too long here, or pictures are too few: {', '.join(untried)}."
        )
    now, _ = seen.curve.error(total)
    twice, spread = seen.curve.error(2 * total)
    lines.append(
        f"With twice the pictures a probe would err {twice:.1%} rather than {now:.1%}, by a factor "
        f"of {math.exp(1.645 * spread):.2f} more or less."
    )
    if seen.handcrafted > max(p.accuracy for p in advice.predictions):
        lines.append(
            "Hand-crafted features tell these pictures apart better than any of it: try --features hog+color."
        )
    return [*lines, *advice.notes]


def spelled(p: Prediction) -> str:
    """`71.0% expected (64.0% to 77.0%), in about 2.0 minutes`."""
    time = f"about {p.minutes:.1f} minutes" if p.minutes >= 0.1 else "a few seconds"
    return f"{p.accuracy:.1%} expected ({p.low:.1%} to {p.high:.1%}), in {time}"
