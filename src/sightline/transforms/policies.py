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
}
