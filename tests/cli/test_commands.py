"""The commands as they are used: what `fit` tells, tables, help, and output that nobody reads."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from sightline import cli
from sightline.run import Run
from tests.cli.conftest import Call, World

COMMANDS = (
    "fit", "evaluate", "predict", "runs", "advise", "augment", "ablate", "check", "models", "summary", "reproduce",
    "look", "zero-shot", "search",
)  # fmt: skip
SIGHTLINE = [sys.executable, "-m", "sightline"]
ONE_THREAD = os.environ | {"OMP_NUM_THREADS": "1"}


def test_fit_tells_what_it_chose_and_ends_with_what_to_do_next(sightline: Call, world: World) -> None:
    data = world.tree("my photos", disc=8, square=8)
    answer = sightline(*world.fit(data))
    assert answer.code == 0
    assert answer.err.startswith("Model resnet10_small: ")
    assert answer.err.splitlines()[-1].endswith("100%")
    assert "\x1b" not in answer.err
    *table, report, predict, evaluate = answer.out.splitlines()
    assert table[0].startswith("test split, 2 pictures")
    assert report.split() == ["Report:", str(world.out / "report.html")]
    assert shlex.split(predict)[1:] == ["sightline", "predict", str(world.out), "PICTURES..."]
    again = shlex.split(evaluate)[1:]
    assert again == ["sightline", "evaluate", str(world.out), str(data)]
    assert sightline(*again[1:]).out.splitlines() == table[:-1]


def test_fit_of_pictures_some_of_which_cannot_be_read(sightline: Call, world: World) -> None:
    data = world.tree("in", disc=8, square=8)
    for k in range(7):
        world.file(f"in/disc/bad{k}.png", "no picture")
    answer = sightline(*world.fit(data))
    assert answer.code == 1
    aside = json.loads((world.out / "run.json").read_text())["set_aside"]
    assert {row["ref"] for row in aside} == {f"disc/bad{k}.png" for k in range(7)}
    said = [line for line in answer.err.splitlines() if line.startswith("Set aside: disc/bad")]
    hidden = sum(int(count) for count in re.findall(r"\.\.\. and (\d+) more", answer.err))
    assert len(said) + hidden == 7


def test_fit_writes_into_runs_by_default(
    sightline: Call, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.tree("in", disc=6, square=6)
    monkeypatch.chdir(world.path)
    for _ in range(2):  # the second one perhaps in the same second
        assert sightline("fit", "in", "--epochs", 1, "--model", "lecture_net", "--device", "cpu").code == 0
    runs = sorted(path.name for path in (world.path / "runs").iterdir())
    assert len(runs) == 2
    assert all(re.fullmatch(r"in-\d{8}-\d{6}(-2)?", name) for name in runs)


def test_options_reach_the_recipe_over_a_file(sightline: Call, world: World) -> None:
    data = world.tree("in", disc=6, square=6)
    toml = world.file(
        "r.toml",
        'epochs = 9\nseed = 4\naugment = "photos"\n[optimizer]\nlr = 0.5\n[model]\nname = "lenet5"\n',
    )
    options = ["--recipe", toml, "--augment", "auto", "--set", "lr=0.01", "--set", "schedule.name=cosine"]
    assert sightline(*world.fit(data, *options)).code == 0
    recipe = json.loads((world.out / "recipe.json").read_text())
    assert (recipe["epochs"], recipe["seed"], recipe["model"]["name"]) == (1, 4, "lenet5")
    assert (recipe["optimizer"]["lr"], recipe["schedule"]["name"]) == (0.01, "cosine")
    assert recipe["augment"] == "light"  # chosen anew


def test_a_new_length_replaces_the_steps_of_a_recipe(sightline: Call, world: World) -> None:
    data = world.tree("in", disc=8, square=8)
    old = world.file(
        "r.json", json.dumps({"steps": 3, "minutes": 5, "epochs": 2, "model": {"name": "lecture_net"}})
    )
    first, second = world.path / "first", world.path / "second"
    assert sightline("fit", data, "--recipe", old, "--out", first, "--device", "cpu").code == 0
    assert (
        sightline("fit", data, "--recipe", old, "--out", second, "--device", "cpu", "--epochs", 4).code == 0
    )
    assert json.loads((first / "recipe.json").read_text())["steps"] == 3
    assert len(Run(second).history) == 4


def test_find_lr_draws_and_proposes(sightline: Call, world: World) -> None:
    data = world.tree("in", disc=12, square=12)
    for out, file in (("curve.png", "curve.png"), ("new/folder", "new/folder/learning-rate.png")):
        answer = sightline(
            "fit", data, "--find-lr", "--out", world.path / out, "--device", "cpu", "--model", "lecture_net"
        )
        assert answer.code == 0, answer.err
        proposed, curve = answer.out.splitlines()
        assert re.fullmatch(r"Proposed:  --set optimizer\.lr=[0-9.e-]+", proposed)
        assert curve == f"Curve:     {world.path / file}"
        assert (world.path / file).read_bytes().startswith(b"\x89PNG")
    rate = proposed.split()[-1]
    assert sightline(*world.fit(data, "--set", rate, "--model", "lecture_net")).code == 0


@pytest.mark.parametrize(
    ("kept", "parts"),
    [
        (False, "before the first checkpoint | nothing was kept"),
        (True, "the best model so far is in | `sightline evaluate"),
    ],
)
def test_an_interrupt_says_what_is_left(
    kept: bool, parts: str, sightline: Call, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sightline.training import loop

    data = world.tree("in", disc=8, square=8)

    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(*((Run, "add_history") if kept else (loop.Trainer, "learn")), interrupted)
    answer = sightline(*world.fit(data, "--model", "lecture_net"))
    assert answer.code == 130
    assert answer.out == ""
    for part in parts.split(" | "):
        assert part in answer.refusal
    assert world.out.exists() == kept
    if kept:
        assert sightline("predict", world.out, world.pictures[0]).code == 0


def test_an_interrupt_elsewhere_is_quiet(
    sightline: Call, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sightline import api

    def interrupted(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(api, "predict", interrupted)
    answer = sightline("predict", world.run, world.pictures[0])
    assert (answer.code, answer.out, answer.err) == (130, "", "sightline: Interrupted.\n")


# Tables


def test_models(sightline: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    lines = sightline("models").out.splitlines()
    assert all(len(line) <= 80 for line in lines)
    (resnet18,) = (line for line in lines if line.startswith("resnet18 "))
    assert resnet18.split()[:4] == ["resnet18", "2015", "3x224x224", "11.7"]
    assert "…" not in "".join(lines)


@pytest.mark.parametrize(
    ("pattern", "shape"),
    [("resnet*", "^resnet"), ("resnet", "^resnet"), ("*34*", "34"), ("lenet5", "^lenet5$")],
)
def test_models_of_a_pattern(pattern: str, shape: str, sightline: Call) -> None:
    from sightline.models import list_models

    listed = json.loads(sightline("models", pattern, "--json").out)["models"]
    assert [row["name"] for row in listed] == [name for name in list_models() if re.search(shape, name)]


def test_models_json(sightline: Call) -> None:
    answer = sightline("models", "--json")
    assert answer.out.count("\n") == 1
    known = {row["name"]: row for row in json.loads(answer.out)["models"]}
    assert known["lenet5_1998"]["params"] == 60_000
    assert known["lenet5_1998"]["year"] == 1998


def test_summary_is_the_lectures_table(sightline: Call) -> None:
    out = sightline("summary", "lecture_net", "--input", "1x28x28").out
    for text in ("16 x 1 x 5 x 5 + 16 = 416", "32 x 16 x 5 x 5 + 32 = 12,832", "10 x 1,568 + 10 = 15,690"):
        assert text in out
    assert "28,938 parameters, all trainable" in out


def test_summary_json(sightline: Call) -> None:
    answer = sightline("summary", "lecture_net", "--input", "1X28x28", "--json")
    data = json.loads(answer.out)
    assert (data["model"], data["input"], data["params"]) == ("lecture_net", [1, 28, 28], 28_938)
    assert [row["params"] for row in data["layers"] if row["params"]] == [416, 12_832, 15_690]
    # 28*28*16*25 + 14*14*32*(25*16) + 1568*10
    assert data["mult_adds"] == 28 * 28 * 16 * 25 + 14 * 14 * 32 * 400 + 15_680


def test_summary_with_arguments(sightline: Call) -> None:
    options = ["--set", "kernel_size=3", "--set", "model.widths=[8, 8]", "--classes", 3, "--json"]
    data = json.loads(sightline("summary", "lecture_net", *options).out)
    assert [row["params"] for row in data["layers"] if row["params"]] == [
        8 * 9 + 8,
        8 * 8 * 9 + 8,
        7 * 7 * 8 * 3 + 3,
    ]


# Help


def test_help_is_whole_and_imports_nothing_heavy() -> None:
    code = (
        "import sys\nfrom sightline.cli import main\n"
        f"for line in {[[], ['--help'], ['--version'], *([name, '--help'] for name in COMMANDS)]}:\n"
        "    sys.argv = ['sightline', *line]\n    try: main()\n    except SystemExit as end: assert end.code == 0\n"
        "    print('=====')\n"
        "print([name for name in ('torch', 'numpy', 'PIL', 'rich', 'timm') if name in sys.modules])"
    )
    environment = os.environ | {"COLUMNS": "80"}
    out = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment
    ).stdout
    bare, top, _, *texts, heavy = out.split("=====\n")
    assert heavy.strip() == "[]"
    assert bare == top
    assert max(map(len, out.splitlines())) <= 80
    for name in COMMANDS:
        (line,) = (line for line in top.splitlines() if line.startswith(f"  {name} "))
        assert line.endswith(".")
        assert not line.endswith("...")  # nothing is cut
    commands = {
        command.callback.__name__.replace("_", "-"): command
        for command in cli.app.registered_commands
        if command.callback
    }
    assert set(commands) == set(COMMANDS)
    options = {
        "fit": "--out --model --weights --objective --strategy --augment --epochs --minutes --seed --device --set "
        "--recipe --train-from --features --head --resume --checkpoint-seconds --log --find-lr",
        "evaluate": "--split --json",
        "predict": "--json --csv --top-k",
        "runs": "--json",
        "advise": "--model --weights --minutes --out --set --json",
        "augment": "--policy --out --seed --size",
        "check": "--labels --minutes --out --fix --json",
        "ablate": "--minutes --seeds --augment --out --set --json",
        "models": "--family --year --max-params --sort --lineage --figure --json",
        "summary": "--input --classes --set --depth --markdown --json",
        "reproduce": "--json",
        "look": "--view --layer --class --versus --weights --out --html --trust",
        "zero-shot": "--labels --model --weights --templates --set --out --json",
        "search": "--picture --top-k --model --weights --set --html --captions --json",
    }
    for name, text in zip(COMMANDS, texts, strict=True):
        assert text.startswith(f"Usage: sightline {name} ")
        assert set(re.findall(r"^  (--[a-z-]+)", text, re.MULTILINE)) == set(options[name].split())


# Real processes


def test_a_reader_that_goes_away_is_no_error(trained: Any, shapes: Path) -> None:
    predict = shlex.join([*SIGHTLINE, "predict", str(trained.path), *["-"] * 20])
    names = "".join(f"{path}\n" for path in [*shapes.rglob("*.png")] * 20)  # far more than a pipe holds
    for command in (f"{predict} | head -1", f"{shlex.join(SIGHTLINE)} models --json | head -c 5"):
        done = subprocess.run(
            ["sh", "-c", command], input=names, capture_output=True, text=True, env=ONE_THREAD
        )
        assert done.stderr == ""
        assert done.stdout.count("\n") <= 1


def test_a_process_tells_its_progress_on_stderr_and_its_results_on_stdout(
    shapes: Path, tmp_path: Path
) -> None:
    command = [
        *SIGHTLINE,
        "fit",
        str(shapes),
        "--out",
        str(tmp_path / "run"),
        "--epochs",
        "2",
        "--device",
        "cpu",
    ]
    done = subprocess.run(command, capture_output=True, text=True, env=ONE_THREAD)
    assert done.returncode == 0, done.stderr
    assert re.search(r"^epoch   2 .*balanced accuracy.*pictures/s   100%$", done.stderr, re.MULTILINE)
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f]", done.stderr + done.stdout)
    assert "accuracy" in done.stdout
    assert "epoch" not in done.stdout


def test_a_refusal_of_a_process_is_one_line(tmp_path: Path) -> None:
    for arguments, word in (
        (["fti"], "fit"),
        (["fit", "digit"], "digits"),
        (["evaluate", "no", "digits"], "no run"),
    ):
        done = subprocess.run([*SIGHTLINE, *arguments], capture_output=True, text=True, cwd=tmp_path)
        assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
        assert word in done.stderr
    assert list(tmp_path.iterdir()) == []
