"""Names to networks: listing, and mistakes. Every network goes through test_whole_registry.py."""

import subprocess
import sys

import pytest

from sightline.errors import SightlineError, UnknownName
from sightline.models import create_model, list_models


def test_listing() -> None:
    assert list_models()[:3] == ["lecture_net", "lecture_vit", "lenet5_1998"]
    assert list_models("*_2015") == ["resnet50_2015", "resnet101_2015", "resnet152_2015"]
    assert list_models("plain?4") == ["plain34"]
    assert list_models("nothing*") == []


def test_listing_needs_no_torch() -> None:
    code = (
        "import sys, sightline.models as m; m.list_models(); m.model_info('resnet50').to_dict(); "
        "m.available_weights('resnet50'); print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


@pytest.mark.parametrize(
    ("name", "arguments", "words"),
    [
        ("resnet17", {}, "did you mean resnet18"),
        ("tim/resnet18", {}, "did you mean timm"),
        ("resnet18", {"drop_rat": 0.1}, "did you mean drop_rate"),
        ("lecture_net", {"kernelsize": 3}, "did you mean kernel_size"),
        ("lenet5", {"depth": 3}, "it takes none of its own"),
        ("resnet18", {"drop_rate": "much"}, "drop_rate takes a value such as 0.0, not 'much'"),
        ("resnet18", {"layers": 2}, "layers takes a value such as (2, 2, 2, 2), not 2"),
        ("resnet18", {"layers": [2, 2.5]}, "layers takes a value such as"),
        ("resnet18", {"drop_rate": 1.5}, "lie in [0, 1)"),
        ("resnet18", {"layers": [2, 2]}, "must name the same stages"),
        ("resnet18", {"layers": [0, 2, 2, 2]}, "at least 1"),
        ("resnet18", {"stem": "tall"}, "stem is imagenet or half or cifar, not tall"),
        ("resnet18", {"groups": 2}, "for bottleneck blocks"),
        ("resnet50", {"base_width": 4, "widths": [8, 64, 64, 64]}, "no channel left"),
        ("plain18", {"zero_init_residual": True}, "no residual branch"),
        ("resnet18_a", {"widths": [64, 32, 32, 32]}, "cannot shrink"),
        ("resnet18", {"img_size": 16}, "16x16 pixels are too small, it needs at least 17"),
        ("resnet20", {"img_size": (32, 2)}, "32x2 pixels are too small, it needs at least 3"),
        ("resnet18", {"img_size": (1, 2, 3)}, "one or two whole numbers"),
        ("resnet18", {"num_classes": -1}, "num_classes is a whole number of at least 0, not -1"),
        ("resnet18", {"num_classes": 2.0}, "num_classes is a whole number"),
        ("resnet18", {"in_chans": 0}, "in_chans is a whole number of at least 1, not 0"),
        ("lecture_net", {"kernel_size": 0}, "kernel_size is at least 1"),
        ("lecture_net", {"widths": [16]}, "two counts of filters"),
        ("lecture_net", {"img_size": 3}, "too small"),
        ("lecture_vit", {"img_size": 30}, "multiples of 4"),
        ("lecture_vit", {"num_heads": 5}, "does not divide into 5 heads"),
        ("lenet5", {"img_size": 20}, "at least 28"),
        ("lenet5_1998", {"img_size": 28}, "32x32 pixels, not 28x28"),
        ("lenet5_1998", {"num_classes": 12}, "cannot tell 12 classes apart; lenet5 takes any number"),
    ],
)
def test_mistakes_are_one_sentence(name: str, arguments: dict[str, object], words: str) -> None:
    with pytest.raises(SightlineError) as caught:
        create_model(name, **arguments)  # type: ignore[arg-type]
    message = str(caught.value)
    assert words in message and "\n" not in message and message.endswith((".", "?"))
    assert name.split("/")[0] in message
    assert isinstance(caught.value, UnknownName) == ("called" in message)
