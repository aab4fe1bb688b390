"""Views into a network. Each returns its data first, as a frozen record; drawing is a separate function.

    layers           what each layer puts out, its parameters and how each count comes about, mult-adds
    summary          that as a person reads it: like blocks once; text, Markdown, HTML
    lineage          what networks there are, and what was new in each; lineage_figure draws error against cost
    filters          the weights of a convolution, and their principal components
    feature_maps     what each layer makes of one picture
    deconvnet        a unit projected back to the pixels
    receptive_field  the part of the picture that a unit sees
    units            each unit's strongest pictures in a data set, their patches and projections
    evidence         where in a layer's maps the evidence for a class is: CAM, Grad-CAM, HiResCAM
    pixel_evidence   where in the picture: occlusion, integrated gradients, guided backpropagation
    attention        what each patch looks at, by head and layer; rollout; likeness of positions
    patch_boxes      the learned patches of the Deformable Patch-based Transformer
    trust            whether a map is to be believed
    embedding_map    a data set in two dimensions
    figures, evidence_figures  records drawn as Pillow images

The functions that look into a network can be had from here (`from sightline.visualization import deconvolve`); only
the module that has it is loaded then.
"""

import sys
from importlib import import_module
from types import ModuleType
from typing import Any

HOMES = {
    "filters": "filters",
    "feature_maps": "feature_maps",
    "deconvolve": "deconvnet",
    "receptive_field": "receptive_field",
    "receptive_fields": "receptive_field",
    "top_activations": "units",
    "projected": "units",
    "cam": "evidence",
    "grad_cam": "evidence",
    "hires_cam": "evidence",
    "guided_backprop": "pixel_evidence",
    "integrated_gradients": "pixel_evidence",
    "occlusion": "pixel_evidence",
    "attention": "attention",
    "attention_rollout": "attention",
    "position_similarity": "attention",
    "patch_boxes": "patch_boxes",
    "deletion_insertion": "trust",
    "randomisation_test": "trust",
    "embedding_map": "embedding_map",
}
"""The functions to be had from here, and the module of each."""

__all__ = sorted(HOMES)


def __getattr__(name: str) -> Any:
    if name not in HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{HOMES[name]}"), name)


class _Views(ModuleType):
    """A module that is loaded (`filters`) is not put over the function that bears its name."""

    def __setattr__(self, name: str, value: Any) -> None:
        if name in HOMES and isinstance(value, ModuleType):
            value = getattr(value, name)
        super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Views
