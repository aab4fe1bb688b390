"""Pictures and data sets: reading them safely, opening them from anywhere, splitting them."""

from sightline.data.dataset import ImageDataset
from sightline.data.image_io import read_image
from sightline.data.sources import open_dataset
from sightline.data.split import make_splits

__all__ = ["ImageDataset", "make_splits", "open_dataset", "read_image"]
