"""The views are had from the package itself, each from its module, and none before it is asked for."""

from __future__ import annotations

import subprocess
import sys
from importlib import import_module

import pytest

import sightline.visualization as views


@pytest.mark.parametrize("name", sorted(views.HOMES))
def test_a_view_is_the_function_of_its_module(name: str) -> None:
    function = getattr(import_module(f"sightline.visualization.{views.HOMES[name]}"), name)
    assert callable(function) and getattr(views, name) is function


def test_nothing_is_loaded_before_it_is_asked_for_and_modules_do_not_hide_functions() -> None:
    code = """if True:
        import sys
        import sightline.visualization
        assert "torch" not in sys.modules
        from sightline.visualization.filters import Filters, filters as of_module
        from sightline.visualization import filters, feature_maps
        assert filters is of_module and feature_maps.__name__ == "feature_maps"
    """
    subprocess.run([sys.executable, "-c", code], check=True)


def test_what_is_not_there_is_said() -> None:
    with pytest.raises(AttributeError, match="no attribute 'grad_can'"):
        _ = views.grad_can
