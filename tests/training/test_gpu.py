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
    assert runs["cuda"].classifier.predict_proba(torch.zeros(8, 8).byte().numpy()).shape[-1] == 10


def test_an_interrupted_run_goes_on_on_a_gpu(tmp_path):
    short = sightline.fit("digits", out=tmp_path / "a", device="cuda", steps=30, quiet=True)
    again = sightline.fit(
        "digits", out=tmp_path / "b", device="cuda", steps=30, quiet=True, checkpoint_seconds=0
    )
    assert short.history[-1]["step"] == again.history[-1]["step"] == 30
