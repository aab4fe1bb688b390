"""Every view into a network on one picture, drawn, with words: what it shows, how to read it, whether to trust it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

from sightline.errors import SightlineError, UnknownName
from sightline.report.subject import Subject

if TYPE_CHECKING:
    import torch
    from torch import nn

    from sightline.visualization.evidence import Evidence

MAPS = 8  # feature maps in the strip through the network
HEADS = 12  # of attention, that are drawn


@dataclass(frozen=True, slots=True, eq=False)
class Figure:
    """One drawing. shows: what is seen; scale: what its colours stand for; trust: sentences on whether it can be
    believed, and whether one of them warns."""

    title: str
    image: Image.Image
    shows: str
    scale: str = ""
    trust: tuple[str, ...] = ()
    warns: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class View:
    """A view that was taken: its name, heading, how to read it and where it misleads, and its figures."""

    name: str
    title: str
    reading: str
    figures: tuple[Figure, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Look:
    """All views of a picture, what could not be shown and why, and the answer: (class, probability), the best first."""

    subject: Subject
    picture_name: str
    picture: Image.Image
    answer: tuple[tuple[str, float], ...]
    target: str
    versus: str | None
    views: tuple[View, ...]
    missing: tuple[str, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Request:
    """What each view is given."""

    subject: Subject
    x: torch.Tensor
    seen: Image.Image
    layer: str | None
    target: int
    versus: int | None
    trust: bool


def look(
    subject: Subject,
    picture: str | Path,
    *,
    views: Sequence[str] = (),
    layer: str | None = None,
    target: str | None = None,
    versus: str | None = None,
    trust: bool = True,
    progress: Callable[[str], None] = lambda _: None,
) -> Look:
    """Take `views` (names in `VIEWS`; by default all that the network allows) of a picture.

    target, versus: a class's name or number. trust: whether maps of evidence are tested.
    Raises UnreadableImage for a picture that cannot be read, and SightlineError for a class, a layer or a view that
    is not there; of views that were not asked for by name, those that the network does not allow are said instead.
    """
    import torch

    from sightline.data.image_io import read_image
    from sightline.visualization.probe import as_found, question, run

    for name in views:
        if name not in VIEWS:
            raise UnknownName("view", name, VIEWS)
    against = subject.class_number(versus)
    asked_for = subject.class_number(target)
    preprocess = subject.preprocess
    seen = preprocess.image(read_image(picture, mode=preprocess.mode))
    pixels = preprocess(read_image(picture, mode=preprocess.mode))
    x = preprocess.normalize(pixels[None])
    with as_found(subject.model), torch.no_grad():
        logits = run(subject.model, x)
    asked = question(logits, asked_for, against)
    odds = logits[0].double().softmax(0)
    best = odds.argsort(descending=True)[:5].tolist()
    answer = tuple((subject.classes[i], float(odds[i])) for i in best)
    request = Request(subject, x, seen, layer, asked.target, against, trust)
    taken, missing = [], []
    for name in views or VIEWS:
        title, reading, take = VIEWS[name]
        progress(title)
        try:
            figures = tuple(take(request))
        except SightlineError as error:
            if views or isinstance(error, UnknownName):
                raise
            missing.append(f"{title}: {error}")
            continue
        taken.append(View(name, title, reading, figures))
    names = subject.classes[asked.target], None if against is None else subject.classes[against]
    return Look(subject, Path(picture).name, seen, answer, *names, tuple(taken), tuple(missing))


def evidence_view(name: str) -> Callable[[Request], Iterator[Figure]]:
    """The view that draws one of the maps of evidence and tests it."""

    def take(request: Request) -> Iterator[Figure]:
        from sightline.visualization import evidence, evidence_figures, pixel_evidence

        function = getattr(evidence, name, None) or getattr(pixel_evidence, name)
        at_layer = name in ("grad_cam", "hires_cam")
        view = partial(function, target=request.target, versus=request.versus)
        if at_layer:
            view = partial(view, layer=request.layer)
        record: Evidence = view(request.subject.model, request.x)
        if at_layer:
            view = partial(view, layer=record.layer)  # the same one in every network of the tests
        shape = " × ".join(map(str, record.values.shape))
        where = f"at {record.layer}, {shape} cells" if record.layer else f"{shape} values"
        shows = (
            f"{sentence(request)}; {where}; sum {record.values.sum():.3g} of a score of {record.score:.3g}."
        )
        if isinstance(record, pixel_evidence.Integrated):
            gain = record.score - record.baseline_score
            shows = f"{sentence(request)}; {where}; sum {record.values.sum():.3g} of a gain of {gain:.3g}."
        elif name in ("cam", "guided_backprop", "occlusion"):
            shows = f"{sentence(request)}; {where}; score {record.score:.3g}."
        image = evidence_figures.draw_evidence(record, request.seen)
        trust: tuple[str, ...] = ()
        warns = False
        if request.trust or record.empty:  # which is said without any test
            dear = record.view in ("occlusion", "integrated_gradients")  # each map takes dozens of runs
            trust, warns = tested(
                request.subject.model, request.x, record, view, steps=12, draws=1 if dear else 3
            )
        yield Figure(
            record.view.replace("_", " "), image, shows, evidence_figures.scale_text(record), trust, warns
        )

    return take


def sentence(request: Request) -> str:
    classes = request.subject.classes
    versus = "" if request.versus is None else f" rather than {classes[request.versus]}"
    return f"For {classes[request.target]}{versus}"


def tested(
    model: nn.Module,
    x: torch.Tensor,
    record: Evidence,
    view: Callable[[nn.Module, torch.Tensor], Evidence],
    *,
    steps: int,
    draws: int,
) -> tuple[tuple[str, ...], bool]:
    """What the tests of trust say of a map that `view` made, and whether one of them warns."""
    from sightline.visualization.trust import deletion_insertion, randomisation_test

    if record.empty:
        return (
            "There is no evidence to speak of: all values are below a hundredth of the logits' spread.",
        ), True
    faithful = deletion_insertion(model, x, record, steps=steps, shuffles=2)
    forgotten = randomisation_test(model, x, view, steps=1, draws=draws)
    return (faithful.verdict, forgotten.verdict), not faithful.passed or forgotten.passed is False


def filters_view(request: Request) -> Iterator[Figure]:
    from sightline.visualization.figures import draw_filters
    from sightline.visualization.filters import filters

    record = filters(request.subject.model)
    count, planes, height, width = record.values.shape
    on = "one plane" if planes == 1 else f"{planes} planes"
    shows = f"{count} filters of {height} × {width} on {on} of {record.layer}."
    yield Figure(
        "filters", draw_filters(record), shows, f"grey is 0; the largest weight is {record.scale:.3g}"
    )


def feature_maps_view(request: Request) -> Iterator[Figure]:
    from sightline.report.network import spread
    from sightline.visualization.feature_maps import feature_maps
    from sightline.visualization.figures import draw_feature_map

    if request.layer is not None:
        maps = [feature_maps(request.subject.model, request.x, request.layer)]
    else:
        maps = spread(feature_maps(request.subject.model, request.x).maps, MAPS)
    for one in maps:
        shape = " × ".join(map(str, one.values.shape))
        shows = f"{min(16, len(one.values))} of {len(one.values)} planes; {shape}."
        tile = 72 if len(maps) > 1 else 128
        yield Figure(one.layer, draw_feature_map(one, planes=16, columns=4, tile=tile), shows)


def deconvnet_view(request: Request) -> Iterator[Figure]:
    from sightline.visualization.deconvnet import deconvolve
    from sightline.visualization.evidence import grad_cam
    from sightline.visualization.figures import draw_projection

    layer = request.layer or grad_cam(request.subject.model, request.x, target=request.target).layer
    record = deconvolve(request.subject.model, request.x, layer=layer)
    shows = f"The strongest unit of {layer}: plane {record.channel} at {record.position}, of {record.activation:.3g}."
    yield Figure(
        "deconvnet",
        draw_projection(record, tile=384),
        shows,
        f"grey is none; full colour is {record.scale:.3g}",
    )


def attention_view(request: Request) -> Iterator[Figure]:
    from sightline.visualization.attention import attention
    from sightline.visualization.evidence_figures import attention_scale, draw_attention

    record = attention(request.subject.model, request.x, layer=request.layer)
    if record.heads > HEADS:
        record = replace(record, values=record.values[..., :HEADS, :, :])
    whole = record.mean()
    cells = whole.shape[1] * whole.shape[2]
    asks = "the class token" if record.prefix else "the mean of all patches"
    scale = f"full colour is {attention_scale(whole):.2g} of its attention; an even share is {1 / cells:.2g}"
    title = f"{record.layer}: {asks}"
    yield Figure(title, draw_attention(record, request.seen), f"{record.heads} heads, a tile each.", scale)
    rows, columns = record.grid
    if rows:
        place = (rows // 2, columns // 2)
        keys = record.values.shape[-1]
        fullest = attention_scale(record.from_patch(*place), keys)
        scale = f"full colour is {fullest:.2g}; an even share is {1 / keys:.2g}"
        shows = f"What the framed patch (row {place[0]}, column {place[1]}) takes its values from."
        drawn = draw_attention(record, request.seen, patch=place)
        yield Figure(f"{record.layer}: a patch in the middle", drawn, shows, scale)


def rollout_view(request: Request) -> Iterator[Figure]:
    from sightline.visualization.attention import attention_rollout
    from sightline.visualization.evidence_figures import attention_scale, draw_rollout

    record = attention_rollout(request.subject.model, request.x)
    values = record.over_patches()
    scale = f"full colour is {attention_scale(values):.2g}; an even share is {1 / values.size:.2g}"
    reader = "the class token" if record.reads == "class" else "the mean of the patches"
    shows = f"What {reader} has of each patch through {len(record.layers)} layers."
    yield Figure("rollout", draw_rollout(record, request.seen), shows, scale)


def positions_view(request: Request) -> Iterator[Figure]:
    from sightline.visualization.attention import position_similarity
    from sightline.visualization.evidence_figures import draw_position_similarity

    record = position_similarity(request.subject.model, picture=(request.x.shape[2], request.x.shape[3]))
    rows, columns = record.values.shape[:2]
    shows = f"{rows} × {columns} positions, each a tile at its place: its cosine with every other."
    scale = "dark is -1, bright is 1"
    yield Figure(record.layer, draw_position_similarity(record), shows, scale)


def boxes_view(request: Request) -> Iterator[Figure]:
    from sightline.visualization.evidence_figures import draw_patch_boxes
    from sightline.visualization.patch_boxes import patch_boxes

    for stage in (2, 3, 4):
        record = patch_boxes(request.subject.model, request.x, stage=stage)
        rows, columns = record.grid
        shows = f"{rows} × {columns} patches; a line leads from a patch's place to its box."
        yield Figure(f"stage {stage}", draw_patch_boxes(record, request.seen), shows)


# Name: heading, how to read it and where it misleads, what takes it.
VIEWS: dict[str, tuple[str, str, Callable[[Request], Iterator[Figure]]]] = {
    "grad-cam": (
        "Grad-CAM",
        "Where in the last map the planes that raise the class are active. It is as coarse as that map, and weights a "
        "plane as a whole: a place may be lit that the answer does not use.",
        evidence_view("grad_cam"),
    ),
    "hires-cam": (
        "HiResCAM",
        "The last map's share of the logit, cell by cell. Blue cells speak against the class.",
        evidence_view("hires_cam"),
    ),
    "cam": (
        "CAM",
        "What the classifier says of each cell of the map before it is averaged: the mean of the cells is the logit, "
        "less the bias. Cells see far beyond their square.",
        evidence_view("cam"),
    ),
    "occlusion": (
        "Occlusion",
        "By how much the score falls when a square is covered with the mean colour. It asks the network itself; but a "
        "covered picture is one that the network never saw, and of two eyes each can stand in for the other.",
        evidence_view("occlusion"),
    ),
    "integrated-gradients": (
        "Integrated gradients",
        "What each pixel added to the score on the way from a picture of the mean colour: the values sum to the gain. "
        "Pixels of the mean colour get nothing, whatever they mean.",
        evidence_view("integrated_gradients"),
    ),
    "guided-backprop": (
        "Guided backpropagation",
        "What the network can respond to in the picture. It is sharp, and hardly changes with the class: a drawing of "
        "edges, no evidence.",
        evidence_view("guided_backprop"),
    ),
    "attention": (
        "Attention",
        "Whose values a token takes, by head. It says where the network gets something from, not what that does for "
        "the answer.",
        attention_view,
    ),
    "rollout": (
        "Attention rollout",
        "Attention multiplied through all layers. It leaves out what the MLPs do and knows no class.",
        rollout_view,
    ),
    "positions": (
        "Likeness of positions",
        "How alike the learned embeddings of two places are. Trained networks find the grid again.",
        positions_view,
    ),
    "boxes": ("Learned patches", "Where each patch looks, as the picture asks for.", boxes_view),
    "filters": ("Filters", "The weights of the first convolution: what it looks for.", filters_view),
    "feature-maps": (
        "Feature maps",
        "What layers make of the picture: the planes that vary most, dark low, bright high, each layer on a scale of "
        "its own.",
        feature_maps_view,
    ),
    "deconvnet": (
        "Deconvnet",
        "What the strongest unit of the layer responds to, projected back to the pixels. It shows one unit, not a "
        "class.",
        deconvnet_view,
    ),
}  # fmt: skip
