"""Augment: its text, its calls, and its place among other tools."""

import pickle

import numpy as np
import pytest
import torch
from PIL import Image

from sightline.errors import SightlineError
from sightline.transforms.augment import STEPS, Augment
from sightline.transforms.policies import POLICIES
from sightline.transforms.preprocess import to_tensor
from tests.transforms.pictures import both, picture, pixels

# Text.


def test_text_round_trip():
    text = "crop(padding=4, fill='reflect') + hflip(p=0.3) + rotate(degrees=30) + noise()"
    assert str(Augment.parse(text)) == text
    assert Augment.parse(str(Augment.parse("photos"))) == Augment.parse("photos")


@pytest.mark.parametrize("name", POLICIES)
def test_every_policy_reads_and_says_what_it_assumes(name):
    Augment.parse(name)
    assert POLICIES[name].assumes


def test_a_policy_may_be_part_of_a_sum():
    assert Augment.parse("digits + noise(0.1)").steps == (
        *Augment.parse("digits").steps,
        *Augment.parse("noise(0.1)").steps,
    )


def test_none_is_the_identity():
    image = picture()
    assert Augment.parse("none")(image) is image
    assert str(Augment.parse("")) == "none"


@pytest.mark.parametrize(
    ("text", "column", "hint"),
    [
        ("hflip(0.5) + rotat(30)", 14, "rotate"),
        ("hflip(1.5)", 1, "probability"),
        ("hflip(0.5) - rotate(3)", 1, "joined by +"),
        ("hflip(0.5) + rotate(degrees=a)", 14, "rotate"),
        ("hflip(0.5) + rotate(1, 2, 3)", 14, "too many"),
        ("hflip(0.5", 6, "step"),
        ("__import__('os').system('true')", 1, "joined by +"),
        ("random_resized_crop(0.9, 0.2)", 1, "scale_min"),
        ("hflip('x')", 1, "p is a number, not 'x'"),
        ("hflip(True)", 1, "p is a number, not True"),
        ("noise + crop(1e999)", 9, "padding is a number"),
        ("rand_augment(2.5)", 1, "ops is a whole number"),
        ("crop(4, zero)", 1, "zero is neither a number nor a word in quotes"),
        ("crop(4, 0)", 1, "fill is"),
        ("hflip(*x)", 1, "neither a number"),
        ("erase(value='red')", 1, "value is a number from 0 to 255, or 'mean'"),
        ("auto_augment('cifar')", 1, "'imagenet', 'cifar10' or 'svhn'"),
        ("hflip,  rotate(3)", 1, "joined by +"),
        ("hflip +", 8, "not a step"),
        ("hflip + light(4)", 9, "light is a policy"),
        ("hflip + noise(std=1, std=0)", 9, "twice"),
        ("hflip + noise(**{})", 9, "unexpected"),
        ("noise('é') + rotat", 1, "std is a number"),
        ("erase('é')", 1, "p is a number"),
    ],
)
def test_a_mistake_is_pointed_at(text, column, hint):
    with pytest.raises(SightlineError, match=hint.replace("+", r"\+")) as error:
        Augment.parse(text)
    message = str(error.value)
    assert f"character {column}" in message
    assert message.splitlines()[-1] == "  " + " " * (column - 1) + "^"


# Calls.


def test_the_digits_policy_never_flips_and_photos_flips_left_right_only():
    assert not {"hflip", "vflip"} & {step.name for step in Augment.parse("digits").steps}
    names = [step.name for step in Augment.parse("photos").steps]
    assert "hflip" in names
    assert "vflip" not in names


def test_the_policies_of_the_papers():
    """AlexNet: 224 of 256, tint (2012, 4.1). VGG: 224 of 256 to 512 (2014, 3.1). GoogLeNet: 8 to 100 % (2014, 6)."""
    stored = picture(256, 256)
    alexnet, vgg, inception = (Augment.parse(name, (224, 224)) for name in ("alexnet", "vgg", "inception"))
    assert alexnet.steps[0].minimum * 224 == pytest.approx(256, abs=0.5)
    assert alexnet.steps[0].maximum * 224 == pytest.approx(256, abs=0.5)
    assert vgg.steps[0].minimum * 224 == 256
    assert vgg.steps[0].maximum * 224 == 512
    assert (inception.steps[0].scale_min, inception.steps[0].scale_max, inception.steps[0].ratio) == (
        0.08,
        1,
        4 / 3,
    )
    for chain in (alexnet, vgg):
        assert chain.steps[1:] == Augment.parse("hflip(0.5) + pca_color(0.1)").steps
        assert chain(stored).size == (224, 224)
    u = np.array([0.3, 0.5, 0.25, 0.9, 0.5, 0.5, 0.5])  # of 33 corners the 16th and the 8th; no flip, no tint
    assert np.array_equal(np.asarray(alexnet.apply(stored, u)), np.asarray(stored)[16:240, 8:232])


