"""Two ways to correlate a map with combinations of one jet's functions: all at once, or line by line.

The functions are products h_n(x) h_m(y) h_l(z), so a filter sum_nml w_nml h_n h_m h_l needs no three-dimensional
kernel: pass along z with every h_l, along y with every h_m, and along x with sum_n w_nml h_n, which mixes channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from .basis import Jet
from .tracing import is_compiling

Path = Literal["dense", "separable"]
Padding = Literal["replicate", "zeros"]

PASS_COST = 200
"""Multiply-adds of a dense convolution that take as long as one channel's pass along a line.

A pass is bound by memory, not arithmetic. Measured with PyTorch 2.13 on two CPU cores at 64^3 voxels, order 1 to 3,
radius 2 to 5, 1 to 32 channels: with this number the choice takes 9 % longer, in the mean of 64 cases, than the faster
path always would. Nothing but speed depends on it.
"""

BLOCK_BYTES = 4 * 2**20
"""On the CPU a large map is filtered in blocks of this size: they stay in the cache, in memory that need not be asked
for anew. At 512 x 512 voxels and 8 planes a layer then takes half the time."""


def cheaper_path(jet: Jet, radius: int, in_channels: int, out_channels: int) -> Path:
    """The path that is expected to take less time, by multiply-adds per voxel."""
    taps = 2 * radius + 1
    lines = jet.order + 1
    pairs = lines * (lines + 1) // 2  # (m, l) with m + l <= order
    dense = in_channels * out_channels * taps**3
    separable = PASS_COST * in_channels * (lines + pairs) + pairs * in_channels * out_channels * taps
    return "dense" if dense <= separable else "separable"


def make_kernel(path: Path, weight: Tensor, jet: Jet, lines: Tensor) -> Tensor:
    """The kernel of weights (out, in, function): (out, in, x, y, z), or for the separable path (m, l, out, in, x)."""
    n, m, l = torch.tensor(jet.orders, device=weight.device).T
    if path == "dense":
        kernel = torch.einsum("oif,fx,fy,fz->oixyz", weight, lines[n], lines[m], lines[l])
        return kernel.contiguous(memory_format=torch.channels_last_3d)
    count = len(lines)
    place = (n * count + m) * count + l
    by_order = weight.new_zeros(*weight.shape[:2], count**3).index_copy(2, place, weight)
    return torch.einsum("oinml,nx->mloix", by_order.unflatten(2, (count, count, count)), lines)


def apply_kernel(
    path: Path,
    maps: Tensor,
    kernel: Tensor,
    lines: Tensor,
    padding: Padding = "replicate",
    stride: int = 1,
    groups: int = 1,
    bias: Tensor | None = None,
    open_axis: int | None = None,
) -> Tensor:
    """Correlate maps (batch, in, x, y, z) with a kernel made for the same path."""
    if path == "dense":
        return correlate(maps, kernel, padding, stride, groups, bias, open_axis)
    radius = lines.shape[1] // 2
    margins = _margins([radius] * 3, open_axis)
    rows = (maps.shape[2] + 2 * margins[0] - 2 * radius - 1) // stride + 1
    response: Tensor | None = None
    for start, stop in _blocks(maps, rows):
        first, last = start * stride - margins[0], (stop - 1) * stride + 2 * radius + 1 - margins[0]
        inside = maps[:, :, max(0, first) : last]
        beyond = (max(0, -first), max(0, last - maps.shape[2]))
        block = _filtered(_padded(inside, [beyond, *margins[1:]], padding), kernel, lines, stride, groups, bias)
        if stop - start == rows:
            return block
        if response is None:
            shape = (*block.shape[:2], rows, *block.shape[3:])
            response = torch.empty(shape, dtype=block.dtype, memory_format=torch.channels_last_3d)
        response[:, :, start:stop] = block
    assert response is not None
    return response


def _blocks(maps: Tensor, rows: int) -> list[tuple[int, int]]:
    """Which rows along x to compute at a time: all, unless that takes the CPU out of its cache for no gradient."""
    if torch.is_grad_enabled() or maps.device.type != "cpu" or is_compiling():
        return [(0, rows)]
    count = max(1, round(maps.nbytes / BLOCK_BYTES))
    step = -(-rows // count)
    return [(start, min(start + step, rows)) for start in range(0, rows, step)]


def _filtered(padded: Tensor, kernel: Tensor, lines: Tensor, stride: int, groups: int, bias: Tensor | None) -> Tensor:
    """The three passes over maps that are padded once, so that every pass takes what is there."""
    count = len(lines)
    total: Tensor | None = None
    for l in range(count):
        along_z = _pass(padded, lines[l], 2, stride)
        for m in range(count - l):
            along_y = _pass(along_z, lines[m], 1, stride)
            response = _along_x(along_y, kernel[m, l], bias if total is None else None, stride, groups)
            total = response if total is None else total.add_(response)
    assert total is not None
    return total


def correlate(
    maps: Tensor,
    kernel: Tensor,
    padding: Padding = "replicate",
    stride: int | tuple[int, int, int] = 1,
    groups: int = 1,
    bias: Tensor | None = None,
    open_axis: int | None = None,
) -> Tensor:
    """Correlate maps with odd kernels (out, in / groups, x, y, z).

    Beyond the ends the last value repeats, or is 0; at those of an open axis the filter stays within the maps.
    """
    padded = _padded(maps, _margins([size // 2 for size in kernel.shape[2:]], open_axis), padding)
    return F.conv3d(padded, kernel, bias, stride, groups=groups)


def correlate_along(maps: Tensor, line: Tensor, axis: int, stride: int = 1, open_axis: int | None = None) -> Tensor:
    """Correlate every channel with one line along one of the three axes, its ends repeated outwards."""
    margins = [0, 0, 0]
    margins[axis] = len(line) // 2
    return _pass(_padded(maps, _margins(margins, open_axis), "replicate"), line, axis, stride)


def _along_x(padded: Tensor, kernel: Tensor, bias: Tensor | None, stride: int, groups: int) -> Tensor:
    """Correlate with kernels (out, in / groups, x), the other axes seen as one: PyTorch 2.13 gives a kernel whose last
    two sizes are 1 to a slow implementation if it may use only one thread, which made training take 2.5 times as long.
    """
    flat = padded.flatten(3)[:, :, None]
    weight = kernel[:, :, None, :, None].contiguous(memory_format=torch.channels_last_3d)
    return F.conv3d(flat, weight, bias, (1, stride, 1), groups=groups).squeeze(2).unflatten(3, padded.shape[3:])


def _pass(padded: Tensor, line: Tensor, axis: int, stride: int) -> Tensor:
    channels = padded.shape[1]
    if axis == 0:
        return _along_x(padded, line.expand(channels, 1, -1), None, stride, channels)
    shape, strides = [1, 1, 1], [1, 1, 1]
    shape[axis], strides[axis] = len(line), stride
    kernel = line.reshape(1, 1, *shape).expand(channels, 1, *shape)
    if stride == 1 and padded.requires_grad and not line.requires_grad:
        filtered: Tensor = _FixedFilter.apply(padded, kernel)
        return filtered
    return F.conv3d(padded, kernel, None, (strides[0], strides[1], strides[2]), groups=channels)


class _FixedFilter(torch.autograd.Function):
    """Correlate every channel with a kernel of its own that is not learnt.

    The gradient is another correlation, with the kernel turned round. What PyTorch does for it takes a CPU up to twice
    as long, which made training take a third longer.
    """

    @staticmethod
    def forward(ctx: Any, maps: Tensor, kernel: Tensor) -> Tensor:
        ctx.save_for_backward(kernel)
        return F.conv3d(maps, kernel, groups=len(kernel))

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (kernel,) = ctx.saved_tensors
        # Under autocast the gradient is in another precision than the kernel was given in.
        turned, reach = kernel.flip((2, 3, 4)).to(gradient.dtype), [size - 1 for size in kernel.shape[2:]]
        gradient = gradient.contiguous(memory_format=torch.channels_last_3d)
        return F.conv3d(gradient, turned, padding=reach, groups=len(kernel)), None


def _margins(margins: list[int], open_axis: int | None) -> list[int]:
    """How far maps reach beyond their ends along x, y, z: not at all along an open axis."""
    return [0 if axis == open_axis else margin for axis, margin in enumerate(margins)]


def _padded(maps: Tensor, margins: Sequence[int | tuple[int, int]], padding: Padding) -> Tensor:
    """Maps extended along x, y, z by as many voxels at both ends, or by a pair of numbers."""
    x, y, z = (margin if isinstance(margin, tuple) else (margin, margin) for margin in margins)
    padded = F.pad(maps, [*z, *y, *x], mode="replicate" if padding == "replicate" else "constant")
    return padded.contiguous(memory_format=torch.channels_last_3d)  # a pass takes a quarter of the time in this order
