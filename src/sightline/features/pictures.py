"""What the hand-crafted features share: pictures of any kind in, rows of numbers out, two pictures at a time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, ClassVar, Literal, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils.validation import check_is_fitted

from sightline.data import ImageDataset, read_image
from sightline.data.image_io import ImageHeader, read_header
from sightline.errors import SightlineError
from sightline.transforms.preprocess import Preprocess

Bytes = NDArray[np.uint8]
Single = NDArray[np.float32]
Mode = Literal["L", "RGB"]

# Pictures that are worked on together: enough for large matrix products, few enough for the processor's cache.
TOGETHER = 16
# OpenCV and numpy give up the interpreter's lock: threads work side by side.
THREADS = 2
# Pictures whose headers `fit` looks at, and the size taken where these differ or are larger.
LOOKED_AT, COMMON_SIZE = 64, 128


class PictureFeatures(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """A scikit-learn transformer from n pictures to float32 features (n, D).

    The pictures are an ImageDataset, or a sequence of anything that `read_image` takes (paths, bytes, Pillow
    images, uint8 arrays (H, W) or (H, W, C)), or one array (n, H, W) or (n, H, W, C). They are brought to one size
    by Pillow's antialiased resize. Raises UnreadableImage for one that cannot be read.

    size: (height, width) or one side, in pixels. None: that of the pictures given to `fit` where they are of one
        size up to 128, else 128 x 128.

    After `fit`: size_ (height, width); grey_: whether all pictures looked at were grey.
    """

    # The names of the arrays that `fit` learned, beyond size_ and grey_: all that must be kept to compute the same.
    learned: ClassVar[tuple[str, ...]] = ()
    size: int | Sequence[int] | None

    def fit(self, X: Any, y: Any = None) -> Self:
        """Settle the size, and learn what there is to learn. `y` is ignored."""
        del y
        pictures = Pictures(X)
        headers = pictures.headers()
        sizes = {(header.height, header.width) for header in headers}
        if self.size is not None:
            size = (self.size, self.size) if isinstance(self.size, int) else tuple(self.size)
        elif len(sizes) == 1 and max(next(iter(sizes))) <= COMMON_SIZE:
            size = next(iter(sizes))
        else:
            size = (COMMON_SIZE, COMMON_SIZE)
        self.settle((int(size[0]), int(size[1])), all(header.is_grey for header in headers))
        self._learn(pictures)
        return self

    def settle(self, size: tuple[int, int], grey: bool) -> None:
        """Take pictures of `size` from now on. SightlineError where they are too small for these features."""
        self.size_, self.grey_ = size, grey
        self._n_features_out = self._length()
        if self._n_features_out < 1:
            raise SightlineError(
                f"Pictures of {size[0]}x{size[1]} pixels are too small for {self}; set a larger size."
            )

    def transform(self, X: Any) -> Single:
        """(n, D) float32."""
        check_is_fitted(self)
        pictures = Pictures(X)
        found = np.empty((len(pictures), self._n_features_out), dtype=np.float32)

        def work(start: int) -> None:
            places = range(start, min(start + TOGETHER, len(pictures)))
            batch = np.stack([pictures.read(i, self.mode, self.size_) for i in places])
            found[places.start : places.stop] = self.compute(batch)

        with ThreadPoolExecutor(THREADS) as pool:
            for _ in pool.map(work, range(0, len(pictures), TOGETHER)):
                pass
        return found

    @property
    def mode(self) -> Mode:
        """Pillow's mode of the pictures that `compute` takes."""
        return "L" if self.grey_ else "RGB"

    def compute(self, batch: Bytes) -> Single:
        """The features (n, D) of pictures (n, H, W) or (n, H, W, 3) of `size_` and `mode`."""
        raise NotImplementedError

    def _length(self) -> int:
        """How many features a picture of `size_` has; 0 if it is too small."""
        raise NotImplementedError

    def _learn(self, pictures: Pictures) -> None:
        """Learn from the training pictures; nothing unless a subclass does."""


class Pictures:
    """Any of the things that count as n pictures, read one at a time."""

    def __init__(self, source: Any) -> None:
        if isinstance(source, ImageDataset | Pictures):
            self._items: Any = source
        elif isinstance(source, np.ndarray):
            if source.dtype != object and source.ndim not in (1, 3, 4):
                raise SightlineError(
                    f"Pictures in one array have the shape (n, H, W) or (n, H, W, C), not {source.shape}."
                )
            self._items = source
        elif isinstance(source, Iterable) and not isinstance(source, str | bytes):
            # An ImageDataset that scikit-learn cut up is a list of pairs of picture and target.
            self._items = [item[0] if isinstance(item, tuple) else item for item in source]
        else:
            raise SightlineError(
                f"Give a sequence of pictures, not {type(source).__name__}; a single one goes into a list."
            )
        if not len(self._items):
            raise SightlineError("There are no pictures to make features of.")

    def __len__(self) -> int:
        return len(self._items)

    def headers(self) -> list[ImageHeader]:
        """Of up to 64 pictures, evenly spaced."""
        if isinstance(self._items, ImageDataset):
            return self._items.probe(LOOKED_AT)
        return [read_header(_source(self._items[i])) for i in spread(len(self), LOOKED_AT)]

    def read(self, index: int, mode: Mode, size: tuple[int, int]) -> Bytes:
        """Picture `index`, (H, W) or (H, W, 3)."""
        if isinstance(self._items, ImageDataset):
            picture = self._items.read(index, mode)
        else:
            item = _source(self._items[index])
            wanted = size if mode == "L" else (*size, 3)
            if isinstance(item, np.ndarray) and item.dtype == np.uint8 and item.shape == wanted:
                return item
            picture = read_image(item, mode)
        return np.asarray(fixed(size, mode).image(picture))


def _source(item: Any) -> Any:
    return str(item) if isinstance(item, np.str_) else item


def fixed(size: tuple[int, int], mode: Mode) -> Preprocess:
    """The map to pictures of `size` and `mode`, whole and not normalised."""
    channels: Literal[1, 3] = 1 if mode == "L" else 3
    return Preprocess(size, channels, fit="squash", mean=(0.0,) * channels, std=(1.0,) * channels)


def spread(count: int, limit: int) -> Iterator[int]:
    """Up to `limit` places among `count`, evenly spaced."""
    return iter(np.unique(np.linspace(0, count - 1, min(count, limit)).astype(int)).tolist())


def cells_of(count: int, levels: Sequence[int]) -> list[NDArray[np.intp]]:
    """For each level l of a spatial pyramid, in which of l parts each of `count` places along a side is."""
    return [np.arange(count) * level // count for level in levels]
