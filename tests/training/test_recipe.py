"""Recipes: every field reachable, every mistake shown at once."""

import json
from pathlib import Path

import pytest

from sightline.errors import SightlineError
from sightline.training.recipe import Recipe, field_names, load_recipe_file, parse_settings, read_recipe

# A value for each field that differs from its default, so that reaching it can be seen.
VALUES = {
    "objective": "contrastive",
    "model.name": "resnet18",
    "model.weights": "some.pth",
    "strategy": "finetune",
    "features": "hog(cell=4)+color",
    "head": "ridge",
    "penalty": 0.5,
    "train_from": "layer3",
    "last_stage": "layer3",
    "views": 2,
    "l2_sp": 0.01,
    "input.size": 40,
    "input.channels": 1,
    "input.fit": "crop",
    "input.resize": 48,
    "input.store_size": 56,
    "input.interpolation": "bicubic",
    "input.scaled_decoding": True,
    "augment": "digits",
    "optimizer.name": "adamw",
    "optimizer.lr": 0.01,
    "optimizer.momentum": 0.8,
    "optimizer.nesterov": True,
    "optimizer.betas": [0.8, 0.95],
    "optimizer.weight_decay": 0.1,
    "optimizer.layer_decay": 0.8,
    "schedule.name": "step",
    "schedule.warmup_epochs": 2,
    "schedule.rise": 0.2,
    "schedule.step_epochs": 3,
    "schedule.gamma": 0.5,
    "schedule.final": 0.1,
    "epochs": 3,
    "minutes": 2.5,
    "steps": 77,
    "batch_size": 16,
    "label_smoothing": 0.2,
    "clip_grad": 1.0,
    "ema": 0.9,
    "balance": "sampling",
    "patience": 4,
    "seed": 5,
    "val_share": 0.2,
    "test_share": 0.25,
    "precision": "fp32",
    "device": "cpu",
    "workers": 1,
    "accumulate": 2,
    "sync_batchnorm": True,
}


def get(recipe, key):
    for part in key.split("."):
        recipe = getattr(recipe, part)
    return recipe


def test_the_list_of_values_names_every_field():
    assert set(VALUES) == set(field_names())


@pytest.mark.parametrize("key", sorted(VALUES))
def test_every_field_is_reachable_by_set(key):
    value = VALUES[key]
    text = f"{key}={value if isinstance(value, str) else json.dumps(value)}"
    needed = {"model.name": "resnet18"} | ({"train_from": "layer2"} if key == "views" else {})
    recipe = Recipe().updated(needed | parse_settings([text]))
    assert get(recipe, key) == (tuple(value) if isinstance(value, list) else value)
    assert get(Recipe(), key) != get(recipe, key) or key == "model.name"


def test_every_field_is_reachable_by_a_toml_file(tmp_path):
    sections: dict[str, dict[str, object]] = {}
    for key, value in VALUES.items():
        section, _, name = key.rpartition(".")
        sections.setdefault(section, {})[name] = value
    lines = [f"{name} = {json.dumps(value)}" for name, value in sections.pop("").items()]
    for section, fields in sections.items():
        lines += [f"[{section}]", *(f"{name} = {json.dumps(value)}" for name, value in fields.items())]
    path = tmp_path / "recipe.toml"
    path.write_text("\n".join(lines))
    recipe = read_recipe(load_recipe_file(path))
    for key, value in VALUES.items():
        assert get(recipe, key) == (tuple(value) if isinstance(value, list) else value)


def test_a_recipe_survives_its_json():
    recipe = read_recipe({"model": {"name": "lecture_net", "kernel_size": 3}, "augment": "digits", "seed": 3})
    assert read_recipe(json.loads(json.dumps(recipe.to_dict()))) == recipe
    assert recipe.model.arguments == {"kernel_size": 3}


def test_all_mistakes_are_shown_at_once():
    wrong = {
        "epochs": 0,
        "optimizer": {"lr": -1, "momentun": 0.9},
        "augment": "hflip(2)",
        "model": {"name": "resnet_18"},
        "schedule": {"name": "stepp"},
    }
    with pytest.raises(SightlineError) as error:
        read_recipe(wrong)
    lines = str(error.value).splitlines()
    assert lines[0] == "The recipe has 6 mistakes:"
    text = str(error.value)
    for expected in (
        "epochs:", "optimizer.lr:", "optimizer.momentun:", "did you mean optimizer.momentum", "augment:",
        "model.name:", "resnet18", "schedule.name:",
    ):  # fmt: skip
        assert expected in text


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ({"model": {"name": "lecture_net", "kernel_sise": 3}}, "kernel_size"),
        ({"model": {"kernel_size": 3}}, "name a network first"),
        ({"input": {"size": 64, "resize": 32}}, "at least input.size"),
        ({"input": {"fit": "squash", "resize": 64}}, "fit = 'crop'"),
        ({"strategy": "probe", "model": {"weights": "none"}}, "starts from weights"),
        ({"strategy": "scratch", "train_from": "layer3"}, "train_from: it goes with strategy"),
        ({"strategy": "probe", "head": "none"}, "nothing but a head"),
        ({"views": 4}, "needs train_from"),
        ({"val_share": 0.8, "test_share": 0.5}, "nothing to train on"),
    ],
)
def test_contradictions_are_explained(data, expected):
    with pytest.raises(SightlineError, match=expected):
        read_recipe(data)


@pytest.mark.parametrize("setting", ["epochs", "=3", ""])
def test_a_setting_without_key_or_value_is_an_error(setting):
    with pytest.raises(SightlineError, match="KEY=VALUE"):
        parse_settings([setting])


def test_values_are_toml_or_else_text():
    parsed = parse_settings(["a=1", "b=0.5", "c=true", "d=[1, 2]", "e=crop(4) + hflip", "f=null", "g=none"])
    assert parsed == {
        "a": 1,
        "b": 0.5,
        "c": True,
        "d": [1, 2],
        "e": "crop(4) + hflip",
        "f": None,
        "g": "none",
    }


@pytest.mark.parametrize(
    ("name", "content"), [("r.toml", "epochs = = 3"), ("r.json", "{"), ("r.toml", b"\xff\xfe")]
)
def test_a_broken_recipe_file_is_one_sentence(tmp_path: Path, name, content):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(SightlineError, match=name):
        load_recipe_file(path)


def test_a_missing_recipe_file_is_one_sentence(tmp_path):
    with pytest.raises(SightlineError, match="There is no recipe file"):
        load_recipe_file(tmp_path / "no.toml")
