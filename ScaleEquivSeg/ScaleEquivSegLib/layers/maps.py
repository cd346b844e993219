"""Feature maps on the scale-translation group: the scale axis, and one sampled map per scale."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

Origin = tuple[int, int, int]
"""The index, in the whole volume, of a slab's first voxel."""


@dataclass(frozen=True)
class ScaleAxis:
    """Scales first, first * ratio, first * ratio^2, ...: the spacing of each scale's grid in voxels of the input."""

    first: float = 1.0
    ratio: float = 1.0
    count: int = 1

    def __post_init__(self) -> None:
        if not (self.first > 0 and self.ratio > 0 and self.count >= 1):
            raise ValueError(f"{self} is no scale axis: first and ratio must be positive, count at least 1")

    @property
    def spacings(self) -> tuple[float, ...]:
        return tuple(self.first * self.ratio**i for i in range(self.count))

    def window(self, start: int, count: int) -> ScaleAxis:
        """The neighbouring scales start, ..., start + count - 1 of this axis, which may lie beyond its ends."""
        return ScaleAxis(self.first * self.ratio**start, self.ratio, count)


@dataclass(frozen=True)
class Grid:
    """One scale's sampling positions along one image axis: (first + i) * spacing, i < count, in voxels of the volume.

    Positions are counted from the volume's first voxel, so that a slab of it is sampled where the whole would be.
    """

    spacing: float
    first: int
    count: int

    @staticmethod
    def covering(size: int, spacing: float) -> Grid:
        """The grid over the voxels 0 ... size - 1 of a volume."""
        return Grid(spacing, 0, math.ceil((size - 1) / spacing) + 1)

    def positions(self, origin: int) -> Tensor:
        """Sampling positions relative to a slab that starts at origin."""
        index = torch.arange(self.first, self.first + self.count, dtype=torch.float64)
        return index * self.spacing - origin

    def index_of(self, other: Grid) -> Tensor:
        """Where another grid's positions lie, in indices of this one."""
        return other.positions(0) / self.spacing - self.first

    def without_ends(self, margin: int) -> Grid:
        """The grid less a margin at both ends."""
        return Grid(self.spacing, self.first + margin, self.count - 2 * margin)

    def every(self, stride: int) -> Grid:
        """Positions 0, stride, 2 stride, ... of this grid, if the volume's own grid of that stride has them too."""
        if self.first % stride:
            raise ValueError(f"a grid that starts at index {self.first} has no stride of {stride}")
        return Grid(self.spacing * stride, self.first // stride, -(-self.count // stride))


Grids = tuple[Grid, Grid, Grid]


@dataclass(frozen=True)
class ScaleMaps:
    """F(s, x): per scale a tensor (batch, channel, x, y, z) and the three grids its voxels lie on.

    The layers take and return these. `maps.each(f)` is the feature map with f applied to every scale's tensor.

    `open_axis` is for a slab cut from a larger map: along that axis (0, 1 or 2) its ends are not those of the volume.
    Layers that look at neighbours extend the volume's ends as they are told to; at a slab's they give back less.
    """

    tensors: list[Tensor]
    grids: list[Grids]
    open_axis: int | None = None

    @staticmethod
    def on_one_grid(image: Tensor, scales: int) -> ScaleMaps:
        """The image at every scale, on its own grid: what a jet of several widths takes. Nothing is copied."""
        x, y, z = (Grid(1.0, 0, size) for size in image.shape[2:])
        return ScaleMaps([image] * scales, [(x, y, z)] * scales)

    def each(self, function: Callable[[Tensor], Tensor]) -> ScaleMaps:
        """Apply a function that leaves every voxel in its place."""
        return self.with_tensors([function(x) for x in self.tensors])

    def with_tensors(self, tensors: list[Tensor]) -> ScaleMaps:
        """Other values at the same places."""
        return ScaleMaps(tensors, self.grids, self.open_axis)

    def filtered(self, tensors: list[Tensor], radius: int, stride: int = 1) -> ScaleMaps:
        """What a filter of a radius, evaluated at every stride-th voxel, made of these maps."""
        grids = []
        for axes in self.grids:
            inner = [grid.without_ends(radius) if i == self.open_axis else grid for i, grid in enumerate(axes)]
            x, y, z = (grid if stride == 1 else grid.every(stride) for grid in inner)
            grids.append((x, y, z))
        return ScaleMaps(tensors, grids, self.open_axis)

    def without_ends(self, margin: int) -> ScaleMaps:
        """A slab less a margin at both ends; a whole map as it is."""
        if self.open_axis is None:
            return self
        axis = 2 + self.open_axis
        inner = [x.narrow(axis, margin, x.shape[axis] - 2 * margin) for x in self.tensors]
        return self.filtered(inner, margin)
