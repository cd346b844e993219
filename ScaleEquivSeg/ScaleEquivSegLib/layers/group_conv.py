"""Convolutions that commute exactly with a finite group of rotations and reflections of the grid.

A feature map on the group has shape (batch, channel, group, *space), space being two or three axes of any sizes.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .groups import Group
from .kernel_cache import CachedKernels


class KernelBank(CachedKernels):
    """Learnt kernels psi, each seen in the pose of every group element.

    on images:  bank[k, o, h, c, y]     = psi[k, o, c, h^-1 y]
    on maps:    bank[k, o, h, c, h', y] = psi[k, o, c, h^-1 h', h^-1 y]

    Both only rearrange numbers, so one table of indices makes the bank from the weights.

    () -> (kernels, out_channels, group, in_channels * poses of the input, *size)
    """

    def __init__(
        self, group: Group, in_channels: int, out_channels: int, size: int, on_maps: bool, kernels: int = 1
    ) -> None:
        super().__init__()
        if size % 2 == 0:
            raise ValueError(f"a kernel of size {size} has no central voxel to turn about; use an odd size")
        self.poses = group.order
        self.size = (size,) * group.dimension
        input_poses = group.order if on_maps else 1
        taps = size**group.dimension
        self.register_buffer("table", _pose_table(group, size, on_maps), persistent=False)
        self.weight = nn.Parameter(torch.empty(kernels, out_channels, in_channels, input_poses * taps))
        nn.init.normal_(self.weight, std=math.sqrt(2 / (in_channels * input_poses * taps)))

    def forward(self) -> Tensor:
        (bank,) = self.kernels()
        return bank

    def _build(self) -> list[Tensor]:
        table = self.get_buffer("table")
        kernels, out_channels, in_channels, entries = self.weight.shape
        posed = self.weight.flatten(0, 2).index_select(1, table.flatten())
        posed = posed.reshape(kernels, out_channels, in_channels, self.poses, entries).transpose(2, 3)
        return [posed.reshape(kernels, out_channels, self.poses, -1, *self.size)]


def _pose_table(group: Group, size: int, on_maps: bool) -> Tensor:
    """Which entry of (h', y), flattened, stands at each entry of the kernel in pose h: (h, h' * y)."""
    taps = size**group.dimension
    # On the CPU as the group is, even where a network is built without memory to see whether weights fit.
    grid = torch.arange(taps, device="cpu").reshape((size,) * group.dimension)
    turned = torch.stack([group.act_on_image(h, grid).flatten() for h in range(group.order)])  # (h, y)
    if not on_maps:
        return turned
    relative = group.cayley[group.inverse]  # (h, h') -> h^-1 h'
    return (relative[:, :, None] * taps + turned[:, None]).flatten(1)


def convolve(images: Tensor, kernel: Tensor, bias: Tensor | None = None, stride: int = 1, groups: int = 1) -> Tensor:
    """Correlate images (batch, in, *space) with odd kernels (out, in / groups, *size), zeros beyond the edge."""
    padding = [n // 2 for n in kernel.shape[2:]]
    function = F.conv2d if kernel.dim() == 4 else F.conv3d
    return function(images, kernel, bias, stride, padding, groups=groups)


class LiftingConv(nn.Module):
    """From an image to a feature map on the group: correlate with the kernel in every pose.

    [f * psi](o, h, x) = sum_c sum_y f_c(y) psi_oc(h^-1 (y - x)) + b_o

    image (batch, in_channels, *space) -> maps (batch, out_channels, group, *space)

    With stride 2 the voxels kept are 0, 2, 4, ...; the group maps them onto themselves, and the layer commutes with it,
    only if every size is odd.
    """

    def __init__(
        self,
        group: Group,
        in_channels: int,
        out_channels: int,
        kernel_size: int = 3,
        stride: int = 1,
        bias: bool = False,
    ) -> None:
        super().__init__()
        self.bank = KernelBank(group, in_channels, out_channels, kernel_size, on_maps=False)
        self.bias = nn.Parameter(torch.zeros(out_channels)) if bias else None
        self.stride = stride

    def forward(self, image: Tensor) -> Tensor:
        return _convolve_with_every_pose(image, self.bank()[0], self.bias, self.stride)


class GroupConv(nn.Module):
    """Group convolution of a feature map on the group.

    [F * psi](o, h, x) = sum_c sum_h' sum_y F_c(h', y) psi_oc(h^-1 h', h^-1 (y - x)) + b_o

    maps (batch, in_channels, group, *space) -> (batch, out_channels, group, *space)

    With stride 2 the layer commutes with the group only if every size is odd, as in `LiftingConv`. On the group of
    the identity alone this is the ordinary convolution.
    """

    def __init__(
        self,
        group: Group,
        in_channels: int,
        out_channels: int,
        kernel_size: int = 3,
        stride: int = 1,
        bias: bool = False,
    ) -> None:
        super().__init__()
        self.bank = KernelBank(group, in_channels, out_channels, kernel_size, on_maps=True)
        self.bias = nn.Parameter(torch.zeros(out_channels)) if bias else None
        self.stride = stride

    def forward(self, maps: Tensor) -> Tensor:
        return _convolve_with_every_pose(maps.flatten(1, 2), self.bank()[0], self.bias, self.stride)


def _convolve_with_every_pose(images: Tensor, posed: Tensor, bias: Tensor | None, stride: int) -> Tensor:
    out_channels, poses = posed.shape[:2]
    # One bias for all poses: a bias of its own would tell the poses apart.
    spread = None if bias is None else bias.repeat_interleave(poses)
    response = convolve(images, posed.flatten(0, 1), spread, stride)
    return response.unflatten(1, (out_channels, poses))


class GroupPointwise(nn.Module):
    """Mix channels with the same weights at every group element and position.

    y_o(h, x) = sum_c w_oc F_c(h, x) + b_o

    maps (batch, in_channels, group, *space) -> (batch, out_channels, group, *space)
    """

    def __init__(self, in_channels: int, out_channels: int, bias: bool = True) -> None:
        super().__init__()
        self.conv = nn.Conv1d(in_channels, out_channels, 1, bias=bias)

    def forward(self, maps: Tensor) -> Tensor:
        return self.conv(maps.flatten(2)).unflatten(2, maps.shape[2:])


class GroupBatchNorm(nn.BatchNorm1d):
    """Batch normalisation with one mean and variance per channel, over batch, group and space together.

    y_c(h, x) = gain_c (F_c(h, x) - mean_c) / sqrt(variance_c + eps) + offset_c

    Statistics of each group element on its own would tell the poses apart. maps (batch, channel, group, *space) -> same
    """

    def forward(self, maps: Tensor) -> Tensor:
        return super().forward(maps.flatten(2)).unflatten(2, maps.shape[2:])


class GroupPool(nn.Module):
    """From the group back to an image: the mean or the maximum over the group, which no turn of the pose changes.

    y_c(x) = mean_h F_c(h, x)   or   max_h F_c(h, x)

    maps (batch, channel, group, *space) -> (batch, channel, *space)
    """

    def __init__(self, kind: Literal["mean", "max"] = "mean") -> None:
        super().__init__()
        if kind not in ("mean", "max"):
            raise ValueError(f"unknown pooling {kind!r}; known: mean, max")
        self.kind = kind

    def forward(self, maps: Tensor) -> Tensor:
        return maps.mean(2) if self.kind == "mean" else maps.amax(2)


def halve(maps: Tensor) -> Tensor:
    """Half the resolution, at any size, by averages that sit symmetrically about the centre of the grid.

    An even axis is averaged in pairs, an odd one in threes around every second voxel. Either way the group maps the
    places sampled onto themselves, where a stride does so at odd sizes only.

    maps (batch, channel, group, *space) -> (batch, channel, group, *ceil(space / 2))
    """
    window = [min(n, 2 + n % 2) for n in maps.shape[3:]]
    padding = [(n - 1) // 2 for n in window]
    average = F.avg_pool2d if len(window) == 2 else F.avg_pool3d
    halved = average(maps.flatten(1, 2), window, 2, padding, count_include_pad=False)
    return halved.unflatten(1, maps.shape[1:3])
