"""The end of a fit: the best model kept, measured on the test split, and reported."""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from sightline.bundle import Bundle, Classifier
from sightline.errors import SightlineError
from sightline.evaluation import clean_line, score
from sightline.features.embedding_network import described
from sightline.fitting.folder import Fit, rows_of, say_set_aside
from sightline.run import FACTS, RECIPE, SCORES, Run, environment
from sightline.training.build import model_arguments_of
from sightline.training.choice import Choice
from sightline.training.plan import published_row
from sightline.training.prepare import Job, Rival
from sightline.training.state import TrainState

# Relative difference of one loss computed in two ways, in float32.
ROUNDING = 1e-6


def keep(run: Run, job: Job, state: TrainState) -> None:
    """Write the model that is kept so far into the run, unless a rival is there that is better."""
    assert state.best is not None
    if job.rival is not None and not beats(state.choice, job.rival):
        return
    make_bundle(job, state.best.weights).save(run.path)


def beats(own: Choice, rival: Rival) -> bool:
    """Whether the run's own training did better on the validation pictures, each in its best epoch so far.

    So who has beaten the rival once has for good, whatever later epoch is kept: the rival's weights are then gone.
    Fine-tuning that has not moved from its head computes the rival's loss in another order: rounding is no gain.
    """
    return rival.choice.beaten_by(own.highest, own.lowest_loss * (1 + ROUNDING))


def make_bundle(job: Job, weights: dict[str, Any]) -> Bundle:
    """What is kept and served of `job` with `weights`."""
    assert job.recipe.model.name is not None
    weights_of = job.recipe.model.weights or "none"
    published = published_row(job.recipe.model.name, weights_of)
    before = described(weights_of) or {}
    return Bundle(
        architecture=job.recipe.model.name,
        arguments=model_arguments_of(job.recipe),
        classes=tuple(job.dataset.classes),
        preprocess=job.trainer.preprocess,
        weights=weights,
        temperature=job.temperature,
        licence=published.licence if published else before.get("licence"),
    )


def conclude(fit: Fit, job: Job, state: TrainState, before: float) -> None:
    """Score the best model on the test split, spread over the processes; write scores, facts and report.

    `before`: seconds that the run had taken when it was resumed.
    """
    from sightline.report import ReportData, write_report

    assert state.best is not None
    run, processes, watch = fit.run, fit.processes, fit.watch
    rival = None
    if job.rival is not None:
        rival = decide(job, state)
        watch.message(job.reasons[-1])
    if rival is not None:
        job.recipe = rival.recipe
    kept = rival or state
    assert kept.best is not None
    best_epoch = kept.best.epoch
    history = [row | {"best": row["epoch"] == best_epoch} for row in kept.history]
    test = job.dataset.split("test")
    if processes.main and not run.has_model:  # its files were lost, but a checkpoint has the weights
        keep(run, job, state)
    classifier = run.classifier if processes.main else Classifier(make_bundle(job, state.best.weights))
    mine = processes.part(np.arange(len(test)))
    found, answers, failures = classifier.probabilities_of(
        test.subset(mine), lambda done: watch.reading(done * processes.count, len(test), "test pictures")
    )
    late = rows_of(state.failures.values())
    late += [{"ref": str(failure.path), "reason": failure.reason} for failure in failures]
    gathered = processes.gather((mine[found], answers, late))
    if not processes.main:
        return
    indices = np.concatenate([part[0] for part in gathered])
    probabilities = np.concatenate([part[1] for part in gathered])
    late = [row for part in gathered for row in part[2]]
    say_set_aside(late, watch)
    set_aside = rows_of(job.set_aside) + late
    if not len(indices):
        raise SightlineError(f"None of the {len(test):,} test pictures of {job.dataset.name} could be read.")
    tested = test.subset(indices)
    scores = score(probabilities, tested.targets, classifier.classes, split="test")
    seen = set(run.read_json(FACTS).get("seen", ()))
    unseen = np.array([ref not in seen for ref in tested.refs()])
    clean = None
    if unseen.any():
        part = probabilities[unseen], tested.targets[unseen], classifier.classes
        clean = score(*part, split="clean part of the test")
    said = "" if unseen.all() else clean_line(scores, clean)
    run.write_json(SCORES, scores.to_dict() | ({"clean": clean and clean.to_dict()} if said else {}))
    seconds = round(before + time.perf_counter() - fit.begun, 1)
    machine = environment() | {"processes": processes.count}
    counts = {name: job.dataset.split(name).class_counts().tolist() for name in ("train", "val", "test")}
    write_report(
        run.report,
        ReportData(
            title=run.path.name,
            created=run.read_json(FACTS)["created"],
            dataset={
                "name": job.dataset.name,
                "source": fit.source or job.dataset.name,
                "classes": list(job.dataset.classes),
                "counts": counts,
                "set_aside": set_aside,
            },
            recipe=job.recipe.to_dict(),
            reasons=job.reasons,
            history=history,
            scores=scores,
            clean=said,
            path=job.path,
            advice=job.advice,
            probabilities=probabilities,
            targets=tested.targets,
            refs=[tested.ref(i) for i in range(len(tested))],
            picture=tested.read,
            model=classifier.network,
            preprocess=classifier.preprocess,
            environment=machine | {"device": job.recipe.device, "seconds": seconds},
        ),
    )
    if rival is not None:  # only now: a resume before this point goes on with the run's own training
        run.write_json(RECIPE, rival.recipe.to_dict())
        run.cut_history(-1, -1)
        run.add_history(rival.history)
        vars(run).pop("recipe", None)  # to be read again
    run.add_facts(
        status="complete",
        seconds=seconds,
        best_epoch=best_epoch,
        reasons=job.reasons,
        set_aside=set_aside,
        environment=machine,
    )
    fit.checkpoints.discard()


def decide(job: Job, state: TrainState) -> Rival | None:
    """The rival, if it did better on the validation pictures than the run's own training; adds what there is to say."""
    rival = job.rival
    assert rival is not None
    won = not beats(state.choice, rival)
    both = [(job.name, state.choice.highest), (rival.name, rival.choice.highest)]
    (kept, merit), (left, other) = reversed(both) if won else both
    job.reasons.append(
        f"Kept: {kept}, balanced accuracy up to {merit:.1%} on the validation pictures; {left} {other:.1%}."
    )
    return rival if won else None
