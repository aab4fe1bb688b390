"""What each unit of a layer likes best in a data set: its strongest pictures, the part of them that it sees, and
that part projected back to the pixels.

    Zeiler, Fergus: Visualizing and Understanding Convolutional Networks. ECCV 2014, arXiv 1311.2901, figure 2

The data set is gone through once, and never held: what stays are the best values of each channel and the pictures
that they are from.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sightline.errors import SightlineError
from sightline.visualization.deconvnet import check_channel, fitted, output_of, project
from sightline.visualization.feature_maps import array
from sightline.visualization.places import places_of
from sightline.visualization.receptive_field import ReceptiveField, receptive_field

if TYPE_CHECKING:
    from sightline.data.dataset import ImageDataset
    from sightline.transforms.preprocess import Preprocess

    Pictures = ImageDataset | Tensor | Iterable[Any]

Row = NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class TopActivations:
    """The k pictures of each of U channels that its strongest unit responds to most, the best first.

    channels: (U,). values: (U, k) float32, the activations. pictures: (U, k), places in the data set. positions:
    (U, k, 2), row and column of the unit in its map. boxes: (U, k, 4), what that unit sees: top, left, bottom,
    right in pixels, cut at the picture's edges; the last two are the first ones outside.
    images: the pictures that occur, (C, H, W) normalised, by their place in the data set.
    projections: for each channel its k units projected back to the pixels, each (C, h, w) cut to its box; empty
    where no channels were asked for (`projected` makes them).
    field: the receptive field; None where a unit sees the whole picture. unreadable: files passed over.
    """

    layer: str
    channels: NDArray[np.int64]
    values: Row
    pictures: NDArray[np.int64]
    positions: NDArray[np.int64]
    boxes: NDArray[np.int64]
    images: dict[int, Row]
    projections: tuple[tuple[Row, ...], ...]
    field: ReceptiveField | None
    unreadable: tuple[str, ...] = ()

    def row(self, channel: int) -> int:
        """Where `channel` stands in the arrays. Raises SightlineError where it is not among the channels."""
        found = np.flatnonzero(self.channels == channel)
        if not len(found):
            raise SightlineError(f"Channel {channel} is not among those kept of {self.layer}.")
        return int(found[0])

    def patches(self, channel: int) -> list[Row]:
        """What the channel's k units see, each (C, h, w) of a normalised picture, the best first."""
        row = self.row(channel)
        return [
            self.images[int(picture)][:, top:bottom, left:right]
            for picture, (top, left, bottom, right) in zip(
                self.pictures[row], self.boxes[row].tolist(), strict=True
            )
        ]


