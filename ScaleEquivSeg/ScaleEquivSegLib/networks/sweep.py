"""A volume swept slab by slab: the scores of a volume of any length, each plane of each feature map computed once.

Every layer keeps just the planes that a later one still needs. Nothing is cut with a margin and computed twice, nothing
is blended: the scores are those of the whole volume at once, in memory that grows with a plane's size alone.

Where scores are wanted in a part of the volume only, no map is computed farther from it than the network sees. Along
the sweep that is exact for every map: planes are made from the first that is asked for. Across it each scale is cut
once, as far out as all layers together reach, at a place that every stride passes through: what the layers make of the
cut's edge, which they take for the volume's, does not get as far as the part.
"""

from __future__ import annotations

import math
import weakref
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


Part = tuple[range, range, range]
"""Some voxels of a volume: those with an index along x, y and z in these ranges."""

VoxelsIn = Callable[[Part], Tensor]
"""The voxels (channel, x, y, z) of a part of a volume."""


@dataclass(frozen=True)
class _Layout:
    """The shape of one map, its planes' distance in voxels of the volume, what a plane of it takes to compute, and how
    many of its planes before and after those at the place of a score may matter to it."""

    shape: list[int]
    spacing: float
    work: float
    halo: float

    def halved(self) -> _Layout:
        shape = [-(-count // 2) for count in self.shape]
        return _Layout(shape, 2 * self.spacing, self.work / 2, self.halo / 2)


def whole(shape: Sequence[int]) -> Part:
    """The part of a volume of a shape that is all of it."""
    x, y, z = map(range, shape)
    return x, y, z


def seen_from(wanted: range, grid: Grid, halo: int, align: int = 1) -> range:
    """The indices of a grid of which scores at some voxels depend: those around them, and as many more to either side.

    The first is a multiple of `align`.
    """
    first = max(0, int(wanted.start / grid.spacing) - halo) // align * align
    return range(first, min(grid.count, int((wanted.stop - 1) / grid.spacing) + 2 + halo))


def reach_of(network: UNet) -> int:
    """How far a score depends on what the network makes of the image, in voxels of a scale's grid."""
    total = 0
    for stage, blocks in enumerate(network.encoder):
        voxel = 2**stage
        total += voxel * sum(block.conv.reach for block in blocks)  # type: ignore[attr-defined]
        if stage:  # the stride, and the interpolation on the way back
            total += voxel // 2 * network.down.reach + voxel
        if stage < len(network.decoder):
            total += voxel * network.decoder[stage].conv.reach  # type: ignore[union-attr]
    return total


class Planes:
    """The planes of a map (..., x, y, z) along one of its spatial axes: made once, in order, and dropped when read.

    Every reader goes forward only: what lies before the start of its last read is no longer kept for it. What is kept
    lies in one ring of memory, plane p at place p modulo its size, so that nothing is allocated as the sweep goes on; a
    reader is done with what it was given when it, or another one, reads on.

    The first read of all says where they begin: what lies before it is never made, and nobody can read it later.

    At most `step` planes are made at once, and none before it is asked for: what is made too early has to be kept. Only
    a map that is to set the pace runs `ahead` up to a plane, a full step at a time.
    """

    def __init__(self, axis: int, count: int, step: int, make: Make, ahead: int = 0) -> None:
        self.axis = axis
        self.count = count
        self.made = 0
        self._begun = 0
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
            if not self.made:
                self.made = self._begun = first
                self._still_read = [first] * len(self._still_read)
            if first < self._begun:
                raise ValueError(f"plane {first} is asked for, and the first that was made is {self._begun}")
            self._still_read[number] = first
            end = max(last, self._ahead)
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
    """A U-Net on its way along one axis of a volume of a shape (x, y, z): its scores are (class, x, y, z).

    Across the axis they are those of the wanted part, along it whichever of the part's are read. `step` is how many
    planes of the volume to go forward at a time; coarser maps have fewer planes there. `on_progress` is called with the
    fraction done after every slab of every map.
    """

    def __init__(
        self,
        network: UNet,
        volume: VoxelsIn,
        shape: Sequence[int],
        wanted: Part,
        axis: int,
        step: int,
        device: torch.device,
        on_progress: Callable[[float], None] = lambda fraction: None,
    ) -> None:
        self._network = network
        self._volume = volume
        self._shape = list(shape)
        self._wanted = wanted
        self._axis = axis
        self._step = step
        self._device = device
        self._on_progress = on_progress
        self._reach = reach_of(network)
        # With the planes that may be needed, and the work of one. Maps hold each other and the sweep, which holds none:
        # so their memory goes with the last that reads them, and not when Python looks for cycles.
        self._maps: list[tuple[weakref.ref[Planes], range, float]] = []

    def scores(self) -> Planes:
        """What is made of the volume, plane by plane as they are read."""
        per_scale = [self._scale(spacing) for spacing in self._network.axis.spacings]
        return self._new(_Layout(self._shape, 1.0, 1.0, 0.0), partial(self._projected, per_scale))

    def _new(self, layout: _Layout, make: Make, effort: float = 1.0, ahead: bool = False) -> Planes:
        grid = Grid(layout.spacing, 0, layout.shape[self._axis])
        wanted = self._wanted[self._axis]
        work = effort * layout.work

        def make_and_tell(start: int, stop: int) -> Tensor:
            made = make(start, stop)
            self._tell((stop - start) * work)
            return made

        last = seen_from(wanted, grid, 0).stop if ahead else 0
        planes = Planes(self._axis, grid.count, math.ceil(self._step / layout.spacing), make_and_tell, last)
        self._maps.append((weakref.ref(planes), seen_from(wanted, grid, math.ceil(layout.halo)), work))
        return planes

    def _tell(self, done: float) -> None:
        """Say how much is done, with what is just being added; planes that turn out not to be needed count as done."""
        total = 0.0
        for reference, needed, work in self._maps:
            planes = reference()
            made = 0 if planes is None else planes.made
            done += (min(max(made, needed.start), needed.stop) - needed.start) * work
            total += len(needed) * work
        self._on_progress(min(1.0, done / total))

    def _scale(self, spacing: float) -> tuple[Grids, Callable[[int, int], Tensor]]:
        """The grids of one scale, and a reader of the class scores on them."""
        network = self._network
        grids = self._grids(spacing)
        layout = _Layout([grid.count for grid in grids], spacing, 1 / spacing**2, self._reach)
        source = self._new(layout, partial(self._lifted, grids), effort=0.1)
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

    def _grids(self, spacing: float) -> Grids:
        """One scale's grids: all of the volume along the sweep, across it what the wanted part depends on."""
        align = 2 ** (len(self._network.encoder) - 1)

        def cut(axis: int, grid: Grid) -> Grid:
            if axis == self._axis:
                return grid
            seen = seen_from(self._wanted[axis], grid, self._reach, align)
            return Grid(spacing, seen.start, len(seen))

        x, y, z = (cut(axis, grid) for axis, grid in enumerate(grids_covering(self._shape, spacing)))
        return x, y, z

    def _lifted(self, grids: Grids, start: int, stop: int) -> Tensor:
        slab = _slab(grids, self._axis, start, stop)
        x, y, z = (_voxels_under(grid, size) for grid, size in zip(slab, self._shape, strict=True))
        return lift_onto(self._volume((x, y, z)).to(self._device)[None], slab, (x.start, y.start, z.start))

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

        return self._new(layout, make, ahead=ahead)

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

        return self._new(layout, make, effort=0.1)

    def _projected(
        self, per_scale: Sequence[tuple[Grids, Callable[[int, int], Tensor]]], start: int, stop: int
    ) -> Tensor:
        axis = self._axis
        x, y, z = (range(start, stop) if i == axis else wanted for i, wanted in enumerate(self._wanted))
        sampled = []
        for grids, read in per_scale:
            first, last = int(start / grids[axis].spacing), int((stop - 1) / grids[axis].spacing) + 2
            slab = _slab(grids, axis, first, last)
            origin, shape = (x.start, y.start, z.start), (len(x), len(y), len(z))
            sampled.append(sample_at_voxels(read(first, last), slab, origin, shape))
        return self._network.projection.combine(sampled)[0]


def _slab(grids: Grids, axis: int, start: int, stop: int) -> Grids:
    x, y, z = (Grid(g.spacing, start, stop - start) if i == axis else g for i, g in enumerate(grids))
    return x, y, z


def _voxels_under(grid: Grid, size: int) -> range:
    """The voxels along an axis of a volume that lifting to a grid looks at."""
    reach = lift_reach(grid.spacing)
    first = min(max(0, int(grid.first * grid.spacing) - reach), size - 1)
    last = int((grid.first + grid.count - 1) * grid.spacing) + reach + 1
    return range(first, max(first + 1, min(size, last)))
