"""The same recipe on a GPU: as accurate as on the processor, within noise. Skips without one."""

import pytest
import torch

import sightline

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


def test_a_gpu_reaches_what_the_processor_reaches(tmp_path):
    runs = {
        device: sightline.fit("digits", out=tmp_path / device, device=device, epochs=20, quiet=True)
        for device in ("cpu", "cuda")
    }
    assert runs["cuda"].recipe.precision == "bf16"
    one, other = (runs[device].scores.accuracy for device in ("cpu", "cuda"))
    assert one.low <= other.high and other.low <= one.high
    assert other.value > 0.95
