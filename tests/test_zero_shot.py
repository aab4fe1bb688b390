"""Zero-shot classification: step by step as open_clip does it, odd labels, and what is kept of it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from sightline import api
from sightline.bundle import Bundle, Classifier
from sightline.errors import SightlineError
from sightline.zero_shot import Label, ZeroShotClassifier, open_clip, read_labels, read_templates, texts
from sightline.zero_shot.prompts import fill, foreign, sentences
from tests.cli.conftest import Call, sightline  # noqa: F401
from tests.zero_shots import ARGUMENTS, NAME, oracle, write_pictures, write_weights

torch.set_num_threads(1)

LABELS = ("cat", "dog", "rusty screw", "aeroplane", "naïve café")


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_weights(tmp_path_factory.mktemp("weights"))


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return write_pictures(tmp_path_factory.mktemp("pictures"))


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SIGHTLINE_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def make(
    weights: Path, labels: object = LABELS, templates: object = "photo", **more: object
) -> ZeroShotClassifier:
    return ZeroShotClassifier(  # type: ignore[arg-type]
        labels, templates, model=NAME, weights=weights, arguments=ARGUMENTS, precision="fp32", **more
    )


# ------------------------------------------------------------------------------------------------ open_clip
def test_the_80_templates_are_open_clips() -> None:
    from open_clip.zero_shot_metadata import OPENAI_IMAGENET_TEMPLATES

    templates = read_templates("imagenet")
    assert len(templates) == 80
    assert [fill(t, "x y") for t in templates] == [t("x y") for t in OPENAI_IMAGENET_TEMPLATES]


def test_equals_open_clip_step_by_step(weights: Path, pictures: list[Path]) -> None:
    import open_clip as theirs
    from open_clip.zero_shot_metadata import OPENAI_IMAGENET_TEMPLATES
    from PIL import Image

    model = oracle()
    ours = make(weights, templates="imagenet")
    with torch.no_grad():
        head = theirs.build_zero_shot_classifier(model, theirs.tokenize, LABELS, OPENAI_IMAGENET_TEMPLATES)
        assert float((ours.embeddings - head.T).norm() / head.norm()) < 1e-5
        prepare = theirs.image_transform(64, is_train=False)
        opened = [Image.open(path) for path in pictures]
        x = torch.stack([prepare(picture) for picture in opened])
        # The same pixels in: Pillow resizes in one step here and in two there, within one grey level.
        own = ours.clip.preprocess.normalize(ours.classifier.prepare(pictures))
        assert float((own - x).abs().max()) < 2 / 255 / 0.26
        features = model.encode_image(own, normalize=True)
        expected = (model.logit_scale.exp() * features @ head).softmax(-1).numpy()
    found = ours.predict_proba(pictures)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)
    assert ours.predict(pictures) == [LABELS[i] for i in expected.argmax(1)]
    assert ours.predict(pictures[0]) == LABELS[expected[0].argmax()]
    assert (
        len(set(expected.argmax(1))) > 1 or np.ptp(expected, axis=0).max() > 0.01
    )  # it looks at the picture


def test_each_label_is_embedded_once(weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    encoded: list[int] = []
    real = texts.encode

    def counting(model: object, tokens: torch.Tensor, *rest: object) -> torch.Tensor:
        encoded.append(len(tokens))
        return real(model, tokens, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(texts, "encode", counting)
    told: list[tuple[int, int]] = []
    first = make(weights, templates="imagenet", progress=lambda done, total: told.append((done, total)))
    assert sum(encoded) == 80 * len(LABELS)
    assert told[-1] == (400, 400) and [done for done, _ in told] == sorted(done for done, _ in told)
    again = make(weights, templates="imagenet")
    assert sum(encoded) == 400 and torch.equal(first.embeddings, again.embeddings)
    more = make(weights, (*LABELS, "bicycle"), templates="imagenet")
    assert sum(encoded) == 480 and torch.equal(more.embeddings[:5], first.embeddings)
    make(weights)  # other templates
    assert sum(encoded) == 485


def test_other_weights_are_other_embeddings(weights: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    state = load_file(weights)
    state["ln_final.bias"][0] += 1
    save_file(state, tmp_path / "other.safetensors")
    assert not torch.allclose(make(weights).embeddings, make(tmp_path / "other.safetensors").embeddings)


# --------------------------------------------------------------------------------------------------- labels
def test_labels_from_text_and_file(tmp_path: Path) -> None:
    assert [label.name for label in read_labels("cat, dog,a rusty screw ")] == ["cat", "dog", "a rusty screw"]
    file = tmp_path / "labels.txt"
    file.write_text("\ufeffcat\n\nokapi: an animal with striped legs; a relative of the giraffe\n", "utf-8")
    cat, okapi = read_labels(str(file))
    assert cat == Label("cat")
    assert okapi == Label("okapi", ("an animal with striped legs", "a relative of the giraffe"))
    assert sentences(okapi, ("a photo of a {}.",)) == ["a photo of a okapi.", *okapi.descriptions]
    assert read_labels(file) == (cat, okapi)


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        ("cat,,dog", "Label 2 of the labels is empty"),
        ("", "Label 1 of the labels is empty"),
        ("cat", "at least two"),
        ("cat, dog, Cat", "Cat is in the labels twice, as label 1 and label 3"),
        (["a  b", "A b"], "twice"),
        ("none.txt", "no file none.txt"),
        ([], "are 0; at least two"),
    ],
)
def test_labels_that_cannot_be_told_apart(labels: object, words: str) -> None:
    with pytest.raises(SightlineError, match=words):
        read_labels(labels)  # type: ignore[arg-type]


def test_templates(tmp_path: Path) -> None:
    assert read_templates("none") == ("{}",)
    assert read_templates(["{}!", "a {}"]) == ("{}!", "a {}")
    file = tmp_path / "t.txt"
    file.write_text("a drawing of a {}.\n\nthe {}\n")
    assert read_templates(file) == ("a drawing of a {}.", "the {}")
    for text, words in (
        ("a drawing", "line 1: 'a drawing' needs {}"),
        ("{} {}", "once"),
        ("\n", "no template"),
    ):
        file.write_text(text)
        with pytest.raises(SightlineError, match=words):
            read_templates(file)
    with pytest.raises(SightlineError, match="did you mean imagenet"):
        read_templates("imagenett")
    file.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(SightlineError, match="no UTF-8"):
        read_templates(file)


def test_an_article_of_the_labels_own() -> None:
    assert fill("a photo of a {}.", "a rusty screw") == "a photo of a rusty screw."
    assert fill("itap of the {}.", "The Hague") == "itap of The Hague."
    assert fill("a photo of a {}.", "antelope") == "a photo of a antelope."  # as published
    assert fill("a {}.", "set {}") == "a set {}."


def test_odd_labels_are_said(weights: Path) -> None:
    long = " ".join(["screw"] * 90)
    notes = make(weights, ("cat", "猫", long, "Кошка", "naïve café")).notes
    assert [note.split(":")[0] for note in notes] == ["猫", long, "Кошка"]
    assert "1 of 1 sentences are longer than the 75 tokens" in notes[1]
    assert "English captions" in notes[0]
    assert foreign("猫") and not foreign("naïve café 2012!")
    with pytest.raises(SightlineError, match="are the same to this model"):  # alike but for what is cut off
        make(weights, (long, f"{long} nail"))


# ------------------------------------------------------------------------------------------------ opening
def test_weights_that_do_not_say_their_gelu_are_not_guessed(weights: Path) -> None:
    with pytest.raises(SightlineError, match="does not say which GELU"):
        open_clip(NAME, weights, {k: v for k, v in ARGUMENTS.items() if k != "quick_gelu"})
    assert open_clip(NAME, weights, ARGUMENTS | {"quick_gelu": False}).model.quick_gelu is False


def test_what_knows_no_words_is_refused() -> None:
    with pytest.raises(SightlineError, match="resnet18 knows no words"):
        open_clip("resnet18")
    with pytest.raises(SightlineError, match="clip_vit_base_patch32"):
        open_clip("clip_vit_base_patch23")


def test_random_weights_are_said() -> None:
    classifier = ZeroShotClassifier(
        "cat, dog", model=NAME, weights="none", arguments=ARGUMENTS, templates="none"
    )
    assert "RANDOM" in classifier.notes[0]


# ------------------------------------------------------------------------------------------------ what is kept
def test_the_bundle_answers_as_the_classifier(
    weights: Path,
    pictures: list[Path],
    tmp_path: Path,
    sightline: Call,  # noqa: F811
) -> None:
    labels = ("cat", "dog")
    classifier = make(weights, labels)
    run = tmp_path / "run"
    classifier.save(run)
    bundle = Bundle.load(run)
    assert bundle.classes == labels and bundle.architecture == NAME
    assert {name.split(".")[0] for name in bundle.weights} == {"visual", "head"}
    proba = classifier.predict_proba(pictures)
    kept = Classifier(bundle, precision="fp32")
    np.testing.assert_allclose(kept.predict_proba(pictures), proba, rtol=1e-6)
    said = api.load(run).predict(pictures)  # in bf16, where the machine has it

    answers = json.loads(sightline("predict", run, *pictures, "--json").out)["predictions"]
    assert [answer["label"] for answer in answers] == said

    data = tmp_path / "data"
    for path, name in zip(pictures, said, strict=True):
        (data / name).mkdir(parents=True, exist_ok=True)
        (data / name / path.name).write_bytes(path.read_bytes())
    for name in labels:  # a class without pictures is none
        write_pictures(data / name, 1, start=50 + labels.index(name))
    right = json.loads(sightline("evaluate", run, data, "--json").out)
    assert right["n"] == 8 and right["split"] == "all" and right["accuracy"]["value"] >= 6 / 8

    views = tmp_path / "views"
    answer = sightline("look", run, pictures[0], "--out", views, "--view", "attention", "--no-trust")
    assert answer.code == 0, answer.err
    assert said[0] in answer.out and list(views.glob("*.png"))


def test_the_head_is_the_start_of_fine_tuning(weights: Path, pictures: list[Path], tmp_path: Path) -> None:
    from sightline.models import create_model, load_weights

    classifier = make(weights, ("cat", "dog"))
    classifier.save(tmp_path / "run")
    model = create_model(NAME, num_classes=2, **ARGUMENTS)
    report = load_weights(model, tmp_path / "run")
    assert not report.fresh and not report.adapted
    assert torch.equal(model.get_classifier().weight, classifier.bundle.weights["head.weight"])
    other = create_model(NAME, num_classes=2, **(ARGUMENTS | {"quick_gelu": False}))
    with pytest.raises(SightlineError, match="built with quick_gelu=True"):
        load_weights(other, tmp_path / "run")


def test_the_command(weights: Path, pictures: list[Path], tmp_path: Path, sightline: Call) -> None:  # noqa: F811
    settings = [f"--set={key}={json.dumps(value)}" for key, value in ARGUMENTS.items()]
    common = ["--labels", "cat, dog, a rusty screw", "--weights", weights, "--templates", "photo", *settings]
    bad = tmp_path / "bad.png"
    bad.write_text("no picture")
    answer = sightline("zero-shot", pictures[0], bad, *common, "--json", "--out", tmp_path / "kept")
    assert answer.code == 1
    data = json.loads(answer.out)
    assert [row["picture"] for row in data["unreadable"]] == [str(bad)]
    (found,) = data["predictions"]
    assert sum(row["probability"] for row in found["top"]) == pytest.approx(1, abs=1e-6)
    assert {row["label"] for row in found["top"]} == {"cat", "dog", "a rusty screw"}
    assert api.load(tmp_path / "kept").predict(pictures[0]) == found["label"]
    table = sightline("zero-shot", pictures[0], *common)
    assert table.code == 0 and table.out.split("\t")[1].startswith(f"{found['label']} ")
    assert (
        sightline("zero-shot", pictures[0], *common, "--out", tmp_path / "kept").code == 2
    )  # not overwritten
    assert "needs {}" in sightline("zero-shot", pictures[0], *common, "--templates", bad).refusal
