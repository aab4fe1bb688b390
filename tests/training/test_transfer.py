"""Training from pretrained weights: what is frozen, where it starts, and how it moves."""

from __future__ import annotations

import copy
import csv
import json

import numpy as np
import pytest
import torch
from torch import nn

from sightline import fit, load
from sightline.bundle import Bundle, Classifier
from sightline.data import open_dataset
from sightline.errors import SightlineError
from sightline.features.embedding import Embedding
from sightline.features.heads import RidgeHead, SoftmaxHead
from sightline.models import create_model
from sightline.training.optim import make_optimizer
from sightline.training.prepare import prepare
from sightline.training.progress import Quiet
from sightline.training.recipe import Recipe, read_recipe
from sightline.training.transfer import TransferTrainer, widen
from sightline.training.transfer_frozen import FrozenPart
from sightline.training.transfer_order import freeze_before, order_of, rates_by_depth
from tests.models.reduced import reduced, side

torch.set_num_threads(1)
FEW = {"epochs": 3, "batch_size": 16, "device": "cpu", "workers": 0, "precision": "fp32", "ema": 0.0}


@pytest.fixture(scope="module")
def source(shapes):
    return open_dataset(shapes)


def job_of(source, trained, **settings):
    return prepare(source, read_recipe(FEW | {"model": {"weights": str(trained.path)}} | settings), Quiet())


def run(source, trained, **settings):
    job = job_of(source, trained, **settings)
    start = copy.deepcopy(job.trainer.model.state_dict())
    state = job.trainer.run(Quiet())
    return job, start, state


# Order and depth.


def test_depth_counts_the_stages_before():
    """ResNet-18: stem, layer1 to layer4, classifier."""
    model = create_model("resnet18")
    order = order_of(model, (3, 64, 64))
    depths = {name: order.depth(name) for name, _ in model.named_parameters()}
    assert (depths["conv1.weight"], depths["bn1.bias"]) == (0, 0)
    for stage in range(1, 5):
        assert {d for name, d in depths.items() if name.startswith(f"layer{stage}.")} == {stage}
    assert depths["fc.weight"] == 5
    shares = rates_by_depth(model, order, 0.5)
    assert shares["fc.bias"] == 1.0
    assert shares["layer4.1.bn2.weight"] == 0.5
    assert shares["conv1.weight"] == 0.5**5


def test_depth_of_tokens():
    model = create_model("vit_tiny_patch16_224", depth=3, img_size=32)
    order = order_of(model, (3, 32, 32))
    depths = {name: order.depth(name) for name, _ in model.named_parameters()}
    assert depths["cls_token"] == depths["pos_embed"] == depths["patch_embed.proj.weight"] == 0
    assert [depths[f"blocks.{i}.mlp.fc1.weight"] for i in range(3)] == [0, 1, 2]
    assert depths["norm.weight"] == depths["head.weight"] == 3


def test_rates_fall_with_depth_in_a_step():
    """One step of plain SGD on a gradient of ones moves each parameter by its rate."""
    model = reduced("resnet18")
    shares = rates_by_depth(model, order_of(model, (3, 64, 64)), 0.5)
    recipe = Recipe().updated({"optimizer.name": "sgd", "optimizer.lr": 0.1, "optimizer.momentum": 0.0})
    optimizer = make_optimizer(model, recipe, shares)
    before = copy.deepcopy(model.state_dict())
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    for group in optimizer.param_groups:
        group["lr"] = 0.1 * group["share"]
    optimizer.step()
    for name, parameter in model.named_parameters():
        expected = before[name] - 0.1 * shares[name]
        assert torch.allclose(parameter, expected, atol=1e-6), name


def test_what_runs_before_a_stage_is_frozen_and_nothing_else():
    model = create_model("resnet18")
    freeze_before(model, "layer3", order_of(model, (3, 64, 64)))
    frozen = {name for name, p in model.named_parameters() if not p.requires_grad}
    first = ("conv1.", "bn1.", "layer1.", "layer2.")
    assert frozen == {name for name, _ in model.named_parameters() if name.startswith(first)}


