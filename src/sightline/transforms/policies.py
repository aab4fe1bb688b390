"""Named augmentations, each with what it assumes about the pictures.

A flip can change what a picture means (a mirrored 2 is no digit; in a medical picture left is not right), so no
policy does more than its assumption allows.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Policy:
    """`steps` as text for `Augment.parse`; `assumes` is a sentence for the user."""

    steps: str
    assumes: str


POLICIES = {
    "none": Policy("", "nothing"),
    "digits": Policy(
        "rotate(10) + translate(0.1)", "written signs: a small turn or shift keeps them, a flip does not"
    ),
    "gentle": Policy(
        "random_resized_crop(0.7) + hflip(0.5)",
        "left and right may be swapped; most of the picture is needed, as in inspection",
    ),
    "light": Policy(
        "crop(0.125, 'reflect') + hflip(0.5)", "left and right may be swapped, small shifts change nothing"
    ),
    "photos": Policy(
        "random_resized_crop(0.35) + hflip(0.5)",
        "left and right may be swapped, and a part of the picture shows its class",
    ),
    # What the networks of the lineage were trained with.
    "alexnet": Policy(
        "scale_jitter(1.143, 1.143) + hflip + pca_color",
        "left and right may be swapped, seven eighths of the picture show its class, and the light may have a tint",
    ),
    "vgg": Policy(
        "scale_jitter + hflip + pca_color",
        "left and right may be swapped, half of each side shows the class, and the light may have a tint",
    ),
    "inception": Policy(
        "random_resized_crop + hflip + color_jitter",
        "left and right may be swapped, a twelfth of the picture shows its class, and no colour tells a class",
    ),
    "imagenet": Policy(
        "random_resized_crop + hflip",
        "left and right may be swapped, and a twelfth of the picture shows its class",
    ),
    # Searched for on photographs; each goes on from `photos`.
    "trivial": Policy(
        "photos + trivial_augment",
        "as photos; neither a turn, by up to 135 degrees, nor a slant nor the colours tell a class",
    ),
    "randaug": Policy(
        "photos + rand_augment", "as photos; neither a small turn or slant nor the colours tell a class"
    ),
    "autoaug": Policy(
        "photos + auto_augment", "as photos; neither a small turn or slant nor the colours tell a class"
    ),
    "augmix": Policy(
        "photos + aug_mix", "as photos; neither a small turn or slant nor the colours tell a class"
    ),
}
