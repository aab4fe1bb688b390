"""Labels and the sentences they are put into."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sightline.errors import SightlineError, near
from sightline.files import reason
from sightline.zero_shot.imagenet_templates import IMAGENET_TEMPLATES

TEMPLATES: dict[str, tuple[str, ...]] = {
    "imagenet": IMAGENET_TEMPLATES,
    "photo": ("a photo of a {}.",),
    "none": ("{}",),
}
ARTICLE = re.compile(r"(a|an|the)\s", re.IGNORECASE)
FILES = (".txt", ".csv", ".tsv")


@dataclass(frozen=True, slots=True)
class Label:
    """A class: its name, and sentences that describe it, beside those that the templates make of the name."""

    name: str
    descriptions: tuple[str, ...] = ()


def read_templates(source: str | Path | Sequence[str]) -> tuple[str, ...]:
    """`imagenet`, `photo`, `none`, a text file with a sentence a line, or the sentences; {} is the label's place.

    Raises SightlineError where there are none, or one has no place for the label.
    """
    if not isinstance(source, str | Path):
        lines = [(str(number), line) for number, line in enumerate(source, 1)]
        where = "the templates, number"
    elif str(source) in TEMPLATES:
        return TEMPLATES[str(source)]
    else:
        path = Path(source).expanduser()
        if not path.is_file():
            close = near(str(source), TEMPLATES)
            hint = f"did you mean {close[0]}?" if close else f"they are {', '.join(TEMPLATES)}, or a file."
            raise SightlineError(f"There are no templates {source}; {hint}")
        lines, where = read_lines(path), f"{path}, line"
    if not lines:
        raise SightlineError(
            f"There is no template in {source}; {{}} stands for the label, as in 'a photo of a {{}}.'"
        )
    for number, line in lines:
        if line.count("{}") != 1:
            raise SightlineError(f"{where} {number}: {line!r} needs {{}} once, where the label stands.")
    return tuple(line for _, line in lines)


def read_labels(source: str | Path | Sequence[str | Label]) -> tuple[Label, ...]:
    """Labels out of `cat, dog, a rusty screw`; out of a text file, a label a line; or those of a sequence.

    In a file a line may go on with descriptions: `okapi: an animal with striped legs; a relative of the giraffe`.
    Raises SightlineError for fewer than two labels, an empty one, and one that is there twice (capitals aside).
    """
    if isinstance(source, Path) or (isinstance(source, str) and is_file_name(source)):
        path = Path(source).expanduser()
        if not path.is_file():
            raise SightlineError(f"There is no file {path} with labels.")
        labels = [described(line) for _, line in read_lines(path)]
        where = str(path)
    elif isinstance(source, str):
        labels, where = [Label(name.strip()) for name in source.split(",")], "the labels"
    else:
        labels = [label if isinstance(label, Label) else Label(label.strip()) for label in source]
        where = "the labels"
    seen: dict[str, int] = {}
    for number, label in enumerate(labels, 1):
        if not label.name:
            raise SightlineError(
                f"Label {number} of {where} is empty; write a word or a phrase, or leave it out."
            )
        before = seen.setdefault(" ".join(label.name.casefold().split()), number)
        if before != number:
            raise SightlineError(f"{label.name} is in {where} twice, as label {before} and label {number}.")
    if len(labels) < 2:
        raise SightlineError(f"{where} are {len(labels)}; at least two are needed to tell apart.")
    return tuple(labels)


def is_file_name(text: str) -> bool:
    """Whether labels are the name of a file: one is there, or it looks like one and like nothing else."""
    try:
        return Path(text).expanduser().is_file() or ("," not in text and text.lower().endswith(FILES))
    except OSError:  # longer than a name can be
        return False


def described(line: str) -> Label:
    """`name: sentence; sentence` as a Label."""
    name, _, rest = line.partition(":")
    return Label(name.strip(), tuple(filter(None, (part.strip() for part in rest.split(";")))))


def read_lines(path: Path) -> list[tuple[str, str]]:
    """(number, text) of the lines that are not blank. Raises SightlineError where it is no text."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        why = "it is no UTF-8 text" if isinstance(error, UnicodeDecodeError) else reason(error)
        raise SightlineError(f"{path} cannot be read: {why}.") from None
    return [(str(number), line.strip()) for number, line in enumerate(text.splitlines(), 1) if line.strip()]


def sentences(label: Label, templates: Sequence[str]) -> list[str]:
    """What is embedded for a label: each template with its name, then its descriptions."""
    return [*(fill(template, label.name) for template in templates), *label.descriptions]


def fill(template: str, name: str) -> str:
    """`template` with `name`; a name that brings its own article takes the template's place for one."""
    if ARTICLE.match(name):
        template = re.sub(r"\b(a|an|the) \{\}", "{}", template)
    return template.replace("{}", name)


def foreign(text: str) -> bool:
    """Whether `text` has letters that are not Latin."""
    return any(c.isalpha() and "LATIN" not in unicodedata.name(c, "") for c in text)
