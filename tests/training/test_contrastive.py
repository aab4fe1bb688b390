"""Learning from captions: the loss, what is drawn, what moves, and several processes."""

from __future__ import annotations

import csv
import json
import math
import re
import subprocess

import numpy as np
import pytest
import torch
from torch.nn import functional as F

import sightline
from sightline.data.captions import open_captions
from sightline.errors import SightlineError
from sightline.models import create_model
from sightline.models.clip_folder import KeptClip
from sightline.models.word_tokenizer import WordTokenizer
from sightline.pipeline.order import CAPTION, uniforms
from sightline.training.contrastive import CaptionTokens, contrastive_losses, limit_scale
from sightline.training.contrastive_job import prepare_captions
from sightline.training.optim import parameter_groups
from sightline.training.processes import ALONE
from sightline.training.progress import Quiet
from sightline.training.recipe import read_recipe
from tests.conftest import draw
from tests.training.test_processes import ENVIRONMENT, TORCHRUN, apart, torchrun
from tests.training.uneven_pairs import PAIRS, gradients

COLOURS = ("dark", "red", "green")
# A transformer of two blocks: no batch norm, whose statistics would be each process's own.
TINY = {
    "objective": "contrastive",
    "model.name": "clip_vit_base_patch32",
    "model.embed_dim": 16,
    "model.vision_layers": 2,
    "model.vision_width": 32,
    "model.head_width": 16,
    "model.patch_size": 8,
    "model.text_width": 16,
    "model.text_heads": 2,
    "model.text_layers": 1,
    "input.size": 24,
    "epochs": 2,
    "batch_size": 15,
    # Adam divides by the gradient's size, also where that is rounding alone: as with the keys' biases.
    "optimizer.name": "sgd",
    "optimizer.lr": 0.05,
    "ema": 0.9,
    "precision": "fp32",
    "device": "cpu",
}


@pytest.fixture(scope="module")
def captioned(tmp_path_factory):
    """63 drawn pictures with one to three captions each, as a manifest with all three splits. Read only."""
    root = tmp_path_factory.mktemp("captioned")
    rng = np.random.default_rng(0)
    rows = []
    for k in range(63):
        kind = ("disc", "square", "stripes")[k % 3]
        name = f"{k:02}.png"
        draw(kind, 24, rng).save(root / name)
        split = "test" if k >= 54 else "val" if k >= 45 else "train"
        said = [f"a {kind}", f"this is a {kind} number {k % 7}", f"{kind} in the dark"]
        rows += [(name, caption, split) for caption in said[: 1 + k % 3]]
    with (root / "captions.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("path", "caption", "split"), *rows])
    return root


def job_of(captioned, **settings):
    recipe = read_recipe({}).updated(TINY | settings)
    return prepare_captions(open_captions(captioned), recipe, Quiet())


# The loss.


def features(n=7, dim=5, seed=0):
    generator = torch.Generator().manual_seed(seed)
    made = (F.normalize(torch.randn(n, dim, generator=generator, dtype=torch.float64), dim=1) for _ in "it")
    return tuple(x.float().requires_grad_() for x in made)


def test_the_loss_is_open_clips():
    open_clip_loss = pytest.importorskip("open_clip.loss")
    images, texts = features()
    scale = torch.tensor(14.0, requires_grad=True)
    losses, right = contrastive_losses(images, texts, scale)
    ours = torch.autograd.grad(losses.mean(), (images, texts, scale))
    theirs_loss = open_clip_loss.ClipLoss()(images, texts, scale)
    theirs = torch.autograd.grad(theirs_loss, (images, texts, scale))
    assert losses.mean().item() == pytest.approx(theirs_loss.item(), rel=1e-6)
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)
    assert right.tolist() == [(images[i] @ texts.T).argmax().item() == i for i in range(7)]


def test_the_loss_of_pairs_that_all_agree_is_the_log_of_their_number():
    same = F.normalize(torch.ones(6, 4), dim=1)
    losses, _ = contrastive_losses(same, same, torch.tensor(50.0))
    torch.testing.assert_close(losses, torch.full((6,), math.log(6)))


