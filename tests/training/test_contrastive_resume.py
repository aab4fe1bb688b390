"""A contrastive run that is killed and resumed ends where an undisturbed one ends, to the bit."""

from __future__ import annotations

import json
import os
import shutil
import signal
import time

import numpy as np
import pytest

from sightline import fit
from sightline.data.captions import open_captions
from sightline.errors import SightlineError
from tests.conftest import draw
from tests.training.test_resume import Fits, assert_same, killed_and_resumed

SMALL = {
    "objective": "contrastive",
    "model": "clip_small",
    "model.vision_width": 8,
    "model.embed_dim": 16,
    "model.text_layers": 1,
    "input.size": 32,
    "epochs": 3,
    "batch_size": 16,
    "augment": "crop(2)",
    "ema": 0.9,
    "checkpoint_seconds": 0,
    "device": "cpu",
}


@pytest.fixture(scope="module")
def fits(tmp_path_factory):
    fits = Fits(tmp_path_factory.mktemp("said") / "said.txt")
    yield fits
    fits.process.stdin.close()
    fits.process.wait(30)


@pytest.fixture(scope="module")
def captioned(tmp_path_factory):
    """90 drawn pictures with a text of two or three lines beside each, no splits. Read only."""
    root = tmp_path_factory.mktemp("captioned")
    rng = np.random.default_rng(0)
    for kind in ("disc", "square", "stripes"):
        for k in range(30):
            draw(kind, 24, rng).save(root / f"{kind}{k:02}.png")
            lines = [f"a {kind}", f"the {kind} of number {k % 5}", f"{kind} once more"]
            (root / f"{kind}{k:02}.txt").write_text("\n".join(lines[: 2 + k % 2]))
    return root


@pytest.fixture(scope="module")
def straight(fits, captioned, tmp_path_factory):
    """The run that nothing happens to."""
    out = tmp_path_factory.mktemp("straight") / "run"
    assert fits(source=captioned, out=out, **SMALL) == 0, fits.said.read_text()
    return out


@pytest.mark.parametrize("workers", [0, 2])
def test_kills_at_random_moments_change_no_bit(fits, captioned, straight, tmp_path, workers):
    begun = time.monotonic()
    assert fits(source=captioned, out=tmp_path / "timed", **SMALL | {"workers": workers}) == 0
    seconds = time.monotonic() - begun
    assert_same(tmp_path / "timed", straight)
    kills = 0
    for number in range(20):  # a kill may come too late: then there is another run
        out = tmp_path / f"run{number}"
        kills += killed_and_resumed(fits, captioned, out, seconds, 2, SMALL | {"workers": workers})
        assert_same(out, straight)
        if kills >= 2:
            break
    assert kills >= 2


def test_an_interrupt_says_what_to_do_with_the_model(fits, captioned, straight, tmp_path):
    out = tmp_path / "run"
    number = fits.start(source=captioned, out=out, **SMALL | {"checkpoint_seconds": 1000})
    while not (out / "model.json").exists():
        time.sleep(0.01)
    os.kill(number, signal.SIGINT)
    assert fits.end() == 130
    said = fits.said.read_text()
    assert f"sightline fit --resume {out}" in said
    assert "sightline zero-shot PICTURES" in said
    assert "evaluate" not in said
    shutil.copytree(captioned, tmp_path / "pictures")
    (tmp_path / "pictures" / "disc00.txt").write_text("something else altogether")
    facts = json.loads((out / "run.json").read_text())
    with pytest.raises(SightlineError, match="The training pictures are not those"):
        fit(tmp_path / "pictures", resume=shutil.copytree(out, tmp_path / "copy"), quiet=True)
    assert facts["source"] == str(captioned)
    fit(open_captions(captioned), resume=out, quiet=True)
    assert_same(out, straight)
