"""One reading of every picture: a thumbnail, and what its file is like; and what is wrong with single files."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from sys import intern
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image

from sightline.audit.alignment import SIDE
from sightline.audit.duplicates import FLAT, thumbnail
from sightline.audit.findings import Finding
from sightline.data.dataset import ImageDataset
from sightline.data.image_io import FORMATS
from sightline.errors import UnreadableImage

CHUNK = 256
# The values of a picture of one colour may differ by so much, by its compression.
CONSTANT = 8
# Shorter sides below this, or below this share of what is usual in the set, show nothing.
TINY_SIDE, TINY_SHARE = 8, 1 / 8
# A format, mode or the like is odd where so few files have it, while nearly all have another.
ODD_SHARE, USUAL_SHARE = 0.01, 0.95
# A size is odd so many deviations from the median of all; the deviation of logarithms counts as this at least.
ODD_DEVIATIONS, LEAST_DEVIATION = 6.0, 0.15

_SAME = {"MPO": "JPEG", "DIB": "BMP", "CUR": "ICO", "PFM": "PPM", "PGM": "PPM", "PBM": "PPM"}

Facts = dict[str, str | float]


@dataclass(slots=True)
class Scan:
    """What one reading of N pictures gave.

    thumbnails: uint8 (N, 32, 32); sizes: int32 (N, 2), upright width and height, 0 where it cannot be read; reasons:
    why some cannot be, by place; constant: bool (N,); facts: of each file, by name of the property, text or a number.
    """

    thumbnails: NDArray[np.uint8]
    sizes: NDArray[np.int32]
    constant: NDArray[np.bool_]
    reasons: dict[int, str]
    facts: list[Facts]

    @property
    def readable(self) -> NDArray[np.bool_]:
        return self.sizes[:, 0] > 0


def scan(dataset: ImageDataset, progress: Callable[[int], None] | None = None) -> Scan:
    """Read every picture of `dataset` once, on all cores; about 1.5 KB of each are kept."""
    n = len(dataset)
    done = Scan(
        np.zeros((n, SIDE, SIDE), np.uint8),
        np.zeros((n, 2), np.int32),
        np.zeros(n, bool),
        {},
        [{} for _ in range(n)],
    )

    def one(index: int) -> None:
        try:
            picture = dataset.read(index, mode="L")
        except UnreadableImage as error:
            done.reasons[index] = error.reason
            return
        small = thumbnail(picture)
        done.thumbnails[index], done.sizes[index] = small, picture.size
        if np.ptp(small) <= FLAT:
            low, high = picture.getextrema()
            done.constant[index] = high - low <= CONSTANT  # type: ignore[operator]  # one channel, so two numbers
        path = dataset.path(index)
        if path is not None:
            done.facts[index] = _facts(path, picture.size)

    for count in _on_all_cores(one, n):
        if progress:
            progress(count)
    return done


def read_thumbnails(
    dataset: ImageDataset, progress: Callable[[int], None] | None = None
) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """(N, 32, 32) thumbnails of all pictures, and which could be read."""
    thumbnails = np.zeros((len(dataset), SIDE, SIDE), np.uint8)
    readable = np.ones(len(dataset), bool)

    def one(index: int) -> None:
        try:
            thumbnails[index] = thumbnail(dataset.read(index, mode="L"))
        except UnreadableImage:
            readable[index] = False

    for count in _on_all_cores(one, len(dataset)):
        if progress:
            progress(count)
    return thumbnails, readable


def _on_all_cores(work: Callable[[int], None], n: int) -> Iterator[int]:
    """`work` on 0..n-1, a chunk at a time, so that an interruption is not kept waiting; how many are done."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:  # the decoders release the interpreter lock
        for start in range(0, n, CHUNK):
            part = range(start, min(n, start + CHUNK))
            for _ in pool.map(work, part):
                pass
            yield part.stop


def _facts(path: Path, size: tuple[int, int]) -> Facts:
    """What the file of a picture, which was read without trouble, says of itself."""
    facts: Facts = {
        "extension": intern(path.suffix.lower()),
        "width": size[0],
        "height": size[1],
        "shape": size[0] / size[1],
    }
    try:
        facts["bytes per pixel"] = path.stat().st_size / (size[0] * size[1])
        with path.open("rb") as stream, Image.open(stream, formats=FORMATS) as image:
            facts |= {name: intern(value) for name, value in _header_facts(image) if value}
    except Exception:  # metadata can be broken in every way, while the picture itself is fine
        pass
    return facts


