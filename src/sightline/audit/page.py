"""What was found, as one HTML page with the pictures of each finding side by side."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from sightline import __version__
from sightline.audit.findings import KINDS, Finding, Findings
from sightline.data.dataset import SPLITS
from sightline.files import write_beside
from sightline.report.sections import counted, when
from sightline.report.thumbnails import Thumbnails
from sightline.report.write import TEMPLATES as REPORT

TEMPLATES = Path(__file__).parent / "templates"
SIDE = 160
# Of a kind: findings with pictures, and further ones in words. Of a finding: pictures.
CARDS, WORDS, PICTURES = 40, 300, 8


class Shown(NamedTuple):
    """A picture: data URI (None where it cannot be read), name, label and split, and whether it is for comparison."""

    src: str | None
    ref: str
    label: str
    like: bool = False


class Card(NamedTuple):
    """A finding with its first pictures, and how many more there are."""

    severity: str
    message: str
    pictures: list[Shown]
    more: int


@dataclass(frozen=True, slots=True)
class Part:
    """All findings of a kind: the gravest severity, the first in words, what to do, cards, and the rest in words."""

    kind: str
    title: str
    count: int
    severity: str
    first: str
    remedies: list[str]
    cards: list[Card]
    rest: list[str]

    @property
    def short(self) -> str:
        return self.kind.replace("_", " ").capitalize()


def write_page(path: Path, findings: Findings) -> None:
    """Write the page to `path`, beside and renamed. Raises SightlineError where that is not possible."""
    write_beside(path, render(findings))


def render(findings: Findings) -> str:
    """The page as HTML: it asks nothing of the network."""
    dataset = findings.dataset
    thumbnails = Thumbnails(dataset.read)
    parts = list(_parts(findings, thumbnails))
    script = (REPORT / "report.js").read_text(encoding="utf-8")
    style = "\n".join(
        file.read_text(encoding="utf-8") for file in (REPORT / "report.css", TEMPLATES / "check.css")
    )
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals["counted"] = counted
    splits = ", ".join(
        f"{int((dataset.splits == code).sum()):,} {name}"
        for code, name in enumerate(SPLITS)
        if dataset.has_split(name)
    )
    return environment.get_template("check.html.j2").render(
        version=__version__,
        name=dataset.name,
        when=when(datetime.now().astimezone().isoformat()),
        summary=findings.summary(),
        lead=(
            f"{counted(len(dataset), 'picture')} of {counted(len(dataset.classes), 'class')}"
            f"{f' ({splits})' if splits else ''} were read and compared. Found: {findings.summary()}."
        ),
        checked=findings.checked,
        parts=parts,
        pixelated=thumbnails.largest <= 64,  # digits of 28 pixels are shown as pixels
        style=Markup(style),
        script=Markup(script),
        # The page may run this script and no other, load nothing, and send nothing.
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii"),
    )


def _parts(findings: Findings, thumbnails: Thumbnails) -> Iterator[Part]:
    wanted = {ref for one in findings.of("wrong_label")[:CARDS] for ref in one.details["typical"]}
    places = {ref: row for row, ref in enumerate(findings.dataset.refs()) if ref in wanted} if wanted else {}

    def show(row: int, like: bool = False) -> Shown:
        dataset = findings.dataset
        code = dataset.splits[row]
        label = dataset.classes[dataset.targets[row]]
        split = f", {SPLITS[code]}" if code < len(SPLITS) else ""
        said = f"a typical {label}" if like else label + split
        return Shown(thumbnails.uri(row, SIDE), dataset.ref(row), said, like)

    for kind, title in KINDS.items():
        some = findings.of(kind)
        if not some:
            continue
        cards: list[Card] = []
        for one in some[:CARDS]:
            if thumbnails.exhausted:
                break
            cards.append(_card(one, places, show))
        yield Part(
            kind,
            title[0].upper() + title[1:],
            len(some),
            some[0].severity,
            some[0].message,
            list(dict.fromkeys(one.remedy for one in some[:CARDS]))[:3],
            cards,
            [one.message for one in some[len(cards) : len(cards) + WORDS]],
        )


def _card(one: Finding, places: dict[str, int], show: Callable[..., Shown]) -> Card:
    pictures = [show(row) for row in one.rows[:PICTURES]]
    typical = [show(places[ref], like=True) for ref in one.details.get("typical", ())]
    return Card(one.severity, one.message, pictures + typical, len(one.rows) - len(pictures))
