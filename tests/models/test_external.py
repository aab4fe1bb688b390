"""torchvision's and timm's networks through `create_model`."""

import copy

import pytest
import torch
from torch import nn

from sightline.errors import SightlineError, UnknownName
from sightline.models import (
    available_weights,
    create_model,
    list_models,
    model_arguments,
    model_info,
    published_weights,
    stage_features,
)
from tests.models.states import same

torch.set_num_threads(1)

# One of each of the lecture's twenty families, and Swin V2: picture side, classifier, what enters it, last stage's
# channels and stride.
FAMILIES = {
    "alexnet": (64, "classifier.6", 4096, (256, 32)),
    "convnext_tiny": (64, "classifier.2", 768, (768, 32)),
    "densenet121": (64, "classifier", 1024, (1024, 32)),
    "efficientnet_b0": (64, "classifier.1", 1280, (1280, 32)),
    "efficientnet_v2_s": (64, "classifier.1", 1280, (1280, 32)),
    "googlenet": (64, "fc", 1024, (1024, 32)),
    "inception_v3": (75, "fc", 2048, (2048, 32)),
    "maxvit_t": (224, "classifier.5", 512, (512, 32)),
    "mnasnet0_5": (64, "classifier.1", 1280, (1280, 32)),
    "mobilenet_v2": (64, "classifier.1", 1280, (1280, 32)),
    "mobilenet_v3_small": (64, "classifier.3", 1024, (576, 32)),
    "regnet_y_400mf": (64, "fc", 440, (440, 32)),
    "resnet18": (64, "fc", 512, (512, 32)),
    "resnext50_32x4d": (64, "fc", 2048, (2048, 32)),
    "shufflenet_v2_x0_5": (64, "fc", 1024, (1024, 32)),
    "squeezenet1_1": (64, "classifier.1", 512, (512, 16)),
    "swin_t": (64, "head", 768, (768, 32)),
    "swin_v2_t": (64, "head", 768, (768, 32)),
    "vgg11": (64, "classifier.6", 4096, (512, 32)),
    "vit_b_32": (64, "heads.head", 768, (768, 32)),
    "wide_resnet50_2": (64, "fc", 2048, (2048, 32)),
}


@pytest.mark.parametrize("name", FAMILIES)
def test_torchvisions_families_speak_the_protocol(name: str) -> None:
    side, classifier, hidden_size, last_stage = FAMILIES[name]
    torch.manual_seed(0)
    model = create_model(f"torchvision/{name}", num_classes=6, img_size=side).eval()
    head = model.get_classifier()
    nn.init.normal_(head.weight, std=0.02)  # torchvision starts a Vision Transformer's head at zero
    assert (model.num_classes, model.in_chans, model.head_hidden_size) == (6, 3, hidden_size)
    assert model.get_submodule(classifier) is head
    assert (model.feature_info[-1]["num_chs"], model.feature_info[-1]["reduction"]) == last_stage
    model.get_submodule(model.feature_info[-1]["module"])

    x = torch.randn(2, 3, side, side)
    with torch.no_grad():
        theirs = type(model).__mro__[2].forward(model, x)  # the forward of torchvision's own class
        features = model.forward_features(x)
        logits = model(x)
        assert torch.equal(logits, theirs) and logits.std() > 0
        assert torch.equal(copy.deepcopy(model)(x), logits)
        hidden = model.forward_head(features, pre_logits=True)
        assert features.shape[-1 if features.ndim == 3 else 1] == model.num_features
        assert hidden.shape == (2, hidden_size)
        body = {k: v.clone() for k, v in model.state_dict().items() if not k.startswith(classifier)}
        model.reset_classifier(0)
        assert torch.equal(model(x), hidden)
        model.reset_classifier(3)
        assert model(x).shape == (2, 3)
        assert same(body, model.state_dict())
    model.train()
    logits = model(x)
    assert isinstance(logits, torch.Tensor)
    logits.sum().backward()
    assert all(p.grad is not None for p in model.parameters())


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v2", "vit_b_32", "swin_t", "squeezenet1_1"])
def test_torchvisions_names_of_parameters_stay(name: str) -> None:
    from torchvision.models import get_model

    with torch.device("meta"):
        ours, theirs = create_model(f"torchvision/{name}"), get_model(name, weights=None)
    layout = {key: value.shape for key, value in theirs.state_dict().items()}
    assert {key: value.shape for key, value in ours.state_dict().items()} == layout


