"""A network's layer table as a person reads it: repeated blocks shown once, the sums below.

`summarize` gives a Summary: data first (`rows`, `totals`), shown as text (`print`), Markdown, or HTML in a notebook.
"""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import TYPE_CHECKING, Any

from sightline.errors import SightlineError
from sightline.visualization.layers import Block, LayerRow, Totals, dims, totals, walk_through
from sightline.visualization.tables import plain_table, with_note

if TYPE_CHECKING:
    from rich.console import Group
    from torch import nn

HEADS = ("layer", "kind", "output", "parameters", "mult-adds")
RIGHT = ("output", "mult-adds")  # numbers, set to the right


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the table as shown: a row, or several that stand under one name.

    formula: how its number of parameters comes about. indent: how many folded blocks it stands in.
    frozen: whether it has parameters, and none is trainable.
    """

    name: str
    kind: str
    output: tuple[int, ...] | None
    formula: str
    mult_adds: int
    indent: int = 0
    frozen: bool = False

    def cells(self) -> tuple[str, ...]:
        """The texts of its columns."""
        return (
            "  " * self.indent + self.name,
            self.kind,
            dims(self.output, "x") if self.output is not None else "",
            self.formula,
            f"{self.mult_adds:,}" if self.mult_adds else "",
        )


@dataclass(frozen=True, slots=True)
class Summary:
    """The layer table of the network `title` for one picture of `input_size` (channels, height, width).

    rows: every step, see `layer_table`. blocks: the modules that hold them. depth: how many parts of a name are
    shown, None for all: with 1, `layer1.0.conv1` and its neighbours are one line, `layer1`.
    """

    title: str
    input_size: tuple[int, ...]
    rows: tuple[LayerRow, ...]
    blocks: Mapping[str, Block]
    depth: int | None = None

    @property
    def totals(self) -> Totals:
        """The sums over all rows."""
        return totals(self.rows)

    def lines(self) -> list[Line]:
        """The table as shown: cut at `depth`, and like blocks that follow each other folded into one."""
        return fold(self.rows, self.blocks, self.depth)

    def caption(self) -> tuple[str, str]:
        """The sums, as two sentences."""
        total = self.totals
        frozen = total.params - total.trainable
        state = "all trainable" if not frozen else f"{total.trainable:,} trainable, {frozen:,} frozen"
        return (
            f"{total.params:,} parameters, {state}; {total.mult_adds:,} mult-adds on "
            f"{dims(self.input_size, 'x')}",
            f"{total.activation_bytes:,} bytes of activations a picture, in float32",
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON: every row, unfolded, and the sums."""
        layers = [row.to_dict() for row in self.rows]
        return {"model": self.title, "input": self.input_size, "layers": layers, **self.totals.to_dict()}

    def to_markdown(self) -> str:
        """The table in Markdown."""
        rules = ["---:" if head in RIGHT else "---" for head in HEADS]
        body = [HEADS, rules, *(line.cells() for line in self.lines())]
        # An indent has to be written out: Markdown drops leading spaces.
        table = "\n".join(f"| {' | '.join(cells)} |".replace("|   ", "| &emsp;") for cells in body)
        return "\n\n".join([f"**{self.title}**", table, "  \n".join(self.caption())]) + "\n"

    def _repr_html_(self) -> str:
        """The table for a notebook."""

        def row(cells: Sequence[str], tag: str) -> str:
            made = [
                f'<{tag} style="text-align: {"right" if head in RIGHT else "left"}; white-space: pre-wrap">'
                f"{html.escape(cell)}</{tag}>"
                for head, cell in zip(HEADS, cells, strict=True)
            ]
            return f"<tr>{''.join(made)}</tr>"

        body = "".join(row(line.cells(), "td") for line in self.lines())
        return (
            f"<table><caption>{html.escape(self.title)}</caption><thead>{row(HEADS, 'th')}</thead>"
            f"<tbody>{body}</tbody></table><p>{'<br>'.join(map(html.escape, self.caption()))}</p>"
        )

    def __rich__(self) -> Group:
        """The table for the terminal. Fits 80 columns; wider terminals show it in full."""
        table = plain_table(self.title)
        lines = self.lines()
        short_names = max((len(line.cells()[0]) for line in lines), default=0) <= 30
        for head in HEADS:
            table.add_column(
                head,
                justify="right" if head in RIGHT else "left",
                overflow="fold",
                no_wrap=head in RIGHT or (head == "layer" and short_names),
            )
        for line in lines:
            table.add_row(*line.cells(), style="dim" if line.frozen else None)
        return with_note(table, "\n".join(self.caption()))

    def __str__(self) -> str:
        from rich.console import Console

        console = Console(width=200, force_terminal=False)
        with console.capture() as text:
            console.print(self)
        return "\n".join(line.rstrip() for line in text.get().splitlines())


