"""What a check found: plain data, in the order of its weight."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.table import Table

    from sightline.audit.duplicates import Indices
    from sightline.data.dataset import ImageDataset

SEVERITIES = ("error", "warning", "note")
"""An error makes scores wrong or stops pictures from being used; a warning wants a look; a note may be meant so."""

KINDS = {
    "unreadable": "cannot be read",
    "label_conflict": "same picture, several labels",
    "split_leak": "same picture in several splits",
    "missing_class": "class missing from a split",
    "giveaway": "a property of the file gives the class away",
    "wrong_label": "likely wrong label",
    "exact_duplicate": "identical pictures",
    "near_duplicate": "nearly identical pictures",
    "wrong_extension": "wrong file name extension",
    "constant": "one colour only",
    "tiny": "too small to show anything",
    "small_class": "class with few pictures",
    "outlier": "unlike all others",
}
"""The kinds of finding, those that cost most first, and a title for each."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing to look at.

    kind: of `KINDS`; severity: of `SEVERITIES`. rows: places in the data set of the pictures it is about, which may be
    examples of many. message: what was found; remedy: what to do. details: plain data, by kind.
    """

    kind: str
    severity: str
    rows: tuple[int, ...]
    message: str
    remedy: str
    details: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Findings:
    """All that a check found in `dataset`, errors first.

    exact, near: group numbers of shape (N,), as of `group_ids`, of identical and of nearly identical pictures.
    checked: what the check of labels rests on, in a sentence; None where labels were not checked.
    """

    dataset: ImageDataset
    findings: tuple[Finding, ...]
    exact: Indices
    near: Indices
    checked: str | None = None

    def __len__(self) -> int:
        return len(self.findings)

    def of(self, *kinds: str) -> list[Finding]:
        """The findings of these kinds."""
        return [finding for finding in self.findings if finding.kind in kinds]

    def refs(self, finding: Finding) -> list[str]:
        """The names of the pictures of a finding."""
        return [self.dataset.ref(row) for row in finding.rows]

    def to_dict(self) -> dict[str, Any]:
        """Plain data, as `sightline check --json` prints it."""
        return {
            "dataset": self.dataset.name,
            "n": len(self.dataset),
            "labels_checked": self.checked,
            "findings": [
                {
                    "kind": one.kind,
                    "severity": one.severity,
                    "pictures": self.refs(one),
                    "message": one.message,
                    "remedy": one.remedy,
                    **one.details,
                }
                for one in self.findings
            ],
        }

    def table(self) -> Table:
        """A row a kind: how often, how grave, and the first one in words."""
        from rich.table import Table

        from sightline.training.progress import printable

        table = Table(box=None, pad_edge=False)
        table.add_column("found", no_wrap=True)
        table.add_column("times", justify="right")
        table.add_column("severity")
        table.add_column("such as")
        for kind, title in KINDS.items():
            if some := self.of(kind):
                table.add_row(title, f"{len(some):,}", some[0].severity, printable(some[0].message))
        return table

    def summary(self) -> str:
        """How many findings of each severity, in words."""
        counts = Counter(one.severity for one in self.findings)
        parts = [f"{counts[name]:,} {name}{'s' * (counts[name] != 1)}" for name in SEVERITIES if counts[name]]
        return ", ".join(parts) or "nothing"


def in_order(findings: Sequence[Finding]) -> tuple[Finding, ...]:
    """By severity, then by kind; within a kind as they come."""
    kinds = list(KINDS)
    return tuple(sorted(findings, key=lambda one: (SEVERITIES.index(one.severity), kinds.index(one.kind))))
