"""`augment`, `ablate` and `check`: what becomes of pictures before a network sees them, and what is wrong with them."""

from __future__ import annotations

import io
import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sightline.cli.options import AsJson, Data, Settings, option
from sightline.errors import SightlineError

if TYPE_CHECKING:
    from sightline.data.dataset import ImageDataset
    from sightline.visualization.augmentations import VersionGrid

Texts = list[str] | None


def augment(
    data: Annotated[str, typer.Argument(metavar="DATA", help="A picture, or a data set as `fit` takes it.")],
    policy: Annotated[Texts, option("TEXT", "photos, 'rotate(30) + hflip', ... For a picture, repeatable.")] = None,
    out: Annotated[Path | None, option("FILE", "The .png or .html to write (augment-NAME.png).")] = None,
    seed: Annotated[int, option("N", "Same seed, same versions.", min=0)] = 0,
    size: Annotated[int | None, option("N", "Show squares of N pixels, as for a network.", min=8, max=1024)] = None,
) -> None:  # fmt: skip
    """Show what an augmentation makes of DATA.

    Of a picture nine versions, or with several --policy a row for each; of a data set a row for each class, beside
    its picture as it is. Without --policy it is the one that `fit` would take, for a picture photos.
    """
    from sightline.data import open_dataset
    from sightline.data.folder import is_picture
    from sightline.files import write_beside
    from sightline.transforms.augment import Augment
    from sightline.visualization.augmentations import by_class

    path = Path(data).expanduser()
    target = figure_file(out, f"augment-{path.name.split('.')[0] or 'data'}")
    if is_picture(path.name) and not path.is_dir():
        grid = of_a_picture(path, policy or ["photos"], seed, size)
    elif policy and len(policy) > 1:
        raise SightlineError("Several --policy are compared on one picture; for a data set give one.")
    else:
        given = Augment.parse(policy[0]) if policy else None
        dataset = open_dataset(data)
        text = policy[0] if policy else default_policy(dataset)
        grid = introduced(by_class(dataset, given or Augment.parse(text), seed, size), text)
    write_beside(target, rendered(grid, target.suffix.lower()))
    print("\n".join([grid.title, *grid.notes, f"Written to {target.resolve()}"]))


def of_a_picture(path: Path, texts: list[str], seed: int, size: int | None) -> VersionGrid:
    """The grid of one picture, for one augmentation or several."""
    from sightline.data import read_image
    from sightline.transforms.augment import Augment
    from sightline.visualization.augmentations import by_policy, nine_versions

    chains = {text: Augment.parse(text) for text in texts}
    for text, chain in chains.items():
        for step in chain.mixing[:1]:
            raise SightlineError(
                f"{step.name} in {text!r} mixes several pictures; give a data set instead of one picture."
            )
    picture = read_image(path)
    if len(chains) > 1:
        return by_policy(picture, chains, seed, size)
    return introduced(nine_versions(picture, chains[texts[0]], seed, size), texts[0])


def introduced(grid: VersionGrid, text: str) -> VersionGrid:
    """`grid` with the policy's name and with what it assumes, where `text` is a policy's name."""
    from sightline.transforms.policies import POLICIES

    policy = POLICIES.get(text.strip())
    if policy is None:
        return grid
    assumes = f"Assumes: {policy.assumes}."
    return replace(grid, title=f"{text.strip()}: {grid.title}", notes=(assumes, *grid.notes))


def default_policy(dataset: ImageDataset) -> str:
    """What `fit` would augment these pictures with."""
    from sightline.training.plan import Planner, gather_facts
    from sightline.training.recipe import read_recipe

    train = dataset.split("train") if dataset.has_split("train") else dataset
    recipe, _ = Planner(read_recipe({}), gather_facts(train), "cpu").plan()
    return recipe.augment or "none"


def figure_file(out: Path | None, name: str) -> Path:
    """Where to write: `out`, or NAME.png here. Raises SightlineError for what is no place for a picture or a page."""
    path = out.expanduser() if out else Path(re.sub(r"[^\w.-]+", "-", name) + ".png")
    if path.suffix.lower() not in (".png", ".html") or path.is_dir():
        raise SightlineError(f"--out takes a file that ends in .png or .html, not {path}.")
    if not path.parent.is_dir():
        raise SightlineError(f"There is no folder {path.parent} to write {path.name} into.")
    return path