def test_the_scale_never_exceeds_one_hundred(captioned):
    job = job_of(captioned, **{"optimizer.lr": 0.5})
    state = job.trainer.start()
    with torch.no_grad():
        state.model.logit_scale.fill_(4.59)  # exp: 98.5
    scales = []
    for whole, batch in job.trainer.batches(0):
        # Ever more certain: the gradient of the loss wants a larger scale.
        state.model.logit_scale.grad = None
        job.trainer.learn(state, batch, 0.5, whole)
        scales.append(float(state.model.logit_scale.detach().exp()))
        state.step += 1
    assert max(scales) <= 100 * (1 + 1e-6)
    with torch.no_grad():
        state.model.logit_scale.fill_(9.0)
    limit_scale(state.model)
    assert state.model.logit_scale.item() == pytest.approx(math.log(100))


# What is drawn, and what decays.


def test_captions_are_drawn_by_seed_epoch_and_picture():
    tokens = CaptionTokens(torch.arange(10).view(10, 1), np.array([0, 1, 4, 10]))
    drawn = {(e, p): int(tokens.draw(3, e, np.array([p]))[0, 0]) for e in range(200) for p in range(3)}
    together = tokens.draw(3, 17, np.array([2, 0, 1]))[:, 0].tolist()
    assert together == [drawn[17, 2], drawn[17, 0], drawn[17, 1]]
    assert {drawn[e, 0] for e in range(200)} == {0}
    assert {drawn[e, 1] for e in range(200)} == {1, 2, 3}
    counts = np.bincount([drawn[e, 2] for e in range(200)], minlength=10)[4:]
    assert counts.min() > 15 and counts.sum() == 200  # 33 expected of each
    assert int(tokens.draw(3, 5, np.array([2]))[0, 0]) == 4 + int(
        uniforms(3, 5, np.array([2]), 1, CAPTION)[0, 0] * 6
    )


def test_norms_biases_positions_and_the_scale_do_not_decay(captioned):
    model = job_of(captioned).trainer.model
    decayed = {id(p) for p in parameter_groups(model, 0.1)[0]["params"]}
    names = {name for name, p in model.named_parameters() if id(p) in decayed}
    assert not any(
        part in name for name in names for part in ("ln_", "bias", "logit_scale", "positional", "class_emb")
    )
    assert {"text_projection", "token_embedding.weight", "visual.proj", "visual.conv1.weight"} <= names


def test_words_become_tokens():
    tokenizer = WordTokenizer.fit(["A red dog.", "a red cat!", "the dog's red, red ball"])
    assert tokenizer.words == ("red", "a")  # in two captions or more, the most frequent first
    rows = tokenizer(["A red zebra", "a " * 50])
    start, unknown, end = 1, 2, tokenizer.vocab_size - 1
    assert rows[0].tolist()[:5] == [start, 4, 3, unknown, end]
    assert rows.shape[1] == tokenizer.context_length == 6 + 3 + 2  # the longest has six words and marks
    assert rows[1, -1] == end and tokenizer.truncated("a " * 10) and not tokenizer.truncated("a " * 9)
    assert tokenizer.unknown("a red zebra") == ["zebra"]
    assert WordTokenizer.from_dict(json.loads(json.dumps(tokenizer.to_dict()))) == tokenizer
    assert tokenizer([""])[0, :2].tolist() == [start, end]


# A run.


@pytest.fixture(scope="module")
def one(captioned, tmp_path_factory):
    """One process's run of TINY."""
    out = tmp_path_factory.mktemp("one") / "run"
    return sightline.fit(captioned, out=out, quiet=True, **TINY)


def test_a_run_leaves_what_can_be_used(one, captioned):
    kept = KeptClip.load(one.path)
    model = kept.model()
    dataset = open_captions(captioned).split("test")
    images = model.encode_image(
        kept.preprocess.normalize(torch.stack([kept.preprocess(dataset.read(i)) for i in range(9)])), True
    )
    captions, _ = dataset.all_captions()
    texts = model.encode_text(kept.tokenizer(captions), True)
    near = (images @ texts.T).detach().numpy()
    right = np.array([[captions[j] in dataset.captions(i) for j in range(len(captions))] for i in range(9)])
    hits = [right[i][near[i].argmax()] for i in range(9)]
    assert one.retrieval.n == 9
    assert one.retrieval.image_to_text.recall[1].value == pytest.approx(np.mean(hits))
    facts = json.loads((one.path / "model.json").read_text())
    assert (facts["kind"], facts["arguments"]["vocab_size"]) == ("clip", kept.tokenizer.vocab_size)
    page = one.report.read_text()
    assert not re.findall(r"""(?:src|href)=["'](?!data:|#)""", page)  # it loads nothing
    assert "recall at 10" in page and "a disc" in page
    assert not one.checkpoints.exists()


