"""One fit from its first picture to its report: the run's folder around the training loop, and how it is resumed."""

from __future__ import annotations

import hashlib
import os
import shlex
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from sightline.bundle import Bundle, Classifier
from sightline.data import ImageDataset, open_dataset
from sightline.errors import SaidByMain, SightlineError
from sightline.evaluation import score
from sightline.pipeline.cache import Failure
from sightline.run import FACTS, RECIPE, SCORES, Run, environment
from sightline.training.build import model_arguments_of
from sightline.training.checkpoint import SECONDS, Checkpoint, Checkpoints
from sightline.training.event_log import EventLog
from sightline.training.plan import default_ema, published_row
from sightline.training.prepare import Job, prepare
from sightline.training.processes import Processes, joined
from sightline.training.progress import Quiet, watcher
from sightline.training.recipe import Recipe
from sightline.training.state import TrainState

# Rows of single steps wait so many seconds, to be written together.
TOGETHER = 1.0
# What decides whether two processes compute the same bits, beside the recipe.
SAME_BITS = ("torch", "threads", "processes")


@dataclass(frozen=True)
class Fit:
    """What the parts of one fit share. `source` is where the pictures came from, as run.json has it."""

    run: Run
    source: str | None
    processes: Processes
    watch: Quiet
    checkpoints: Checkpoints
    log: str | None
    begun: float
    resumed: bool = False


def begin(
    source: str | Path | ImageDataset,
    recipe: Recipe,
    *,
    out: str | Path | None,
    log: str | None,
    checkpoint_seconds: float = SECONDS,
    quiet: bool = False,
) -> Run:
    """Train by `recipe` in a new folder; see `sightline.fit`."""
    begun = time.perf_counter()
    with joined() as processes, watcher(quiet or not processes.main) as watch:
        dataset = opened(source, processes)
        run = processes.on_main(lambda: Run.create(out, dataset.name))
        fit = Fit(
            run,
            source_name(source),
            processes,
            watch,
            Checkpoints(run.checkpoints, checkpoint_seconds),
            log,
            begun,
        )
        with working_on(fit):
            job = prepare(dataset, recipe, watch, processes)
            for reason in job.reasons:
                watch.message(reason)
            say_set_aside(rows_of(job.set_aside), watch)
            fix_steps(job, fit)
            if processes.main:
                run.write_splits(job.dataset)
                run.write_json(RECIPE, job.recipe.to_dict())
                run.add_facts(
                    source=fit.source,
                    reasons=job.reasons,
                    pictures=fingerprint(job),
                    environment=environment() | {"processes": processes.count},
                )
            carry_out(fit, job, None)
    return run


