"""Parameters and mult-adds of full networks, to the last digit: as the catalogue says, and as counted elsewhere."""

import functools
import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch

from sightline.models import create_model, list_models, model_info
from sightline.visualization.layers import layer_table, totals

# Beside the data sets: a list of networks, each with its `id` (ours), `params` and `mult_adds`.
FACTS = Path(os.environ.get("SIGHTLINE_DATA", "")).resolve().parent / "facts" / "models.json"
# Counted without their auxiliary classifiers.
WITHOUT_AUXILIARY = ("googlenet", "googlenet_2014")


def counted() -> list[Any]:
    if not os.environ.get("SIGHTLINE_DATA") or not FACTS.exists():
        return [
            pytest.param({}, marks=pytest.mark.skip("facts/models.json: not found beside SIGHTLINE_DATA"))
        ]
    rows = json.loads(FACTS.read_text(encoding="utf-8"))
    return [pytest.param(row, id=row["id"]) for row in rows if row["id"]]


@functools.cache
def count(name: str, **arguments: Any) -> tuple[int, int]:
    """(parameters, mult-adds for a picture of its own size) of the network, built on the meta device."""
    with torch.device("meta"):
        model = create_model(name, **arguments)
    total = totals(layer_table(model, model_info(name).input))
    return total.params, total.mult_adds


@pytest.mark.parametrize("name", list_models())
def test_the_catalogue_counts_what_is_built(name: str) -> None:
    info = model_info(name)
    assert count(name) == (info.params, info.mult_adds)


@pytest.mark.parametrize("row", counted())
def test_counts_made_elsewhere(row: dict[str, Any]) -> None:
    """By other programs, on the reference libraries' networks and the authors' code."""
    name = row["id"]
    params, mult_adds = count(name, **{"aux_logits": False} if name in WITHOUT_AUXILIARY else {})
    assert params == row["params"]
    assert row["mult_adds"] in (None, mult_adds)
