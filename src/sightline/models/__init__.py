"""Networks: the lineage from LeNet-5 on, torchvision's and timm's, behind one `create_model`.

Importing this package imports neither torch nor a network.
"""

from sightline.models.features import stage_features
from sightline.models.info import ErrorRate, ModelInfo, PublishedWeights
from sightline.models.registry import (
    create_model,
    list_models,
    model_arguments,
    model_info,
    published_weights,
)
from sightline.models.weights import WeightsReport, available_weights, load_weights, local_weights

__all__ = [
    "ErrorRate",
    "ModelInfo",
    "PublishedWeights",
    "WeightsReport",
    "available_weights",
    "create_model",
    "list_models",
    "load_weights",
    "local_weights",
    "model_arguments",
    "model_info",
    "published_weights",
    "stage_features",
]
