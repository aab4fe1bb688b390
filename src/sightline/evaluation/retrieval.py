"""How well pictures find their captions and captions their pictures: recall at 1, 5 and 10, both ways.

    Hodosh, Young, Hockenmaier: Framing Image Description as a Ranking Task. JAIR 47 (2013), section 5

Recall at k: the share of queries for which one of the right answers is among the k nearest, by the cosine. A picture
asks among all captions, a caption among all pictures. A caption that stands word for word at several pictures is
right for each of them. Of equally near answers the wrong ones are taken to come first.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sightline.evaluation.intervals import Estimate, wilson

AT = (1, 5, 10)
BLOCK = 512
Floats = NDArray[np.floating[Any]]


@dataclass(frozen=True, slots=True)
class Direction:
    """One way of asking. recall, chance: by k; median_rank: 1 is best; asked among so many `candidates`."""

    recall: dict[int, Estimate]
    chance: dict[int, float]
    median_rank: float
    queries: int
    candidates: int

    def to_dict(self) -> dict[str, Any]:
        return {
            "recall": {str(k): estimate.to_dict() for k, estimate in self.recall.items()},
            "chance": {str(k): share for k, share in self.chance.items()},
            "median_rank": self.median_rank,
            "queries": self.queries,
            "candidates": self.candidates,
        }

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Direction:
        recall = {int(k): Estimate(**estimate) for k, estimate in data["recall"].items()}
        chance = {int(k): float(share) for k, share in data["chance"].items()}
        return cls(recall, chance, data["median_rank"], data["queries"], data["candidates"])


@dataclass(frozen=True, slots=True)
class RetrievalScores:
    """Recall on the pictures of a split. mean_recall: over both directions and all k."""

    split: str
    n: int
    captions: int
    image_to_text: Direction
    text_to_image: Direction

    @property
    def mean_recall(self) -> float:
        ways = (self.image_to_text, self.text_to_image)
        return float(np.mean([way.recall[k].value for way in ways for k in AT]))

    def to_dict(self) -> dict[str, Any]:
        """Plain data, as in scores.json."""
        return {
            "objective": "contrastive",
            "split": self.split,
            "n": self.n,
            "captions": self.captions,
            "mean_recall": self.mean_recall,
            "image_to_text": self.image_to_text.to_dict(),
            "text_to_image": self.text_to_image.to_dict(),
        }

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> RetrievalScores:
        """The inverse of `to_dict`."""
        return cls(
            data["split"],
            data["n"],
            data["captions"],
            Direction.from_dict(data["image_to_text"]),
            Direction.from_dict(data["text_to_image"]),
        )


def retrieval_scores(
    images: Floats, texts: Floats, captions: Sequence[str], owners: NDArray[np.int64], *, split: str
) -> RetrievalScores:
    """Scores of embeddings of length one: `images` (N, D); `texts` (M, D) of `captions`, of the pictures `owners` (M,).

    Every picture owns at least one caption.
    """
    n = len(images)
    _, first, kinds = np.unique(np.asarray(captions, dtype=object), return_index=True, return_inverse=True)
    right = np.zeros((n, len(first)), dtype=bool)  # picture by different caption
    right[owners, kinds] = True
    of_picture, of_kind = ranks(images, texts[first], right)
    return RetrievalScores(
        split,
        n,
        len(captions),
        direction(of_picture, np.arange(n), right.sum(1), len(first)),
        direction(of_kind[kinds], owners, right.sum(0)[kinds], n),
    )


def ranks(
    images: Floats, texts: Floats, right: NDArray[np.bool_]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(N,), (U,): how many wrong answers are at least as near as the nearest right one, for pictures and for texts."""

    def one_way(asking: Floats, answers: Floats, right: NDArray[np.bool_]) -> NDArray[np.int64]:
        found = np.empty(len(asking), np.int64)
        for start in range(0, len(asking), BLOCK):
            part = slice(start, start + BLOCK)
            near, own = asking[part] @ answers.T, right[part]
            best = np.where(own, near, -np.inf).max(1, keepdims=True)
            found[part] = ((near >= best) & ~own).sum(1)
        return found

    return one_way(images, texts, right), one_way(texts, images, right.T)


def direction(
    rank: NDArray[np.int64], pictures: NDArray[np.int64], right: NDArray[np.int64], candidates: int
) -> Direction:
    """Figures of queries with `rank` (0 is best), each about one of `pictures`, with so many `right` answers."""
    return Direction(
        {k: share(rank < k, pictures) for k in AT},
        {k: float(by_chance(right, candidates, k).mean()) for k in AT},
        float(np.median(rank) + 1),
        len(rank),
        candidates,
    )


def by_chance(right: NDArray[np.int64], candidates: int, k: int) -> Floats:
    """The probability that k of the candidates, drawn without replacement, hold one of the `right` ones."""
    none = np.ones(len(right))
    for taken in range(min(k, candidates)):
        none *= np.clip(candidates - right - taken, 0, None) / (candidates - taken)
    return 1 - none


def share(hits: NDArray[np.bool_], clusters: NDArray[np.int64]) -> Estimate:
    """The share of hits with Wilson's interval, for queries that come in clusters: the captions of one picture.

    The number of queries is divided by the design effect, the variance of the mean over clusters against that of
    independent draws (Korn, Graubard, Survey Methodology 24, 1998); where nothing varies, clusters count as one each.
    """
    k, n = int(hits.sum()), len(hits)
    _, at, sizes = np.unique(clusters, return_inverse=True, return_counts=True)
    groups, value = len(sizes), k / n
    sums = np.bincount(at, hits - value)
    spread = float((sums**2).sum()) / n**2 * groups / max(1, groups - 1)
    single = value * (1 - value) / n
    effective = min(float(n), n * single / spread) if spread > 0 and single > 0 else float(groups)
    low, high = wilson(value * effective, effective)
    return Estimate(value, float(low), float(high), n)


def retrieval_table(scores: RetrievalScores) -> Any:
    """The scores as a table for the terminal."""
    from rich.table import Table

    table = Table(
        title=f"{scores.split} split, {scores.n:,} pictures, {scores.captions:,} captions",
        title_justify="left",
        box=None,
        pad_edge=False,
    )
    for name in ("", *(f"recall@{k}" for k in AT), "median rank"):
        table.add_column(name)
    for name, way in (
        ("caption of a picture", scores.image_to_text),
        ("picture of a caption", scores.text_to_image),
    ):
        table.add_row(name, *(str(way.recall[k]) for k in AT), f"{way.median_rank:g} of {way.candidates:,}")
        table.add_row("  by chance", *(f"{way.chance[k]:.1%}" for k in AT), f"{(way.candidates + 1) / 2:g}")
    return table