def _header_facts(image: Image.Image) -> Iterator[tuple[str, str]]:
    kind = image.format or ""
    yield "format", _SAME.get(kind, kind)
    yield "mode", image.mode
    info = image.info
    tables = getattr(image, "quantization", None)
    if tables:
        yield "JPEG quality", _digest(repr(sorted((key, list(table)) for key, table in tables.items())))
        yield "JPEG coding", f"{image.layer} progressive={'progressive' in info}"  # type: ignore[attr-defined]
    if "icc_profile" in info:
        yield "colour profile", _digest(info["icc_profile"])
    for name, key in (("resolution", "dpi"), ("comment", "comment"), ("gamma", "gamma")):
        if key in info:
            yield name, _short(info[key])
    yield (
        "other metadata",
        _short(sorted(key for key in info if isinstance(key, str) and not key.startswith("jfif"))),
    )
    if kind == "PNG":
        yield "software", _short(info.get("Software") or info.get("software") or "")
    if kind == "PNG" and "exif" not in info:  # Pillow would decode it all to look for one at the end
        return
    exif = image.getexif()
    if exif:
        tags = ExifTags.Base
        yield "camera", _short(f"{exif.get(tags.Make, '')} {exif.get(tags.Model, '')}").strip()
        yield "software", _short(exif.get(tags.Software, ""))
        yield "orientation", str(exif.get(tags.Orientation, ""))
        yield "date", str(exif.get(tags.DateTime, ""))[:10]
        yield "author", _short(exif.get(tags.Artist, "") or exif.get(tags.Copyright, ""))


def _short(value: Any) -> str:
    text = value.decode("latin-1") if isinstance(value, bytes) else str(value)
    return "".join(character for character in text if character.isprintable())[:60]


def _digest(value: bytes | str) -> str:
    data = value if isinstance(value, bytes) else value.encode()
    return hashlib.blake2b(data, digest_size=4).hexdigest()


# Findings about single files.


def file_findings(dataset: ImageDataset, done: Scan) -> Iterator[Finding]:
    """Pictures that cannot be read, have a wrong extension, show nothing, or are odd ones out."""
    for row in sorted(done.reasons):
        reason = done.reasons[row]
        message = f"{dataset.ref(row)} cannot be read: {reason}."
        yield Finding(
            "unreadable", "error", (row,), message, "Replace the file, or leave it out.", {"reason": reason}
        )
    known = _known_extensions()
    for row, facts in enumerate(done.facts):
        extension, kind = str(facts.get("extension", "")), str(facts.get("format", ""))
        if kind and known.get(extension, kind) != kind:
            message = f"{dataset.ref(row)} is {_article(kind)} {kind} file."
            remedy = "Rename it; other programs go by the extension."
            yield Finding("wrong_extension", "warning", (row,), message, remedy, {"format": kind})
    readable = np.flatnonzero(done.readable)
    for row in readable[done.constant[readable]].tolist():
        message = f"{dataset.ref(row)} is of one colour."
        yield Finding("constant", "warning", (row,), message, "Leave it out: it shows nothing of its class.")
    if not len(readable):
        return
    sides = done.sizes.min(1)
    usual = float(np.median(sides[readable]))
    for row in readable[sides[readable] < min(max(TINY_SIDE, usual * TINY_SHARE), usual)].tolist():
        width, height = done.sizes[row].tolist()
        message = f"{dataset.ref(row)} has {width} x {height} pixels; the usual short side is {usual:.0f}."
        remedy = "Find the original, or leave it out."
        yield Finding("tiny", "warning", (row,), message, remedy, {"width": width, "height": height})
    for row, oddities in sorted(_oddities(done, readable).items()):
        message = f"{dataset.ref(row)} {'; '.join(oddities)}."
        remedy = "See whether it belongs here: placeholders, icons and scans of whole pages look like this."
        yield Finding("outlier", "note", (row,), message, remedy, {"why": oddities})


def _known_extensions() -> dict[str, str]:
    Image.init()
    return {extension: _SAME.get(kind, kind) for extension, kind in Image.registered_extensions().items()}


def _article(word: str) -> str:
    return "an" if word[0] in "AEFHILMNORSX" and word not in ("FITS", "MCIDAS") else "a"


def _oddities(done: Scan, readable: NDArray[np.int64]) -> dict[int, list[str]]:
    """What is odd about the format, mode or size of pictures, in words, by place."""
    odd: dict[int, list[str]] = {}
    n = len(readable)
    for name in ("format", "mode"):
        counts = Counter(done.facts[row].get(name) for row in readable.tolist())
        usual, most = counts.most_common(1)[0]
        if most < USUAL_SHARE * n:
            continue
        for row in readable.tolist():
            value = done.facts[row].get(name)
            if value != usual and counts[value] <= max(1, ODD_SHARE * n):
                odd.setdefault(row, []).append(
                    f"has the {name} {value}, where {most:,} of {n:,} files have {usual}"
                )
    logs = np.log(done.sizes[readable].astype(np.float64))
    width, height = np.median(done.sizes[readable], axis=0)
    for values, what in ((logs.sum(1), "size"), (logs[:, 0] - logs[:, 1], "shape")):
        middle = np.median(values)
        deviation = max(1.4826 * float(np.median(np.abs(values - middle))), LEAST_DEVIATION)
        for place in np.flatnonzero(np.abs(values - middle) > ODD_DEVIATIONS * deviation).tolist():
            row = int(readable[place])
            own = " x ".join(map(str, done.sizes[row].tolist()))
            odd.setdefault(row, []).append(
                f"has an odd {what}, {own}, where {width:.0f} x {height:.0f} is usual"
            )
    return odd
