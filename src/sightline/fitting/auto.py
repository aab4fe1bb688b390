"""`--strategy auto`: what advice says is followed, the runner-up is trained where time allows, and validation decides.

Of the two the one that takes less time is trained first, in memory; the epoch it keeps is written into the run. The
other one is then the run's own training, with checkpoints, and takes its place only where it does better on the
validation pictures. So whatever ends early, there is a model, and what was trained in memory was short.
"""

from __future__ import annotations

import time
from dataclasses import asdict
from typing import Any

from sightline.advising import Advice, Prediction, advise
from sightline.advising.constants import TRYING
from sightline.data import ImageDataset
from sightline.errors import SightlineError
from sightline.fitting.audit import kept_together, seen_before
from sightline.fitting.conclude import make_bundle
from sightline.fitting.folder import Fit
from sightline.run import ADVICE, RIVAL, Run
from sightline.training.choice import Choice
from sightline.training.plan import split_as_planned
from sightline.training.prepare import Job, Rival, prepare
from sightline.training.recipe import Recipe
from sightline.training.state import Best

# The share of recipe.minutes that trials may take, by what is foreseen.
SHARE = 0.25


def prepared(dataset: ImageDataset, recipe: Recipe, fit: Fit) -> tuple[Job, list[str]]:
    """Split, measure, train the quicker of the two best strategies, and prepare the other."""
    if fit.processes.count > 1:
        raise SightlineError("--strategy auto measures in one process; start it without torchrun.")
    found = kept_together(dataset, fit)
    whole = split_as_planned(dataset, recipe, found.groups)
    if not whole.has_split("val"):
        raise SightlineError(
            f"{dataset.name} has too few pictures to hold some back for validation, which decides between strategies."
        )
    trying = TRYING if recipe.minutes is None else min(TRYING, 60 * recipe.minutes * SHARE)
    advice = advise(whole, recipe, fit.watch, trying)
    fit.run.write_json(ADVICE, advice.to_dict())
    first, then = order_of(advice, recipe, time.perf_counter() - fit.begun)
    rival = None if first is None else tried(whole, recipe, first, fit)
    job = prepare(whole, recipe_of(recipe, then), fit.watch, fit.processes)
    job.advice, job.rival, job.name = advice, rival, then.name
    job.reasons = [*advice.reasons, *([rival.said] if rival else []), *job.reasons]
    return job, seen_before(job, found, fit)


def order_of(advice: Advice, recipe: Recipe, spent: float) -> tuple[Prediction | None, Prediction]:
    """(what is tried first, in memory; what is the run's own training). spent: seconds gone of recipe.minutes."""
    advised, other = advice.advised, advice.runner_up
    if other is None:
        return None, advised
    if recipe.minutes is not None and advised.minutes + other.minutes > recipe.minutes - spent / 60:
        return None, advised
    quick, slow = sorted((advised, other), key=lambda p: p.minutes)
    return quick, slow


def recipe_of(recipe: Recipe, chosen: Prediction) -> Recipe:
    """`recipe` with the strategy that was chosen; from scratch nothing of the weights is left but their network."""
    from sightline.advising.advice import changes_of

    return recipe.updated(changes_of(recipe, chosen.settings))


def tried(whole: ImageDataset, recipe: Recipe, chosen: Prediction, fit: Fit) -> Rival:
    """Train a strategy in memory, and leave the epoch it keeps in the run."""
    begun = time.perf_counter()
    fit.watch.message(f"Trying {chosen.name} first.")
    job = prepare(whole, recipe_of(recipe, chosen).updated({"minutes": None}), fit.watch, fit.processes)
    state = job.trainer.run(fit.watch)
    assert state.best is not None
    make_bundle(job, state.best.weights).save(fit.run.path)
    best = Best(state.best.epoch, state.best.merit, state.best.loss, {})
    rival = Rival(
        chosen.name,
        best,
        state.choice,
        job.recipe,
        state.history,
        f"Tried {chosen.name} first, in {(time.perf_counter() - begun) / 60:.1f} minutes: balanced accuracy "
        f"up to {state.choice.highest:.1%} on the validation pictures.",
    )
    fit.run.write_json(RIVAL, asdict(rival) | {"recipe": job.recipe.to_dict()})
    return rival


def restore(job: Job, run: Run) -> None:
    """Give the job of a run that is resumed its advice and its rival, where there are any.

    Raises SightlineError where another version of sightline wrote them.
    """
    try:
        if (run.path / ADVICE).exists():
            job.advice = Advice.from_dict(run.read_json(ADVICE))
        if (run.path / RIVAL).exists():
            data: dict[str, Any] = run.read_json(RIVAL)
            data |= {"best": Best(**data["best"]), "choice": Choice(**data["choice"])}
            job.rival = Rival(**data | {"recipe": Recipe.model_validate(data["recipe"])})
            job.name = spelled(job.recipe)
    except (KeyError, TypeError):
        raise SightlineError(
            f"Another version of sightline wrote {ADVICE} or {RIVAL} in {run.path}; this one cannot go on from there: "
            "start the run anew."
        ) from None


def spelled(recipe: Recipe) -> str:
    """A strategy as advice calls it."""
    stage = recipe.train_from or recipe.last_stage
    return f"{recipe.strategy}@{stage}" if stage else str(recipe.strategy)