@pytest.mark.parametrize("name", FAMILIES)
def test_torchvisions_networks_take_other_channels(name: str) -> None:
    side = FAMILIES[name][0]
    with torch.device("meta"):
        for channels in (1, 5):
            model = create_model(
                f"torchvision/{name}", in_chans=channels, num_classes=2, img_size=side
            ).eval()
            assert model(torch.rand(1, channels, side, side)).shape == (1, 2)


@pytest.mark.parametrize("name", FAMILIES)
def test_features_through_torchvisions_feature_extraction(name: str) -> None:
    """Its graph of the network gives what hooks give, but for the order of dimensions in transformers."""
    from torchvision.models.feature_extraction import create_feature_extractor

    side = FAMILIES[name][0]
    model = create_model(f"torchvision/{name}", num_classes=2, img_size=side).eval()
    x = torch.randn(1, 3, side, side)
    extractor = create_feature_extractor(model, [stage["module"] for stage in model.feature_info])
    with torch.no_grad():
        theirs, ours = extractor(x).values(), stage_features(model, x)
    for out, features, stage in zip(theirs, ours, model.feature_info, strict=True):
        assert features.shape[1] == stage["num_chs"]
        if out.ndim == 3:
            out = out[:, model.num_prefix_tokens :].transpose(1, 2).reshape(features.shape)
        elif model.channels_last:
            out = out.permute(0, 3, 1, 2)
        assert torch.equal(out, features) and features.std() > 0


def test_auxiliary_classifiers_are_left_out() -> None:
    for name in ("googlenet", "inception_v3"):
        with torch.device("meta"):
            model = create_model(f"torchvision/{name}")
        assert not [key for key in model.state_dict() if key.lower().startswith("aux")]
        # Published with an input renormalised from ImageNet's statistics to these.
        assert published_weights(f"torchvision/{name}")[0].mean == (0.5, 0.5, 0.5)