def summarize(
    model: str | nn.Module,
    input_size: Sequence[int] | None = None,
    *,
    num_classes: int | None = None,
    arguments: Mapping[str, Any] | None = None,
    depth: int | None = None,
) -> Summary:
    """The layer table of a network: a name that `create_model` takes, or any module of one picture (N, C, H, W).

    input_size: (channels, height, width); by default the network's own, a module of another make needs it.
    num_classes and arguments are for a name, as in `create_model`. Nothing is computed: a named network is built on
    the meta device, and a module is neither run nor changed.
    Raises SightlineError for what the network does not have or cannot take.
    """
    if depth is not None and depth < 1:
        raise SightlineError(f"depth is at least 1, not {depth}.")
    if isinstance(model, str):
        title, size = model, tuple(input_size or own_size(model))
        network = build_empty(model, size, num_classes, arguments or {})
    else:
        title = str(getattr(model, "architecture", type(model).__name__))
        if input_size is None and not hasattr(model, "architecture"):
            raise SightlineError(f"Say for which input_size (channels, height, width) to summarize {title}.")
        size = tuple(input_size or own_size(title))
        network = model
    walk = walk_through(network, size)
    return Summary(title, size, tuple(walk.rows), walk.blocks, depth)


def own_size(name: str) -> tuple[int, int, int]:
    """What the network takes by default: (channels, height, width)."""
    from sightline.models import model_info

    return model_info(name).input


def build_empty(
    name: str, size: Sequence[int], num_classes: int | None, arguments: Mapping[str, Any]
) -> nn.Module:
    """The network on the meta device, for pictures of `size`."""
    import torch

    from sightline.models import create_model, model_arguments
    from sightline.models.registry import check_arguments

    check_arguments(arguments, model_arguments(name))
    with torch.device("meta"):
        return create_model(name, num_classes=num_classes, in_chans=size[0], img_size=size[1:], **arguments)


# -------------------------------------------------------------------------------------------------- folding
Rows = Sequence[LayerRow]


def fold(
    rows: Rows, blocks: Mapping[str, Block], depth: int | None, level: int = 0, start: int = 0
) -> list[Line]:
    """Lines for `rows`, whose names agree in their first `level` parts and are shown from part `start` on.

    Like blocks are one line, and below it the lines of the first of them, with names that start anew.
    """
    lines: list[Line] = []
    for copies in repeats(rows, level):
        first = copies[0]
        ends = all(row.name.count(".") <= level for row in first)  # rows of their own, nothing below
        whole = ends or (depth is not None and level + 1 >= depth)
        if len(copies) > 1:
            lines.append(joined(copies, blocks, level, start))
            if not whole:
                inner = fold(first, blocks, depth, level + 1, level + 1)
                lines += [replace(line, indent=line.indent + 1) for line in inner]
        elif ends:
            lines += [joined([[row]], blocks, level, start) for row in first]
        elif whole:
            lines.append(joined(copies, blocks, level, start))
        else:
            lines += fold(first, blocks, depth, level + 1, start)
    return lines


def repeats(rows: Rows, level: int) -> list[list[Rows]]:
    """`rows` cut where part `level` of their names changes; neighbours that are numbered and alike together."""
    found: list[list[Rows]] = []
    for number, group in groupby(rows, key=lambda row: part(row, level)):
        block = list(group)
        if number.isdecimal() and found and content(found[-1][-1], level) == content(block, level):
            found[-1].append(block)
        else:
            found.append([block])
    return found


def part(row: LayerRow, level: int) -> str:
    """Part `level` of a row's name; empty where the row is the module's own that the parts before name."""
    return ".".join(row.name.split(".")[level : level + 1])


def content(rows: Rows, level: int) -> list[tuple[Any, ...]]:
    """All that tells a block from another but its number, which is part `level` of its rows' names."""
    if not part(rows[0], level).isdecimal():
        return []
    return [(row.name.split(".")[level + 1 :], replace(row, name="", activation_bytes=0)) for row in rows]


def joined(copies: Sequence[Rows], blocks: Mapping[str, Block], level: int, start: int) -> Line:
    """One line for like blocks, or for one block, or one row."""
    first, count = copies[0], len(copies)
    names = first[0].name.split(".")[: level + 1]
    block = blocks.get(".".join(names))
    if len(first) == 1 and first[0].name.count(".") <= level:
        kind, output, formula = first[0].kind, first[0].output, first[0].formula
        if count > 1 and formula:
            each, _, params = formula.rpartition(" = ")
            formula = f"{count} x ({each}) = {count * int(params.replace(',', '')):,}"
    else:
        outputs = [row.output for row in first if row.output is not None]
        kind = block.kind if block else ""
        output = block.output if block and block.output else outputs[-1] if outputs else None
        own = totals(first).params
        formula = "" if not own else f"{own:,}" if count == 1 else f"{count} x {own:,} = {count * own:,}"
    sums = totals(first)
    if count > 1:
        kind = f"{count} x {kind}"
        names[-1] += f"-{part(copies[-1][0], level)}"
    return Line(
        name=".".join(names[min(start, len(names) - 1) :]),
        kind=kind,
        output=output,
        formula=formula,
        mult_adds=count * sums.mult_adds,
        frozen=bool(sums.params and not sums.trainable),
    )
