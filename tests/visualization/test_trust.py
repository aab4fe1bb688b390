"""Deletion and insertion by RISE's definition, forgetting by Adebayo's, and pictures whose evidence is known."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.stats import spearmanr
from torch import Tensor, nn

from sightline.errors import SightlineError
from sightline.visualization.attention import attention, attention_rollout
from sightline.visualization.deconvnet import deconvolve
from sightline.visualization.evidence import grad_cam, hires_cam
from sightline.visualization.pixel_evidence import (
    guided_backprop,
    integrated_gradients,
    occlusion,
    over_picture,
)
from sightline.visualization.trust import (
    area,
    blur,
    correlation,
    deletion_insertion,
    falling,
    forget,
    layer_groups,
    randomisation_test,
)
from tests.visualization.networks import built, picture_for, same_state, state_of
from tests.visualization.planted import (
    CLASSES,
    SIDE,
    TOKEN,
    accuracy,
    chance,
    cnn,
    gap,
    planted,
    trained,
    vit,
    vit_class_token,
)

Map = Callable[[nn.Module, Tensor, int], NDArray[np.float32]]
PICTURES = 60


def test_the_area_is_rises() -> None:
    curve = np.array([1.0, 0.8, 0.2, 0.1])
    assert area(curve) == pytest.approx((curve.sum() - curve[0] / 2 - curve[-1] / 2) / 3)  # their `auc`
    assert area(curve) == pytest.approx(np.trapezoid(curve, dx=1 / 3))


def test_deletion_and_insertion_by_hand() -> None:
    """A network that adds its four pixels up: what goes when is known."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 2, bias=False))
    model[1].weight.data = torch.tensor([[1.0, 1, 1, 1], [0, 0, 0, 0]])
    x = torch.tensor([4.0, 1, 3, 2]).view(1, 1, 2, 2)
    evidence = occlusion(model, x, target=0, patch=1, stride=1)
    assert falling(over_picture(evidence)).tolist() == [0, 2, 3, 1]
    found = deletion_insertion(model, x, evidence, steps=4)
    sums = torch.tensor([10.0, 6, 3, 1, 0])
    assert np.allclose(found.deletion, torch.sigmoid(sums).numpy(), atol=1e-6)
    start = blur(x).flatten()
    taken = [start.clone()]
    for pixel in (0, 2, 3, 1):
        taken.append(taken[-1].clone())
        taken[-1][pixel] = x.flatten()[pixel]
    assert np.allclose(found.insertion, torch.sigmoid(torch.stack(taken).sum(1)).numpy(), atol=1e-6)
    assert found.deletion_area == pytest.approx(np.trapezoid(found.deletion, dx=0.25))