def test_googlenets_normalisation_is_torchvisions() -> None:
    """Our (x - 0.5) / 0.5 is what torchvision makes of its preset's pixels inside the network."""
    from torchvision.models import GoogLeNet

    pixels = torch.rand(1, 3, 4, 4)
    mean, std = (torch.tensor(v)[:, None, None] for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    theirs = GoogLeNet(aux_logits=False, transform_input=True, init_weights=False)._transform_input(
        (pixels - mean) / std
    )
    row = published_weights("torchvision/googlenet")[0]
    assert torch.allclose((pixels - row.mean[0]) / row.std[0], theirs, atol=1e-6)


def test_every_network_of_torchvisions_has_a_family() -> None:
    from torchvision.models import get_model_builder

    from sightline.models.from_torchvision import FAMILIES as ROWS

    names = list_models("torchvision/*")
    assert len(names) >= 80 and "torchvision/resnet18" in names
    for name in names:
        assert get_model_builder(name.partition("/")[2]).__module__.rpartition(".")[2] in ROWS
        assert available_weights(name)


def test_size_goes_to_the_constructor_where_it_takes_one() -> None:
    with torch.device("meta"):
        model = create_model("torchvision/vit_b_32", img_size=96)
    assert model.get_parameter("encoder.pos_embedding").shape == (1, 3 * 3 + 1, 768)


@pytest.mark.parametrize(
    ("name", "arguments", "words"),
    [
        ("torchvision/resnet81", {}, "did you mean resnet18"),
        ("torchvision/vgg11", {"img_size": 16}, "cannot take pictures of 16x16"),
        ("torchvision/vit_b_32", {"img_size": (64, 96)}, "square pictures, not 64x96"),
        ("torchvision/vit_b_32", {"img_size": 100}, "divisible by patch size"),
        ("torchvision/maxvit_t", {"img_size": 100}, "torchvision cannot build it so"),
        ("torchvision/vgg11", {"dropot": 0.1}, "did you mean dropout"),
        ("torchvision/vgg11", {"dropout": "x"}, "dropout takes a value such as 0.5"),
        ("timm/resnet81", {}, "did you mean"),
        ("timm/resnet18", {"drop_rat": 0.1}, "did you mean drop_rate"),
        ("timm/vit_tiny_patch16_224", {"embed_dim": 100}, "timm cannot build it so"),
        ("timm/resnet18", {"output_stride": 7}, "timm cannot build it so"),
    ],
)
def test_mistakes_are_one_sentence(name: str, arguments: dict[str, object], words: str) -> None:
    with pytest.raises(SightlineError) as caught:
        create_model(name, **arguments)  # type: ignore[arg-type]
    message = str(caught.value)
    assert words in message and "\n" not in message
    assert isinstance(caught.value, UnknownName) or message.startswith(name)


@pytest.mark.parametrize(
    "name",
    [
        "timm/resnet18",
        "timm/vit_tiny_patch16_224",
        "timm/convnext_atto",
        "timm/mobilenetv3_small_050",
        "timm/regnetx_002",
    ],
)
def test_timms_networks_pass_through(name: str) -> None:
    model = create_model(name, num_classes=4, in_chans=1, img_size=64, drop_rate=0.1).eval()
    assert model.architecture == name
    x = torch.rand(2, 1, 64, 64)
    hidden = model.forward_head(model.forward_features(x), pre_logits=True)
    assert model(x).shape == (2, 4) and hidden.shape == (2, model.head_hidden_size)
    for features, stage in zip(stage_features(model, x), model.feature_info, strict=True):
        assert features.shape[:2] == (2, stage["num_chs"])


@pytest.mark.full
def test_one_network_of_each_file_of_timms() -> None:
    """Built, run, looked into and given another head, without data; and what is known of it."""
    from timm.models import is_model_in_modules, list_modules

    names = [name.partition("/")[2] for name in list_models("timm/*")]
    for module in sorted(list_modules()):
        name = next(n for n in names if is_model_in_modules(n, [module]))
        with torch.device("meta"):
            model = create_model(f"timm/{name}").eval().to("meta")
            info = model_info(f"timm/{name}")
            assert info.input and model_arguments(f"timm/{name}") is not None
            x = torch.empty(1, *info.input)
            model(x)
            if module != "gemma4_vit":  # reads numbers to make its features, which need data
                maps = stage_features(model, x)
                assert all(m.shape[1] == s["num_chs"] for m, s in zip(maps, model.feature_info, strict=True))
            model.reset_classifier(3)
            out = model.to("meta")(x)
            assert (out if isinstance(out, torch.Tensor) else out[0]).shape == (1, 3), name


def test_timms_resnets_are_ours() -> None:
    import timm

    theirs = timm.create_model("resnet50", num_classes=10).eval()
    ours = create_model("resnet50", num_classes=10).eval()
    ours.load_state_dict(theirs.state_dict(), strict=True)
    x = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(ours(x), theirs(x))


def test_info_and_arguments() -> None:
    info = model_info("torchvision/inception_v3")
    assert info.input == (3, 299, 299) and info.params == 23_834_568
    assert model_info("torchvision/regnet_y_400mf").params == 4_344_144
    assert model_info("torchvision/vit_h_14").input == (3, 224, 224)
    assert model_info("torchvision/vit_h_14").params == 632_045_800
    info = model_info("timm/vit_tiny_patch16_224")
    assert (info.params, info.input, info.mean) == (None, (3, 224, 224), (0.5, 0.5, 0.5))
    assert available_weights("timm/resnet18")[0] == "a1_in1k"
    assert available_weights("timm/resnet18.tv_in1k")[0] == "tv_in1k"
    assert published_weights("timm/resnet18")[0].url.startswith(
        "https://huggingface.co/timm/resnet18.a1_in1k/"
    )
    assert model_arguments("torchvision/vgg11")["dropout"] == 0.5
    assert model_arguments("timm/resnet18")["drop_path_rate"] == 0.0
    assert published_weights("torchvision/vgg16")[-1].top1_error is None  # features without a classifier
