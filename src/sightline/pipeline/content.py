"""What a picture is, whatever it is called: a digest of its file's bytes, or of an array's values."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from sightline.errors import UnreadableImage
from sightline.files import reason

if TYPE_CHECKING:
    from sightline.data.dataset import ImageDataset

DIGEST_BYTES = 16


def digest(dataset: ImageDataset, index: int) -> bytes:
    """16 bytes that tell the content of picture `index` from every other. Raises UnreadableImage."""
    path = dataset.path(index)
    if path is None:
        picture = dataset.read(index)
        content, kind = picture.tobytes(), repr(picture.size).encode()
    else:
        try:
            content, kind = path.read_bytes(), b"file"
        except OSError as error:
            raise UnreadableImage(str(path), reason(error)) from error
    return hashlib.blake2b(content, digest_size=DIGEST_BYTES, person=kind[:16]).digest()
