"""Pictures of a folder found by words or by another picture: an index of CLIP's embeddings on disk, searched exactly.

The index lies below `SIGHTLINE_HOME/search`, one for each folder and image tower: `vectors-*.f16`, the embeddings of
length one in float16, which is mapped into memory and never read as a whole; and `entries-*.npz`, for each row the
picture's name, its size and time, and a hash of its content. A new state is written beside and comes into force as a
whole, when `index.json` names it.

A picture whose size and time are as before is taken to be as before. Another one is hashed; what has been embedded
under that content is not embedded again, whatever its name. So the index follows renames, copies and edits.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sightline.data.dataset import Files, ImageDataset
from sightline.data.folder import is_picture, walk
from sightline.data.image_io import ImageSource, read_image
from sightline.errors import SightlineError, UnreadableImage
from sightline.fast import FastNetwork, fast_copy
from sightline.files import disk_errors, write_beside
from sightline.home import home
from sightline.pipeline.cache import cores
from sightline.pipeline.loader import PlainPictures
from sightline.zero_shot.opened import DEFAULT, OpenedClip, open_clip
from sightline.zero_shot.texts import encode

if TYPE_CHECKING:
    from sightline.evaluation.retrieval import RetrievalScores

FORMAT = 1
KEY = 16  # bytes of a content's hash
SAVE_EVERY = 60.0  # seconds of embedding that an interrupt may cost
Progress = Callable[[int, int], None]
Half = NDArray[np.float16]
Floats = NDArray[np.float32]


class Hit(NamedTuple):
    """A picture that was found: its name below the folder, and its cosine with what was asked for."""

    name: str
    score: float


@dataclass(frozen=True, slots=True, eq=False)
class Entries:
    """What the rows of an index are. names; stats: int64 (N, 2), bytes and nanoseconds; keys: uint8 (N, 16)."""

    names: list[str]
    stats: NDArray[np.int64]
    keys: NDArray[np.uint8]

    def take(self, rows: Sequence[int]) -> Entries:
        return Entries([self.names[i] for i in rows], self.stats[rows], self.keys[rows])


@dataclass(frozen=True, slots=True, eq=False)
class Index:
    """vectors: float16 (N, D), of length one. entries: what they are of."""

    vectors: Half
    entries: Entries


class PictureSearch:
    """The pictures anywhere below `folder`, ready to be asked for. The index is brought up to date first.

    model, weights, arguments, device: see `open_clip`; or an OpenedClip. precision: as of `Classifier`.
    progress: is told how many of the new pictures are embedded.

    embedded: how many pictures were new. failures: those that cannot be read, which are left out.
    Raises SightlineError for a folder without pictures.
    """

    def __init__(
        self,
        folder: str | Path,
        *,
        model: str | Path | OpenedClip = DEFAULT,
        weights: str | Path = "auto",
        arguments: Mapping[str, Any] | None = None,
        device: str = "cpu",
        precision: str = "auto",
        progress: Progress | None = None,
    ) -> None:
        self.folder = Path(folder).expanduser()
        if not self.folder.is_dir():
            raise SightlineError(f"There is no folder {self.folder} to search.")
        self.clip = model if isinstance(model, OpenedClip) else open_clip(model, weights, arguments, device)
        self.failures: list[UnreadableImage] = []
        self.embedded = 0
        self.precision = precision
        self._fast: FastNetwork | None = None
        self.place = home() / "search" / place_key(self.folder, self.clip)
        self.index = self._updated(progress)
        if not len(self.index.vectors):
            raise SightlineError(f"There are no pictures that can be read in the folder {self.folder}.")

    def __len__(self) -> int:
        return len(self.index.vectors)

    def by_text(self, text: str, k: int = 10) -> list[Hit]:
        """The `k` pictures nearest to a sentence, the nearest first. Raises SightlineError for an empty one."""
        if not text.strip():
            raise SightlineError(
                "There is nothing to search for; write a sentence, such as 'two dogs in the snow'."
            )
        return self.hits(encode(self.clip.model, self.clip.tokenizer([text])), k)

    def by_picture(self, picture: ImageSource, k: int = 10) -> list[Hit]:
        """The `k` pictures nearest to another one. Raises UnreadableImage."""
        preprocess = self.clip.preprocess
        return self.hits(self.embed(preprocess(read_image(picture, mode=preprocess.mode))[None]), k)

    def hits(self, query: Tensor, k: int) -> list[Hit]:
        """The rows nearest to the embedding (1, D)."""
        rows, scores = nearest(self.index.vectors, query[0].numpy(), k)
        names = self.index.entries.names
        return [Hit(names[i], s) for i, s in zip(rows.tolist(), scores.tolist(), strict=True)]

    def recall(self, captions: str | Path) -> RetrievalScores:
        """How well pictures and captions find one another: recall at 1, 5 and 10, both ways.

        captions: a manifest of pictures and captions, see `sightline.data.captions`; the pictures of it that are in the
        index are asked about. Raises SightlineError where none is.
        """
        from sightline.data.captions import open_captions
        from sightline.evaluation.retrieval import retrieval_scores

        dataset = open_captions(captions)
        rows = {str(self.folder.resolve() / name): i for i, name in enumerate(self.index.entries.names)}
        paths = [dataset.pictures.path(i) for i in range(len(dataset))]
        found = [rows.get(str(path.resolve())) if path else None for path in paths]
        known = [i for i, row in enumerate(found) if row is not None]
        if not known:
            raise SightlineError(
                f"None of the pictures that {captions} names is in the folder {self.folder}."
            )
        texts, owners = dataset.subset(known).all_captions()
        images = self.index.vectors[[row for row in found if row is not None]].astype(np.float32)
        embedded = encode(self.clip.model, self.clip.tokenizer(texts)).numpy()
        return retrieval_scores(images, embedded, texts, owners, split="all")

    # The index.

    def embed(self, images: Tensor) -> Tensor:
        """Prepared uint8 pictures (N, C, H, W) to embeddings of length one (N, D), float32 on the CPU."""
        preprocess = self.clip.preprocess
        device = self.clip.model.logit_scale.device
        if self._fast is None:
            size = (preprocess.channels, *preprocess.size)
            self._fast = fast_copy(self.clip.image_tower(), size, self.precision)
        with torch.inference_mode():
            features = self._fast.features(preprocess.normalize(images.to(device)))
            return torch.nn.functional.normalize(features, dim=1).cpu()

    def _updated(self, progress: Progress | None) -> Index:
        """The index of the pictures that are there now."""
        old = load_index(self.place, self.clip.model.text_projection.shape[1])
        names = sorted(filter(is_picture, walk(self.folder)))
        stats = np.array([stat_of(self.folder / name) for name in names], np.int64).reshape(-1, 2)
        if old.entries.names == names and np.array_equal(old.entries.stats, stats):
            return old
        by_name = {name: row for row, name in enumerate(old.entries.names)}
        by_key = {key.tobytes(): row for row, key in enumerate(old.entries.keys)}
        keys = np.zeros((len(names), KEY), np.uint8)
        source = np.full(len(names), -1)  # the row of `old` that a picture's embedding is in
        changed = []
        for i, name in enumerate(names):
            row = by_name.get(name, -1)
            if row >= 0 and np.array_equal(old.entries.stats[row], stats[i]):
                source[i], keys[i] = row, old.entries.keys[row]
            else:
                changed.append(i)
        with ThreadPoolExecutor(cores()) as pool:
            for i, key in zip(
                changed, pool.map(lambda i: content_key(self.folder / names[i]), changed), strict=True
            ):
                keys[i] = np.frombuffer(key, np.uint8)
                source[i] = by_key.get(key, -1)
        state = Entries(names, stats, keys)
        missing = [i for i in changed if source[i] < 0]
        fresh: dict[int, Half] = {}
        saved = time.monotonic()
        for done, part in self._embedded(names, missing):
            fresh |= part
            if progress:
                progress(done, len(missing))
            if time.monotonic() - saved > SAVE_EVERY:
                write_index(self.place, old.vectors, source, fresh, state)
                saved = time.monotonic()
        self.embedded = len(fresh)
        kept = np.flatnonzero(source >= 0)
        same = state.take(kept.tolist())
        if not fresh and same.names == old.entries.names and np.array_equal(same.stats, old.entries.stats):
            return old  # all that was new cannot be read
        return write_index(self.place, old.vectors, source, fresh, state)

    def _embedded(
        self, names: Sequence[str], missing: Sequence[int]
    ) -> Iterator[tuple[int, dict[int, Half]]]:
        """(how many are done, embeddings by their place in `names`), a batch at a time; failures are noted."""
        files = Files(self.folder, (names[i] for i in missing))
        dataset = ImageDataset(files, np.zeros(len(missing), np.int32), ("picture",), name=self.folder.name)
        done = 0
        for batch in PlainPictures(dataset, self.clip.preprocess).batches(64):
            self.failures += [UnreadableImage(f.ref, f.reason) for f in batch.failures]
            rows: list[Half] = []
            if len(batch.indices):
                rows = list(self.embed(batch.images).numpy().astype(np.float16))
            done += len(batch.indices) + len(batch.failures)
            yield done, {missing[i]: row for i, row in zip(batch.indices.tolist(), rows, strict=True)}


# ------------------------------------------------------------------------------------------------- nearest
def nearest(vectors: Half, query: Floats, k: int) -> tuple[NDArray[np.int64], Floats]:
    """The `k` rows of `vectors` (N, D) with the largest dot product with `query` (D,), and these, the largest first.

    They are those that float32 arithmetic finds. A first pass in float16 reads every row once; the best hundred are
    computed again in float32; where one that was left out could still belong to them, more are. Of equal ones the first
    row comes first.
    """
    k = min(k, len(vectors))
    rough = rough_products(vectors, query)
    bound = ROUGH * float(np.linalg.norm(query))
    count = min(max(100, 4 * k), len(vectors))
    while True:
        best = torch.topk(torch.from_numpy(rough), count, sorted=True).indices.numpy()
        exact = vectors[best].astype(np.float32) @ query
        order = np.lexsort((best, -exact))[:k]
        if count == len(vectors) or rough[best[-1]] + bound < exact[order[-1]]:
            return best[order], exact[order]
        count = min(4 * count, len(vectors))


# How far off a product of float16 numbers of length one may be: its own rounding below one, and the query's.
ROUGH = 1e-3


def rough_products(vectors: Half, query: Floats) -> Floats:
    """`vectors` @ `query`, the query in float16 as well: half the memory to fetch, which is what takes the time."""
    half = torch.from_numpy(query.astype(np.float16))
    out = torch.empty(len(vectors), dtype=torch.float16)
    table = torch.from_numpy(vectors)
    threads = min(torch.get_num_threads(), cores(), max(1, len(vectors) // 4096))
    edges = np.linspace(0, len(vectors), threads + 1).astype(int).tolist()

    def part(start: int, end: int) -> None:
        with torch.inference_mode():
            torch.mv(table[start:end], half, out=out[start:end])

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(part, edges[:-1], edges[1:]))
    return out.numpy().astype(np.float32)


# ------------------------------------------------------------------------------------------------- on disk
def load_index(place: Path, length: int) -> Index:
    """The index in `place`; an empty one where there is none that can be used."""
    try:
        said = json.loads((place / "index.json").read_text(encoding="utf-8"))
        if said["format"] != FORMAT or said["length"] != length:
            raise ValueError
        with np.load(place / said["entries"], allow_pickle=False) as data:
            names = [os.fsdecode(name) for name in data["names"].tobytes().split(b"\0")[:-1]]
            entries = Entries(names, data["stats"], data["keys"])
        # Copy on write: nobody writes, but PyTorch asks for memory that one could write to.
        vectors = np.memmap(place / said["vectors"], np.float16, "c", shape=(len(names), length))
        if not len(names) == len(entries.stats) == len(entries.keys):
            raise ValueError
        return Index(vectors, entries)
    except (OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile):
        empty = Entries([], np.zeros((0, 2), np.int64), np.zeros((0, KEY), np.uint8))
        return Index(np.zeros((0, length), np.float16), empty)


def write_index(
    place: Path, old: Half, source: NDArray[np.int64], fresh: Mapping[int, Half], state: Entries
) -> Index:
    """Write those pictures of `state` that have an embedding, in `old` by `source` or in `fresh`; and load it."""
    rows = [i for i in range(len(state.names)) if source[i] >= 0 or i in fresh]
    entries, length = state.take(rows), old.shape[1]
    generation = time.time_ns()
    named = {"entries": f"entries-{generation}.npz", "vectors": f"vectors-{generation}.f16"}
    with disk_errors(place):
        place.mkdir(parents=True, exist_ok=True)
        with (place / named["vectors"]).open("xb") as file:
            for start in range(0, len(rows), 8192):
                chunk = rows[start : start + 8192]
                file.write(
                    np.stack([old[source[i]] if i not in fresh else fresh[i] for i in chunk]).tobytes()
                )
        names = np.frombuffer(b"".join(os.fsencode(name) + b"\0" for name in entries.names), np.uint8)
        with (place / named["entries"]).open("xb") as file:
            np.savez(file, names=names, stats=entries.stats, keys=entries.keys)
    if rows:
        write_beside(
            place / "index.json", json.dumps({"format": FORMAT, "length": length, **named}, indent=2) + "\n"
        )
    for path in place.glob("*-*.*"):
        if path.name not in named.values():
            path.unlink(missing_ok=True)
    return load_index(place, length)


def place_key(folder: Path, clip: OpenedClip) -> str:
    """A name for the index of a folder by this image tower: a hash of both, and of how pictures are prepared."""
    digest = hashlib.blake2b(os.fsencode(folder.resolve()), digest_size=12)
    digest.update(json.dumps(clip.preprocess.to_dict()).encode())
    digest.update(repr(clip.model.quick_gelu).encode())
    for name, tensor in clip.model.visual.state_dict().items():
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype} ".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def content_key(path: Path) -> bytes:
    """A hash of the file's bytes; of one that cannot be read its name's, as the door will say why."""
    digest = hashlib.blake2b(digest_size=KEY)
    try:
        with path.open("rb") as file:
            while part := file.read(1 << 20):
                digest.update(part)
    except OSError:
        digest.update(b"unreadable " + os.fsencode(path))
    return digest.digest()


def stat_of(path: Path) -> tuple[int, int]:
    """(bytes, nanoseconds of the last change); (-1, -1) of what is not there."""
    try:
        status = path.stat()
    except OSError:
        return -1, -1
    return status.st_size, status.st_mtime_ns