def top_activations(
    model: nn.Module,
    dataset: Pictures,
    *,
    layer: str,
    k: int = 9,
    channel: int | Sequence[int] | None = None,
    preprocess: Preprocess | None = None,
    batch_size: int = 32,
) -> TopActivations:
    """The k pictures of `dataset` to which each channel of `layer` responds most, in one pass.

    dataset: normalised pictures of one size: a tensor (N, C, H, W), or anything that gives such batches, single
        pictures (C, H, W), or pairs and dicts of which these are the first; or an ImageDataset, with `preprocess`.
    channel: those that are looked at, with their projections; by default all of them, without projections (there
        are k times as many as channels, each a way down and back through the network: see `projected`).

    Memory holds the pictures that are among the k best of any channel. A picture counts once for a channel, by
    its strongest unit. Of equal activations the earlier picture comes first.
    Raises SightlineError where there is no such layer or channel or no picture, or, with `channel`, where the
    layer's units cannot be projected (see `deconvolve`).
    """
    if k < 1:
        raise SightlineError(f"k is at least 1, not {k}.")
    best: Row = np.empty((0, 0), np.float32)  # k, U
    where = cells = np.empty((0, 0), np.int64)
    kept: dict[int, Tensor] = {}
    channels: NDArray[np.int64] | None = None
    grid: tuple[int, int] | None = None
    unreadable: list[str] = []
    with torch.no_grad():
        for places, pictures in batches(dataset, preprocess, batch_size, unreadable):
            output = output_of(model, fitted(model, pictures).clone(), layer)
            planes = planes_of(model, output, pictures, layer)
            if channels is None:
                channels = chosen_channels(layer, channel, planes.shape[1])
                grid = (planes.shape[2], planes.shape[3]) if output.ndim > 2 else None
                best = np.empty((0, len(channels)), np.float32)
                where = cells = np.empty((0, len(channels)), np.int64)
            strongest = planes[:, torch.from_numpy(channels).to(planes.device)].flatten(2).max(2)
            best = np.concatenate([best, strongest.values.float().cpu().numpy()])
            cells = np.concatenate([cells, strongest.indices.cpu().numpy()])
            where = np.concatenate(
                [where, np.broadcast_to(np.array(places)[:, None], strongest.values.shape)]
            )
            order = np.argsort(-best, axis=0, kind="stable")[:k]
            best = np.take_along_axis(best, order, axis=0)
            cells, where = np.take_along_axis(cells, order, axis=0), np.take_along_axis(where, order, axis=0)
            winners = set(np.unique(where).tolist())
            kept = {place: picture for place, picture in kept.items() if place in winners}
            # A copy: a picture that is kept must not keep its whole batch.
            kept |= {p: pictures[i].cpu().clone() for i, p in enumerate(places) if p in winners}
    if channels is None:
        raise SightlineError("There are no pictures to find the strongest activations in.")
    first = next(iter(kept.values()))
    field = field_of(model, layer, tuple(first.shape)) if grid else None
    columns = grid[1] if grid else 1
    positions = np.stack([cells.T // columns, cells.T % columns], -1)
    height, width = first.shape[1:]
    boxes = [[field.box(*at) if field else (0, 0, height, width) for at in row] for row in positions.tolist()]
    top = TopActivations(
        layer,
        channels,
        np.ascontiguousarray(best.T),
        np.ascontiguousarray(where.T),
        positions,
        np.array(boxes, np.int64),
        {place: array(kept[place]) for place in sorted(kept)},
        (),
        field,
        tuple(unreadable),
    )
    return top if channel is None else projected(model, top, channel, batch_size=batch_size)


def projected(
    model: nn.Module, top: TopActivations, channel: int | Sequence[int], *, batch_size: int = 32
) -> TopActivations:
    """`top` for some of its channels, with their projections; from the kept pictures, not from the data set.

    Raises SightlineError where a channel is not among them, or cannot be projected (see `deconvolve`).
    """
    wanted = [channel] if isinstance(channel, int) else list(channel)
    rows = [top.row(int(c)) for c in wanted]
    slots = [(row, rank) for row in rows for rank in range(top.values.shape[1])]
    made: list[Row] = []
    for start in range(0, len(slots), batch_size):
        chunk = slots[start : start + batch_size]
        pictures = torch.stack([torch.from_numpy(top.images[int(top.pictures[slot])]) for slot in chunk])

        def pick(output: Tensor, chunk: list[tuple[int, int]] = chunk) -> Tensor:
            across = output.shape[3] if output.ndim == 4 else 1
            cells = output[0, 0].numel()
            units = [
                int(top.channels[row]) * cells + int(top.positions[row, rank] @ (across, 1))
                for row, rank in chunk
            ]
            return torch.tensor(units)

        _, pixels, _ = project(model, pictures, top.layer, pick)
        for slot, values in zip(chunk, pixels, strict=True):
            up, left, bottom, right = top.boxes[slot].tolist()
            made.append(array(values[:, up:bottom, left:right]))
    k = top.values.shape[1]
    images = {int(p): top.images[int(p)] for p in np.unique(top.pictures[rows])}
    return replace(
        top,
        channels=top.channels[rows],
        values=top.values[rows],
        pictures=top.pictures[rows],
        positions=top.positions[rows],
        boxes=top.boxes[rows],
        images=images,
        projections=tuple(tuple(made[i * k : (i + 1) * k]) for i in range(len(rows))),
    )


def planes_of(model: nn.Module, output: Tensor, pictures: Tensor, layer: str) -> Tensor:
    """A layer's output as (N, C, h, w), units without a place as a single cell."""
    if output.ndim == 2:
        return output[:, :, None, None]
    places = places_of(model, pictures, output)
    if places is not None:
        return places.fold(output)
    if output.ndim != 4:
        raise SightlineError(f"{layer} puts out {tuple(output.shape)}, which is neither planes nor units.")
    return output


def chosen_channels(layer: str, channel: int | Sequence[int] | None, count: int) -> NDArray[np.int64]:
    """The channels that `channel` asks for, of `count`. Raises SightlineError where one is not there."""
    if channel is None:
        return np.arange(count)
    wanted = [channel] if isinstance(channel, int) else list(channel)
    if not wanted:
        raise SightlineError(f"Name at least one channel of {layer}; it has {count}.")
    return np.array([check_channel(layer, int(c), count) for c in wanted])


def field_of(model: nn.Module, layer: str, size: tuple[int, ...]) -> ReceptiveField | None:
    """The receptive field, or None where the layer's units see all of the picture."""
    try:
        return receptive_field(model, layer, size)
    except SightlineError:
        return None


def batches(
    dataset: Pictures, preprocess: Preprocess | None, size: int, unreadable: list[str]
) -> Iterator[tuple[list[int], Tensor]]:
    """Normalised pictures (n, C, H, W) with their places in the data set, at most about `size` at a time."""
    from sightline.data.dataset import ImageDataset
    from sightline.pipeline.loader import PlainPictures

    if isinstance(dataset, ImageDataset):
        if preprocess is None:
            raise SightlineError("An ImageDataset has no tensors yet: give the network's preprocess.")
        for batch in PlainPictures(dataset, preprocess).batches(size):
            unreadable += [failure.ref for failure in batch.failures]
            if len(batch.images):
                yield batch.indices.tolist(), preprocess.normalize(batch.images)
        return
    if isinstance(dataset, Tensor):
        for start in range(0, len(dataset), size):
            part = dataset[start : start + size]
            yield list(range(start, start + len(part))), part
        return
    start, waiting = 0, list[Tensor]()
    for item in dataset:
        pictures = as_pictures(item)
        if pictures.ndim == 3:
            waiting.append(pictures)
            if len(waiting) < size:
                continue
            pictures, waiting = torch.stack(waiting), []
        yield list(range(start, start + len(pictures))), pictures
        start += len(pictures)
    if waiting:
        yield list(range(start, start + len(waiting))), torch.stack(waiting)


def as_pictures(item: Any) -> Tensor:
    """The picture, or the batch of them, that a data set gives."""
    if isinstance(item, dict):
        item = next(iter(item.values()))
    elif isinstance(item, tuple | list) and item:
        item = item[0]
    if not isinstance(item, Tensor) or item.ndim not in (3, 4) or not item.is_floating_point():
        kind = tuple(item.shape) if isinstance(item, Tensor) else type(item).__name__
        raise SightlineError(
            f"The data set should give normalised float pictures (C, H, W) or batches; got {kind}."
        )
    return item
