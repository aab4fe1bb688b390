"""The schedules against PyTorch's own."""

import pytest
import torch

from sightline.training.schedule import factor


def rates(scheduler_of, total):
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    scheduler = scheduler_of(optimizer)
    out = []
    for _ in range(total):
        out.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return out


@pytest.mark.parametrize("total", [10, 97, 1000])
def test_onecycle_is_pytorchs(total):
    expected = rates(
        lambda o: torch.optim.lr_scheduler.OneCycleLR(o, 1.0, total_steps=total, cycle_momentum=False),
        total + 0,
    )
    assert [factor("onecycle", s, total) for s in range(total)] == pytest.approx(expected, rel=1e-6)


def test_step_is_pytorchs():
    expected = rates(lambda o: torch.optim.lr_scheduler.StepLR(o, 7, gamma=0.1), 25)
    assert [factor("step", s, 25, step_size=7) for s in range(25)] == pytest.approx(expected)


def test_cosine_is_pytorchs():
    expected = rates(lambda o: torch.optim.lr_scheduler.CosineAnnealingLR(o, 50), 50)
    assert [factor("cosine", s, 50) for s in range(50)] == pytest.approx(expected)


def test_warm_up_rises_in_a_line_to_the_full_rate():
    values = [factor("cosine", s, 100, warmup=9) for s in range(10)]
    assert values == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0])


def test_constant_stays():
    assert {factor("constant", s, 10) for s in range(10)} == {1.0}
