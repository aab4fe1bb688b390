"""`zero-shot` and `search`: pictures asked for in words."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sightline.cli.look import checked_page
from sightline.cli.options import AsJson, Settings, Text, option
from sightline.cli.train import listed
from sightline.errors import SightlineError

if TYPE_CHECKING:
    from sightline.search import Hit, PictureSearch

MODEL = "One of `sightline models 'clip*'`, or a run of fit --objective contrastive."
DEFAULT = "clip_vit_base_patch32"
Model = Annotated[str, option("NAME|RUN", MODEL)]
Weights = Annotated[str, option("NAME|FILE", "Weights of a named model: a published name, a file, none.")]
Arguments = Annotated[Settings, option("KEY=VALUE", "Of the model: quick_gelu=false. Repeatable.", "--set")]


def zero_shot(
    pictures: Annotated[list[str], typer.Argument(metavar="PICTURES", help="Files, folders, - for a list on stdin.")],
    labels: Annotated[str, option("LABELS|FILE", "'cat, dog, a rusty screw'; or a file, a label a line.")],
    model: Model = DEFAULT,
    weights: Weights = "auto",
    templates: Annotated[str, option("NAME|FILE", "imagenet (80 sentences), photo, none, or a file.")] = "imagenet",
    arguments: Arguments = None,
    out: Annotated[Path | None, option("FOLDER", "Keep it: evaluate, predict and look take the folder.")] = None,
    as_json: AsJson = False,
) -> None:  # fmt: skip
    """Label PICTURES with words, without training."""
    from sightline import api
    from sightline.run import Run
    from sightline.training.progress import printable, say, show, watcher
    from sightline.zero_shot import ZeroShotClassifier

    found = api.find_pictures(listed(pictures))
    with watcher() as watch:
        classifier = ZeroShotClassifier(
            labels, templates, model=model, weights=weights, arguments=parsed(arguments),
            progress=lambda done, total: watch.reading(done, total, "sentences"),
        )  # fmt: skip
        for note in classifier.notes:
            watch.message(note)
    if out is not None:
        classifier.bundle.save(Run.create(out, "zero-shot").path)
    failures: list[dict[str, Any]] = []
    answers: list[dict[str, Any]] = []
    for answer in api.predict(classifier.classifier, found, top_k=len(classifier.classes)):
        if answer.error:
            failures.append(answer.to_dict())
            say(f"{answer.picture}: {answer.error}")
            continue
        answers.append(answer.to_dict())
        if not as_json:
            cells = "  ".join(f"{name} {probability:.1%}" for name, probability in answer.top[:5])
            print(f"{printable(answer.picture)}\t{printable(cells)}")
    if as_json:
        show({"predictions": answers, "unreadable": failures, "notes": classifier.notes})
    if out is not None:
        say(f"Kept in {out}; for example: sightline look {out} {found[0]}")
    if failures:
        raise typer.Exit(1)


def search(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Pictures, anywhere below it.")],
    text: Annotated[Text, typer.Argument(metavar="TEXT", help="What to look for: 'two dogs in the snow'.")] = None,
    picture: Annotated[Path | None, option("FILE", "Look for what is like this picture instead.")] = None,
    top_k: Annotated[int, option("K", "How many pictures.", min=1)] = 10,
    model: Model = DEFAULT,
    weights: Weights = "auto",
    arguments: Arguments = None,
    html: Annotated[Path | None, option("FILE", "A page with the pictures found.")] = None,
    captions: Annotated[Path | None, option("FILE", "Measure recall with these captions; no TEXT then.")] = None,
    as_json: AsJson = False,
) -> None:  # fmt: skip
    """Find pictures in FOLDER by words or by a picture."""
    from sightline.evaluation.retrieval import retrieval_table
    from sightline.search import PictureSearch
    from sightline.training.progress import say, show, watcher

    asked = [
        name for name, value in (("TEXT", text), ("--picture", picture), ("--captions", captions)) if value
    ]
    if len(asked) != 1:
        what = "and ".join(f"{name} " for name in asked) + "exclude each other; give one of them"
        raise SightlineError(f"{what}." if asked else "Give TEXT, --picture or --captions: what to look for.")
    page = None if html is None else checked_page(html)
    with watcher() as watch:
        pictures = PictureSearch(
            folder, model=model, weights=weights, arguments=parsed(arguments),
            progress=lambda done, total: watch.reading(done, total, "pictures"),
        )  # fmt: skip
        if pictures.clip.note:
            watch.message(pictures.clip.note)
        for failure in pictures.failures:
            watch.message(str(failure))
    if captions is not None:
        scores = pictures.recall(captions)
        show(scores.to_dict() if as_json else retrieval_table(scores))
    else:
        hits = pictures.by_text(text or "", top_k) if picture is None else pictures.by_picture(picture, top_k)
        show_hits(pictures, hits, text or str(picture), page, as_json)
    say(f"{len(pictures):,} pictures, {pictures.embedded:,} of them new.")
    if pictures.failures:
        raise typer.Exit(1)


def show_hits(pictures: PictureSearch, hits: list[Hit], asked: str, page: Path | None, as_json: bool) -> None:
    """The pictures found: a line each, one JSON object, or a page."""
    from sightline.training.progress import printable, show

    if page is not None:
        from sightline.files import write_beside
        from sightline.report.search_page import render

        write_beside(page, render(pictures.folder, hits, asked, len(pictures)))
    if as_json:
        found = [{"picture": str(pictures.folder / hit.name), "score": hit.score} for hit in hits]
        show({"asked": asked, "pictures": len(pictures), "found": found})
        return
    for hit in hits:
        print(f"{hit.score:.3f}\t{printable(str(pictures.folder / hit.name))}")
    if page is not None:
        print(f"Written to {page.resolve()}")


def parsed(arguments: list[str] | None) -> dict[str, Any]:
    """`KEY=VALUE` settings as arguments of a model; a leading `model.` may be there, as in a recipe."""
    from sightline.training.recipe import parse_settings

    return {key.removeprefix("model."): value for key, value in parse_settings(arguments or []).items()}
