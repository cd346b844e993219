"""Moving between grids without aliasing: lifting an image onto the scale axis, octaves down and up, pooling."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .basis import support_radius
from .jet_filter import correlate_along
from .maps import Grid, Grids, Origin, ScaleAxis, ScaleMaps
from .tracing import is_compiling

LIFT_BLUR = 0.7
"""Width of the lifting Gaussian in units of the spacing of the grid it samples on."""

OCTAVE_BLUR = 1.4
"""Width of the Gaussian before a stride of 2, in voxels of the finer grid."""

BAND = 64
"""So many rows of a matrix are applied at once: a position depends on its neighbours alone, so a band of rows needs few
columns, and the time per voxel does not grow with the size of the volume."""


def lift(image: Tensor, axis: ScaleAxis) -> ScaleMaps:
    """Sample an image (batch, channel, x, y, z) on the grid of every scale, blurred in proportion to the scale.

    f_i(k) = sum_x f(x) G(x - k s_i; LIFT_BLUR s_i) with s_i the spacing of scale i. Rescaling f by s_1/s_0 therefore
    moves f_0 to f_1.
    """
    grids = [grids_covering(image.shape[2:], spacing) for spacing in axis.spacings]
    return ScaleMaps([lift_onto(image, axes) for axes in grids], grids)


def grids_covering(shape: Sequence[int], spacing: float) -> Grids:
    """One scale's grids over an image of a shape."""
    x, y, z = (Grid.covering(size, spacing) for size in shape)
    return x, y, z


def lift_onto(image: Tensor, grids: Grids, origin: Origin = (0, 0, 0)) -> Tensor:
    """Sample a volume, or a slab of it that starts at voxel `origin`, on one scale's grids, blurred in proportion."""
    sizes = zip(grids, origin, image.shape[2:], strict=True)
    return apply_along_axes(
        image, [gaussian_weights(grid.positions(start), size, LIFT_BLUR * grid.spacing) for grid, start, size in sizes]
    )


def lift_reach(spacing: float) -> int:
    """How many voxels of the image, to either side of a position, lifting to a grid of a spacing looks at."""
    return support_radius(LIFT_BLUR * spacing) + 2


def sample_at_voxels(scale_map: Tensor, grids: Grids, origin: Origin, shape: tuple[int, ...]) -> Tensor:
    """Interpolate a map on one scale's grid back to the voxels of the image, tri-linearly."""
    voxels = [Grid(1.0, start, size) for start, size in zip(origin, shape, strict=True)]
    weights = [linear_weights(here.index_of(there), here.count) for here, there in zip(grids, voxels, strict=True)]
    return apply_along_axes(scale_map, weights)


def sample_on(scale_map: Tensor, grids: Grids, wanted: Grids) -> Tensor:
    """Interpolate a map on one scale's grid to a finer one, tri-cubically; on the same grid it is the map itself."""
    if grids == wanted:
        return scale_map
    weights = [cubic_weights(here.index_of(there), here.count) for here, there in zip(grids, wanted, strict=True)]
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


def cubic_weights(positions: Tensor, size: int) -> Tensor:
    """Rows that interpolate with a cubic through four neighbours, exact for parabolas (Keys 1981, a = -1/2)."""
    below = positions.floor()
    taps = below[:, None] + torch.arange(-1, 3, dtype=torch.float64)
    t = (taps - positions[:, None]).abs()
    near = 1 - 2.5 * t**2 + 1.5 * t**3
    far = 2 - 4 * t + 2.5 * t**2 - 0.5 * t**3
    return _scatter_taps(taps, torch.where(t <= 1, near, far), size)


def _scatter_taps(taps: Tensor, weights: Tensor, size: int) -> Tensor:
    matrix = torch.zeros(len(taps), size, dtype=torch.float64)
    return matrix.scatter_add_(1, taps.long().clamp(0, size - 1), weights)


def apply_along_axes(maps: Tensor, weights: list[Tensor]) -> Tensor:
    """Apply one matrix (out, in) along each of the three spatial axes of (batch, channel, x, y, z)."""
    wx, wy, wz = (w.to(maps) for w in weights)
    maps = _rows_applied(wz, maps, 4)
    if maps.shape[4] < BAND:  # few planes along z: products with rows of z would be too small to be fast
        maps = _rows_applied(wy, maps.transpose(3, 4).contiguous(), 4).transpose(3, 4)
    else:
        maps = _rows_applied(wy, maps, 3)
    batch, channel, x, y, z = maps.shape
    maps = _rows_applied(wx, maps.reshape(batch, channel, x, y * z), 2)
    return maps.reshape(batch, channel, len(wx), y, z).contiguous(memory_format=torch.channels_last_3d)


