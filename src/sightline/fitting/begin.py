"""From a source and a recipe, or from a run that was interrupted, to a finished run."""

from __future__ import annotations

import hashlib
import os
import time
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import numpy as np

from sightline.data import ImageDataset, open_dataset
from sightline.data.captions import CaptionDataset
from sightline.errors import SightlineError
from sightline.fitting.audit import kept_together, seen_before
from sightline.fitting.conclude import conclude, keep
from sightline.fitting.course import Course, Named
from sightline.fitting.folder import Fit, Keeper, rows_of, say_set_aside, source_name, working_on
from sightline.run import FACTS, RECIPE, Run, environment
from sightline.training.calibration import calibrate
from sightline.training.checkpoint import SECONDS, Checkpoint, Checkpoints
from sightline.training.event_log import EventLog
from sightline.training.plan import default_ema
from sightline.training.prepare import Job, prepare
from sightline.training.processes import Processes, joined
from sightline.training.progress import watcher
from sightline.training.recipe import Recipe

# What decides whether two processes compute the same bits, beside the recipe.
SAME_BITS = ("torch", "threads", "processes")


Source = str | Path | ImageDataset | CaptionDataset


def begin(
    source: Source,
    recipe: Recipe,
    *,
    out: str | Path | None,
    log: str | None,
    checkpoint_seconds: float = SECONDS,
    quiet: bool = False,
) -> Run:
    """Train by `recipe` in a new folder; see `sightline.fit`."""
    begun = time.perf_counter()
    course = course_of(recipe)
    with joined() as processes, watcher(quiet or not processes.main) as watch:
        dataset = opened(source, course, processes)
        run = processes.on_main(lambda: Run.create(out, dataset.name))
        fit = Fit(
            run,
            source_name(source),
            processes,
            watch,
            Checkpoints(run.checkpoints, checkpoint_seconds),
            log,
            begun,
            course.use,
        )
        with working_on(fit):
            job, seen = course.prepare(dataset, recipe, fit, None)
            for reason in job.reasons:
                watch.message(reason)
            say_set_aside(rows_of(job.set_aside), watch)
            fix_steps(job, fit)
            if processes.main:
                course.write_splits(run, job)
                run.add_facts(
                    source=fit.source,
                    reasons=job.reasons,
                    seen=seen,
                    pictures=course.fingerprint(job),
                    environment=environment() | {"processes": processes.count},
                )
                run.write_json(RECIPE, job.recipe.to_dict())  # the last: with it the run can be resumed
            carry_out(fit, course, job, None)
    return run


def resume(
    path: str | Path,
    source: Source | None,
    *,
    log: str | None,
    checkpoint_seconds: float = SECONDS,
    quiet: bool = False,
) -> Run:
    """Go on with the run in the folder `path` from its last checkpoint; see `sightline.fit`."""
    begun = time.perf_counter()
    with joined() as processes, watcher(quiet or not processes.main) as watch:
        run = Run(Path(path).expanduser())
        facts = processes.on_main(lambda: Run.open(path).read_json(FACTS))
        if facts.get("status") == "complete":
            watch.message(f"{run} is complete.")
            if processes.main:
                Checkpoints(run.checkpoints).discard()  # what a process left that was killed at the very end
            return run
        recipe = Recipe.model_validate(processes.on_main(lambda: resumable(run).recipe.to_dict()))
        course = course_of(recipe)
        place = source if source is not None else facts.get("source")
        if place is None:
            raise SightlineError(
                f"{run} was fitted on a data set made in Python; give the same data set with resume."
            )
        dataset = opened(place, course, processes)
        checkpoints = Checkpoints(run.checkpoints, checkpoint_seconds)
        fit = Fit(
            run, source_name(place), processes, watch, checkpoints, log, begun, course.use, resumed=True
        )
        with working_on(fit):
            job, _ = course.prepare(dataset, recipe, fit, run.splits)
            job.reasons = list(facts.get("reasons", job.reasons))
            if facts.get("pictures") != course.fingerprint(job):
                raise SightlineError(
                    f"The training pictures are not those that {run} began with; begin a new run with --out."
                )
            checkpoint = processes.on_main(checkpoints.load)
            here, there = environment() | {"processes": processes.count}, facts.get("environment", {})
            for key in SAME_BITS:
                if here[key] != there.get(key):
                    watch.message(
                        f"The run began with {key} {there.get(key)}, this is {here[key]}: it will end close to where "
                        "it would have, not bit for bit."
                    )
            carry_out(fit, course, job, checkpoint)
    return run


