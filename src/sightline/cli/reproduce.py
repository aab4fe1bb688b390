"""`reproduce`."""

from __future__ import annotations

from typing import Annotated

import typer

from sightline.cli.options import AsJson, Text


def reproduce(
    table: Annotated[Text, typer.Argument(metavar="TABLE", help="resnet, efficientnet, ...; none lists them.")] = None,
    as_json: AsJson = False,
) -> None:  # fmt: skip
    """Compute a published table again, figures side by side."""
    from sightline import reproduce as tables
    from sightline.training.progress import show
    from sightline.visualization.tables import plain_table, with_note

    if table is not None:
        result = tables.reproduce(table)
        show(result.to_dict() if as_json else result)
        return
    titles = {name: title for name, (title, _) in tables.TABLES.items()}
    listing = plain_table()
    listing.add_column("table", no_wrap=True)
    listing.add_column("what")
    for name, title in titles.items():
        listing.add_row(name, title)
    note = "`sightline reproduce TABLE` computes one."
    show({"tables": titles} if as_json else with_note(listing, note))