def test_an_unknown_stage_suggests_near_ones():
    model = create_model("resnet18")
    with pytest.raises(SightlineError, match=r"'layr3'; did you mean .*layer3"):
        freeze_before(model, "layr3", order_of(model, (3, 64, 64)))


# A frozen part.


@pytest.mark.parametrize(
    ("name", "module"),
    [
        ("resnet18", "layer2"), ("resnet18", "fc"), ("vit_tiny_patch16_224", "blocks.1"),
        ("swin_tiny_patch4_window7_224", "layers.1"), ("efficientnet_b0", "features.3"), ("vgg11", "features.3"),
    ],
)  # fmt: skip
def test_the_rest_goes_on_from_activations(name, module):
    model = reduced(name).eval()
    part = FrozenPart(module, (3, side(name), side(name)), lambda network, x: network(x.float() / 255))
    images = torch.randint(0, 256, (3, 3, side(name), side(name)), dtype=torch.uint8)
    holds, size = part.holds(model)
    assert holds
    with torch.no_grad():
        kept = part.activations(model, images)
        assert size == kept[0].numel() * 4
        expected = model(images.float() / 255)
        assert torch.allclose(part.rest(model, kept), expected, atol=1e-5, rtol=1e-4)
    assert not any(m._forward_pre_hooks for m in model.modules())


def test_a_shortcut_around_the_cut_is_noticed():
    model = reduced("resnet18").eval()
    part = FrozenPart("layer2.0.conv2", (3, 64, 64), lambda network, x: network(x.float() / 255))
    assert not part.holds(model)[0]


def test_kept_views_train_as_live_ones_do(source, trained):
    """With as many views as epochs each is used once: the very pictures of live augmentation."""
    settings = {"strategy": "finetune", "train_from": "layer3", "augment": "crop(3) + hflip"}
    kept, _, _ = run(source, trained, views=3, **settings)
    live, _, _ = run(source, trained, views=0, **settings)
    assert isinstance(kept.trainer, TransferTrainer)
    assert kept.trainer.views is not None
    assert live.trainer.views is None
    assert (kept.recipe.views, live.recipe.views) == (3, 0)
    theirs = live.trainer.model.state_dict()
    for name, value in kept.trainer.model.state_dict().items():
        assert torch.allclose(value.float(), theirs[name].float(), atol=1e-4, rtol=1e-3), name


@pytest.mark.parametrize("views", [0, 2])
def test_frozen_is_frozen(source, trained, views):
    """Neither weights nor batch-norm statistics move before the stage; behind it both do."""
    job, start, _ = run(source, trained, strategy="finetune", train_from="layer3", views=views)
    moved = {
        name for name, value in job.trainer.model.state_dict().items() if not torch.equal(value, start[name])
    }
    assert all(name.startswith(("layer3.", "layer4.", "fc.")) for name in moved)
    assert {"layer3.0.bn1.running_mean", "layer4.0.conv1.weight", "fc.weight"} <= moved


def test_views_that_cannot_be_kept(source, trained):
    with pytest.raises(SightlineError, match=r"mixing needs the pictures.*views = 0"):
        job_of(source, trained, strategy="finetune", train_from="layer3", views=2, augment="mixup(0.2)")
    job = job_of(source, trained, strategy="finetune", train_from="layer3.0.conv2")
    assert job.recipe.views == 0
    assert any("cannot go on" in reason for reason in job.reasons)


# The head first.


@pytest.mark.parametrize(("name", "head"), [("softmax", SoftmaxHead), ("ridge", RidgeHead)])
def test_a_probe_is_the_head_on_the_features(source, trained, tmp_path, name, head):
    """What the run's Bundle decides is what scikit-learn's pipeline of the same parts decides."""
    settings = {"strategy": "probe", "head": name, "precision": "fp32", "device": "cpu"}
    probe = fit(source, out=tmp_path / "run", weights=trained.path, quiet=True, **settings)
    with (probe.path / "splits.csv").open() as file:
        chosen = np.array([row["split"] == "train" for row in csv.DictReader(file)])
    embedding = Embedding(trained.path, precision="fp32").fit()
    train, rest = source.subset(chosen), source.subset(~chosen)
    fitted = head().fit(embedding.transform(train), train.targets)
    expected = fitted.predict_proba(embedding.transform(rest))
    _, answers, _ = Classifier(Bundle.load(probe.path), precision="fp32").probabilities_of(rest)
    np.testing.assert_allclose(answers, expected, atol=1e-4)
    assert Bundle.load(probe.path).temperature == pytest.approx(fitted.temperature_, rel=1e-3)
    history = [json.loads(line) for line in (probe.path / "history.jsonl").read_text().splitlines()]
    assert [(row["epoch"], row["step"]) for row in history] == [(0, 0)]
    assert (probe.path / "report.html").exists()