def resumable(run: Run) -> Run:
    """`run`, if it got as far as training. Raises SightlineError for one that did not."""
    if not (run.path / RECIPE).exists() or not run.splits.exists():
        raise SightlineError(f"{run} ended before its training began; begin again with a new run.")
    return run


def carry_out(fit: Fit, course: Course, job: Job, checkpoint: Checkpoint | None) -> None:
    """Train from `checkpoint`, or from the start, to the end; measure and write the report."""
    run, processes = fit.run, fit.processes
    state = job.trainer.start()
    if checkpoint is not None:
        checkpoint.restore(state)
        fit.watch.message(f"Resumed at step {state.step:,} of {job.trainer.total_steps():,}.")
    before = sum(row["seconds"] for row in state.history) + state.sums.seconds
    if processes.main:
        if checkpoint is None:  # the head, measured before the first step, will be measured again
            run.cut_history(-1, -1)
        else:
            run.cut_history(state.step, state.epoch)
        with ExitStack() as stack:
            log = stack.enter_context(EventLog(run.path, fit.log)) if fit.log else None
            keeper = Keeper(fit, job, log)
            state = job.trainer.run(keeper, partial(course.keep, run, job), state, keeper)
    else:
        state = job.trainer.run(fit.watch, state=state)
    course.conclude(fit, job, state, before)


def course_of(recipe: Recipe) -> Course:
    """What a run of this recipe is made of."""
    if recipe.objective == "contrastive":
        from sightline.fitting.contrastive import CAPTIONS

        return CAPTIONS
    if recipe.features is not None:
        from sightline.fitting.classical import HANDCRAFTED

        return HANDCRAFTED
    return CLASSES


def opened(source: Source, course: Course, processes: Processes) -> Named:
    """The data set of `source`; the main process goes first, so that an archive is unpacked once."""
    if isinstance(source, ImageDataset | CaptionDataset):
        if not isinstance(source, course.kind):
            raise SightlineError(
                f"{source.name} is a {type(source).__name__}; this objective takes a {course.kind.__name__}."
            )
        named: Named = source
        return named
    found: list[Named] = []
    processes.on_main(lambda: found.append(course.open(source)))
    return found[0] if found else course.open(source)


def prepared(dataset: ImageDataset, recipe: Recipe, fit: Fit, splits: Path | None) -> tuple[Job, list[str]]:
    """`prepare` for a fit; what shows the same is kept on one side of the splits that are made here."""
    from sightline.fitting import auto

    if splits is not None:
        job = prepare(dataset, recipe, fit.watch, fit.processes, splits=splits)
        auto.restore(job, fit.run)
        return job, []
    if recipe.strategy == "auto":
        return auto.prepared(dataset, recipe, fit)
    found = kept_together(dataset, fit)
    job = prepare(dataset, recipe, fit.watch, fit.processes, groups=found.groups)
    return job, seen_before(job, found, fit)


def fingerprint(job: Job) -> str:
    """A hash of the names and labels of the training pictures, in their order."""
    train = job.dataset.split("train")
    digest = hashlib.sha256("\n".join(job.dataset.classes).encode("utf-8", "surrogateescape"))
    for ref in train.refs():
        digest.update(os.fsencode(ref) + b"\n")
    digest.update(np.ascontiguousarray(train.targets).tobytes())
    digest.update(len(job.trainer.targets).to_bytes(8, "little"))  # some may no longer be readable
    return digest.hexdigest()[:16]


def fix_steps(job: Job, fit: Fit) -> None:
    """Turn `minutes` into a number of steps, once, and write it down in the recipe."""
    recipe, trainer = job.recipe, job.trainer
    if not recipe.minutes or recipe.steps:
        return
    left = recipe.minutes * 60 - (time.perf_counter() - fit.begun)
    fitting, step = calibrate(trainer, left)
    planned = trainer.total_steps()
    steps = min(fitting, planned)
    ema = default_ema(steps) if recipe.ema is None else recipe.ema
    job.recipe = trainer.recipe = recipe.model_copy(update={"steps": steps, "ema": ema})
    job.reasons.append(
        f"{steps:,} steps ({steps / trainer.steps_per_epoch:.1f} epochs): a step takes {step * 1000:.0f} ms, "
        + (
            f"so that is what fits into {recipe.minutes:g} minutes."
            if fitting < planned
            else f"so the {recipe.epochs} epochs planned fit into {recipe.minutes:g} minutes."
        )
    )
    fit.watch.message(job.reasons[-1])


CLASSES = Course(
    ImageDataset,
    open_dataset,
    prepared,
    lambda run, job: run.write_splits(job.dataset),
    fingerprint,
    keep,
    conclude,
    "measure it with `sightline evaluate {run} {source}`",
)
