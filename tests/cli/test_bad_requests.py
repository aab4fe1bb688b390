"""A wrong command line or recipe is one sentence and exit code 2; what is spelled wrong is told what is near it."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
import torch

from tests.cli.conftest import Call, Refused, World

COMMAND_LINES = {
    "unknown command": ("fti", "no command fti | did you mean fit?"),
    "strange command": ("zzz", "no command zzz | `sightline --help`"),
    "unknown option": ("fit digits --epoch 3", "no option --epoch | did you mean --epochs?"),
    "strange option": ("models --zzz", "no option --zzz | `sightline models --help`"),
    "unknown option of no command": ("--verison", "no option --verison | did you mean --version?"),
    "missing argument": ("fit", "Give the pictures to train on | a folder"),
    "missing pictures": ("predict run", "Missing argument 'PICTURES'"),
    "one argument too many": ("fit digits more", "unexpected | more"),
    "option without its value": ("fit digits --out", "--out"),
    "top-k of zero": ("predict run x.png --top-k 0", "--top-k | greater than or equal to 1"),
    "top-k of words": ("predict run x.png --top-k x", "--top-k | valid integer"),
    "two formats": ("predict run x.png --json --csv", "--json and --csv | one of them"),
    "input of two sizes": ("summary lenet5 --input 28x28", "--input | 1x28x28 | '28x28'"),
    "input of size zero": ("summary lenet5 --input 1x0x28", "--input | '1x0x28'"),
    "input of no digits": ("summary lenet5 --input 1x²x28", "--input | CxHxW"),
    "input too small": ("summary resnet18 --input 3x1x1", "resnet18 | 1x1"),
    "summary of an unknown network": ("summary resnte18", "no network | did you mean | resnet18"),
    "summary, misspelled argument": ("summary lecture_net --set kernel_sise=3", "did you mean kernel_size?"),
    "summary, argument of none": ("summary lecture_net --set num_classes=3", "no argument 'num_classes'"),
    "summary, classes that cannot be": (
        "summary lenet5_1998 --classes 5",
        "lenet5_1998 | ten digits | lenet5 takes any number",
    ),
    "no such networks": ("models resnte18", "no network | did you mean | resnet18"),
    "no such pattern": ("models *zzz*", "'*zzz*' | `sightline models` lists them"),
    "no such library": ("models tim/*", "library | did you mean timm?"),
}

RECIPES = {
    "set without a value": ("--set epochs", "--set | KEY=VALUE | 'epochs'"),
    "set without a key": ("--set =3", "KEY=VALUE"),
    "set of an empty part": ("--set optimizer..lr=3", "KEY=VALUE"),
    "unknown field": ("--set epoch=3", "epoch: there is no such field | did you mean epochs?"),
    "field without its section": ("--set momentum=0.5", "did you mean optimizer.momentum?"),
    "strange field": ("--set zzz=3", "zzz: there is no such field | the fields are | batch_size"),
    "section for a field": ("--set optimizer=sgd", "optimizer: it is a section | optimizer.name"),
    "field for a section": ("--set epochs=3 --set epochs.x=1", "epochs.x | section"),
    "wrong type": ("--set optimizer.lr=fast", "optimizer.lr: it should be a valid number | 'fast'"),
    "wrong choice": ("--strategy frozen", "strategy | 'scratch', 'finetune', 'probe' or 'auto' | 'frozen'"),
    "no epochs": ("--epochs 0", "epochs | greater than or equal to 1"),
    "epochs of words": ("--epochs ten", "epochs: it should be a valid integer, not 'ten'"),
    "no minutes": ("--minutes 0", "minutes | greater than 0"),
    "endless minutes": ("--minutes inf", "minutes | finite"),
    "seed below zero": ("--seed -1", "seed | greater than or equal to 0"),
    "betas out of range": ("--set optimizer.betas=[0.9,1]", "optimizer.betas.1 | less than 1"),
    "nesterov without momentum": (
        "--set optimizer.momentum=0 --set optimizer.nesterov=true",
        "momentum above 0",
    ),
    "shares too large": ("--set val_share=0.6 --set test_share=0.6", "nothing to train on"),
    "unknown model": ("--model resnet_18", "model.name | no network | resnet18"),
    "unknown library of models": ("--model tim/resnet18", "library | did you mean timm?"),
    "unknown model of a library": ("--model torchvision/resnet19", "torchvision's | resnet18"),
    "misspelled model argument": (
        "--model lecture_net --set model.kernel_sise=3",
        "did you mean kernel_size?",
    ),
    "wrong model argument": (
        "--model lecture_net --set model.kernel_size=x",
        "kernel_size | such as 5 | 'x'",
    ),
    "model argument of no model": ("--set model.kernel_size=3", "model.kernel_size | model.name"),
    "unknown augmentation": ("--augment flop", "augment | flop"),
    "wrong augmentation": ("--augment hflip(2)", "augment | hflip(2)"),
    "probe with no weights": ("--strategy probe --weights none", "probe starts from weights | model.weights"),
    "probe and no weights here": ("--strategy probe", "probe needs pretrained weights | --weights"),
    "device that is not there": ("--device cuda:99", "no device 'cuda:99' | cpu"),
    "unknown device": ("--device gpu", "no device 'gpu'"),
    "missing recipe file": ("--recipe no.toml", "There is no recipe file no.toml"),
    "recipe that is a folder": ("--recipe {path}", "cannot be read | is a directory"),
    "unpublished weights": ("--model resnet18 --weights IMAGENET9", "resnet18 | IMAGENET9 | IMAGENET1K_V1"),
    "missing weights file": ("--model resnet18 --weights no.pth", "There is no file no.pth"),
    "weights in no file": ("--model resnet18 --weights {path}", "holds no model.safetensors"),
}

FILES = {
    "broken TOML": ("r.toml", "epochs = = 3", "r.toml is not valid TOML | line 1"),
    "broken JSON": ("r.json", "{", "r.json is not valid JSON"),
    "JSON of another kind": ("r.json", "[1]", "r.json | list"),
    "text of another encoding": ("r.toml", b"\xff\xfe", "r.toml cannot be read"),
    "file with a wrong field": ("r.toml", "epohcs = 3", "epohcs | did you mean epochs?"),
    "file with a wrong section": ("r.toml", "model = 'resnet18'", "model: it is a section | model.name"),
}


@pytest.mark.parametrize(("line", "parts"), COMMAND_LINES.values(), ids=COMMAND_LINES)
def test_wrong_command_lines(line: str, parts: str, refused: Refused) -> None:
    refused([*line.split()], parts)


@pytest.mark.parametrize(("options", "parts"), RECIPES.values(), ids=RECIPES)
def test_wrong_recipes(options: str, parts: str, refused: Refused, world: World) -> None:
    refused([*world.fit("digits"), *options.format(path=world.path).split()], parts)


@pytest.mark.parametrize(("name", "content", "parts"), FILES.values(), ids=FILES)
def test_wrong_recipe_files(
    name: str, content: str | bytes, parts: str, refused: Refused, world: World
) -> None:
    refused(["fit", "digits", "--recipe", world.file(name, content)], parts)


def test_all_mistakes_of_a_recipe_are_listed(sightline: Call) -> None:
    answer = sightline(
        "fit", "digits", "--epochs", "0", "--model", "resnte18", "--set", "epoch=3", "--augment", "flop"
    )
    first, *mistakes = answer.refusal.split("\n")
    assert answer.code == 2
    assert first == "The recipe has 4 mistakes:"
    for key in ("epochs:", "model.name:", "epoch:", "augment:"):
        assert sum(line.startswith(f"  {key}") for line in mistakes) == 1


def test_a_recipe_is_checked_before_the_data_are_looked_for(refused: Refused, world: World) -> None:
    refused(world.fit("nothing", "--epochs", 0), "The recipe has a mistake | epochs")


def test_ten_classes_only(refused: Refused, world: World) -> None:
    refused(
        world.fit(world.tree("in", ant=6, bee=6), "--model", "lenet5_1998"),
        "lenet5_1998 | ten digits | lenet5 takes any number",
    )


class Dangerous:
    """Unpickling it would call a function."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return Path.unlink, ("nothing",)


def code(path: Path) -> None:
    path.write_bytes(pickle.dumps(Dangerous(), protocol=2))


def another_network(path: Path) -> None:
    torch.save({"conv1.weight": torch.zeros(4, 3, 3, 3), "what.bias": torch.zeros(3)}, path)


def cut(path: Path) -> None:
    torch.save({"conv1.weight": torch.zeros(400)}, path)
    path.write_bytes(path.read_bytes()[:300])


@pytest.mark.parametrize(
    ("make", "parts"),
    [
        (code, "w.pth holds more than tensors | run its code | .safetensors"),
        (another_network, "w.pth does not fit resnet20"),
        (cut, "w.pth"),
    ],
)
def test_wrong_weights(make, parts: str, refused: Refused, world: World) -> None:
    path = world.path / "w.pth"
    make(path)
    refused(world.fit("digits", "--model", "resnet20", "--weights", path), parts)


def test_weights_that_cannot_be_fetched(
    refused: Refused, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")  # where nobody answers
    refused(
        world.fit("digits", "--model", "resnet18", "--weights", "DEFAULT"),
        "IMAGENET1K_V1 of resnet18 could not be fetched | put the file resnet18-f37072fd.pth into",
    )
