"""The verbs as plain functions: fit, evaluate, load, predict. The command line calls these and nothing else."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sightline.bundle import Bundle, Classifier, Source
from sightline.data import ImageDataset, open_dataset, read_image
from sightline.errors import SightlineError, UnreadableImage
from sightline.run import RECIPE, SCORES, Run, environment, leaving_no_ruin

if TYPE_CHECKING:
    from sightline.evaluation import Scores
    from sightline.pipeline.cache import Failure
    from sightline.training.find_lr import RateCurve
    from sightline.training.loop import TrainState
    from sightline.training.prepare import Job
    from sightline.training.progress import Quiet
    from sightline.training.recipe import Recipe
    from sightline.visualization.summary import LayerRow


def fit(
    source: str | Path | ImageDataset,
    *,
    out: str | Path | None = None,
    recipe: Recipe | Mapping[str, Any] | str | Path | None = None,
    quiet: bool = False,
    **settings: Any,
) -> Run:
    """Train a classifier on `source` (anything that `open_dataset` takes), measure it and write a report.

    `recipe` is a Recipe, nested plain data, or a TOML file; `settings` are its fields on top of it, by name
    (`epochs=5`) or dotted (`**{"optimizer.lr": 0.1}`); `model`, `weights` and `lr` are short for `model.name`,
    `model.weights` and `optimizer.lr`. `out` is a new folder, by default runs/NAME-TIMESTAMP.

    Returns the finished Run. Raises SightlineError for what a user can mend. A fit that ends early, by that or by
    a KeyboardInterrupt, leaves the best model so far in the run's folder; where there is none yet, it leaves nothing.
    """
    from sightline.training.prepare import prepare
    from sightline.training.progress import watcher

    begun = time.perf_counter()
    wanted = compose(recipe, settings)
    dataset = source if isinstance(source, ImageDataset) else open_dataset(source)
    run = Run.create(out, dataset.name)
    with leaving_no_ruin(run, source), watcher(quiet) as watch:
        job = prepare(dataset, wanted, watch)
        for reason in job.reasons:
            watch.message(reason)
        say_set_aside(rows_of(job.set_aside), watch)
        fix_steps(job, begun, watch)
        run.write_json(RECIPE, job.recipe.to_dict())
        run.write_splits(job.dataset)
        state = job.trainer.run(Keeper(watch, run), on_best=lambda state: keep(run, job, state))
        conclude(run, job, state, watch, str(source), time.perf_counter() - begun)
    return run


def find_lr(
    source: str | Path | ImageDataset,
    *,
    recipe: Recipe | Mapping[str, Any] | str | Path | None = None,
    quiet: bool = False,
    **settings: Any,
) -> RateCurve:
    """The learning-rate range test on the run that `fit` with the same arguments would make."""
    from sightline.training.find_lr import find_lr as range_test
    from sightline.training.prepare import prepare
    from sightline.training.progress import watcher

    dataset = source if isinstance(source, ImageDataset) else open_dataset(source)
    with watcher(quiet) as watch:
        job = prepare(dataset, compose(recipe, settings), watch)
        return range_test(job.trainer, watch)


def load(path: str | Path, device: str = "cpu") -> Classifier:
    """The classifier of a run (or of any folder with model.safetensors and model.json)."""
    return Classifier(Bundle.load(path), device)


def evaluate(
    run: str | Path | Run,
    source: str | Path | ImageDataset,
    *,
    split: str = "test",
    quiet: bool = False,
    unreadable: list[UnreadableImage] | None = None,
) -> Scores:
    """Scores of `run` on a split of `source`.

    The split is the data set's own; else what the run wrote down for these pictures; else, for pictures that the
    run never saw, all of them (the scores' `split` then says `all`). Classes are matched by name. Pictures that
    cannot be read are said on stderr, and added to `unreadable`.
    """
    from sightline.evaluation import score
    from sightline.training.progress import watcher

    run = run if isinstance(run, Run) else Run.open(run)
    dataset = source if isinstance(source, ImageDataset) else open_dataset(source)
    part, name = run.part(dataset, split)
    classifier = run.classifier
    targets = match_classes(part, classifier.classes)
    with watcher(quiet) as watch:
        indices, probabilities, failures = classifier.probabilities_of(
            part, lambda done: watch.reading(done, len(part), "pictures")
        )
        for failure in failures:
            watch.message(str(failure))
        if unreadable is not None:
            unreadable += failures
    if not len(indices):
        raise SightlineError(f"None of the {len(part):,} pictures of {dataset.name} could be read.")
    return score(probabilities, targets[indices], classifier.classes, split=name)


@dataclass(frozen=True, slots=True)
class Prediction:
    """One picture's answer: `top` are (class name, probability), most probable first; `error` if it is unreadable."""

    picture: str
    top: tuple[tuple[str, float], ...]
    error: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain data: picture, label, probability and top; of an unreadable one picture and reason."""
        if self.error:
            return {"picture": self.picture, "reason": self.error}
        top = [{"label": name, "probability": probability} for name, probability in self.top]
        return {"picture": self.picture, **top[0], "top": top}

    @property
    def label(self) -> str | None:
        """The most probable class; None for an unreadable picture."""
        return self.top[0][0] if self.top else None

    @property
    def probability(self) -> float | None:
        """Of the label."""
        return self.top[0][1] if self.top else None


def predict(
    run: str | Path | Run | Classifier, pictures: Iterable[Source], *, top_k: int = 1, chunk: int = 64
) -> Iterator[Prediction]:
    """Answers for `pictures`, in order, a chunk at a time; unreadable ones are reported, not raised."""
    import torch

    classifier = run if isinstance(run, Classifier) else load(run.path if isinstance(run, Run) else run)

    def prepared(picture: Source) -> torch.Tensor | str:
        try:
            return classifier.preprocess(read_image(picture, mode=classifier.preprocess.mode))
        except UnreadableImage as error:
            return error.reason

    with ThreadPoolExecutor() as pool:
        for part in chunks(pictures, chunk):
            answers = list(pool.map(prepared, part))
            images = [answer for answer in answers if not isinstance(answer, str)]
            rows = iter(classifier.probabilities(torch.stack(images)) if images else ())
            for picture, answer in zip(part, answers, strict=True):
                name = str(picture) if isinstance(picture, (str, Path)) else "picture"
                if isinstance(answer, str):
                    yield Prediction(name, (), answer)
                    continue
                row = next(rows)
                best = np.argsort(-row, kind="stable")[:top_k]
                yield Prediction(name, tuple((classifier.classes[i], float(row[i])) for i in best))


def summary(
    model: str,
    input_size: tuple[int, int, int] | None = None,
    num_classes: int | None = None,
    arguments: Mapping[str, Any] | None = None,
) -> tuple[list[LayerRow], tuple[int, int, int]]:
    """The layer table of a network for pictures of `input_size` (channels, height, width), by default its own.

    `arguments` are the network's own. Nothing is computed: the network is built on the meta device. Raises
    SightlineError for what the network does not have or cannot take.
    """
    import torch

    from sightline.models import create_model, model_arguments, model_info
    from sightline.models.registry import check_arguments
    from sightline.visualization.summary import layer_table

    check_arguments(arguments or {}, model_arguments(model))
    size = input_size or model_info(model).input
    with torch.device("meta"):
        network = create_model(
            model, num_classes=num_classes, in_chans=size[0], img_size=size[1:], **(arguments or {})
        )
    return layer_table(network, size), size


# The parts of `fit`.

SHORT = {"model": "model.name", "weights": "model.weights", "lr": "optimizer.lr"}


def compose(recipe: Recipe | Mapping[str, Any] | str | Path | None, settings: Mapping[str, Any]) -> Recipe:
    """One recipe out of a base and settings on top; None among the settings leaves a field open again.

    A new length (`epochs` or `minutes`) takes the place of the steps that an earlier one was turned into.
    """
    from sightline.training.recipe import Recipe, load_recipe_file, merge, nested, read_recipe

    if isinstance(recipe, (str, Path)):
        base: Mapping[str, Any] = load_recipe_file(recipe)
    elif isinstance(recipe, Recipe):
        base = recipe.to_dict()
    else:
        base = recipe or {}
    given = {SHORT.get(key, key): value for key, value in settings.items()}
    if given.keys() & {"epochs", "minutes"}:
        given.setdefault("steps", None)
    return read_recipe(merge(base, nested(given)))


class Keeper:
    """Passes everything on to the watcher, and each epoch into the run's history."""

    def __init__(self, watch: Quiet, run: Run) -> None:
        self.run = run
        self.message, self.step, self.watch = watch.message, watch.step, watch

    def epoch(self, row: dict[str, Any]) -> None:
        self.run.add_epoch(row)
        self.watch.epoch(row)


def rows_of(failures: Iterable[Failure]) -> list[dict[str, str]]:
    """Pictures that could not be read, as run.json has them."""
    return [{"ref": failure.ref, "reason": failure.reason} for failure in failures]


def say_set_aside(rows: Sequence[Mapping[str, str]], watch: Quiet) -> None:
    """Name pictures that could not be read, the first few of many."""
    for row in rows[:5]:
        watch.message(f"Set aside: {row['ref']}: {row['reason']}.")
    if len(rows) > 5:
        watch.message(f"... and {len(rows) - 5} more; all of them are in run.json and the report.")


def fix_steps(job: Job, begun: float, watch: Quiet) -> None:
    """Turn `minutes` into a number of steps, once, and write it down in the recipe."""
    from sightline.training.plan import default_ema

    recipe, trainer = job.recipe, job.trainer
    if not recipe.minutes or recipe.steps:
        return
    left = recipe.minutes * 60 - (time.perf_counter() - begun)
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
    watch.message(job.reasons[-1])


def keep(run: Run, job: Job, state: TrainState) -> None:
    """Write the best model so far into the run."""
    assert state.best is not None
    make_bundle(job, state.best.weights).save(run.path)


def make_bundle(job: Job, weights: dict[str, Any]) -> Bundle:
    from sightline.training.build import model_arguments_of
    from sightline.training.plan import published_row

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


def conclude(run: Run, job: Job, state: TrainState, watch: Quiet, source: str, seconds: float) -> None:
    """Score the best model on the test split and write scores, facts and report."""
    from sightline.evaluation import score
    from sightline.report import ReportData, write_report

    test = job.dataset.split("test")
    classifier = run.classifier
    indices, probabilities, failures = classifier.probabilities_of(
        test, lambda done: watch.reading(done, len(test), "test pictures")
    )
    late = rows_of(state.failures.values())
    late += [{"ref": str(failure.path), "reason": failure.reason} for failure in failures]
    say_set_aside(late, watch)
    set_aside = rows_of(job.set_aside) + late
    if not len(indices):
        raise SightlineError(f"None of the {len(test):,} test pictures of {job.dataset.name} could be read.")
    tested = test.subset(indices)
    scores = score(probabilities, tested.targets, classifier.classes, split="test")
    run.write_json(SCORES, scores.to_dict())
    best_epoch = state.best.epoch if state.best else None
    facts = {
        "source": source,
        "seconds": round(seconds, 1),
        "best_epoch": best_epoch,
        "reasons": job.reasons,
        "set_aside": set_aside,
        "environment": environment(),
    }
    counts = {name: job.dataset.split(name).class_counts().tolist() for name in ("train", "val", "test")}
    write_report(
        run.report,
        ReportData(
            title=run.path.name,
            created=run.read_json("run.json")["created"],
            dataset={
                "name": job.dataset.name,
                "source": source,
                "classes": list(job.dataset.classes),
                "counts": counts,
                "set_aside": set_aside,
            },
            recipe=job.recipe.to_dict(),
            reasons=job.reasons,
            history=[row | {"best": row["epoch"] == best_epoch} for row in state.history],
            scores=scores,
            probabilities=probabilities,
            targets=tested.targets,
            refs=[tested.ref(i) for i in range(len(tested))],
            picture=tested.read,
            model=classifier.network,
            preprocess=classifier.preprocess,
            environment=environment() | {"device": job.recipe.device, "seconds": round(seconds, 1)},
        ),
    )
    run.finish(**facts)


# The parts of `evaluate` and `predict`.


def find_pictures(places: Iterable[str | Path]) -> list[str | Path]:
    """Files as they are, folders as the pictures below them, sorted. Raises SightlineError for a folder without any."""
    from sightline.data.folder import is_picture, walk

    pictures: list[str | Path] = []
    for place in places:
        folder = False
        with suppress(OSError, ValueError):  # a name that cannot be one; reading it says so
            folder = Path(place).is_dir()
        if not folder:
            pictures.append(place)
            continue
        found = sorted(filter(is_picture, walk(Path(place))))
        if not found:
            raise SightlineError(f"There are no pictures in the folder {place}.")
        pictures += (Path(place) / name for name in found)
    return pictures


def match_classes(dataset: ImageDataset, classes: Sequence[str]) -> np.ndarray:
    """The data set's targets in the numbering of `classes`. Raises SightlineError for a class that is not there."""
    position = {name: i for i, name in enumerate(classes)}
    counts = dataset.class_counts()
    unknown = [name for i, name in enumerate(dataset.classes) if name not in position and counts[i]]
    if unknown:
        raise SightlineError(
            f"The data set has classes that the model does not know: {', '.join(unknown[:5])}; "
            f"the model knows {', '.join(classes[:8])}{' ...' if len(classes) > 8 else ''}."
        )
    table = np.array([position.get(name, -1) for name in dataset.classes])
    return np.asarray(table[dataset.targets])


def chunks(items: Iterable[Source], size: int) -> Iterable[list[Source]]:
    """`items` in lists of up to `size`."""
    stream = iter(items)
    while part := list(islice(stream, size)):
        yield part
