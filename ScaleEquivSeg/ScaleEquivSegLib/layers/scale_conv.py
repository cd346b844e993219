"""Convolutions on the scale-translation group: one set of filters, the same at every scale."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .basis import jet_basis, support_radius
from .resample import ScaleMaps


class ScaleConv(nn.Module):
    """Convolve every scale with the same combination of Hermite-Gaussian jets.

    [F * psi](x, s) = sum_c sum_b w[o, c, b] * integral F_c(y, s) psi_b((y - x) / s) dy / s^3

    A map at scale s lives on a grid of spacing s, so in that grid's own voxels the filter is the same at every scale
    and is built once: kernel[o, c] = sum_b w[o, c, b] psi_b.

    maps: per scale (batch, in_channels, x, y, z) -> (batch, out_channels, x, y, z)
    """

    def __init__(self, in_channels: int, out_channels: int, order: int = 2, sigma: float = 1.0) -> None:
        super().__init__()
        self.radius = support_radius(sigma)
        self.register_buffer("basis", jet_basis(order, sigma), persistent=False)
        functions = len(self.get_buffer("basis"))
        self.weight = nn.Parameter(torch.empty(out_channels, in_channels, functions))
        nn.init.normal_(self.weight, std=math.sqrt(2 / (in_channels * functions)))

    def kernel(self) -> Tensor:
        """The filters on the voxel grid, (out, in, x, y, z)."""
        return torch.einsum("oif,fxyz->oixyz", self.weight, self.get_buffer("basis"))

    def forward(self, maps: ScaleMaps) -> ScaleMaps:
        kernel = self.kernel().contiguous(memory_format=torch.channels_last_3d)
        return [convolve(x, kernel, self.radius) for x in maps]


class PlainConv(nn.Module):
    """An ordinary 3x3x3 convolution with free weights, applied to every scale: the baseline's layer.

    maps: per scale (batch, in_channels, x, y, z) -> (batch, out_channels, x, y, z)
    """

    radius = 1

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv3d(in_channels, out_channels, 3, bias=False)

    def forward(self, maps: ScaleMaps) -> ScaleMaps:
        return [self.conv(_replicate(x, self.radius)) for x in maps]


class Pointwise(nn.Module):
    """Mix channels at each position and scale with a 1x1x1 convolution."""

    def __init__(self, in_channels: int, out_channels: int, bias: bool = True) -> None:
        super().__init__()
        self.conv = nn.Conv3d(in_channels, out_channels, 1, bias=bias)

    def forward(self, maps: ScaleMaps) -> ScaleMaps:
        return [self.conv(x) for x in maps]


def convolve(maps: Tensor, kernel: Tensor, radius: int, groups: int = 1) -> Tensor:
    """Correlate maps with kernels (out, in / groups, x, y, z), the ends repeated outwards."""
    return F.conv3d(_replicate(maps, radius), kernel, groups=groups)


def _replicate(maps: Tensor, radius: int) -> Tensor:
    return F.pad(maps, [radius] * 6, mode="replicate")
