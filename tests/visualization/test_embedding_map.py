"""Embedding maps: scikit-learn's layout of the network's own features, drawn as thumbnails."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.decomposition import PCA

from sightline.errors import SightlineError
from sightline.visualization.embedding_map import EmbeddingMap, draw_embedding_map, embedding_map
from tests.visualization.networks import Plain, built, same_state, state_of

PICTURES = torch.randn(20, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def test_pca_of_the_features() -> None:
    model = built("resnet18").train()
    before = state_of(model)
    found = embedding_map(model, PICTURES.split(8))
    assert same_state(before, state_of(model))
    model.eval()
    with torch.no_grad():
        features = model.forward_head(model.forward_features(PICTURES), pre_logits=True).numpy()
    expected = PCA(2, svd_solver="full").fit(features)
    assert np.allclose(np.abs(found.values), np.abs(expected.transform(features)), atol=1e-4)
    assert found.explained == pytest.approx(expected.explained_variance_ratio_.sum(), abs=1e-5)


def test_ones_own_network_and_tsne() -> None:
    model = Plain().eval()
    groups = torch.cat([PICTURES[:10] * 0.1 + 3, PICTURES[10:] * 0.1 - 3])
    found = embedding_map(model, [groups], method="tsne")
    again = embedding_map(model, [groups], method="tsne")
    assert (
        found.values.shape == (20, 2)
        and found.explained is None
        and np.array_equal(found.values, again.values)
    )
    centres = found.values[:10].mean(0), found.values[10:].mean(0)
    apart = np.linalg.norm(centres[0] - centres[1])
    assert apart > np.linalg.norm(found.values[:10] - centres[0], axis=1).max()


def test_thumbnails_stand_at_their_points_and_hide_none() -> None:
    values = np.array([[0, 0], [10, 0], [0, 10], [0.01, 0]], np.float32)
    colours = ["red", "lime", "blue", "white"]
    thumbnails = [Image.new("RGB", (8, 8), colour) for colour in colours]
    drawn = draw_embedding_map(
        EmbeddingMap(values, "pca", 1.0), thumbnails, targets=[0, 1, 2, 3], side=440, tile=40
    )
    # Down is low: (0, 0) stands at the lower left.
    assert drawn.getpixel((40, 385)) == (255, 0, 0)
    assert drawn.getpixel((400, 400)) == (0, 255, 0) and drawn.getpixel((40, 40)) == (0, 0, 255)
    with pytest.raises(SightlineError, match="need as many thumbnails"):
        draw_embedding_map(EmbeddingMap(values, "pca", 1.0), thumbnails[:2])


def test_bad_requests() -> None:
    with pytest.raises(SightlineError, match="pca or tsne"):
        embedding_map(Plain(), [PICTURES], method="umap")  # type: ignore[arg-type]
    with pytest.raises(SightlineError, match="at least three pictures"):
        embedding_map(Plain(), [PICTURES[:2]])
    with pytest.raises(SightlineError, match="no linear layer"):
        embedding_map(torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten()), [PICTURES])
