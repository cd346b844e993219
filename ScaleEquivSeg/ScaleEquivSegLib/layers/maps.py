"""Feature maps on the scale-translation group: the scale axis, and one sampled map per scale."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

Origin = tuple[int, int, int]
"""The index, in the whole volume, of a crop's first voxel."""


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

    Positions are counted from the volume's first voxel, not the crop's, so that a tile samples exactly where the whole
    volume would have been sampled.
    """

    spacing: float
    first: int
    count: int

    @staticmethod
    def covering(size: int, origin: int, spacing: float, alignment: int) -> Grid:
        """The grid over voxels origin ... origin + size - 1 whose first index is a multiple of alignment."""
        first = math.floor(origin / spacing / alignment) * alignment
        last = math.ceil((origin + size - 1) / spacing)
        return Grid(spacing, first, last - first + 1)

    def positions(self, origin: int) -> Tensor:
        """Sampling positions relative to a crop that starts at origin."""
        index = torch.arange(self.first, self.first + self.count, dtype=torch.float64)
        return index * self.spacing - origin

    def index_of(self, other: Grid) -> Tensor:
        """Where another grid's positions lie, in indices of this one."""
        return other.positions(0) / self.spacing - self.first

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
    """

    tensors: list[Tensor]
    grids: list[Grids]

    @staticmethod
    def on_one_grid(image: Tensor, scales: int) -> ScaleMaps:
        """The image at every scale, on its own grid: what a jet of several widths takes. Nothing is copied."""
        x, y, z = (Grid(1.0, 0, size) for size in image.shape[2:])
        return ScaleMaps([image] * scales, [(x, y, z)] * scales)

    def each(self, function: Callable[[Tensor], Tensor]) -> ScaleMaps:
        """Apply a function that leaves every voxel in its place."""
        return ScaleMaps([function(x) for x in self.tensors], self.grids)

    def with_tensors(self, tensors: list[Tensor]) -> ScaleMaps:
        """Other values at the same places."""
        return ScaleMaps(tensors, self.grids)

    def every(self, stride: int) -> list[Grids]:
        """The grids of every stride-th voxel."""
        return [(x.every(stride), y.every(stride), z.every(stride)) for x, y, z in self.grids]