@pytest.mark.parametrize("versus", [None, 4])
def test_deletion_and_insertion_are_rises_metric(versus: int | None) -> None:
    """RISE's CausalMetric, written down again a picture at a time."""
    model, x = built("resnet18"), picture_for("resnet18")[:, :, :48, :40]
    evidence = hires_cam(model, x, target=1, versus=versus)
    found = deletion_insertion(model, x, evidence, steps=7)
    order = np.argsort(-over_picture(evidence).ravel(), kind="stable")
    step = -(-48 * 40 // 7)
    for curve, start, end in ((found.deletion, x, torch.zeros_like(x)), (found.insertion, blur(x), x)):
        current, expected = start.clone(), []
        for i in range(8):
            with torch.no_grad():
                row = model(current)[0].double()
            expected.append(
                float(row.softmax(0)[1] if versus is None else torch.sigmoid(row[1] - row[versus]))
            )
            for pixel in order[i * step : (i + 1) * step]:
                current[0, :, pixel // 40, pixel % 40] = end[0, :, pixel // 40, pixel % 40]
        assert np.allclose(curve, expected, atol=1e-5)
    with pytest.raises(SightlineError, match="is of a picture of"):
        deletion_insertion(model, picture_for("resnet18"), evidence)


def test_blur_keeps_what_is_even() -> None:
    x = torch.full((1, 3, 20, 30), 0.7)
    assert torch.allclose(blur(x), x)
    assert blur(torch.randn(1, 3, 64, 64)).std() < 0.2


def test_rank_correlation_is_scipys() -> None:
    rng = np.random.default_rng(0)
    one, other = rng.integers(0, 5, (6, 7)).astype(np.float32), rng.random((6, 7), np.float32)
    assert correlation(one, other) == pytest.approx(spearmanr(one.ravel(), other.ravel()).statistic)
    assert correlation(one, np.zeros_like(one)) == 0


def test_forgetting_goes_from_the_last_layer_to_the_first_and_leaves_the_model() -> None:
    model, x = built("resnet18"), picture_for("resnet18")
    before, seen = state_of(model), []

    def view(net: nn.Module, _x: Tensor) -> NDArray[np.float32]:
        seen.append([p.detach().clone() for p in net.parameters()])
        return np.zeros((4, 4), np.float32)

    found = randomisation_test(model, x, view, steps=3, draws=1)
    assert same_state(before, state_of(model))
    names = [name for name, _ in model.named_parameters()]
    changed = [
        {n for n, a, b in zip(names, seen[0], now, strict=True) if not torch.equal(a, b)} for now in seen[1:]
    ]
    assert (
        changed[0] < changed[1] < changed[2]
        and "conv1.weight" in changed[2]
        and "conv1.weight" not in changed[1]
    )
    assert "fc.weight" in changed[0] and found.layers[-1] == "conv1"
    for a, b in zip(seen[0], seen[-1], strict=True):
        assert torch.equal(a.flatten().sort().values, b.flatten().sort().values)
    assert sum(map(len, layer_groups(model, 3))) == sum(
        1 for m in model.modules() if list(m.parameters(recurse=False))
    )


MAPS: dict[str, Map] = {
    "grad_cam": lambda model, x, target: grad_cam(model, x, target=target).values,
    "occlusion": lambda model, x, target: over_picture(
        occlusion(model, x, target=target, patch=6, stride=3, batch=128)
    ),
}
OF_ATTENTION: dict[str, Map] = {
    "attention": lambda model, x, _: attention(model, x).mean().mean(0),
    "rollout": lambda model, x, _: attention_rollout(model, x).over_patches(),
}
PROJECTED: dict[str, Map] = {
    "deconvnet": lambda model, x, _: np.abs(deconvolve(model, x, layer="0").values).sum(0)
}
FOR_CLASSES = [*((name, view) for name in ("cnn", "vit") for view in MAPS), ("vit_class_token", "occlusion")]
GRIDS = {"occlusion": (SIDE, SIDE), "deconvnet": (SIDE, SIDE)}  # of the others, the 7x7 cells of a layer
CLASSLESS = [("cnn", "deconvnet"), *(("vit_class_token", view) for view in OF_ATTENTION)]
VIEWS = MAPS | OF_ATTENTION | PROJECTED
MAKE = {"cnn": cnn, "vit": vit, "vit_class_token": vit_class_token}
BACKGROUND = {"cnn": "mosaic", "vit": "noise", "vit_class_token": "noise"}


@pytest.fixture(scope="module")
def networks() -> dict[str, nn.Module]:
    torch.manual_seed(0)
    return {
        "cnn": trained(cnn(), "mosaic", 1280, 5, 5e-3),
        "vit": trained(vit(), "noise", 2560, 5, 3e-3),
        "vit_class_token": trained(vit_class_token(), "noise", 2560, 6, 3e-3),
    }


def gaps(
    model: nn.Module, view: Map, background: str, pictures: int = PICTURES, seed: int = 2
) -> NDArray[np.float64]:
    data = planted(pictures, seed, background)
    rows = zip(data.pictures.split(1), data.targets.tolist(), data.places, strict=True)
    return np.array([gap(view(model, x, target), place) for x, target, place in rows])


@pytest.mark.parametrize("name", MAKE)
def test_the_networks_know_the_patch(networks: dict[str, nn.Module], name: str) -> None:
    assert accuracy(networks[name], planted(1000, 1, BACKGROUND[name], nothing=True)) >= 0.99


@pytest.mark.parametrize(("name", "view"), FOR_CLASSES)
def test_the_peak_is_within_a_stride_of_the_patch(
    networks: dict[str, nn.Module], name: str, view: str
) -> None:
    assert (gaps(networks[name], VIEWS[view], BACKGROUND[name]) <= TOKEN).mean() >= 0.95


@pytest.mark.parametrize(("name", "view"), CLASSLESS)
def test_views_that_know_no_class_hit_the_patch(networks: dict[str, nn.Module], name: str, view: str) -> None:
    background = BACKGROUND[name]
    by_chance = chance(GRIDS.get(view, (7, 7)), planted(PICTURES, 2, background).places)
    assert (gaps(networks[name], VIEWS[view], background) < 0).mean() >= 3 * by_chance


@pytest.mark.parametrize(("name", "view"), [*FOR_CLASSES, *CLASSLESS])
def test_a_network_that_forgot_everything_is_at_chance(
    networks: dict[str, nn.Module], name: str, view: str
) -> None:
    """Weights shuffled in many ways: no more hits than cells at random have, but for three deviations of chance.

    A picture for each, as the hits of one network depend on each other."""
    hits = []
    for seed in range(120):
        forgetting, generator = copy.deepcopy(networks[name]), torch.Generator().manual_seed(seed)
        for module in forgetting.modules():
            forget(module, generator)
        hits += (gaps(forgetting, VIEWS[view], "mosaic", 1, seed) < 0).tolist()
    by_chance = chance(GRIDS.get(view, (7, 7)), planted(400, 2, "mosaic").places)
    assert np.mean(hits) <= by_chance + 3 * np.sqrt(by_chance * (1 - by_chance) / len(hits))


def test_a_good_map_passes_and_a_shuffled_one_does_not(networks: dict[str, nn.Module]) -> None:
    from dataclasses import replace

    model, data = networks["cnn"], planted(8, 5, "mosaic")
    rng = np.random.default_rng(0)
    good, bad = [], []
    for x, target in zip(data.pictures.split(1), data.targets.tolist(), strict=True):
        found = grad_cam(model, x, target=target)
        nonsense = replace(found, values=rng.permutation(found.values.ravel()).reshape(found.values.shape))
        good.append(deletion_insertion(model, x, found, shuffles=3))
        bad.append(deletion_insertion(model, x, nonsense, shuffles=3))
    areas = [[(one.deletion_area, one.insertion_area) for one in some] for some in (good, bad)]
    (good_deletion, good_insertion), (bad_deletion, bad_insertion) = np.mean(areas, axis=1)
    assert good_deletion < bad_deletion - 0.1 and good_insertion > bad_insertion + 0.05
    assert sum(one.passed for one in good) >= 3 + sum(one.passed for one in bad)
    assert all(": better than its cells" in one.verdict for one in good if one.passed)
    assert all("NO better" in one.verdict for one in bad if not one.passed)


def test_guided_backprop_forgets_less_than_grad_cam(networks: dict[str, nn.Module]) -> None:
    """Adebayo et al.: guided backpropagation hardly changes with the weights."""
    model, x = networks["cnn"], planted(1, 9, "mosaic").pictures
    tests = {
        view: randomisation_test(model, x, partial(view, target=1), steps=1, draws=4)
        for view in (grad_cam, guided_backprop)
    }
    last = {view: one.correlations[-1] for view, one in tests.items()}
    assert last[guided_backprop] > last[grad_cam]
    assert tests[grad_cam].passed and "depends on what was learned" in tests[grad_cam].verdict


def test_an_edge_detector_fails_and_coarse_maps_are_undecided() -> None:
    model, x = built("resnet18"), picture_for("resnet18")

    def edges(_model: nn.Module, picture: Tensor) -> NDArray[np.float32]:
        return np.abs(np.diff(picture[0].numpy().sum(0)))

    failed = randomisation_test(model, x, edges, steps=2, draws=1)
    assert failed.correlations == (1.0, 1.0) or min(failed.correlations) == pytest.approx(1)
    assert failed.passed is False and "DO NOT TRUST" in failed.verdict
    coarse = randomisation_test(model, x, partial(grad_cam, target=1), steps=1, draws=1)
    assert coarse.cells == 4 and coarse.passed is None and "too coarse" in coarse.verdict


def test_integrated_gradients_find_the_patch(networks: dict[str, nn.Module]) -> None:
    data = planted(10, 3, "mosaic")
    inside = []
    for x, target, (top, left) in zip(
        data.pictures.split(1), data.targets.tolist(), data.places, strict=True
    ):
        values = over_picture(
            integrated_gradients(networks["cnn"], x, target=target, versus=(target + 1) % CLASSES)
        )
        inside.append(values[top : top + 6, left : left + 6].sum() / np.abs(values).sum())
    assert np.mean(inside) > 3 * 36 / 28**2