def resume(
    path: str | Path,
    source: str | Path | ImageDataset | None,
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
        place = source if source is not None else facts.get("source")
        if place is None:
            raise SightlineError(
                f"{run} was fitted on a data set made in Python; give the same data set with resume."
            )
        dataset = opened(place, processes)
        checkpoints = Checkpoints(run.checkpoints, checkpoint_seconds)
        fit = Fit(run, source_name(place), processes, watch, checkpoints, log, begun, resumed=True)
        with working_on(fit):
            job = prepare(dataset, recipe, watch, processes, splits=run.splits)
            job.reasons = list(facts.get("reasons", job.reasons))
            if facts.get("pictures") != fingerprint(job):
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
            carry_out(fit, job, checkpoint)
    return run


def resumable(run: Run) -> Run:
    """`run`, if it got as far as training. Raises SightlineError for one that did not."""
    if not (run.path / RECIPE).exists() or not run.splits.exists():
        raise SightlineError(f"{run} ended before its training began; begin again with a new run.")
    return run


@contextmanager
def working_on(fit: Fit) -> Iterator[None]:
    """Within, this process alone works on the run; one that ends early says what there is and how to go on.

    A run begun here that has neither model nor checkpoint is removed.
    """
    run, source = fit.run, fit.source or "DATA"
    if not fit.processes.main:
        try:
            yield
        except KeyboardInterrupt:
            raise SaidByMain("interrupted") from None
        return
    with run.locked():
        try:
            yield
        except BaseException as error:
            measure = f"measure it with `sightline evaluate {shlex.quote(str(run))} {shlex.quote(source)}`"
            if isinstance(error, KeyboardInterrupt) and fit.checkpoints.steps():
                raise KeyboardInterrupt(
                    f"Interrupted; all is kept up to step {fit.checkpoints.steps()[-1]:,}: go on with "
                    f"`sightline fit --resume {shlex.quote(str(run))}`."
                    + (f" The best model so far is in {run}; {measure}." if run.has_model else "")
                ) from None
            if not run.has_model and not fit.checkpoints.steps():
                if fit.resumed:  # another process made it: not ours to remove
                    raise
                fit.checkpoints.discard()
                run.discard()
                if isinstance(error, KeyboardInterrupt):
                    raise KeyboardInterrupt(
                        "Interrupted before the first checkpoint, so there is no model yet and nothing was kept."
                    ) from None
            elif isinstance(error, KeyboardInterrupt):
                raise KeyboardInterrupt(
                    f"Interrupted: the best model so far is in {run}; {measure}."
                ) from None
            elif isinstance(error, SightlineError):
                what = "the best model so far is" if run.has_model else "the checkpoints are"
                raise SightlineError(f"{str(error).rstrip('.')}; {what} in {run}.") from None
            raise


def carry_out(fit: Fit, job: Job, checkpoint: Checkpoint | None) -> None:
    """Train from `checkpoint`, or from the start, to the end; measure and write the report."""
    run, processes = fit.run, fit.processes
    state = job.trainer.start()
    if checkpoint is not None:
        checkpoint.restore(state)
        fit.watch.message(f"Resumed at step {state.step:,} of {job.trainer.total_steps():,}.")
    before = sum(row["seconds"] for row in state.history) + state.sums.seconds
    if processes.main:
        run.cut_history(state.step, state.epoch)
        with ExitStack() as stack:
            log = stack.enter_context(EventLog(run.path, fit.log)) if fit.log else None
            keeper = Keeper(fit.watch, run, fit.checkpoints, log)
            state = job.trainer.run(keeper, partial(keep, run, job), state, keeper)
    else:
        state = job.trainer.run(fit.watch, state=state)
    conclude(fit, job, state, before)


class Keeper(Quiet):
    """Passes everything on to the watcher, and writes it down: history, event log, checkpoints."""

    def __init__(self, watch: Quiet, run: Run, checkpoints: Checkpoints, log: EventLog | None) -> None:
        self.watch, self.run, self.checkpoints, self.log = watch, run, checkpoints, log
        self.message, self.step, self.due = watch.message, watch.step, checkpoints.due  # type: ignore[method-assign]
        self.rows: list[dict[str, Any]] = []
        self.written = time.monotonic()

    def record(self, row: dict[str, Any]) -> None:
        self.rows.append(row)
        if self.log:
            self.log.step(row)
        if time.monotonic() - self.written > TOGETHER:
            self.write()

    def epoch(self, row: dict[str, Any]) -> None:
        self.rows.append(row)
        self.write()
        if self.log:
            self.log.epoch(row)
        self.watch.epoch(row)

    def save(self, state: TrainState) -> None:
        """Keep `state`; what came before it is in the history by then."""
        self.write()
        self.checkpoints.save(state)

    def write(self) -> None:
        """Put the rows that wait into the history."""
        self.run.add_history(self.rows)
        self.rows, self.written = [], time.monotonic()


def opened(source: str | Path | ImageDataset, processes: Processes) -> ImageDataset:
    """The data set of `source`; the main process goes first, so that an archive is unpacked once."""
    if isinstance(source, ImageDataset):
        return source
    found: list[ImageDataset] = []
    processes.on_main(lambda: found.append(open_dataset(source)))
    return found[0] if found else open_dataset(source)


def source_name(source: str | Path | ImageDataset) -> str | None:
    """`source` as a later process finds it, wherever it is started; None for a data set made in Python."""
    if isinstance(source, ImageDataset):
        return None
    return str(Path(source).expanduser().resolve()) if os.path.exists(source) else str(source)  # noqa: PTH110


def fingerprint(job: Job) -> str:
    """A hash of the names and labels of the training pictures, in their order."""
    train = job.dataset.split("train")
    digest = hashlib.sha256("\n".join(job.dataset.classes).encode("utf-8", "surrogateescape"))
    for ref in train.refs():
        digest.update(os.fsencode(ref) + b"\n")
    digest.update(np.ascontiguousarray(train.targets).tobytes())
    digest.update(len(job.trainer.targets).to_bytes(8, "little"))  # some may no longer be readable
    return digest.hexdigest()[:16]


def rows_of(failures: Iterable[Failure]) -> list[dict[str, str]]:
    """Pictures that could not be read, as run.json has them."""
    return [{"ref": failure.ref, "reason": failure.reason} for failure in failures]


def say_set_aside(rows: Sequence[Mapping[str, str]], watch: Quiet) -> None:
    """Name pictures that could not be read, the first few of many."""
    for row in rows[:5]:
        watch.message(f"Set aside: {row['ref']}: {row['reason']}.")
    if len(rows) > 5:
        watch.message(f"... and {len(rows) - 5} more; all of them are in run.json and the report.")


def fix_steps(job: Job, fit: Fit) -> None:
    """Turn `minutes` into a number of steps, once, and write it down in the recipe."""
    recipe, trainer = job.recipe, job.trainer
    if not recipe.minutes or recipe.steps:
        return
    left = recipe.minutes * 60 - (time.perf_counter() - fit.begun)
    fitting, step = trainer.calibrate(left)
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


def keep(run: Run, job: Job, state: TrainState) -> None:
    """Write the best model so far into the run."""
    assert state.best is not None
    make_bundle(job, state.best.weights).save(run.path)


def make_bundle(job: Job, weights: dict[str, Any]) -> Bundle:
    """What is kept and served of `job` with `weights`."""
    assert job.recipe.model.name is not None
    published = published_row(job.recipe.model.name, job.recipe.model.weights or "none")
    return Bundle(
        architecture=job.recipe.model.name,
        arguments=model_arguments_of(job.recipe),
        classes=tuple(job.dataset.classes),
        preprocess=job.trainer.preprocess,
        weights=weights,
        licence=published.licence if published else None,
    )


def conclude(fit: Fit, job: Job, state: TrainState, before: float) -> None:
    """Score the best model on the test split, spread over the processes; write scores, facts and report.

    `before`: seconds that the run had taken when it was resumed.
    """
    from sightline.report import ReportData, write_report

    run, processes, watch = fit.run, fit.processes, fit.watch
    test = job.dataset.split("test")
    assert state.best is not None
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
    run.write_json(SCORES, scores.to_dict())
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
            history=[row | {"best": row["epoch"] == state.best.epoch} for row in state.history],
            scores=scores,
            probabilities=probabilities,
            targets=tested.targets,
            refs=[tested.ref(i) for i in range(len(tested))],
            picture=tested.read,
            model=classifier.network,
            preprocess=classifier.preprocess,
            environment=machine | {"device": job.recipe.device, "seconds": seconds},
        ),
    )
    run.add_facts(
        status="complete",
        seconds=seconds,
        best_epoch=state.best.epoch,
        reasons=job.reasons,
        set_aside=set_aside,
        environment=machine,
    )
    fit.checkpoints.discard()