def test_crop_cuts_the_networks_size_and_refuses_what_is_too_small():
    augment = Augment.parse("crop(2)", size=(16, 16))
    assert augment(picture(20, 24)).size == (16, 16)
    with pytest.raises(SightlineError, match="store_size"):
        Augment.parse("crop", size=(32, 32))(picture(20, 24))


@pytest.mark.parametrize("text", [*POLICIES, *STEPS])
def test_a_generator_makes_it_repeatable_and_without_one_it_is_not(text):
    augment = Augment.parse(text)
    for version in both(picture(24, 24)):
        first, second = (augment(version, np.random.default_rng(5)) for _ in range(2))
        assert type(first) is type(version)
        assert np.array_equal(pixels(first), pixels(second))
    if text not in ("none", "crop"):  # crop needs another size, or padding
        assert len({pixels(augment(picture(24, 24))).tobytes() for _ in range(60)}) > 1


def test_a_batch_of_tensors_is_drawn_for_picture_by_picture():
    augment = Augment.parse("rotate(90)")
    batch = to_tensor(picture())[None].expand(4, -1, -1, -1)
    rng = np.random.default_rng(3)
    out = augment(batch, np.random.default_rng(3))
    assert torch.equal(out, torch.stack([augment(image, rng) for image in batch]))
    assert len({image.numpy().tobytes() for image in out}) == 4


@pytest.mark.parametrize(
    ("image", "hint"),
    [
        (Image.new("RGBA", (8, 8)), "RGBA"),
        (Image.new("P", (8, 8)), "convert"),
        (torch.zeros(3, 8, 8), "float32"),
        (torch.zeros(8, 8, dtype=torch.uint8), "shape"),
        (torch.zeros(2, 4, 8, 8, dtype=torch.uint8), "channels"),
    ],
)
def test_pictures_of_another_kind_are_refused(image, hint):
    with pytest.raises(SightlineError, match=hint):
        Augment.parse("hflip")(image)


@pytest.mark.parametrize(
    ("text", "head"),
    [
        ("photos", 1),
        ("light", 0),
        ("digits", 0),
        ("trivial", 3),
        ("vgg", 1),
        ("blur + hflip + erase + noise", 1),
        ("", 0),
    ],
)
def test_the_split_is_before_the_steps_that_batches_can_take(text, head):
    augment = Augment.parse(text + " + mixup" if text else "mixup", size=(12, 12))
    first, last = augment.split()
    assert len(first.steps) == head
    assert first.steps + last.steps == augment.steps
    assert first.size == last.size == (12, 12)
    assert (first.mixing, last.mixing) == ((), augment.mixing)
    images = [picture(12, 12, seed=k) for k in range(5)]
    u = np.random.default_rng(0).random((5, augment.draws))
    done = torch.stack(
        [to_tensor(first.apply(p, row[: first.draws])) for p, row in zip(images, u, strict=True)]
    )
    expected = [last.apply(x, row[first.draws :]) for x, row in zip(done, u, strict=True)]
    assert torch.equal(last.apply_batch(done, u[:, first.draws :]), torch.stack(expected))


# With torchvision's and PyTorch's own tools.


@pytest.mark.parametrize("name", POLICIES)
def test_a_policy_serves_a_torchvision_data_set_as_its_transform(tmp_path, name):
    from torchvision.datasets import ImageFolder

    (tmp_path / "a").mkdir()
    picture().save(tmp_path / "a" / "x.png")
    image, _ = ImageFolder(str(tmp_path), transform=Augment.parse(name, (16, 16)))[0]
    assert isinstance(image, Image.Image)


class Repeated(torch.utils.data.Dataset):
    """The same picture 16 times, through a transform."""

    def __init__(self, transform):
        self.transform, self.image = transform, picture()

    def __len__(self):
        return 16

    def __getitem__(self, index):
        return to_tensor(self.transform(self.image))


def test_workers_and_epochs_draw_differently_without_a_generator():
    loader = torch.utils.data.DataLoader(Repeated(Augment.parse("noise(0.2)")), num_workers=2)
    versions = [image.numpy().tobytes() for _ in range(2) for image in loader]
    assert len(set(versions)) == 32


@pytest.mark.parametrize("text", [*POLICIES, *STEPS, "photos + mixup + cutmix(0.5)"])
def test_an_augmentation_pickles(text):
    augment = Augment.parse(text, (16, 16))
    assert pickle.loads(pickle.dumps(augment)) == augment
