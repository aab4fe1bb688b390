"""One reproduced table, and how a published figure is compared with a computed one."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from sightline.visualization.tables import plain_table, with_note

if TYPE_CHECKING:
    from rich.console import Group


@dataclass(frozen=True, slots=True)
class Row:
    """One figure: as published, as computed from the network, and whether they agree."""

    what: str
    published: str
    ours: str
    agrees: bool
    note: str = ""


@dataclass(frozen=True, slots=True)
class Reproduction:
    """A table. source: where its published column is from. remarks: what to know, a sentence each."""

    name: str
    title: str
    source: str
    rows: tuple[Row, ...]
    remarks: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return asdict(self)

    def __rich__(self) -> Group:
        """The table for the terminal, what to know below it."""
        differ = sum(not row.agrees for row in self.rows)
        verdict = "all agree" if not differ else f"{differ} of {len(self.rows)} differ, marked with !"
        table = plain_table(self.title)
        table.add_column("", no_wrap=True)
        table.add_column("what")
        for head in ("published", "ours"):
            table.add_column(head, justify="right", no_wrap=True)
        noted = any(row.note for row in self.rows)
        if noted:
            table.add_column("note", overflow="fold")
        for row in self.rows:
            cells = (" " if row.agrees else "!", row.what, row.published, row.ours)
            table.add_row(*cells, *([row.note] if noted else []), style=None if row.agrees else "bold")
        below = [f"published: {self.source}; {verdict}", *self.remarks]
        return with_note(table, "\n".join(below))


def exact(what: str, published: int | str, ours: int | str, note: str = "") -> Row:
    """A figure that must be equal to the last digit."""
    theirs, own = (f"{value:,}" if isinstance(value, int) else value for value in (published, ours))
    return Row(what, theirs, own, published == ours, note)


UNITS = {"M": 6, "G": 9}


def rounded(what: str, published: str, ours: int, note: str = "") -> Row:
    """A figure such as "3.8 G" of which only some digits are printed; papers round them, or cut them off.

    It agrees where the difference is less than one in the last digit printed.
    """
    digits, unit = published.split()
    last = 10.0 ** (UNITS[unit] - len(digits.partition(".")[2]))
    return Row(what, published, f"{ours:,}", abs(ours - float(digits) * 10 ** UNITS[unit]) < last, note)
