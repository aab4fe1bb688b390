"""What is chosen where a recipe leaves it open."""

import pytest

from sightline.training.plan import Facts, Planner
from sightline.training.recipe import Recipe


def planned(counts: tuple[int, ...], side: int, grey: bool, **changes: object) -> Recipe:
    recipe = Recipe().updated({"model.weights": "none", **changes})
    return Planner(recipe, Facts(counts, side, 1.0, grey), "cpu").plan()[0]


@pytest.mark.parametrize(
    ("counts", "side", "grey", "network", "optimizer", "augment"),
    [
        ((2500,) * 10, 32, False, "resnet9_small", "sgd", "light"),
        ((100,) * 10, 32, False, "resnet10_small", "adamw", "light"),
        ((6000,) * 10, 28, True, "resnet10_small", "sgd", "digits"),
        ((80,) * 6, 200, True, "resnet9_small", "adamw", "gentle"),
        ((2500,) * 10, 400, False, "resnet10_photo", "sgd", "photos"),
    ],
)
def test_the_network_fits_the_pictures(counts, side, grey, network, optimizer, augment):
    recipe = planned(counts, side, grey)
    assert (recipe.model.name, recipe.optimizer.name, recipe.augment) == (network, optimizer, augment)


def test_fewer_pictures_are_gone_through_more_often_within_bounds():
    epochs = [planned((n,) * 10, 32, False).epochs for n in (10, 1_000, 5_000, 100_000)]
    assert epochs == sorted(epochs, reverse=True)
    assert (epochs[0], epochs[-1]) == (75, 5)


def test_networks_of_full_resolution_see_large_pictures_smaller():
    assert [planned((80,) * 6, 200, grey).input.size for grey in (True, False)] == [64, 128]


def test_what_the_recipe_says_stays():
    recipe = planned((2500,) * 10, 32, False, **{"model.name": "resnet20", "epochs": 7, "augment": "hflip"})
    assert (recipe.model.name, recipe.epochs, recipe.augment) == ("resnet20", 7, "hflip")


@pytest.mark.parametrize(("counts", "balance"), [((30, 30), "none"), ((30, 21), "none"), ((30, 19), "loss")])
def test_unbalanced_classes_are_balanced(counts, balance):
    assert planned(counts, 32, False).balance == balance
