"""Weights by published name: made-up numbers in the published layouts, served by a real server."""

import hashlib
import http.server
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from sightline.errors import SightlineError
from sightline.models import available_weights, create_model, load_weights, local_weights, published_weights
from sightline.models.catalog import CATALOG
from tests.models.states import same

torch.set_num_threads(1)


@pytest.fixture(scope="module")
def published_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file as torchvision publishes it: its resnet18's names and 1000 classes, its hash in its name."""
    from torchvision.models import resnet18

    folder = tmp_path_factory.mktemp("published")
    torch.save(resnet18().state_dict(), folder / "new")
    digest = hashlib.sha256((folder / "new").read_bytes()).hexdigest()
    return (folder / "new").rename(folder / f"resnet18-{digest[:8]}.pth")


@pytest.fixture
def server(published_file: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Serves the file in the place of download.pytorch.org; yields the paths that were asked for."""
    asked: list[str] = []

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *args: object) -> None:
            super().__init__(*args, directory=str(published_file.parent))  # type: ignore[arg-type]

        def log_message(self, *_args: object) -> None:
            asked.append(self.path)

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as httpd:
        threading.Thread(target=httpd.serve_forever, daemon=True).start()
        publish(monkeypatch, f"http://127.0.0.1:{httpd.server_port}/{published_file.name}")
        yield asked
        httpd.shutdown()


def publish(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    row = replace(published_weights("resnet18")[0], url=url)
    monkeypatch.setitem(CATALOG, "resnet18", replace(CATALOG["resnet18"], weights=(row,)))


def test_published_weights_are_fetched_once(server: list[str], published_file: Path, homes: Path) -> None:
    assert local_weights("resnet18") == []
    model = create_model("resnet18", num_classes=2, in_chans=1)
    report = load_weights(model, "IMAGENET1K_V1")
    assert report.fresh == ["fc.weight", "fc.bias"] and report.adapted == ["conv1.weight"]
    source = torch.load(published_file, weights_only=True)
    assert torch.allclose(model.conv1.weight, source["conv1.weight"].sum(dim=1, keepdim=True))
    assert same(model.state_dict(), source, without=("fc.", "conv1."))
    kept = homes / "home" / "weights" / published_file.name
    assert local_weights("resnet18") == [kept]
    load_weights(model, "DEFAULT")
    load_weights(model, kept)
    assert server == [f"/{published_file.name}"]


def test_create_model_takes_a_published_name(server: list[str], published_file: Path) -> None:
    model = create_model("resnet18", weights="DEFAULT")
    assert same(model.state_dict(), torch.load(published_file, weights_only=True))


def test_torch_hubs_cache_is_used(server: list[str], published_file: Path, homes: Path) -> None:
    cache = homes / "torch" / "hub" / "checkpoints"
    cache.mkdir(parents=True)
    (cache / published_file.name).write_bytes(published_file.read_bytes())
    assert local_weights("resnet18") == [cache / published_file.name]
    create_model("resnet18", weights="IMAGENET1K_V1")
    assert server == []


def test_wrong_hash_from_the_server(
    server: list[str], published_file: Path, monkeypatch: pytest.MonkeyPatch, homes: Path
) -> None:
    good = published_weights("resnet18")[0].url
    bad = published_file.with_name("resnet18-00000000.pth")
    bad.write_bytes(published_file.read_bytes())
    publish(monkeypatch, good.replace(published_file.name, bad.name))
    with pytest.raises(SightlineError, match="invalid hash value"):
        create_model("resnet18", weights="DEFAULT")
    assert list((homes / "home" / "weights").iterdir()) == []
    bad.unlink()


def test_damaged_file_in_the_cache(
    published_file: Path, homes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(monkeypatch, f"http://127.0.0.1:9/{published_file.name}")
    folder = homes / "home" / "weights"
    folder.mkdir(parents=True)
    data = bytearray(published_file.read_bytes())
    data[len(data) // 2] ^= 1
    (folder / published_file.name).write_bytes(data)
    for source in ("DEFAULT", folder / published_file.name):
        with pytest.raises(SightlineError, match=r"is damaged: its SHA-256 begins"):
            create_model("resnet18", weights=source)


def test_no_network(published_file: Path, homes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    publish(monkeypatch, f"http://127.0.0.1:9/{published_file.name}")
    with pytest.raises(SightlineError) as caught:
        create_model("resnet18", weights="DEFAULT")
    message = str(caught.value)
    assert f"put the file {published_file.name} into {homes / 'home' / 'weights'}" in message
    assert "could not be fetched from http://127.0.0.1:9" in message and "\n" not in message


@pytest.mark.parametrize(
    ("name", "weights", "words"),
    [
        ("resnet50", "IMAGENET1K_V3", "did you mean IMAGENET1K_V2 or IMAGENET1K_V1"),
        ("resnet50_2015", "IMAGENET1K_V1", "No weights of resnet50_2015 are published"),
        ("lecture_net", "DEFAULT", "No weights of lecture_net are published"),
        ("resnet50", "missing.pth", "There is no file missing.pth"),
        ("resnet50", "some/where", "There is no file some/where"),
    ],
)
def test_mistaken_names(name: str, weights: str, words: str) -> None:
    with torch.device("meta"), pytest.raises(SightlineError) as caught:
        create_model(name, weights=weights)
    assert words in str(caught.value) and "\n" not in str(caught.value)


def test_network_of_ones_own_takes_files_only(tmp_path: Path) -> None:
    from timm.models.resnet import BasicBlock, ResNet

    model = ResNet(BasicBlock, (1, 1, 1, 1), num_classes=2)
    with pytest.raises(SightlineError, match="no name to look weights up by"):
        load_weights(model, "DEFAULT")


def test_names_of_published_sets() -> None:
    assert available_weights("resnet50") == ["IMAGENET1K_V2", "IMAGENET1K_V1"]
    assert available_weights("resnet18") == ["IMAGENET1K_V1"]
    assert available_weights("plain34") == []


# ---------------------------------------------------------------------------------------- other libraries
def test_auxiliary_classifiers_in_torchvisions_files(tmp_path: Path) -> None:
    from torchvision.models import googlenet

    torch.save(googlenet(init_weights=False).state_dict(), tmp_path / "googlenet.pth")
    model = create_model("torchvision/googlenet", num_classes=5)
    report = load_weights(model, tmp_path / "googlenet.pth")
    assert report.fresh == ["fc.weight", "fc.bias"]
    assert report.dropped and all(key.startswith("aux") for key in report.dropped)


def test_torchvisions_published_name(homes: Path) -> None:
    """Found in the cache under torchvision's file name; its hash is not the one in its name."""
    row = published_weights("torchvision/squeezenet1_1")[0]
    folder = homes / "home" / "weights"
    folder.mkdir(parents=True)
    model = create_model("torchvision/squeezenet1_1")
    torch.save(model.state_dict(), folder / row.file)
    assert local_weights("torchvision/squeezenet1_1") == [folder / row.file]
    with pytest.raises(SightlineError, match="is damaged"):
        load_weights(model, "DEFAULT")


def test_timms_tags(monkeypatch: pytest.MonkeyPatch) -> None:
    """timm fetches its own; here its loader hands out a made-up network, of 1000 classes and three channels."""
    import timm

    made = timm.create_model("resnet18")
    asked: list[str] = []

    def pretend(name: str, pretrained: bool = False, **kwargs: object) -> nn.Module:
        asked.append(name)
        return made

    model = create_model("timm/resnet18", num_classes=2, in_chans=1)
    monkeypatch.setattr(timm, "create_model", pretend)
    report = load_weights(model, "tv_in1k")
    assert asked == ["resnet18.tv_in1k"]
    assert report.fresh == ["fc.weight", "fc.bias"] and report.adapted == ["conv1.weight"]


def test_timm_without_network(monkeypatch: pytest.MonkeyPatch) -> None:
    import timm

    def fail(*_args: object, **_kwargs: object) -> nn.Module:
        raise OSError("We couldn't connect to the Hub\nand more")

    model = create_model("timm/resnet18")
    monkeypatch.setattr(timm, "create_model", fail)
    with pytest.raises(SightlineError) as caught:
        load_weights(model, "a1_in1k")
    assert "https://huggingface.co/timm/resnet18.a1_in1k" in str(caught.value) and "\n" not in str(
        caught.value
    )
