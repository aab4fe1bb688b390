"""Several processes, started by torchrun as a user starts them, train the same model as one."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import sightline
from sightline.data import open_dataset
from sightline.training.checkpoint import Checkpoints
from sightline.training.prepare import prepare
from sightline.training.processes import Processes, SyncBatchNorm
from sightline.training.progress import Quiet
from sightline.training.recipe import read_recipe

TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1"}
# Mixing takes partners from the whole global batch.
# One epoch over 1,259 digits, a number that neither two processes nor the batch divides.
PLAIN = {
    "model": "lenet5",
    "epochs": 1,
    "precision": "fp32",
    "optimizer.name": "sgd",
    "lr": 0.05,
    "batch_size": 63,
}


def settings(values: dict) -> list[str]:
    names = {"model": "model.name", "lr": "optimizer.lr"}
    return [part for key, value in values.items() for part in ("--set", f"{names.get(key, key)}={value}")]


def torchrun(*arguments: str, launcher=TORCHRUN, check=True) -> subprocess.CompletedProcess[str]:
    command = [*launcher, "-m", "sightline", *map(str, arguments)]
    done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, timeout=300)
    assert not check or done.returncode == 0, done.stderr
    return done


def apart(one: Path, two: Path) -> float:
    """The relative distance of the weights of two runs, all taken as one vector."""
    a, b = load_file(one / "model.safetensors"), load_file(two / "model.safetensors")
    assert a.keys() == b.keys()
    one_vector, other = (torch.cat([w[name].flatten().double() for name in a]) for w in (a, b))
    return float((one_vector - other).norm() / one_vector.norm())


# The arithmetic of who takes what.


@pytest.mark.parametrize("count", [2, 3])
def test_every_sample_is_taken_exactly_once_whatever_the_number_of_processes(count):
    job = prepare(open_dataset("digits"), read_recipe({"batch_size": 64, "device": "cpu"}), Quiet())
    taken = []
    for rank in range(count):
        job.trainer.processes = Processes(rank, count)
        taken += [batch.indices for _, batch in job.trainer.batches(0)]
    assert len(job.trainer.targets) % count
    assert sorted(np.concatenate(taken)) == list(range(len(job.trainer.targets)))
    assert {len(part) for part in taken} <= {62 // count, 63 // count, 64 // count, 64 // count + 1}


@pytest.mark.parametrize("count", [1, 2, 3])
def test_validation_counts_every_picture_once(count):
    job = prepare(open_dataset("digits"), read_recipe({"device": "cpu"}), Quiet())
    seen = [b.indices for k in range(count) for b in job.trainer.val.batches(size=50, part=(k, count))]
    assert sorted(np.concatenate(seen)) == list(range(len(job.trainer.val.dataset)))


# Real processes.


@pytest.fixture(scope="module")
def one(tmp_path_factory):
    """One process's run of PLAIN."""
    out = tmp_path_factory.mktemp("one") / "run"
    return sightline.fit("digits", out=out, quiet=True, **PLAIN).path


def test_two_processes_reach_the_weights_of_one(one, tmp_path):
    done = torchrun("fit", "digits", "--out", tmp_path / "two", *settings(PLAIN))
    assert done.stdout.count("Report:") == 1
    assert apart(one, tmp_path / "two") < 1e-5
    a, b = (json.loads((run / "scores.json").read_text()) for run in (one, tmp_path / "two"))
    assert a["confusion"] == b["confusion"]
    rows = [sightline.run.Run(run).history[-1] for run in (one, tmp_path / "two")]
    assert rows[0]["val_loss"] == pytest.approx(rows[1]["val_loss"], rel=1e-4)
    assert rows[0]["train_loss"] == pytest.approx(rows[1]["train_loss"], rel=1e-4)


def test_parts_of_a_batch_add_up_to_it(one, tmp_path):
    run = sightline.fit("digits", out=tmp_path / "run", quiet=True, accumulate=3, **PLAIN)
    assert apart(one, run.path) < 1e-5


def test_batch_norm_over_all_processes_equals_one_process(tmp_path):
    deep = PLAIN | {"model": "resnet20", "lr": 0.01, "steps": 5}
    single = sightline.fit("digits", out=tmp_path / "one", quiet=True, **deep)
    torchrun("fit", "digits", "--out", tmp_path / "two", *settings(deep | {"sync_batchnorm": "true"}))
    assert apart(single.path, tmp_path / "two") < 1e-3
    torchrun("fit", "digits", "--out", tmp_path / "own", *settings(deep))
    # Each its own statistics is another computation.
    assert apart(single.path, tmp_path / "own") > 5 * apart(single.path, tmp_path / "two")


