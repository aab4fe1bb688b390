"""Evidence for a class, or for one class against another, in the numbers of the picture itself.

    guided_backprop       Springenberg et al.: Striving for Simplicity. ICLR 2015 workshop, arXiv 1412.6806
    integrated_gradients  Sundararajan, Taly, Yan: Axiomatic Attribution for Deep Networks. ICML 2017,
                          arXiv 1703.01365
    occlusion             Zeiler & Fergus: Visualizing and Understanding Convolutional Networks. ECCV 2014,
                          arXiv 1311.2901, section 4.2

They take what the functions in `evidence` take, and need no layer.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sightline.errors import SightlineError
from sightline.visualization.evidence import LITTLE, Evidence, as_array
from sightline.visualization.probe import Question, as_found, gradients, picture_of, question, run
from sightline.visualization.relu import ReluRule, guided

COMPLETE = 0.01
"""The relative difference to which integrated gradients are to sum to the difference of the scores."""


@dataclass(frozen=True, slots=True, eq=False)
class Integrated(Evidence):
    """Integrated gradients: `values` sum to `score - baseline_score`, but for the relative difference `gap`."""

    baseline_score: float = field(kw_only=True)
    gap: float = field(kw_only=True)
    steps: int = field(kw_only=True)


@dataclass(frozen=True, slots=True, eq=False)
class Occlusion(Evidence):
    """By how much the score falls where a square is covered. `values` (rows, columns) belong to squares of side
    `patch` pixels whose upper left corners are at `tops` and `lefts`."""

    patch: int = field(kw_only=True)
    tops: tuple[int, ...] = field(kw_only=True)
    lefts: tuple[int, ...] = field(kw_only=True)


def guided_backprop(
    model: nn.Module, x: Tensor, *, target: int | None = None, versus: int | None = None
) -> Evidence:
    """The gradient of the score with respect to the picture, with guided ReLUs.

    values (C, H, W) in logits per unit of the normalised picture. They show what the network could respond to here;
    that changes little with the class and with the weights (Adebayo et al. 2018, arXiv 1810.03292).
    ReLUs are found wherever they are called, as modules, functions or in place. Other activations (in a network
    that has ReLUs, too) go back by their gradient.
    Raises SightlineError for a class that is not there, for a network without ReLU, and where one cannot be traced.
    """
    x = picture_of(model, x).requires_grad_()
    with as_found(model), torch.enable_grad():
        with ReluRule(guided) as ruled:
            # `+ 0`: the first ReLU may work in place, on the picture itself.
            logits = run(model, x + 0)
        asked = question(logits, target, versus)
        score = asked.score(logits).sum()
        ruled.check(model, score)
        (slope,) = gradients(score, [x])
    values = as_array(torch.zeros_like(x[0]) if slope is None else slope[0])
    floor = LITTLE * asked.spread / values.size
    size = (x.shape[2], x.shape[3])
    return Evidence(
        "guided_backprop", values, "logits per unit of the picture", "", asked.target, asked.versus,
        float(score.detach()), floor, True, size,
    )  # fmt: skip


def integrated_gradients(
    model: nn.Module,
    x: Tensor,
    *,
    target: int | None = None,
    versus: int | None = None,
    baseline: Tensor | None = None,
    steps: int | None = None,
    batch: int = 8,
) -> Integrated:
    """The gradients on the straight way from `baseline` to the picture, integrated, times the way.

    values (C, H, W) in logits; they sum to what the score gained on the way.
    baseline: (1, C, H, W), normalised; None is zero, the mean colour. steps: points of Gauss-Legendre quadrature;
    None doubles them from 32 until the sum is right to `COMPLETE`, at most to 512. batch: pictures at once.
    Raises SightlineError for a class that is not there, and for a baseline of another shape.
    """
    x = picture_of(model, x)
    start = torch.zeros_like(x) if baseline is None else baseline.to(x)
    if start.shape != x.shape:
        raise SightlineError(
            f"The baseline is a picture of the same shape, {tuple(x.shape)}; got {tuple(start.shape)}."
        )
    with as_found(model):
        with torch.no_grad():
            logits = run(model, x)
            asked = question(logits, target, versus)
            score = float(asked.score(logits))
            at_start = float(asked.score(run(model, start)))
        # A difference near zero cannot be met to a share of itself.
        gained, least = score - at_start, max(abs(score - at_start), LITTLE * asked.spread, 1e-12)
        count = steps or 32
        while True:
            values = integral(model, start, x, asked, count, batch)
            gap = abs(float(values.sum(dtype=torch.float64)) - gained) / least
            if steps is not None or gap <= COMPLETE or count >= 512:
                break
            count *= 2
    floor = LITTLE * asked.spread / (x.shape[2] * x.shape[3])
    size = (x.shape[2], x.shape[3])
    return Integrated(
        "integrated_gradients", as_array(values), "logits", "", asked.target, asked.versus, score, floor, True,
        size, baseline_score=at_start, gap=gap, steps=count,
    )  # fmt: skip


def integral(model: nn.Module, start: Tensor, x: Tensor, asked: Question, steps: int, batch: int) -> Tensor:
    """(C, H, W): the way from `start` to `x` times the mean gradient along it."""
    points, weights = np.polynomial.legendre.leggauss(steps)
    shares = torch.tensor((points + 1) / 2).to(x).view(-1, 1, 1, 1)
    parts = torch.tensor(weights / 2).to(x).view(-1, 1, 1, 1)
    total = torch.zeros_like(x[0])
    for begin in range(0, steps, batch):
        some = slice(begin, begin + batch)
        between = (start + shares[some] * (x - start)).requires_grad_()
        with torch.enable_grad():
            score = asked.score(run(model, between + 0)).sum()
            (slope,) = gradients(score, [between])
        if slope is not None:
            total += (slope * parts[some]).sum(0)
    return total * (x - start)[0]


def occlusion(
    model: nn.Module,
    x: Tensor,
    *,
    target: int | None = None,
    versus: int | None = None,
    patch: int | None = None,
    stride: int | None = None,
    value: float = 0.0,
    batch: int = 32,
) -> Occlusion:
    """By how much the score falls when a square of the picture is covered, for squares all over it.

    values (rows, columns) in logits; below zero where the score rises.
    patch: side of the square in pixels, by default a seventh of the picture's shorter side. stride: from one square
    to the next, by default half a patch; the last ones end at the border. value: what covers, in the normalised
    picture; 0 is the mean colour. batch: pictures at once.
    Raises SightlineError for a class that is not there, and for squares that do not fit.
    """
    x = picture_of(model, x)
    height, width = x.shape[2:]
    side = max(1, round(min(height, width) / 7)) if patch is None else patch
    step = max(1, side // 2) if stride is None else stride
    if not (1 <= side <= min(height, width) and step >= 1):
        raise SightlineError(
            f"A patch of {side} pixels at a stride of {step} does not fit a picture of {height}x{width}; "
            f"a patch has 1 to {min(height, width)}, a stride at least 1."
        )
    tops, lefts = (corners(length, side, step) for length in (height, width))
    places = [(top, left) for top in tops for left in lefts]
    scores = []
    with as_found(model), torch.no_grad():
        logits = run(model, x)
        asked = question(logits, target, versus)
        covered = x.repeat(min(batch, len(places)), 1, 1, 1)
        for begin in range(0, len(places), batch):
            some = places[begin : begin + batch]
            for picture, (top, left) in zip(covered, some, strict=False):
                picture[:, top : top + side, left : left + side] = value
            # A clone: a network that worked in place on its input would spoil the next ones.
            scores.append(asked.score(run(model, covered[: len(some)].clone())))
            for picture, (top, left) in zip(covered, some, strict=False):
                square = (..., slice(top, top + side), slice(left, left + side))
                picture[square] = x[0][square]
    score = asked.score(logits)
    values = (score - torch.cat(scores)).reshape(len(tops), len(lefts))
    return Occlusion(
        "occlusion", as_array(values), "logits lost", "", asked.target, asked.versus, float(score),
        LITTLE * asked.spread, True, (height, width), patch=side, tops=tops, lefts=lefts,
    )  # fmt: skip


def corners(length: int, patch: int, stride: int) -> tuple[int, ...]:
    """Where squares of side `patch` begin along `length` pixels, every `stride`, the last one at the end."""
    return tuple(dict.fromkeys([*range(0, length - patch, stride), length - patch]))


def over_picture(evidence: Evidence) -> NDArray[np.float32]:
    """The values at each pixel of the picture (H, W), in their unit.

    Maps of a layer are enlarged bilinearly; of squares that overlap each pixel has the mean; of the numbers of a
    pixel the sum is taken, or of a plain or guided gradient, which is no share of anything, the sum of magnitudes.
    """
    height, width = evidence.picture
    if isinstance(evidence, Occlusion):
        total, times = np.zeros((2, height, width), np.float32)
        for i, top in enumerate(evidence.tops):
            for j, left in enumerate(evidence.lefts):
                square = (slice(top, top + evidence.patch), slice(left, left + evidence.patch))
                total[square] += evidence.values[i, j]
                times[square] += 1
        return np.asarray(
            total / np.maximum(times, 1), np.float32
        )  # where strides leave gaps nothing is known
    if evidence.values.ndim == 3:
        parts = evidence.values if isinstance(evidence, Integrated) else np.abs(evidence.values)
        return np.asarray(parts.sum(0), np.float32)
    return enlarged(evidence.values, evidence.picture)


def enlarged(values: NDArray[np.float32], size: tuple[int, int]) -> NDArray[np.float32]:
    """Values (h, w) at each pixel of a picture of `size` (height, width), bilinearly between the cells' centres."""
    whole = nn.functional.interpolate(
        torch.from_numpy(np.ascontiguousarray(values))[None, None],
        size=size,
        mode="bilinear",
        align_corners=False,
    )
    return np.asarray(whole[0, 0].numpy(), np.float32)
