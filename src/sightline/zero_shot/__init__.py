"""Zero-shot classification: labels are words, and no picture of them is needed (CLIP)."""

from sightline.zero_shot.classifier import ZeroShotClassifier
from sightline.zero_shot.opened import OpenedClip, open_clip
from sightline.zero_shot.prompts import TEMPLATES, Label, read_labels, read_templates

__all__ = [
    "TEMPLATES",
    "Label",
    "OpenedClip",
    "ZeroShotClassifier",
    "open_clip",
    "read_labels",
    "read_templates",
]
