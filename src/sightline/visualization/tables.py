"""The few parts that all tables for people share."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Group
    from rich.table import Table


def short(count: int | None) -> str:
    """A large count in three digits: 1.81 G, 2.84 M."""
    if count is None:
        return ""
    for unit, name in ((1e9, "G"), (1e6, "M")):
        if count >= unit:
            return f"{count / unit:.{max(0, 2 - int(math.log10(count / unit)))}f} {name}"
    return f"{count:,}"


def plain_table(title: str = "") -> Table:
    """A table without lines, two spaces between its columns."""
    from rich.table import Table

    return Table(
        title=title or None,
        title_justify="left",
        box=None,
        pad_edge=False,
        padding=(0, 2, 0, 0),
        header_style="bold",
    )


def with_note(table: Table, note: str) -> Group:
    """The table, and below it lines as wide as the terminal."""
    from rich.console import Group
    from rich.text import Text

    return Group(table, *(Text(line) for line in note.splitlines()))
