"""Learned features as a scikit-learn transformer: any network, up to any of its layers.

    from sklearn.pipeline import make_pipeline
    from sklearn.svm import LinearSVC
    from sightline.features import Embedding

    make_pipeline(Embedding("resnet18"), LinearSVC()).fit(paths, labels)
    make_pipeline(Embedding("resnet18", layer="layer3", pool="max"), RidgeHead())

A picture goes through a network once: features are kept on disk (`embedding_cache`), so that a grid search, another
head or another run pays for the head alone.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils.validation import check_is_fitted

from sightline.data.dataset import ImageDataset
from sightline.data.image_io import ImageSource
from sightline.errors import SightlineError, UnknownName, UnreadableImage
from sightline.features.embedding_network import POOLS, Layer, Model, Pool, open_network
from sightline.features.embedding_pictures import features_of
from sightline.transforms.preprocess import Preprocess


class Embedding(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Pictures to the features of one layer of a network: float32 (N, F).

    model: a name of `create_model` (ours, `timm/NAME`, `torchvision/NAME`), a run's folder, a module, a Bundle or a
        Classifier. It is not trained.
    layer: the name of a stage (`layer3`, `blocks.5`) or of any module; None: what enters the classifier.
    pool: what becomes of maps (N, C, h, w) and tokens (N, T, C): `avg` or `max` over the places, `cls` the class
        token, `flatten` all of it. None: the class token where there is one, else the mean. What enters the classifier
        is pooled by the network itself.
    weights: of a name: `auto` the recommended published set, `none` a random start that is the same each time, a
        published name, a file or a run.
    preprocess: in the place of the one that belongs to the weights.
    batch_size: pictures that are computed together. device: cpu, cuda, ...
    precision: `auto` computes in a faster copy, in bf16 where the device has it; `fp32` as the network itself does.
    cache: keep the features on disk, below `SIGHTLINE_HOME`.

    Pictures are a sequence of whatever `read_image` takes, an array (N, H, W, C), or an ImageDataset.
    After `fit`: network_, the Network; n_features_out_, F.
    """

    def __init__(
        self,
        model: Model = "resnet18",
        layer: Layer = None,
        pool: Pool | None = None,
        weights: str | Path | None = "auto",
        preprocess: Preprocess | None = None,
        batch_size: int = 64,
        device: str = "cpu",
        precision: str = "auto",
        cache: bool = True,
    ) -> None:
        self.model = model
        self.layer = layer
        self.pool = pool
        self.weights = weights
        self.preprocess = preprocess
        self.batch_size = batch_size
        self.device = device
        self.precision = precision
        self.cache = cache

    def fit(self, X: Any = None, y: Any = None) -> Self:
        """Find the network and its layer; the pictures are not looked at.

        Raises SightlineError where there is no such network, layer, pooling or set of weights.
        """
        del X, y
        if self.pool is not None and self.pool not in POOLS:
            raise UnknownName("pooling", self.pool, POOLS)
        if self.layer is None and self.pool is not None:
            raise SightlineError(
                f"What enters the classifier is pooled by the network itself; name a layer for pool={self.pool!r}."
            )
        self.network_ = open_network(self.model, self.weights, self.preprocess, self.device, self.precision)
        self._taps = self.network_.taps([self.layer], [self.pool])
        self.n_features_out_ = self._taps.lengths[0]
        return self

    def transform(self, X: ImageDataset | Iterable[ImageSource]) -> NDArray[np.float32]:
        """The features of the pictures `X`, float32 (N, F). Raises UnreadableImage for the first that is none."""
        check_is_fitted(self)
        found = features_of(self._taps, X, batch_size=self.batch_size, kept=self.cache)
        if found.failures:
            first = min(found.failures, key=lambda failure: failure.index)
            raise UnreadableImage(first.ref, first.reason)
        return found.values[0]

    def get_feature_names_out(self, input_features: Any = None) -> NDArray[np.object_]:
        """(F,): names such as `resnet18_layer3_17`."""
        del input_features
        check_is_fitted(self)
        name = self.model if isinstance(self.model, str) else type(self.network_.module).__name__
        stem = "_".join(filter(None, (Path(name).name.lower(), self.layer)))
        return np.array([f"{stem}_{number}" for number in range(self.n_features_out_)], dtype=object)

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "n_features_out_")
