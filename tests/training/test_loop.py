"""The loop: what moves, what must not, and what it promises."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

from sightline.data import open_dataset
from sightline.errors import SightlineError
from sightline.models import create_model
from sightline.pipeline.order import MIX, uniforms
from sightline.training.build import freeze_body
from sightline.training.calibration import calibrate
from sightline.training.find_lr import find_lr, propose
from sightline.training.loop import set_train_mode, step_seed
from sightline.training.objective import class_weights
from sightline.training.optim import averaged, parameter_groups
from sightline.training.prepare import prepare
from sightline.training.progress import Quiet
from sightline.training.recipe import read_recipe

FEW = {"epochs": 2, "batch_size": 64, "device": "cpu", "workers": 0}


def job_of(**settings):
    data = FEW | settings
    return prepare(open_dataset("digits"), read_recipe(data), Quiet())


def weights_of(job):
    state = job.trainer.run(Quiet())
    return state, {name: value.clone() for name, value in state.evaluated.state_dict().items()}


def test_training_learns_and_keeps_the_latest_epoch_that_is_as_good_as_the_best():
    state, _ = weights_of(job_of(epochs=4))
    assert state.history[-1]["train_loss"] < state.history[0]["train_loss"]
    floor = max(row["val_balanced_accuracy"] - row["val_deviation"] for row in state.history)
    as_good = [row for row in state.history if row["val_balanced_accuracy"] >= floor]
    assert state.best.epoch == as_good[-1]["epoch"]
    assert state.best.merit == as_good[-1]["val_balanced_accuracy"]
    assert state.best.merit > 0.5  # chance is 0.1
    assert [row["step"] for row in state.history] == [20, 40, 60, 80]  # 1,259 pictures in batches of up to 64


def test_the_same_seed_gives_the_same_bits_and_another_does_not():
    _, first = weights_of(job_of(seed=1))
    _, second = weights_of(job_of(seed=1))
    _, other = weights_of(job_of(seed=2))
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not all(torch.equal(first[name], other[name]) for name in first)


def test_workers_do_not_change_a_bit():
    _, none = weights_of(job_of(epochs=1, augment="rotate(10) + translate(0.1)"))
    _, two = weights_of(job_of(epochs=1, augment="rotate(10) + translate(0.1)", workers=2))
    assert all(torch.equal(none[name], two[name]) for name in none)


def test_calibration_leaves_the_run_untouched():
    straight, expected = weights_of(job_of(seed=1))
    job = job_of(seed=1)
    steps, seconds = calibrate(job.trainer, 30.0)
    assert steps >= 1
    assert seconds > 0
    _, after = weights_of(job)
    assert all(torch.equal(expected[name], after[name]) for name in expected)
    assert straight.step == 40


def test_steps_bound_the_run_and_the_last_epoch_is_validated():
    state, _ = weights_of(job_of(steps=25))
    assert [row["step"] for row in state.history] == [20, 25]


def test_patience_ends_a_run_that_no_longer_gets_better():
    job = job_of(epochs=30, patience=2, **{"optimizer": {"lr": 1e-12}, "ema": 0.0})
    state = job.trainer.run(Quiet())
    assert state.epoch < 30
    assert state.choice.epochs_since == 2


def test_a_loss_that_is_not_a_number_is_a_sentence():
    job = job_of(**{"optimizer": {"lr": 90.0, "name": "sgd"}, "schedule": {"name": "constant"}, "epochs": 30})
    with pytest.raises(SightlineError, match=r"optimizer\.lr"):
        job.trainer.run(Quiet())


# Frozen is frozen.


def test_a_probe_moves_the_head_alone_and_no_statistics():
    model = create_model("resnet20", num_classes=10, in_chans=1)
    freeze_body(model)
    job = job_of(model={"name": "resnet20"}, epochs=1)
    job.trainer.model = model.to(memory_format=torch.channels_last)
    before = copy.deepcopy(model.state_dict())
    job.trainer.run(Quiet())
    moved = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    assert moved == {"fc.weight", "fc.bias"}


def test_set_train_mode_leaves_frozen_batch_norm_in_eval():
    model = nn.Sequential(
        nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Dropout(0.5), nn.Conv2d(2, 2, 1), nn.BatchNorm2d(2)
    )
    model[1].requires_grad_(False)
    set_train_mode(model)
    assert not model[1].training
    assert model[2].training
    assert model[4].training


# Parts.


def test_no_decay_on_norms_and_biases():
    model = create_model("resnet18", num_classes=3)
    decayed, spared = parameter_groups(model, 0.1)
    assert decayed["weight_decay"] == 0.1
    assert spared["weight_decay"] == 0.0
    assert all(p.ndim > 1 for p in decayed["params"])
    assert all(p.ndim == 1 for p in spared["params"])
    assert sum(p.numel() for g in (decayed, spared) for p in g["params"]) == sum(
        p.numel() for p in model.parameters()
    )


def test_class_weights_give_every_class_the_same_say():
    targets = np.array([0] * 90 + [1] * 10)
    weights = class_weights(targets, 3)
    assert weights.tolist() == pytest.approx([100 / 270, 100 / 30, 0.0])
    assert weights[0] * 90 == pytest.approx(float(weights[1] * 10))


def test_the_average_is_exponential_and_forgets_its_start():
    model = nn.Linear(1, 1, bias=False)
    nn.init.constant_(model.weight, 0.0)
    ema = averaged(model, 0.9)
    values, expected = [], None
    for n in range(200):
        nn.init.constant_(model.weight, float(n))
        ema.update_parameters(model)
        decay = min(0.9, (1 + n) / (10 + n))
        expected = float(n) if expected is None else decay * expected + (1 - decay) * n
        values.append(expected)
    assert ema.module.weight.item() == pytest.approx(values[-1], rel=1e-4)


def test_the_range_test_proposes_a_rate_and_leaves_the_model():
    job = job_of()
    before = copy.deepcopy(job.trainer.model.state_dict())
    curve = find_lr(job.trainer, Quiet(), steps=40)
    assert 1e-4 < curve.proposed < 5.0
    assert curve.rates == tuple(sorted(curve.rates))
    assert all(torch.equal(v, before[k]) for k, v in job.trainer.model.state_dict().items())


def test_propose_takes_a_tenth_of_the_rate_with_the_lowest_loss():
    rates = np.geomspace(1e-5, 10, 200)
    losses = 2 + np.log10(rates / 0.3) ** 2  # lowest at 0.3
    assert propose(list(rates), list(losses)) == pytest.approx(0.03, rel=0.05)
    with pytest.raises(SightlineError, match="never fell"):
        propose(list(rates), list(rates))


# Mixing and auxiliary classifiers.


def test_mixed_batches_have_the_loss_of_their_mixed_labels():
    """One step, computed again by hand from the drawn pictures."""
    job = job_of(augment="hflip(0.0) + mixup(0.4)", balance="loss", steps=1, precision="fp32")
    trainer = job.trainer
    state = trainer.start()
    whole, batch = next(trainer.batches(0))
    u = uniforms(0, 0, np.array([0]), 3, MIX)[0]
    wanted = torch.nn.functional.one_hot(batch.targets, 10).float()
    images, soft = trainer.train.augment.mix(batch.images, wanted, u)
    assert not torch.equal(images, batch.images)
    set_train_mode(state.model)
    logits = copy.deepcopy(state.model)(trainer.preprocess.normalize(images))
    weights = class_weights(trainer.targets, 10)
    smooth = soft * 0.9 + soft.sum(1, keepdim=True) * 0.1 / 10
    expected = -(smooth * weights * logits.log_softmax(1)).sum()
    loss, _ = trainer.learn(state, batch, 1e-3, whole)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)


def test_auxiliary_classifiers_learn_with_their_share():
    shape = {"size": 32, "fit": "squash"}
    job = job_of(model={"name": "googlenet"}, input=shape, steps=1, precision="fp32", label_smoothing=0.0)
    trainer = job.trainer
    state = trainer.start()
    whole, batch = next(trainer.batches(0))
    set_train_mode(state.model)
    torch.manual_seed(step_seed(0, 0, 0))  # of dropout
    logits, sides = copy.deepcopy(state.model).forward_auxiliary(trainer.preprocess.normalize(batch.images))
    losses = [nn.functional.cross_entropy(x, batch.targets, reduction="sum") for x in (logits, *sides)]
    loss, _ = trainer.learn(state, batch, 1e-3, whole)
    assert loss.item() == pytest.approx((losses[0] + 0.3 * (losses[1] + losses[2])).item(), rel=1e-4)
    assert all(p.grad is not None for name, p in state.model.named_parameters() if name.startswith("aux"))
