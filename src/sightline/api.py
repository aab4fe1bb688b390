"""The verbs as plain functions: fit, evaluate, load, predict. The command line calls these and nothing else."""

from __future__ import annotations

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
from sightline.run import Run

if TYPE_CHECKING:
    from torch import nn

    from sightline.ablation import Ablation
    from sightline.advising import Advice
    from sightline.audit import Findings
    from sightline.data.captions import CaptionDataset
    from sightline.evaluation import Scores
    from sightline.training.find_lr import RateCurve
    from sightline.training.recipe import Recipe
    from sightline.visualization.summary import Summary


def fit(
    source: str | Path | ImageDataset | CaptionDataset | None = None,
    *,
    out: str | Path | None = None,
    recipe: Recipe | Mapping[str, Any] | str | Path | None = None,
    resume: str | Path | Run | None = None,
    log: str | None = None,
    checkpoint_seconds: float | None = None,
    quiet: bool = False,
    **settings: Any,
) -> Run:
    """Train a classifier on `source` (anything that `open_dataset` takes), measure it and write a report.

    `recipe` is a Recipe, nested plain data, or a TOML file; `settings` are its fields on top of it, by name
    (`epochs=5`) or dotted (`**{"optimizer.lr": 0.1}`); `model`, `weights` and `lr` are short for `model.name`,
    `model.weights` and `optimizer.lr`. `out` is a new folder, by default runs/NAME-TIMESTAMP. `log="tensorboard"`
    writes its event files too. A checkpoint is written every `checkpoint_seconds` (20, or rarer if that would take
    more than a twentieth of the time).

    With objective="contrastive" pictures and captions are learned into one space (`source`: what `open_captions`
    takes); the run then has `retrieval` in place of `scores`.

    Pictures that show the same, exactly or nearly, fall on one side of the splits that are made here. Where the splits
    of `source` part them, that is said, and the run has `clean_scores` beside its `scores`: on the test pictures that
    no other split shows the same as. See `sightline.audit.alike`.

    `resume` is the folder of a run that was interrupted, to go on from its last checkpoint; `source` is then not
    needed, and the recipe is the run's. Where versions, threads and processes are the same, it ends bit for bit
    where the uninterrupted run would have.

    Returns the finished Run. Raises SightlineError for what a user can mend. A fit that ends early, by that or by
    a KeyboardInterrupt, leaves checkpoints and the best model so far in the run's folder; where there are none yet, it
    leaves nothing.
    """
    from sightline import fitting
    from sightline.training.checkpoint import SECONDS
    from sightline.training.event_log import check_log

    if log is not None:
        check_log(log)
    seconds = SECONDS if checkpoint_seconds is None else checkpoint_seconds
    if resume is not None:
        if out is not None or recipe is not None or settings:
            names = [name for name, value in (("out", out), ("recipe", recipe)) if value is not None]
            raise SightlineError(
                f"A run is resumed with its own recipe; leave out {', '.join([*names, *settings])}."
            )
        place = resume.path if isinstance(resume, Run) else resume
        return fitting.resume(place, source, log=log, checkpoint_seconds=seconds, quiet=quiet)
    if source is None:
        raise SightlineError("Give the pictures to train on: a folder, a file, or a name such as digits.")
    wanted = compose(recipe, settings)
    return fitting.begin(source, wanted, out=out, log=log, checkpoint_seconds=seconds, quiet=quiet)


def find_lr(
    source: str | Path | ImageDataset,
    *,
    recipe: Recipe | Mapping[str, Any] | str | Path | None = None,
    quiet: bool = False,
    **settings: Any,
) -> RateCurve:
    """The learning-rate range test on the run that `fit` with the same arguments would make."""
    from sightline.audit import alike
    from sightline.training.find_lr import find_lr as range_test
    from sightline.training.prepare import prepare
    from sightline.training.progress import watcher

    wanted = compose(recipe, settings)
    if wanted.objective == "contrastive":
        raise SightlineError("--find-lr goes with classes; a contrastive run takes --set optimizer.lr=0.001.")
    dataset = source if isinstance(source, ImageDataset) else open_dataset(source)
    with watcher(quiet) as watch:
        job = prepare(dataset, wanted, watch, groups=alike(dataset, watch.reading).groups)
        return range_test(job.trainer, watch)


def check(
    source: str | Path | ImageDataset, *, labels: bool = False, minutes: float = 5.0, quiet: bool = False
) -> Findings:
    """What is wrong with the pictures of `source`: files, duplicates, and, with `labels`, labels and outliers.

    The search for wrong labels takes no longer than `minutes`. See `sightline.audit`.
    """
    from sightline.audit import check as look
    from sightline.training.progress import watcher

    with watcher(quiet) as watch:
        return look(source, labels=labels, minutes=minutes, progress=watch.reading)


def advise(
    source: str | Path | ImageDataset,
    *,
    recipe: Recipe | Mapping[str, Any] | str | Path | None = None,
    quiet: bool = False,
    **settings: Any,
) -> Advice:
    """How best to reuse a pretrained network for `source`, told by measuring and trying; see `sightline.advising`.

    `recipe` and `settings` as in `fit`: `model`, `weights`, `minutes` (nothing that trains for longer is advised). The
    pictures measured are those that `fit` would train on and validate by; those of its test are not looked at.
    """
    from sightline.advising import advise as measure
    from sightline.audit import alike
    from sightline.training.plan import split_as_planned
    from sightline.training.progress import watcher

    wanted = compose(recipe, settings)
    dataset = source if isinstance(source, ImageDataset) else open_dataset(source)
    with watcher(quiet) as watch:
        whole = split_as_planned(dataset, wanted, alike(dataset, watch.reading).groups)
        return measure(whole, wanted, watch)


def ablate(
    source: str | Path | ImageDataset,
    *,
    minutes: float = 10.0,
    seeds: int = 5,
    augmentations: Sequence[str] | None = None,
    out: str | Path | None = None,
    recipe: Recipe | Mapping[str, Any] | str | Path | None = None,
    quiet: bool = False,
    **settings: Any,
) -> Ablation:
    """Which augmentation suits these pictures; see `sightline.ablation.ablate`. `settings` as in `fit`."""
    from sightline.ablation import ablate as compare

    return compare(
        source,
        compose(recipe, settings),
        minutes=minutes,
        seeds=seeds,
        augmentations=augmentations,
        out=out,
        quiet=quiet,
    )


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
    model: str | nn.Module,
    input_size: Sequence[int] | None = None,
    *,
    num_classes: int | None = None,
    arguments: Mapping[str, Any] | None = None,
    depth: int | None = None,
) -> Summary:
    """The layer table of a network, a name or a module, for pictures of `input_size` (channels, height, width).

    Print it, show it in a notebook, or take its `rows` and `totals`; see `sightline.visualization.summary.summarize`.
    """
    from sightline.visualization.summary import summarize

    return summarize(model, input_size, num_classes=num_classes, arguments=arguments, depth=depth)


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
    given = {
        SHORT.get(key, key): str(value) if isinstance(value, Path) else value
        for key, value in settings.items()
    }
    if given.keys() & {"epochs", "minutes"}:
        given.setdefault("steps", None)
    return read_recipe(merge(base, nested(given)))


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
