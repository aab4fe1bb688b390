"""From a complete recipe to the network that is trained."""

from __future__ import annotations

from typing import Any

from torch import nn

from sightline.training.recipe import Recipe


def model_arguments_of(recipe: Recipe) -> dict[str, Any]:
    """What `create_model` takes besides name, classes and weights; kept in the Bundle."""
    own = recipe.model.arguments
    if recipe.last_stage is not None:
        from sightline.models.shortened import shortened

        own = shortened(recipe.model.name or "", own, recipe.last_stage)
    return {"in_chans": recipe.input.channels, "img_size": recipe.input.size, **own}


def build_model(recipe: Recipe, classes: int) -> tuple[nn.Module, str | None]:
    """The network, its pretrained weights loaded, what stays frozen frozen; and what was said of the weights."""
    from sightline.models import create_model, load_weights
    from sightline.models.protocol import classifier_names

    assert recipe.model.name is not None
    model = create_model(recipe.model.name, num_classes=classes, **model_arguments_of(recipe))
    said = None
    if recipe.model.weights not in (None, "none", "auto"):
        whole = model
        if recipe.last_stage is not None:  # the weights are those of all stages
            arguments = recipe.model_copy(update={"last_stage": None})
            whole = create_model(recipe.model.name, num_classes=classes, **model_arguments_of(arguments))
        said = load_weights(whole, recipe.model.weights).summary()
        if whole is not model:
            heads = tuple(classifier_names(whole))
            body = {key: value for key, value in whole.state_dict().items() if not key.startswith(heads)}
            model.load_state_dict({key: body.get(key, value) for key, value in model.state_dict().items()})
            said = f"{said[:-1]}; those behind {recipe.last_stage} are left out."
    if recipe.strategy == "probe":
        freeze_body(model)
    elif recipe.train_from is not None:
        from sightline.training.transfer_order import freeze_before, order_of

        freeze_before(model, recipe.train_from, order_of(model, input_size(recipe)))
    return model, said


def input_size(recipe: Recipe) -> tuple[int, int, int]:
    """(channels, height, width) of what the network takes."""
    side = recipe.input.size or 224
    return (recipe.input.channels or 3, side, side)


def freeze_body(model: nn.Module) -> None:
    """Leave only the classifier trainable."""
    model.requires_grad_(False)
    head: Any = model.get_classifier()  # type: ignore[operator]
    head.requires_grad_(True)


def cost(recipe: Recipe, classes: int) -> tuple[int, float]:
    """(mult-adds, side of the last feature map) of the recipe's network for one picture, found without computing."""
    import torch

    from sightline.models import create_model
    from sightline.visualization.layers import layer_table, totals

    size = input_size(recipe)
    assert recipe.model.name is not None
    with torch.device("meta"):
        model: Any = create_model(recipe.model.name, num_classes=classes, **model_arguments_of(recipe))
    return totals(layer_table(model, size)).mult_adds, size[1] / model.feature_info[-1]["reduction"]