def test_fine_tuning_starts_from_the_head_and_keeps_it_if_nothing_moves(source, trained):
    job, start, state = run(source, trained, strategy="finetune")
    assert [row["epoch"] for row in state.history] == [0, 1, 2, 3]
    head = job.trainer.model.get_classifier()
    assert not torch.equal(head.weight, start["fc.weight"])
    # Steps too small to change anything.
    _, start, state = run(source, trained, strategy="finetune", optimizer={"lr": 1e-12})
    assert state.history[0]["val_balanced_accuracy"] == state.best.merit
    assert torch.equal(state.best.weights["fc.weight"], start["fc.weight"])


def test_without_a_head_there_is_no_epoch_0(source, trained):
    _, _, state = run(source, trained, strategy="finetune", head="none")
    assert [row["epoch"] for row in state.history] == [1, 2, 3]


def test_a_class_that_no_training_picture_has():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(40, 5))
    y = np.where(x[:, 0] > 0, 3, 1)
    head = RidgeHead().fit(x, y)
    before = head.logits(x)
    widen(head, 5)
    assert head.coef_.shape == (5, 5)
    np.testing.assert_allclose(head.logits(x)[:, [1, 3]], before)
    assert head.predict_proba(x)[:, [0, 2, 4]].max() < 1e-9


# The pull towards where it started.


def test_l2_sp_pulls_towards_the_start(source, trained):
    """Without a gradient of the loss, SGD of rate 0.1 takes away 0.1 * l2_sp of the distance; the classifier stays."""
    optimizer = {
        "name": "sgd",
        "lr": 0.1,
        "momentum": 0.0,
        "nesterov": False,
        "weight_decay": 0.0,
        "layer_decay": 1.0,
    }
    job = job_of(source, trained, strategy="finetune", l2_sp=0.5, optimizer=optimizer)
    state = job.trainer.start()
    start = copy.deepcopy(state.model.state_dict())
    for group in state.optimizer.param_groups:
        group["lr"] = 0.1
    with torch.no_grad():
        for parameter in state.model.parameters():
            parameter.add_(1.0)
            parameter.grad = torch.zeros_like(parameter)
    job.trainer.move(state)
    for name, parameter in state.model.named_parameters():
        left = 1.0 if name.startswith("fc.") else 1.0 - 0.1 * 0.5
        assert torch.allclose(parameter - start[name], torch.full_like(parameter, left), atol=1e-5), name


# What is chosen.


def test_what_the_weights_were_trained_on_is_taken_over(source, trained):
    job = job_of(source, trained)
    assert job.recipe.strategy == "finetune"
    assert job.recipe.model.name == trained.recipe.model.name
    assert job.trainer.preprocess == trained.classifier.preprocess
    assert job.recipe.optimizer.layer_decay is not None


def test_an_unknown_stage_is_said_before_pictures_are_read(source, trained):
    with pytest.raises(SightlineError, match=r"did you mean .*layer4"):
        job_of(source, trained, strategy="finetune", train_from="layer44")


def test_batch_norm_of_a_probe_stays(source, trained, tmp_path):
    probe = fit(source, out=tmp_path / "r", weights=trained.path, strategy="probe", device="cpu", quiet=True)
    before, after = Bundle.load(trained.path).weights, Bundle.load(probe.path).weights
    assert {name for name in before if not torch.equal(before[name], after[name])} == {"fc.weight", "fc.bias"}
    assert any(isinstance(m, nn.BatchNorm2d) for m in load(probe.path).network.modules())
