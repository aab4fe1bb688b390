"""The trainings in their order, each augmentation beside none, within the minutes."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from sightline.ablation.bench import LARGEST, Bench, set_up
from sightline.ablation.line import RunsLine
from sightline.ablation.paired import Answers, paired_changes
from sightline.ablation.result import Ablation, Effect
from sightline.data import open_dataset
from sightline.data.dataset import ImageDataset
from sightline.errors import SightlineError
from sightline.files import disk_errors
from sightline.training.build import model_arguments_of
from sightline.training.progress import watcher
from sightline.training.recipe import Recipe
from sightline.transforms.augment import Augment

# What is tried, each at a strength that is usual; geometry before colour before noise, as they are joined.
AUGMENTATIONS = (
    "hflip(0.5)", "vflip(0.5)", "rotate(15)", "shear(10)", "scale(0.8, 1.2)", "translate(0.1)",
    "random_resized_crop(0.5)", "color_jitter(0.4)", "blur(0.1, 1.0)", "noise(0.05)", "erase(0.5)",
)  # fmt: skip
# A training sees each of its pictures so often: fewer pictures are taken where there is little time, since a network
# that has not yet learnt its pictures by heart gains nothing from versions of them. More than the second is a waste.
PASSES, MOST_PASSES = 30, 60
FEWEST_STEPS = 50
# Of the time of a training, asking for the validation pictures may take this share.
ASKING = 0.2
# Of the time that is left, this share is planned; the rest is for what a few measured steps cannot foresee.
PLANNED = 0.9


@dataclass(frozen=True, slots=True)
class Plan:
    """Of every training: its steps, its pictures, and how many validation pictures it is asked for."""

    steps: int
    training: int
    validation: int


@dataclass
class Outcome:
    """`answers[augment]`: a row of validation answers for each seed, in the order of the seeds."""

    answers: dict[str, list[Answers]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    interrupted: bool = False


def ablate(
    source: str | Path | ImageDataset,
    recipe: Recipe,
    *,
    minutes: float = 10.0,
    seeds: int = 5,
    augmentations: Sequence[str] | None = None,
    out: str | Path | None = None,
    quiet: bool = False,
) -> Ablation:
    """Train one small recipe without augmentation and with each of `augmentations` alone, and tell what each changes.

    Every condition is trained with the same `seeds` (two at least: recipe.seed and those after it); a seed decides the
    start, which training pictures are drawn, and their order. The steps of a training follow from the `minutes`, and
    the pictures from the steps; with `recipe.steps` they are as given. Where time runs out, seeds are left out, but
    not the second one. After an interruption the result is that of the trainings done by then, `complete` False.

    `out` is a new folder for ablation.json and ablation.png. Raises SightlineError for what a user can mend.
    """
    begun = time.monotonic()
    texts = list(AUGMENTATIONS if augmentations is None else augmentations)
    check_request(texts, recipe, seeds, minutes)
    folder = Folder(out)
    try:
        with watcher(quiet) as watch:
            dataset = source if isinstance(source, ImageDataset) else open_dataset(source)
            bench = set_up(dataset, recipe, minutes * 60, watch)
            plan = plan_runs(bench, texts, seeds, minutes, begun)
            watch.message(sentence(bench, plan, len(texts), seeds))
        result = carry_out(bench, plan, texts, seeds, begun + minutes * 60, quiet)
    except BaseException:
        folder.discard()
        raise
    if folder.path is not None:
        result.save(folder.path)
    return result


def check_request(texts: Sequence[str], recipe: Recipe, seeds: int, minutes: float) -> None:
    """Raises SightlineError for what cannot be compared."""
    if recipe.augment is not None or recipe.epochs is not None or recipe.minutes is not None:
        raise SightlineError(
            "The recipe of an ablation leaves augment, epochs and minutes open: the augmentations are tried one by "
            "one, for as long as the ablation's own minutes allow."
        )
    if seeds < 2:
        raise SightlineError("An ablation takes two seeds at least: one cannot tell an effect from luck.")
    if minutes <= 0:
        raise SightlineError(f"An ablation takes minutes, not {minutes:g}.")
    chains = {text: str(Augment.parse(text)) for text in texts}
    if not chains or "none" in chains.values():
        raise SightlineError("Give augmentations to try beside none, such as hflip(0.5).")
    if len(set(chains.values())) < len(texts):
        raise SightlineError("The same augmentation is given twice; give each once.")


def plan_runs(bench: Bench, texts: Sequence[str], seeds: int, minutes: float, begun: float) -> Plan:
    """Steps and pictures of each training. Raises SightlineError where the minutes are too few."""
    available = min(len(bench.dataset), LARGEST)
    if bench.recipe.steps:
        steps = bench.recipe.steps
        return Plan(steps, pictures_for(bench, steps), len(bench.val_targets))
    alone, asking = bench.step_seconds("none", min(available, 500)), bench.answer_seconds(min(available, 500))
    left = minutes * 60 * PLANNED - (time.monotonic() - begun)
    runs = (len(texts) + 2) * seeds  # the helpful ones together are trained, too
    # Before more is measured: is there any hope?
    if left > FEWEST_STEPS * runs * alone:
        took = [alone, *(bench.step_seconds(text, min(available, 500)) for text in texts)]
        # Joined, each adds its own to a step; all of them never help.
        took.append(alone + sum(max(0.0, t - alone) for t in took) / 2)
        left = minutes * 60 * PLANNED - (time.monotonic() - begun)
    else:
        took = [alone] * (len(texts) + 2)
    a_seed = left / seeds  # seconds for one training of each condition
    asked = int(min(len(bench.val_targets), max(200, ASKING * a_seed / len(took) / asking)))
    steps = int((a_seed - len(took) * asked * asking) / sum(took))
    steps = min(steps, MOST_PASSES * available // bench.batch_size + 1)
    if steps < FEWEST_STEPS:
        needed = (FEWEST_STEPS + 10) * sum(took) / (1 - ASKING) * seeds / PLANNED / 60
        needed += (time.monotonic() - begun) / 60
        raise SightlineError(
            f"In {minutes:g} minutes each of the {runs} trainings would have {max(0, steps)} steps, too few to learn "
            f"from; give --minutes {math.ceil(max(needed, minutes))} or more, fewer --seeds or --augment."
        )
    return Plan(steps, pictures_for(bench, steps), asked)


def pictures_for(bench: Bench, steps: int) -> int:
    """How many training pictures to take for so many steps."""
    classes = len(np.unique(bench.dataset.targets))
    wanted = max(steps * bench.batch_size // PASSES, 10 * classes, bench.batch_size)
    return min(wanted, len(bench.dataset), LARGEST)


def sentence(bench: Bench, plan: Plan, augmentations: int, seeds: int) -> str:
    """What will be done."""
    size = bench.recipe.input.size
    return (
        f"{augmentations} augmentations and none, {seeds} seeds: {(augmentations + 1) * seeds} trainings of "
        f"{bench.recipe.model.name} at {size}x{size} pixels, each {plan.steps:,} steps of up to {bench.batch_size} of "
        f"{plan.training:,} training pictures, {plan.validation:,} validation pictures."
    )


def carry_out(
    bench: Bench, plan: Plan, texts: Sequence[str], seeds: int, deadline: float, quiet: bool
) -> Ablation:
    """Train seed by seed, so that whatever ends it early leaves whole comparisons; then the helpful ones together."""
    outcome = Outcome()
    begun = time.monotonic()
    conditions = ["none", *texts]
    runs = len(conditions) * seeds
    chosen = [bench.recipe.seed + k for k in range(seeds)]
    with RunsLine(quiet) as line:

        def train(augment: str, seed: int, done: int) -> None:
            line.begin(f"{augment}, seed {seed - chosen[0] + 1} of {seeds}", done, runs)
            trainer = bench.trainer(augment, seed, plan.steps, plan.training)
            network = trainer.run(line).evaluated  # its weights averaged, where the recipe says so
            right = bench.answers(trainer, network, plan.validation)
            outcome.answers.setdefault(augment, []).append(right)

        together = None
        try:
            for number, seed in enumerate(chosen):
                each = (time.monotonic() - begun) / max(1, number)
                # Once more, and the helpful ones together with every seed.
                if number >= 2 and time.monotonic() + each * (1 + (number + 1) / len(conditions)) > deadline:
                    outcome.notes.append(f"Time was up after {number} of {seeds} seeds.")
                    break
                for place, augment in enumerate(conditions):
                    train(augment, seed, number * len(conditions) + place)
            together = joined(outcome, texts)
            if together is not None:
                done = len(outcome.answers["none"])
                each = (time.monotonic() - begun) / (done * len(conditions))
                runs = len(conditions) * done + done
                if time.monotonic() + each * done > deadline:
                    outcome.notes.append("There was no time to train the helpful ones together.")
                else:
                    for number, seed in enumerate(chosen[:done]):
                        train(together, seed, len(conditions) * done + number)
        except KeyboardInterrupt:
            outcome.interrupted = True
    return concluded(bench, plan, outcome, texts, together, seeds)


def joined(outcome: Outcome, texts: Sequence[str]) -> str | None:
    """The helpful ones as one chain; None where there are fewer than two."""
    helpful = [effect.augment for effect in effects_of(outcome, texts) if effect.verdict == "helps"]
    if len(helpful) < 2:
        return None
    # What mixes whole batches comes last.
    return " + ".join(sorted(helpful, key=lambda text: bool(Augment.parse(text).mixing)))


def effects_of(outcome: Outcome, texts: Sequence[str], together: str | None = None) -> list[Effect]:
    """The effects of those that were trained with every seed of the others; of `together` as well, as the last.

    The intervals hold together for all of `texts` and their chain, whether it was trained or not.
    """
    whole = whole_seeds(outcome, texts)
    names = [text for text in texts if len(outcome.answers.get(text, ())) >= whole]
    names += [together] if together else []
    base = np.stack(outcome.answers["none"][:whole])
    tables = [np.stack(outcome.answers[name][:whole]) for name in names]
    changes = paired_changes(base, tables, comparisons=len(texts) + 1)
    return [Effect(n, float(t.mean()), c) for n, t, c in zip(names, tables, changes, strict=True)]


def whole_seeds(outcome: Outcome, texts: Sequence[str]) -> int:
    """How many seeds all conditions were trained with; 1 where the first one was not finished."""
    return max(1, min(len(outcome.answers.get(text, ())) for text in ["none", *texts]))


def concluded(
    bench: Bench, plan: Plan, outcome: Outcome, texts: Sequence[str], together: str | None, planned: int
) -> Ablation:
    """The result of what was done. Raises KeyboardInterrupt where that is nothing yet."""
    if not any(outcome.answers.get(text) for text in texts):
        raise KeyboardInterrupt(
            "Interrupted before the first augmentation was compared, so there is no result."
        )
    seeds = whole_seeds(outcome, texts)
    effects = effects_of(outcome, texts)
    whole = together is not None and len(outcome.answers.get(together, ())) == seeds
    chain = effects_of(outcome, texts, together)[-1] if whole else None
    if outcome.interrupted:
        trainings = sum(map(len, outcome.answers.values()))
        outcome.notes.append(
            f"Interrupted after {trainings} trainings; shown is what {seeds} of {planned} seeds say."
        )
    if seeds < 2:
        outcome.notes.append(
            "One seed cannot tell an effect from luck, so there are no intervals and no policy."
        )
    if bench.set_aside:
        outcome.notes.append(f"{len(bench.set_aside):,} pictures could not be read and were left out.")
    recipe = bench.recipe
    setup = {
        "model": recipe.model.name,
        "arguments": model_arguments_of(recipe),
        "steps": plan.steps,
        "batch_size": bench.batch_size,
        "training_pictures": plan.training,
        "validation_pictures": plan.validation,
        "set_aside": [failure.ref for failure in bench.set_aside],
        "recipe": recipe.to_dict(),
    }
    return Ablation(
        name=bench.dataset.name,
        accuracy=float(np.stack(outcome.answers["none"][:seeds]).mean()),
        effects=tuple(effects),
        together=chain,
        policy=policy_of(effects, chain),
        seeds=tuple(recipe.seed + k for k in range(seeds)),
        setup=setup,
        complete=seeds == planned and not outcome.interrupted,
        notes=tuple(outcome.notes),
        interrupted=outcome.interrupted,
    )


def policy_of(effects: Sequence[Effect], together: Effect | None) -> str:
    """The text to use, by `result.RULE`."""
    helpful = [effect for effect in effects if effect.verdict == "helps"]
    if not helpful:
        return "none"
    best = max(helpful, key=lambda effect: effect.accuracy)
    return together.augment if together and together.accuracy >= best.accuracy else best.augment


class Folder:
    """The new folder of a result, made before the work begins; `path` is None where none is wanted."""

    def __init__(self, out: str | Path | None) -> None:
        self.path = Path(out).expanduser() if out is not None else None
        self.made: list[Path] = []
        if self.path is None:
            return
        with disk_errors(self.path):
            if self.path.exists() and (not self.path.is_dir() or any(self.path.iterdir())):
                raise SightlineError(
                    f"{self.path} is not an empty folder; give a new one with --out, so that nothing is lost."
                )
            self.made = [folder for folder in (self.path, *self.path.parents) if not folder.exists()]
            self.path.mkdir(parents=True, exist_ok=True)

    def discard(self) -> None:
        """Remove what was made, where nothing came of it."""
        with suppress(OSError):
            for folder in self.made:
                folder.rmdir()