def test_a_run_without_classes_says_so_where_classes_are_wanted(one, captioned):
    with pytest.raises(SightlineError, match="zero-shot"):
        sightline.load(one.path)
    with pytest.raises(SightlineError, match="learned from captions"):
        _ = one.scores
    with pytest.raises(SightlineError, match="takes a CaptionDataset"):
        sightline.fit(sightline.open_dataset("digits"), quiet=True, objective="contrastive")


def test_training_learns(captioned):
    job = job_of(captioned, epochs=30, **{"optimizer.name": "adamw", "optimizer.lr": 0.003})
    state = job.trainer.run(Quiet())
    assert state.history[-1]["train_loss"] < 0.8 * state.history[0]["train_loss"]
    best = max(state.history, key=lambda row: (row["val_recall"], row["epoch"]))
    assert state.best.epoch == best["epoch"]
    # "a disc" stands at several pictures: three kinds, so a third by chance.
    assert best["val_image_to_text_5"] > best["val_image_to_text_1"] > 0.5


def test_the_networks_gradient_is_that_of_the_whole_batch(captioned):
    """A step by hand: pictures and captions as they are drawn, the paper's loss, plain autograd."""
    job = job_of(captioned)
    trainer = job.trainer
    state = trainer.start()
    whole, batch = next(trainer.batches(0))
    model = create_model(
        job.recipe.model.name, num_classes=0, in_chans=3, img_size=24, **job.recipe.model.arguments
    )
    model.load_state_dict(state.model.state_dict())
    trainer.learn(state, batch, 0.0, whole)
    tokens = trainer.captions.draw(0, 0, batch.indices)
    images, texts, scale = model(trainer.preprocess.normalize(batch.images), tokens)
    logits = scale * images @ texts.T
    truth = torch.arange(len(logits))
    ((F.cross_entropy(logits, truth) + F.cross_entropy(logits.T, truth)) / 2).backward()
    for (name, a), b in zip(model.named_parameters(), state.model.parameters(), strict=True):
        if a.grad is not None:
            torch.testing.assert_close(b.grad, a.grad, rtol=1e-4, atol=1e-6, msg=name)


def test_two_processes_reach_the_weights_of_one(one, captioned, tmp_path):
    settings = [part for key, value in TINY.items() for part in ("--set", f"{key}={value}")]
    done = torchrun("fit", captioned, "--out", tmp_path / "two", *settings)
    assert done.stdout.count("Report:") == 1
    assert apart(one.path, tmp_path / "two") < 1e-5
    a, b = (json.loads((run / "scores.json").read_text()) for run in (one.path, tmp_path / "two"))
    assert a["mean_recall"] == b["mean_recall"]
    rows = [sightline.run.Run(run).history[-1] for run in (one.path, tmp_path / "two")]
    for key in ("val_loss", "train_loss", "train_accuracy", "val_recall"):
        assert rows[0][key] == pytest.approx(rows[1][key], rel=1e-4), key


def test_processes_with_uneven_parts_have_the_gradient_of_one():
    """Also where one of them has no pair at all, for none of its pictures could be read."""
    script = [*TORCHRUN, "-m", "tests.training.uneven_pairs"]
    done = subprocess.run(script, env=ENVIRONMENT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    expected = gradients([PAIRS], ALONE)
    for answer in json.loads(done.stdout):
        for a, b in zip(answer, expected, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"accumulate": 2}, "accumulate: "),
        ({"balance": "loss"}, "balance: "),
        ({"augment": "mixup(0.2)"}, "augment: mixed pictures"),
        ({"model.weights": "openai"}, "leave out --weights"),
        ({"features": "hog"}, "features: it goes with classes"),
        ({"batch_size": 1}, "set a larger batch_size"),
    ],
)
def test_what_does_not_go_together_is_said(captioned, settings, expected):
    with pytest.raises(SightlineError, match=expected):
        job_of(captioned, **settings)


def test_a_network_without_words_is_said(captioned):
    recipe = read_recipe({"objective": "contrastive", "model": {"name": "resnet18"}})
    with pytest.raises(SightlineError, match="resnet18 has no text tower"):
        prepare_captions(open_captions(captioned), recipe, Quiet())
