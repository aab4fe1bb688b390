"""A long run takes no more memory than a short one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

CODE = """
import json, sys
from pathlib import Path
from sightline.data import open_dataset
from sightline.training.checkpoint import Checkpoints
from sightline.training.prepare import prepare
from sightline.training.progress import Quiet
from sightline.training.recipe import read_recipe

STEPS, CHECKPOINTS = 1000, 20
source, folder = sys.argv[1:]
recipe = {"model": {"name": "resnet20"}, "batch_size": 7, "epochs": 100, "device": "cpu", "ema": 0.9,
          "augment": "rotate(20) + crop(2) + hflip"}
job = prepare(open_dataset(source), read_recipe(recipe), Quiet())
per_epoch = job.trainer.steps_per_epoch  # nine: 62 pictures in batches of seven
job.trainer.recipe = job.trainer.recipe.model_copy(update={"steps": STEPS + 20 * per_epoch})
checkpoints = Checkpoints(Path(folder))
resident = []

class Saver:
    def due(self):
        return state.step % (STEPS // CHECKPOINTS) == 0
    def save(self, state):
        checkpoints.save(state)
        resident.append(int(Path("/proc/self/statm").read_text().split()[1]) * 4096)

state = job.trainer.start()
job.trainer.run(Quiet(), state=state, saver=Saver())
print(json.dumps([resident, state.epoch]))
"""


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="memory is read from /proc")
def test_memory_of_a_long_run_is_flat(shapes, tmp_path):
    """A thousand steps, more than ten validations and twenty checkpoints, after as many steps as it takes to settle."""
    command = [sys.executable, "-c", CODE, str(shapes), str(tmp_path)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    out = subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stdout
    resident, epochs = json.loads(out)
    assert epochs > 100
    settled = resident[3:]  # caches of kernels and the allocator's arenas fill in the beginning
    assert len(settled) >= 20
    assert max(settled[-5:]) < 1.01 * max(settled[:5])