def test_synchronised_batch_norm_is_batch_norm(monkeypatch):
    """On one process, where the sum over processes is the identity."""
    monkeypatch.setattr("torch.distributed.nn.functional.all_reduce", lambda x: x)
    plain, ours = torch.nn.BatchNorm2d(5).double(), torch.nn.BatchNorm2d(5).double()
    ours.load_state_dict(plain.state_dict())
    ours.__class__ = SyncBatchNorm
    x = torch.randn(4, 5, 3, 3, dtype=torch.float64) * 3 + 1
    a, b = x.clone().requires_grad_(), x.clone().requires_grad_()
    ya, yb = plain(a), ours(b)
    (ya * x).sum().backward()
    (yb * x).sum().backward()
    torch.testing.assert_close(yb, ya, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(b.grad, a.grad, rtol=1e-4, atol=1e-4)
    for name, buffer in plain.named_buffers():
        torch.testing.assert_close(ours.get_buffer(name), buffer, rtol=1e-5, atol=1e-6)


def children(parent: int) -> list[int]:
    """The processes that `parent` started."""
    return [int(n) for n in Path(f"/proc/{parent}/task/{parent}/children").read_text().split()]


def test_a_killed_worker_ends_the_job_with_a_sentence_and_it_resumes(one, tmp_path):
    out = tmp_path / "run"
    long = PLAIN | {"epochs": 300}
    command = [*TORCHRUN, "-m", "sightline", "fit", "digits", "--out", str(out), *settings(long)]
    command += ["--checkpoint-seconds", "0"]
    job = subprocess.Popen(command, env=ENVIRONMENT, stderr=subprocess.PIPE, text=True)
    while not (out / "model.json").exists():
        assert job.poll() is None, job.stderr.read()
        time.sleep(0.02)
    victim = max(children(job.pid))
    os.kill(victim, signal.SIGKILL)
    _, said = job.communicate(timeout=120)
    assert job.returncode != 0
    assert "sightline: Another process of this run has ended" in said or "sightline: Interrupted" in said
    if not Checkpoints(out / "checkpoints").steps():
        pytest.fail("nothing to resume from")
    shutil.copytree(out, tmp_path / "copy")
    recipe = json.loads((out / "recipe.json").read_text())
    for run in (out, tmp_path / "copy"):  # a shorter end than that of 300 epochs
        (run / "recipe.json").write_text(json.dumps(recipe | {"steps": 30}))
    again = torchrun("fit", "--resume", out)
    assert "Resumed at step" in again.stderr
    alone = sightline.fit(resume=tmp_path / "copy")
    assert alone.scores.n == sightline.run.Run(out).scores.n


@pytest.mark.skipif(
    os.geteuid() != 0 or not shutil.which("ip"), reason="network namespaces need root and iproute2"
)
def test_two_nodes_train_one_model(one, tmp_path):
    names = [f"sightline{os.getpid()}{side}" for side in "ab"]
    run = lambda *command: subprocess.run(command, check=True, capture_output=True)  # noqa: E731
    try:
        for name in names:
            run("ip", "netns", "add", name)
            run("ip", "-n", name, "link", "set", "lo", "up")
        run(
            "ip",
            "link",
            "add",
            "sla",
            "netns",
            names[0],
            "type",
            "veth",
            "peer",
            "name",
            "slb",
            "netns",
            names[1],
        )
        for name, link, address in zip(names, ("sla", "slb"), ("10.99.0.1", "10.99.0.2"), strict=True):
            run("ip", "-n", name, "addr", "add", f"{address}/24", "dev", link)
            run("ip", "-n", name, "link", "set", link, "up")
    except subprocess.CalledProcessError as error:
        pytest.skip(f"this machine makes no network namespaces: {error.stderr.decode().strip()}")
    try:
        nodes = []
        for rank, (name, link) in enumerate(zip(names, ("sla", "slb"), strict=True)):
            address = f"10.99.0.{rank + 1}"
            launcher = [
                "ip", "netns", "exec", name, sys.executable, "-m", "torch.distributed.run", "--nnodes", "2",
                "--nproc-per-node", "1", "--node-rank", str(rank), "--rdzv-backend", "c10d",
                "--rdzv-endpoint", "10.99.0.1:29555", "--rdzv-id", "sightline",
                "--rdzv-conf", f"is_host={int(rank == 0)}", "--local-addr", address,
                "-m", "sightline", "fit", "digits", "--out", str(tmp_path / "two"), *settings(PLAIN),
            ]  # fmt: skip
            nodes.append(
                subprocess.Popen(
                    launcher,
                    env=ENVIRONMENT | {"GLOO_SOCKET_IFNAME": link},
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                    text=True,
                )
            )
        for node in nodes:
            said, _ = node.communicate(timeout=300)
            assert node.returncode == 0, said
        assert apart(one, tmp_path / "two") < 1e-5
    finally:
        for name in names:
            subprocess.run(["ip", "netns", "del", name], check=False)
