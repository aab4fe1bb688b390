"""The lecture's Example 2 as the examples have it, on the tutorial's own pictures, with no network to ask."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from sightline.models import create_model
from tests.support import data_root

EXAMPLES = Path(__file__).parent.parent / "examples"
EACH = {"train": 3, "test": 3}


@pytest.fixture(scope="module")
def few(tmp_path_factory):
    """Some of the ants and bees, as links."""
    root, whole = tmp_path_factory.mktemp("few"), data_root("hymenoptera")
    for split, each in EACH.items():
        for name in ("ants", "bees"):
            (root / split / name).mkdir(parents=True)
            for picture in sorted((whole / split / name).glob("*.jpg"))[:each]:
                (root / split / name / picture.name).symlink_to(picture)
    return root


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A file of ResNet-18's published layout, and made-up numbers."""
    path = tmp_path_factory.mktemp("weights") / "resnet18.pth"
    torch.manual_seed(0)
    torch.save(create_model("resnet18").state_dict(), path)
    return path


@pytest.mark.parametrize(
    ("script", "said"),
    [("finetune_a_network.py", "test split: "), ("fixed_features.py", "of 6 test pictures")],
)
def test_runs_on_ants_and_bees_offline(script, said, few, weights, tmp_path):
    no_way = {f"{scheme}_proxy": "http://127.0.0.1:9" for scheme in ("http", "https")}
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / script), str(few), str(weights)],
        cwd=tmp_path, capture_output=True, text=True, timeout=240,
        env=os.environ | no_way,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert said in done.stdout
