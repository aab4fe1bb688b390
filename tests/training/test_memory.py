"""A long run takes no more memory than a short one, and a batch too large for it is computed in parts."""

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


# A fit in a process that may take only so much more memory than it has after its imports.
TIGHT = """
import json, resource, sys
from pathlib import Path
import sightline.fitting, sightline.models.resnet, sightline.report
from sightline import fit

out, more, settings = sys.argv[1], int(sys.argv[2]), json.loads(sys.argv[3])
if more:
    used = int(Path("/proc/self/statm").read_text().split()[0]) * 4096
    resource.setrlimit(resource.RLIMIT_AS, (used + more * 2**20, resource.RLIM_INFINITY))
fit("digits", out=out, **settings)
"""


def tight(out: Path, megabytes: int, **settings) -> subprocess.CompletedProcess[str]:
    """One step of ResNet-20 on digits at 64 pixels in float32, in which a picture takes about 8 MB."""
    chosen = {
        "model": "resnet20",
        "input.size": 64,
        "batch_size": 256,
        "steps": 1,
        "precision": "fp32",
    } | settings
    command = [sys.executable, "-c", TIGHT, str(out), str(megabytes), json.dumps(chosen)]
    # What is freed goes back to the system at once: the limit is on addresses, not on what is in use.
    environment = os.environ | {
        "OMP_NUM_THREADS": "1",
        "MALLOC_ARENA_MAX": "1",
        "MALLOC_MMAP_THRESHOLD_": "65536",
    }
    return subprocess.run(command, capture_output=True, text=True, env=environment)


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="memory is read from /proc")
def test_a_batch_that_does_not_fit_is_computed_in_parts(tmp_path):
    done = tight(tmp_path / "tight", 900)
    assert done.returncode == 0, done.stderr
    parts = json.loads((tmp_path / "tight" / "recipe.json").read_text())["accumulate"]
    assert parts > 1
    assert f"does not fit into memory: {parts} parts" in done.stderr
    # As if it had been asked for: nothing is left of what was tried.
    assert tight(tmp_path / "asked", 0, accumulate=parts).returncode == 0
    weights = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("tight", "asked")]
    assert weights[0] == weights[1]