def _rows_applied(weights: Tensor, maps: Tensor, axis: int) -> Tensor:
    """A matrix applied along the last axis of maps or along the one before it, a band of rows at a time."""

    def product(rows: Tensor, lines: Tensor) -> Tensor:
        return lines @ rows.T if axis == maps.dim() - 1 else rows @ lines

    if len(weights) <= BAND or maps.device.type != "cpu" or is_compiling():  # which columns, is no tensor
        return product(weights, maps)
    bands = []
    for rows in weights.split(BAND):
        used = rows.any(0).nonzero()
        first, last = int(used[0]), int(used[-1]) + 1
        bands.append(product(rows[:, first:last], maps.narrow(axis, first, last - first)))
    return torch.cat(bands, axis)


class BlurredStride(nn.Module):
    """One octave down: a Gaussian blur, then every second voxel. Keeps voxel 0 where it is.

    F'(s, x) = sum_y F(s, x + y) G(y; sigma),   x = 0, 2, 4, ... of each grid

    The blur is in proportion to the scale. On grids whose spacing is the scale one sigma, in voxels, is that; maps that
    share a grid take a sigma for each.

    maps: per scale (batch, channel, n, ...) -> (batch, channel, ceil(n / 2), ...)
    """

    def __init__(self, sigmas: Sequence[float] = (OCTAVE_BLUR,)) -> None:
        super().__init__()
        self.scales = len(sigmas)
        self.reach = max(support_radius(sigma) for sigma in sigmas)
        for index, sigma in enumerate(sigmas):
            radius = support_radius(sigma)
            line = torch.exp(-0.5 * (torch.arange(-radius, radius + 1) / sigma) ** 2)
            self.register_buffer(f"line{index}", line / line.sum(), persistent=False)

    def forward(self, maps: ScaleMaps) -> ScaleMaps:
        if self.scales not in (1, len(maps.tensors)):
            raise ValueError(f"{self.scales} blurs do not fit a map of {len(maps.tensors)} scales")
        lines = [self.get_buffer(f"line{0 if self.scales == 1 else i}") for i in range(len(maps.tensors))]
        halved = [_blurred_half(x, line, maps.open_axis) for x, line in zip(maps.tensors, lines, strict=True)]
        return maps.filtered(halved, self.reach, stride=2)


def _blurred_half(maps: Tensor, line: Tensor, open_axis: int | None) -> Tensor:
    for axis in (2, 1, 0):
        maps = correlate_along(maps, line.to(maps), axis, 2, open_axis)
    return maps


class OctaveUp(nn.Module):
    """One octave up by tri-linear interpolation, placed as a stride of 2 left it, onto the grids of another map.

    F'(s, 2k) = F(s, k),   F'(s, 2k + 1) = (F(s, k) + F(s, k + 1)) / 2   along each axis

    maps: per scale (batch, channel, ceil(n / 2), ...) -> (batch, channel, n, ...)
    """

    def forward(self, maps: ScaleMaps, like: ScaleMaps) -> ScaleMaps:
        raised = [octave_up(x, fine.shape[2:]) for x, fine in zip(maps.tensors, like.tensors, strict=True)]
        return like.with_tensors(raised)


def octave_up(maps: Tensor, shape: Sequence[int]) -> Tensor:
    """One scale's map an octave up, cut or extended to a shape."""
    doubled = [2 * n - 1 for n in maps.shape[2:]]
    maps = F.interpolate(maps, size=doubled, mode="trilinear", align_corners=True)
    missing = [max(0, want - have) for want, have in zip(shape, doubled, strict=True)]
    padding = [0, missing[2], 0, missing[1], 0, missing[0]]
    maps = F.pad(maps, padding, mode="replicate") if any(missing) else maps
    return maps[:, :, : shape[0], : shape[1], : shape[2]]


def spatial_means(maps: ScaleMaps, margin: int = 0) -> list[Tensor]:
    """Pool over space: per scale the mean (batch, channel, 1, 1, 1) of what lies `margin` voxels inside the border.

    A mean of a rescaled map is the mean of the map; a sum would grow with the cube of the scale.
    """
    return [_inner(x, margin).mean((2, 3, 4), keepdim=True) for x in maps.tensors]


def spatial_maxima(maps: ScaleMaps, margin: int = 0) -> list[Tensor]:
    """Pool over space: per scale the maximum (batch, channel, 1, 1, 1) inside the border."""
    return [_inner(x, margin).amax((2, 3, 4), keepdim=True) for x in maps.tensors]


def _inner(maps: Tensor, margin: int) -> Tensor:
    """What is left without a margin; along an axis too short for that, its middle."""
    for axis in (2, 3, 4):
        cut = min(margin, (maps.shape[axis] - 1) // 2)
        maps = maps.narrow(axis, cut, maps.shape[axis] - 2 * cut)
    return maps
