"""Labels that are likely wrong, and pictures that are unlike all others: quick features, and probabilities in which a
picture's own label had no part.

Each picture is described by its edges (histograms of oriented gradients, Dalal and Triggs 2005), its layout and its
colours. Ridge regression on random Fourier features (Rahimi and Recht 2007) gives a score for each class, and one
decomposition gives for every picture the scores that it would have got, had it been left out. Pictures whose own class
is far behind another one are told; confident learning (Northcutt, Jiang and Chuang 2021) says of which this is sure.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sightline.audit.duplicates import Indices
from sightline.audit.findings import Finding
from sightline.data.dataset import ImageDataset
from sightline.errors import UnreadableImage

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]

SIDE, CELL, BINS = 48, 6, 9  # pixels of the picture and of a cell; orientations
LAYOUT, SHADES = 8, 4  # cells of the layout, and shades of a colour, along each axis
EDGES = (SIDE // CELL - 1) ** 2 * 4 * BINS
# Numbers a picture of each part of its description, and the part's weight.
PARTS = ((EDGES, 1.0), (3 * LAYOUT**2, 0.5), (SHADES**3, 0.5))
CHUNK = 256
MOST = 40_000  # pictures: 4 KB of each are kept, and 30 while their labels are learned
READING = 0.7  # of the time; the rest is for the arithmetic
COMPONENTS, KERNEL = 256, 1024
PENALTIES = 10.0 ** np.arange(-4, 2)
SHARPNESS = 2.0 ** np.arange(-1, 8)
# A label is doubted when its class is less than so many times as likely as the likeliest; less than a part of that
# where the features tell the classes apart in part only.
DOUBTED = 0.15
# So often everything is learned again without the labels in doubt, which blur what is learned; but not where they are
# more than this share: then it is the features that are in doubt.
AGAIN, MOST_DOUBTED = 2, 0.1
LEAST = 5  # pictures of a class, to learn it from
NEIGHBOURS, OUTLYING = 10, 6.0  # deviations of the distance to the neighbours
# Features confirm two near duplicates that are closer than this share of random pairs.
CLOSE = 0.01


@dataclass(frozen=True, slots=True)
class Embedding:
    """Features (M, D) of the pictures at `rows` (M,) of a data set."""

    rows: Indices
    values: Floats


def label_findings(
    dataset: ImageDataset,
    rows: Indices,
    deadline: float,
    progress: Callable[[int, int, str], None] | None = None,
) -> tuple[list[Finding], str, Embedding]:
    """Likely wrong labels and outliers among the pictures at `rows`, what that rests on, and the features.

    `deadline` is a time of `time.monotonic`: pictures are looked at in random order until most of what is left of it
    is used, and at least a few hundred are.
    """
    begun = time.monotonic()
    seen, features = _described(dataset, rows, begun + READING * (deadline - begun), progress)
    targets = dataset.targets[seen]
    counts = np.bincount(targets, minlength=len(dataset.classes))
    labels = np.flatnonzero(counts >= LEAST)
    if len(labels) < 2:
        return [], "Labels were not checked: too few pictures of each class.", Embedding(seen, features)
    values = principal(features)
    found = list(_outliers(dataset, seen, values))
    known = np.isin(targets, labels)
    given = np.searchsorted(labels, targets[known])
    trusted = np.ones(len(given), bool)
    probabilities = held_out_probabilities(values[known], given, trusted)
    agreed = float((probabilities.argmax(1) == given).mean())
    for _ in range(AGAIN):
        doubts = doubted(probabilities, given, trusted)
        if not 0 < len(doubts) <= MOST_DOUBTED * len(given):
            break
        trusted = ~np.isin(np.arange(len(given)), doubts)
        probabilities = held_out_probabilities(values[known], given, trusted)
    looked = f"{len(seen):,} of the {len(rows):,}" if len(seen) < len(rows) else f"all {len(seen):,}"
    checked = (
        f"Labels: {looked} pictures were looked at. Their edges, layout and colours agree with {agreed:.0%} of the "
        f"labels; the largest class has {counts.max() / counts.sum():.0%}. The closer these are, the less is found."
    )
    names = [dataset.classes[label] for label in labels.tolist()]
    doubts = doubted(probabilities, given, trusted)
    found = [*_wrong_labels(dataset, seen[known], names, given, probabilities, doubts), *found]
    return found, checked, Embedding(seen, values)


# Features.


def _described(
    dataset: ImageDataset, rows: Indices, until: float, progress: Callable[[int, int, str], None] | None
) -> tuple[Indices, Floats]:
    """Pictures, in random order and as many as the time allows, and their features; back in order."""
    order = np.random.default_rng(0).permutation(rows)[:MOST]
    seen: list[int] = []
    parts: list[NDArray[np.float16]] = []

    def small(row: int) -> NDArray[np.uint8] | None:
        try:
            picture = dataset.read(row)
        except UnreadableImage:  # gone since it was first read
            return None
        return np.asarray(picture.resize((SIDE, SIDE), Image.Resampling.BILINEAR, reducing_gap=2.0))

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for start in range(0, len(order), CHUNK):
            if parts and time.monotonic() > until:
                break
            part = order[start : start + CHUNK].tolist()
            pictures = [
                (row, one) for row, one in zip(part, pool.map(small, part), strict=True) if one is not None
            ]
            if pictures:
                seen += [row for row, _ in pictures]
                parts.append(describe(np.stack([one for _, one in pictures])).astype(np.float16))
            if progress:
                progress(start + len(part), len(order), "pictures, for their labels")
    places = np.argsort(seen)
    features = np.concatenate(parts) if parts else np.zeros((0, sum(size for size, _ in PARTS)), np.float16)
    return np.array(seen, np.int64)[places], features[places].astype(np.float32)


def describe(pictures: NDArray[np.uint8]) -> Floats:
    """(N, 2020) features of (N, 48, 48, 3) pictures: edges, layout, colours."""
    n = len(pictures)
    grey = (pictures @ np.array([0.299, 0.587, 0.114])).astype(np.float32)
    step = SIDE // LAYOUT
    layout = pictures.reshape(n, LAYOUT, step, LAYOUT, step, 3).mean((2, 4)).reshape(n, -1) / 255
    shade = (pictures // (256 // SHADES)).reshape(n, -1, 3) @ np.array([SHADES**2, SHADES, 1])
    place = shade + SHADES**3 * np.arange(n)[:, None]
    colours = np.bincount(place.ravel(), minlength=n * SHADES**3).reshape(n, -1) / SIDE**2
    return np.concatenate((_edges(grey), layout, np.sqrt(colours)), axis=1).astype(np.float32)


def _edges(grey: Floats) -> Floats:
    """Histograms of oriented gradients by cell, shared between two bins, normalised by blocks of 2x2 cells."""
    down, across = np.gradient(grey, axis=(1, 2))
    strength = np.hypot(down, across)
    angle = (np.arctan2(down, across) % np.pi) * (BINS / np.pi)
    lower = np.floor(angle)
    share = angle - lower
    cells = SIDE // CELL
    histogram = np.empty((len(grey), cells, cells, BINS), np.float32)
    for bin_ in range(BINS):
        votes = strength * ((lower % BINS == bin_) * (1 - share) + ((lower + 1) % BINS == bin_) * share)
        histogram[..., bin_] = votes.reshape(-1, cells, CELL, cells, CELL).mean((2, 4))
    corners = [
        histogram[:, top : cells - 1 + top, left : cells - 1 + left] for top in (0, 1) for left in (0, 1)
    ]
    blocks = np.concatenate(corners, axis=-1)
    blocks = np.minimum(blocks / (np.linalg.norm(blocks, axis=-1, keepdims=True) + 2.0), 0.2)
    blocks /= np.linalg.norm(blocks, axis=-1, keepdims=True) + 0.1
    return np.asarray(blocks.reshape(len(grey), -1), np.float32)


def principal(features: Floats) -> Floats:
    """The main components of the features, each part of the description brought to its weight first."""
    parts, start = [], 0
    for size, weight in PARTS:
        part = features[:, start : start + size] - features[:, start : start + size].mean(0)
        parts.append(weight * part / np.sqrt((part * part).sum(1).mean() + 1e-9))
        start += size
    values = np.concatenate(parts, axis=1)
    _, vectors = np.linalg.eigh((values.T @ values).astype(np.float64))
    return np.asarray(values @ vectors[:, ::-1][:, :COMPONENTS].astype(np.float32))


# Labels.


def held_out_probabilities(values: Floats, given: Indices, trusted: NDArray[np.bool_]) -> Doubles:
    """(N, C) probabilities of the classes 0..C-1, each picture's from all other trusted ones.

    values: features (N, D); given: labels (N,); trusted: which are learned from, (N,).

    Ridge regression of the one-hot labels. With the decomposition of the features' products, all penalties cost one
    more product each; and a picture's score without itself is (score - leverage * label) / (1 - leverage). The
    penalty is the one with the smallest squared error of these; the sharpness of the probabilities the one with the
    largest likelihood.
    """
    rng = np.random.default_rng(0)
    labels = np.eye(int(given.max()) + 1)[given]
    sample = values[rng.permutation(len(values))[:300]].astype(np.float64)
    distances = ((sample[:, None] - sample[None]) ** 2).sum(-1)
    width = np.median(distances[distances > 0]) if (distances > 0).any() else 1.0
    directions = rng.standard_normal((values.shape[1], KERNEL)) * np.sqrt(1.4 / width)
    waves = np.sqrt(2 / KERNEL) * np.cos(values @ directions + rng.uniform(0, 2 * np.pi, KERNEL))
    waves = np.concatenate((waves, np.ones((len(waves), 1))), axis=1)

    weights = trusted[:, None].astype(float)
    strengths, vectors = np.linalg.eigh((waves * weights).T @ waves)
    turned = waves @ vectors
    target = turned.T @ (labels * weights)
    best, scores = np.inf, labels
    for penalty in PENALTIES:
        shrunk = turned / (strengths.clip(0) + penalty)
        leverage = (shrunk * turned).sum(
            1, keepdims=True
        ) * weights  # an untrusted one has no part in its score
        without = (shrunk @ target - leverage * labels) / np.maximum(1 - leverage, 1e-6)
        error = float(((without - labels)[trusted] ** 2).mean())
        if error < best:
            best, scores = error, without
    candidates = [_softmax(sharpness * scores) for sharpness in SHARPNESS]
    own = np.flatnonzero(trusted)
    return max(candidates, key=lambda one: float(np.log(one[own, given[own]].clip(1e-12)).mean()))


def _softmax(scores: Doubles) -> Doubles:
    powers = np.exp(scores - scores.max(1, keepdims=True))
    return np.asarray(powers / powers.sum(1, keepdims=True))


def confident_classes(probabilities: Doubles, given: Indices) -> Indices:
    """(N,): the class that each picture belongs to with confidence, or -1 where with none.

    A picture belongs to a class with confidence when its probability reaches the mean of those that carry its label;
    to the likeliest, where to several (section 3.1 of the paper).
    """
    classes = probabilities.shape[1]
    usual = np.array([probabilities[given == label, label].mean() for label in range(classes)])
    sure = probabilities >= usual - 1e-6
    chosen = np.where(sure, probabilities, -1.0).argmax(1)
    return np.where(sure.any(1), chosen, -1)


def doubted(probabilities: Doubles, given: Indices, trusted: NDArray[np.bool_]) -> Indices:
    """The places of labels that are likely wrong, the likeliest first."""
    own = probabilities[np.arange(len(given)), given]
    best = probabilities.max(1)
    agreed, guessed = (
        (probabilities.argmax(1) == given)[trusted].mean(),
        np.bincount(given).max() / len(given),
    )
    skill = max(
        0.0, (agreed - guessed) / (1 - guessed)
    )  # 0 for naming the largest class, 1 for agreeing with all
    places = np.flatnonzero(own < DOUBTED * skill * best)
    return places[np.argsort((own - best)[places], kind="stable")]


def _wrong_labels(
    dataset: ImageDataset,
    seen: Indices,
    names: list[str],
    given: Indices,
    probabilities: Doubles,
    doubts: Indices,
) -> Iterator[Finding]:
    """A finding for each of `doubts`, with the name of a typical picture of the given and of the likely class."""
    sure = confident_classes(probabilities, given)
    typical = [
        int(seen[own[probabilities[own, label].argmax()]])
        for label in range(len(names))
        for own in [np.flatnonzero(given == label)]
    ]
    for place in doubts.tolist():
        row, label, likely = int(seen[place]), int(given[place]), int(probabilities[place].argmax())
        own, other = (float(probabilities[place, one]) for one in (label, likely))
        message = (
            f"{dataset.ref(row)} is labelled {names[label]} ({own:.0%}) "
            f"and looks like {names[likely]} ({other:.0%})."
        )
        remedy = "Look at it, and correct the label if it is wrong."
        details = {
            "label": names[label],
            "suggested": names[likely],
            "probability": round(own, 4),
            "suggested_probability": round(other, 4),
            "typical": [dataset.ref(typical[label]), dataset.ref(typical[likely])],
        }
        severity = "warning" if sure[place] == likely else "note"
        yield Finding("wrong_label", severity, (row,), message, remedy, details)


# Outliers and duplicates.


def _outliers(dataset: ImageDataset, seen: Indices, values: Floats) -> Iterator[Finding]:
    """Pictures much farther from their neighbours than pictures are."""
    if len(seen) <= 2 * NEIGHBOURS:
        return
    far = np.empty(len(seen))
    squares = (values * values).sum(1)
    for start in range(0, len(seen), CHUNK):
        part = slice(start, start + CHUNK)
        distances = squares[part, None] + squares - 2 * values[part] @ values.T
        nearest = np.partition(distances, NEIGHBOURS, axis=1)[:, : NEIGHBOURS + 1]  # itself is one of them
        far[part] = np.sqrt(np.maximum(nearest, 0)).sum(1) / NEIGHBOURS
    middle = np.median(far)
    deviation = 1.4826 * float(np.median(np.abs(far - middle)))
    for place in np.argsort(-far, kind="stable").tolist():
        if far[place] <= middle + OUTLYING * deviation:
            return
        row = int(seen[place])
        message = f"{dataset.ref(row)} is {far[place] / middle:.1f} times as far from its like as pictures here are."
        remedy = "See whether it belongs here."
        yield Finding("outlier", "note", (row,), message, remedy, {"distance": round(far[place] / middle, 3)})


def confirmed(findings: Iterable[Finding], embedding: Embedding) -> Iterator[Finding]:
    """The findings, near duplicates with `confirmed`: whether the features of all of them lie close, too."""
    place = {row: at for at, row in enumerate(embedding.rows.tolist())}
    rng = np.random.default_rng(0)
    one, other = rng.integers(0, max(1, len(place)), (2, 2000))
    apart = np.linalg.norm(embedding.values[one] - embedding.values[other], axis=1) if place else np.zeros(1)
    close = float(np.quantile(apart[one != other], CLOSE)) if (one != other).any() else 0.0
    for finding in findings:
        rows = [place[row] for row in finding.rows if row in place]
        if finding.kind == "near_duplicate" and len(rows) > 1:
            steps = np.linalg.norm(np.diff(embedding.values[rows], axis=0), axis=1)
            finding = replace(finding, details={**finding.details, "confirmed": bool((steps < close).all())})
        yield finding
