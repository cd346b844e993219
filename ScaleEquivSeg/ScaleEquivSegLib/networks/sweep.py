"""A volume swept slab by slab: the scores of a volume of any length, each plane of each feature map computed once.

Every layer keeps just the planes that a later one still needs. Nothing is cut with a margin and computed twice, nothing
is blended: the scores are those of the whole volume at once, in memory that grows with a plane's size alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from ..layers.maps import Grid, Grids, ScaleMaps
from ..layers.resample import grids_covering, lift_onto, lift_reach, octave_up, sample_at_voxels
from .unet import UNet

Make = Callable[[int, int], Tensor]
"""Computes planes start ... stop - 1 of a map."""


VolumePlanes = Callable[[int, int, int], Tensor]
"""Voxels (channel, x, y, z) of a volume in planes start ... stop - 1 along an axis: (axis, start, stop) -> planes."""


@dataclass(frozen=True)
class _Layout:
    """The shape of one map, its planes' distance in voxels of the volume, and what a plane of it takes to compute."""

    shape: list[int]
    spacing: float
    work: float

    def halved(self) -> _Layout:
        return _Layout([-(-count // 2) for count in self.shape], 2 * self.spacing, self.work / 2)


class Planes:
    """The planes of a map (..., x, y, z) along one of its spatial axes: made once, in order, and dropped when read.

    Every reader goes forward only: what lies before the start of its last read is no longer kept for it. What is kept
    lies in one ring of memory, plane p at place p modulo its size, so that nothing is allocated as the sweep goes on; a
    reader is done with what it was given when it, or another one, reads on.

    At most `step` planes are made at once, and none before it is asked for: what is made too early has to be kept. Only
    a map that is to set the pace runs `ahead`, a full step at a time.
    """

    def __init__(self, axis: int, count: int, step: int, make: Make, ahead: bool = False) -> None:
        self.axis = axis
        self.count = count
        self.made = 0
        self._step = step
        self._make = make
        self._ahead = ahead
        self._ring: Tensor | None = None
        self._still_read: list[int] = []

    def reader(self) -> Callable[[int, int], Tensor]:
        """A function (start, stop) -> these planes, the first and the last repeated beyond the ends."""
        number = len(self._still_read)
        self._still_read.append(0)

        def read(start: int, stop: int) -> Tensor:
            first, last = max(start, 0), min(stop, self.count)
            self._still_read[number] = first
            end = self.count if self._ahead else last
            while self.made < last:
                self._keep(self._make(self.made, min(end, self.made + self._step)))
            return self._extended(self._found(first, last), first - start, stop - last)

        return read

    @property
    def kept_bytes(self) -> int:
        """The memory of the planes that are kept."""
        return 0 if self._ring is None else self._ring.nbytes

    @property
    def _dim(self) -> int:
        return self.axis - 3

    @property
    def _size(self) -> int:
        return 0 if self._ring is None else self._ring.shape[self._dim]

    def _keep(self, slab: Tensor) -> None:
        first, self.made = self.made, self.made + slab.shape[self._dim]
        oldest = min(self._still_read)
        if self.made - oldest > self._size:
            kept = self._found(oldest, first) if first > oldest else None
            shape = list(slab.shape)
            shape[self._dim] = self.made - oldest
            order = torch.channels_last_3d if slab.dim() == 5 else torch.contiguous_format
            self._ring = torch.empty(shape, dtype=slab.dtype, device=slab.device, memory_format=order)
            if kept is not None:
                self._put(oldest, kept)
        self._put(first, slab)

    def _put(self, first: int, planes: Tensor) -> None:
        for place, start, stop in self._pieces(first, first + planes.shape[self._dim]):
            place.copy_(planes.narrow(self._dim, start - first, stop - start))

    def _found(self, first: int, last: int) -> Tensor:
        pieces = [place for place, _, _ in self._pieces(first, last)]
        return pieces[0] if len(pieces) == 1 else torch.cat(pieces, self._dim)

    def _pieces(self, first: int, last: int) -> list[tuple[Tensor, int, int]]:
        """Where in the ring planes first ... last - 1 are: in one piece, or in two around its end."""
        assert self._ring is not None
        turn = min(last, (first // self._size + 1) * self._size)
        return [
            (self._ring.narrow(self._dim, start % self._size, stop - start), start, stop)
            for start, stop in ((first, turn), (turn, last))
            if start < stop
        ]

    def _extended(self, planes: Tensor, before: int, after: int) -> Tensor:
        if before <= 0 and after <= 0:
            return planes
        first, last = planes.narrow(self._dim, 0, 1), planes.narrow(self._dim, -1, 1)
        return torch.cat([first] * before + [planes] + [last] * after, self._dim)


class Sweep:
    """A U-Net on its way along one axis of a volume of a shape (x, y, z): `scores` are (class, x, y, z).

    `step` is how many planes of the volume to go forward at a time; coarser maps have fewer planes there. `on_progress`
    is called with the fraction done after every slab of every map.
    """

    def __init__(
        self,
        network: UNet,
        volume: VolumePlanes,
        shape: Sequence[int],
        axis: int,
        step: int,
        device: torch.device,
        on_progress: Callable[[float], None] = lambda fraction: None,
    ) -> None:
        self._network = network
        self._volume = volume
        self._shape = list(shape)
        self._axis = axis
        self._step = step
        self._device = device
        self._on_progress = on_progress
        self._maps: list[tuple[Planes, float]] = []  # with the work of a plane
        self._per_scale = [self._scale(spacing) for spacing in network.axis.spacings]
        self.scores = self._new(shape[axis], self._projected, 1.0, work=1.0)

    def _new(self, count: int, make: Make, spacing: float, work: float, ahead: bool = False) -> Planes:
        def make_and_tell(start: int, stop: int) -> Tensor:
            made = make(start, stop)
            done = sum(planes.made * work for planes, work in self._maps) + (stop - start) * work
            self._on_progress(min(1.0, done / sum(planes.count * work for planes, work in self._maps)))
            return made

        planes = Planes(self._axis, count, math.ceil(self._step / spacing), make_and_tell, ahead)
        self._maps.append((planes, work))
        return planes

    def _scale(self, spacing: float) -> tuple[Grids, Callable[[int, int], Tensor]]:
        """The grids of one scale, and a reader of the class scores on them."""
        network = self._network
        grids = grids_covering(self._shape, spacing)
        layout = _Layout([grid.count for grid in grids], spacing, 1 / spacing**2)
        source = self._new(layout.shape[self._axis], partial(self._lifted, grids), spacing, 0.1 * layout.work)
        skips: list[tuple[Planes, _Layout]] = []
        for stage, blocks in enumerate(network.encoder):
            if stage:
                layout = layout.halved()
                source = self._filtered([source], network.down, network.down.reach, layout, stride=2)
            for block in blocks:  # type: ignore[attr-defined]
                source = self._filtered([source], block, block.conv.reach, layout)
            skips.append((source, layout))
        skips.pop()
        for stage, (skip, layout) in reversed(list(enumerate(skips))):
            raised = self._raised(source, stage, layout)
            decode: Any = network.decoder[stage]
            source = self._filtered([raised, skip], decode, decode.conv.reach, layout)
        return grids, self._filtered([source], network.projection.scores, 0, layout, ahead=True).reader()

    def _lifted(self, grids: Grids, start: int, stop: int) -> Tensor:
        axis = self._axis
        along = grids[axis]
        reach = lift_reach(along.spacing)
        size = self._shape[axis]
        first = min(max(0, int(start * along.spacing) - reach), size - 1)
        last = max(first + 1, min(size, int((stop - 1) * along.spacing) + reach + 1))
        slab = self._volume(axis, first, last).to(self._device)
        origin = [0, 0, 0]
        origin[axis] = first
        return lift_onto(slab[None], _slab(grids, axis, start, stop), (origin[0], origin[1], origin[2]))

    def _filtered(
        self,
        sources: list[Planes],
        layer: Callable[[ScaleMaps], ScaleMaps],
        reach: int,
        layout: _Layout,
        stride: int = 1,
        ahead: bool = False,
    ) -> Planes:
        """The planes that a layer makes of the sum of some maps."""
        readers = [source.reader() for source in sources]

        def make(start: int, stop: int) -> Tensor:
            first, last = start * stride - reach, (stop - 1) * stride + reach + 1
            total = readers[0](first, last)
            for read in readers[1:]:
                total = total + read(first, last)
            return self._apply(layer, total, first)

        return self._new(layout.shape[self._axis], make, layout.spacing, layout.work, ahead)

    def _apply(self, layer: Callable[[ScaleMaps], ScaleMaps], planes: Tensor, first: int) -> Tensor:
        x, y, z = (Grid(1.0, first if axis == self._axis else 0, size) for axis, size in enumerate(planes.shape[2:]))
        return layer(ScaleMaps([planes], [(x, y, z)], self._axis)).tensors[0]

    def _raised(self, source: Planes, stage: int, layout: _Layout) -> Planes:
        read, narrow = source.reader(), self._network.narrow[stage]

        def make(start: int, stop: int) -> Tensor:
            first = start // 2
            below = self._apply(narrow, read(first, stop // 2 + 1), first)
            wanted = [stop - 2 * first if axis == self._axis else size for axis, size in enumerate(layout.shape)]
            return octave_up(below, wanted).narrow(2 + self._axis, start - 2 * first, stop - start)

        return self._new(layout.shape[self._axis], make, layout.spacing, 0.1 * layout.work)

    def _projected(self, start: int, stop: int) -> Tensor:
        axis = self._axis
        shape = list(self._shape)
        shape[axis] = stop - start
        origin = [0, 0, 0]
        origin[axis] = start
        sampled = []
        for grids, read in self._per_scale:
            first, last = int(start / grids[axis].spacing), int((stop - 1) / grids[axis].spacing) + 2
            slab = _slab(grids, axis, first, last)
            sampled.append(sample_at_voxels(read(first, last), slab, (origin[0], origin[1], origin[2]), tuple(shape)))
        return self._network.projection.combine(sampled)[0]


def _slab(grids: Grids, axis: int, start: int, stop: int) -> Grids:
    x, y, z = (Grid(g.spacing, start, stop - start) if i == axis else g for i, g in enumerate(grids))
    return x, y, z