def rendered(grid: VersionGrid, suffix: str) -> bytes | str:
    """The grid as a page, or as a PNG."""
    from sightline.visualization.augmentations import draw_grid, grid_page

    if suffix == ".html":
        return grid_page(grid)
    buffer = io.BytesIO()
    # Three columns have room for larger pictures than seven.
    wide = len(grid.rows[0].versions) > 3
    draw_grid(grid, 112 if wide else 200).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def ablate(
    data: Data,
    minutes: Annotated[float, option("N", "How long it may take; more find smaller effects.", min=0.1)] = 10.0,
    seeds: Annotated[int, option("N", "Trainings of each kind.", min=2)] = 5,
    augment: Annotated[Texts, option("TEXT", "Try this, such as 'rotate(30)'; repeatable (eleven usual ones).")] = None,
    out: Annotated[Path | None, option("FOLDER", "A new folder (ablations/NAME-TIMESTAMP).")] = None,
    settings: Annotated[Settings, option("KEY=VALUE", "A field of the recipe: steps=300. Repeatable.", "--set")] = None,
    as_json: AsJson = False,
) -> None:  # fmt: skip
    """Find out which augmentation suits DATA.

    Trains a small network many times for a short while, without augmentation and with each alone, and shows what
    that changes in the validation accuracy, with intervals that hold together, and a policy for `fit --augment`. A
    figure and all numbers go to --out.
    """
    from sightline.ablation import ablate as compare
    from sightline.api import compose
    from sightline.run import new_name
    from sightline.training.progress import say, show
    from sightline.training.recipe import parse_settings

    folder = out or Path("ablations") / new_name(Path(data).name).name
    recipe = compose(None, parse_settings(settings or []))
    result = compare(data, recipe, minutes=minutes, seeds=seeds, augmentations=augment, out=folder)
    show(result.to_dict() if as_json else result)
    tell = say if as_json else print
    tell(f"Written to {folder.resolve()}")
    if result.interrupted:
        raise KeyboardInterrupt(result.notes[0])
    if result.setup["set_aside"]:
        raise typer.Exit(1)


def check(
    data: Data,
    labels: Annotated[bool, typer.Option("--labels", help="Look for wrong labels and outliers, too.")] = False,
    minutes: Annotated[float, option("N", "Most that --labels may take.", min=0.1)] = 5.0,
    out: Annotated[Path | None, option("FILE", "An .html page with the pictures of each finding.")] = None,
    fix: Annotated[Path | None, option("FILE", "A new .csv manifest that leaves out, keeps together, splits.")] = None,
    as_json: AsJson = False,
) -> None:  # fmt: skip
    """Look for bad files, duplicates, leaking splits, wrong labels.

    No picture is touched. --fix writes a manifest that can be fitted in place of DATA.
    """
    from sightline.audit import check as look
    from sightline.audit.fix import mend, write_fix
    from sightline.audit.page import write_page
    from sightline.training.progress import say, show, watcher

    refuse_places(out, fix)
    with watcher() as watch:
        findings = look(data, labels=labels, minutes=minutes, progress=watch.reading)
    mended = mend(findings) if fix else None
    if fix and mended:
        write_fix(mended, fix)
    if out:
        write_page(out, findings)
    if as_json:
        show(findings.to_dict())
    else:
        if len(findings):
            show(findings.table())
        print(f"{findings.dataset.name}: {len(findings.dataset):,} pictures; {findings.summary()} found.")
    tell = say if as_json else print
    if findings.checked and not as_json:
        tell(findings.checked)
    for done in mended.done if mended else ():
        tell(f"Mended:    {done}.")
    for what, path in (("Page:", out), ("Manifest:", fix)):
        if path:
            tell(f"{what:<10} {path.resolve()}")
    if findings.of("unreadable"):
        raise typer.Exit(1)


def refuse_places(out: Path | None, fix: Path | None) -> None:
    """Raises SightlineError for places that `check` should not write to, before anything is read."""
    for path, name, suffix in ((out, "--out", ".html"), (fix, "--fix", ".csv")):
        if path is None:
            continue
        if path.suffix.lower() != suffix or path.is_dir():
            raise SightlineError(f"{name} takes a file that ends in {suffix}, not {path}.")
        if not path.parent.is_dir():
            raise SightlineError(f"There is no folder {path.parent} to write {path.name} into.")
    if fix is not None and fix.exists():
        raise SightlineError(f"{fix} exists already; give a new name with --fix, so that nothing is lost.")
