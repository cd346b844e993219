"""Moving between grids without aliasing: the scale axis, lifting an image onto it, octaves down and up."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .basis import support_radius

ScaleMaps = list[Tensor]
"""A feature map on the scale-translation group: per scale a tensor (batch, channel, x, y, z) on its own grid."""

Origin = tuple[int, int, int]
"""The index, in the whole volume, of a crop's first voxel."""

LIFT_BLUR = 0.7
"""Width of the lifting Gaussian in units of the spacing of the grid it samples on."""

OCTAVE_BLUR = 1.4
"""Width of the Gaussian before a stride of 2, in voxels of the finer grid."""


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
        """The neighbouring scales start, ..., start + count - 1 of this axis."""
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


def lift(image: Tensor, axis: ScaleAxis, origin: Origin, alignment: int) -> tuple[ScaleMaps, list[list[Grid]]]:
    """Sample an image (batch, channel, x, y, z) on the grid of every scale, blurred in proportion to the scale.

    f_i(k) = sum_x f(x) G(x - k h_i; LIFT_BLUR h_i) with h_i the spacing of scale i. Rescaling f by h_1/h_0 therefore
    moves f_0 to f_1. Also returns, per scale, the three grids sampled on.
    """
    maps, grids = [], []
    for spacing in axis.spacings:
        axes = [
            Grid.covering(size, start, spacing, alignment) for size, start in zip(image.shape[2:], origin, strict=True)
        ]
        weights = [
            gaussian_weights(grid.positions(start), size, LIFT_BLUR * spacing)
            for grid, start, size in zip(axes, origin, image.shape[2:], strict=True)
        ]
        maps.append(apply_along_axes(image, weights))
        grids.append(axes)
    return maps, grids


def sample_at_voxels(scale_map: Tensor, grids: list[Grid], origin: Origin, shape: tuple[int, ...]) -> Tensor:
    """Interpolate a map on one scale's grid back to the voxels of the image, tri-linearly."""
    weights = []
    for grid, start, size in zip(grids, origin, shape, strict=True):
        voxels = torch.arange(start, start + size, dtype=torch.float64)
        weights.append(linear_weights(voxels / grid.spacing - grid.first, grid.count))
    return apply_along_axes(scale_map, weights)


def gaussian_weights(positions: Tensor, size: int, sigma: float) -> Tensor:
    """Rows that sample a signal of the given size at positions after a Gaussian blur, its ends repeated outwards."""
    reach = support_radius(sigma) + 1
    centre = positions.round()
    offsets = torch.arange(-reach, reach + 1, dtype=torch.float64)
    taps = centre[:, None] + offsets  # (position, tap)
    weights = torch.exp(-0.5 * ((taps - positions[:, None]) / sigma) ** 2)
    weights = weights / weights.sum(1, keepdim=True)
    return _scatter_taps(taps, weights, size)


def linear_weights(positions: Tensor, size: int) -> Tensor:
    """Rows that interpolate a signal of the given size linearly at positions, its ends repeated outwards."""
    below = positions.floor()
    fraction = positions - below
    taps = torch.stack([below, below + 1], 1)
    return _scatter_taps(taps, torch.stack([1 - fraction, fraction], 1), size)


def _scatter_taps(taps: Tensor, weights: Tensor, size: int) -> Tensor:
    matrix = torch.zeros(len(taps), size, dtype=torch.float64)
    return matrix.scatter_add_(1, taps.long().clamp(0, size - 1), weights)


def apply_along_axes(maps: Tensor, weights: list[Tensor]) -> Tensor:
    """Apply one matrix (out, in) along each of the three spatial axes of (batch, channel, x, y, z)."""
    wx, wy, wz = (w.to(maps) for w in weights)
    maps = maps @ wz.T
    maps = wy @ maps
    batch, channel, x, y, z = maps.shape
    maps = wx @ maps.reshape(batch, channel, x, y * z)
    return maps.reshape(batch, channel, len(wx), y, z).contiguous(memory_format=torch.channels_last_3d)


class BlurredStride(nn.Module):
    """One octave down: Gaussian blur, then every second voxel. Keeps voxel 0 where it is.

    maps (batch, channel, n, ...) -> (batch, channel, ceil(n / 2), ...)
    """

    radius = support_radius(OCTAVE_BLUR)

    def __init__(self) -> None:
        super().__init__()
        offsets = torch.arange(-self.radius, self.radius + 1)
        line = torch.exp(-0.5 * (offsets / OCTAVE_BLUR) ** 2)
        self.register_buffer("line", line / line.sum(), persistent=False)

    def forward(self, maps: Tensor) -> Tensor:
        line = self.get_buffer("line").to(maps)
        channels = maps.shape[1]
        for axis in range(3):
            shape, stride = [1, 1, 1], [1, 1, 1]
            shape[axis], stride[axis] = len(line), 2
            padding = [0] * 6
            padding[4 - 2 * axis : 6 - 2 * axis] = [self.radius, self.radius]
            kernel = line.reshape(1, 1, *shape).expand(channels, 1, *shape)
            maps = F.conv3d(F.pad(maps, padding, mode="replicate"), kernel, stride=stride, groups=channels)
        return maps


def octave_up(maps: Tensor, shape: torch.Size) -> Tensor:
    """One octave up by linear interpolation, placed as a stride of 2 left it, cut or extended to a shape."""
    doubled = [2 * n - 1 for n in maps.shape[2:]]
    maps = F.interpolate(maps, size=doubled, mode="trilinear", align_corners=True)
    missing = [max(0, want - have) for want, have in zip(shape, doubled, strict=True)]
    padding = [0, missing[2], 0, missing[1], 0, missing[0]]
    maps = F.pad(maps, padding, mode="replicate") if any(missing) else maps
    return maps[:, :, : shape[0], : shape[1], : shape[2]]
