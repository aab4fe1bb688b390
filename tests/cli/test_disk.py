"""Disks that are full or may not be written to: real ones, small file systems in a namespace of their own."""

from __future__ import annotations

import os
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

from tests.cli.conftest import Refused, World


@cache
def namespaces() -> bool:
    """Whether this user may mount file systems in a namespace of its own."""
    try:
        command = ["unshare", "-rm", "mount", "-t", "tmpfs", "none", "/mnt"]
        return subprocess.run(command, capture_output=True, timeout=30).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


def on_a_disk(
    folder: Path, size: str, *arguments: object, before: str = ":", after: str = ":"
) -> tuple[str, str, list[str]]:
    """(stdout and exit code, stderr, files left) of a command with a file system of `size` mounted at `folder`.

    `before` and `after` are shell commands, in which $0 is the folder and $1 is Python.
    """
    if not namespaces():
        pytest.skip("a file system of one's own: unshare and mount are not permitted here")
    folder.mkdir()
    script = (
        f'mount -t tmpfs -o size={size} none "$0"; {before}; "$@"; echo "code $?"; {after}; '
        'echo "---"; find "$0" -mindepth 1 -printf "%P\\n"'
    )
    command = ["unshare", "-rm", "sh", "-c", script, str(folder), sys.executable, "-m", "sightline"]
    command += [str(argument) for argument in arguments]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, env=environment)
    out, _, files = done.stdout.partition("---\n")
    assert "Traceback" not in done.stderr, done.stderr
    return out, done.stderr, sorted(files.split())


def fit(data: Path, out: Path) -> list[object]:
    return ["fit", data, "--out", out, "--device", "cpu", "--model", "lecture_net", "--epochs", 30]


def test_a_disk_that_is_full_at_the_start(shapes: Path, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    fill = 'head -c 8192 /dev/zero > "$0/filler"'
    out, err, files = on_a_disk(disk, "8k", *fit(shapes, disk / "run"), before=fill)
    assert out == "code 2\n"
    assert err.count("\n") == 1
    assert "The disk is full" in err
    assert "disk/run" in err
    assert files == ["filler"]


def test_a_disk_too_small_for_the_first_model(shapes: Path, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    out, err, files = on_a_disk(disk, "60k", *fit(shapes, disk / "run"))
    assert out == "code 2\n"
    assert "The disk is full" in err.splitlines()[-1]
    assert files == []


def test_a_disk_that_fills_up_keeps_the_best_model_so_far(shapes: Path, tmp_path: Path) -> None:
    """lecture_net takes 75 kB: there is room for one, not for a second beside it, whose place it would take."""
    disk = tmp_path / "disk"
    picture = shapes / "disc" / "00.png"
    predict = f'"$1" -m sightline predict "$0/run" "{picture}"'
    out, err, files = on_a_disk(disk, "120k", *fit(shapes, disk / "run"), after=predict)
    code, answer = out.splitlines()
    assert code == "code 2"
    assert answer.split("\t")[0] == str(picture)  # the model that is kept is whole
    last = err.splitlines()[-1]
    assert "The disk is full" in last
    assert f"the best model so far is in {disk / 'run'}." in last
    assert {"run/model.json", "run/model.safetensors", "run/recipe.json"} <= set(files)
    assert not [name for name in files if "/." in name]  # nothing half written


def test_a_disk_that_may_only_be_read(shapes: Path, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    for options in ([], ["--find-lr"]):
        out, err, files = on_a_disk(
            disk,
            "1m",
            *fit(shapes, disk / "old"),
            *options,
            before='mkdir "$0/old"; mount -o remount,ro "$0"',
        )
        assert out == "code 2\n"
        assert err.count("\n") == 1
        assert "may not be written to" in err
        assert files == ["old"]
        disk.rmdir()


def test_a_folder_of_another_user(refused: Refused, world: World) -> None:
    folder = world.tree("locked", a=0)
    folder.chmod(0o555)
    if os.access(folder, os.W_OK):
        pytest.skip("a folder that may not be written to: this user may write everywhere")
    refused(["fit", "digits", "--out", folder / "run"], "locked may not be written to | --out")


def test_output_to_a_full_disk() -> None:
    if not Path("/dev/full").exists():
        pytest.skip("/dev/full: not on this system")
    with open("/dev/full", "w") as full:  # noqa: PTH123
        command = [sys.executable, "-m", "sightline", "models"]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 2
    assert done.stderr == "sightline: The disk is full: the output could not be written.\n"
