"""The convolutions of Wimmer et al. 2023 on one tensor (batch, channel, scale, x, y, z); every scale on one grid."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .published_basis import PublishedBasis


class PublishedLiftingConv(nn.Module):
    """Lift an image onto the scale axis: one convolution with a filter for every output channel and scale.

    [f * psi](o, s, x) = b_o + sum_c sum_y f_c(x + y) sum_k w[o, c, k] psi_k(y; sigma_s)

    image (batch, in_channels, x, y, z) -> maps (batch, out_channels, scale, x', y', z')
    """

    def __init__(
        self, in_channels: int, out_channels: int, basis: PublishedBasis, stride: int = 1, padding: int = 0
    ) -> None:
        super().__init__()
        self.stride = stride
        self.padding = padding
        self.register_buffer("basis", basis.samples())
        self.weight = nn.Parameter(torch.empty(out_channels, in_channels, len(self.get_buffer("basis"))))
        self.bias = nn.Parameter(torch.zeros(out_channels))
        _fill_uniformly(self.weight)

    def forward(self, image: Tensor) -> Tensor:
        basis = self.get_buffer("basis")
        kernel = torch.einsum("oik,ksxyz->osixyz", self.weight, basis)
        maps = F.conv3d(image, kernel.flatten(0, 1), stride=self.stride, padding=self.padding)
        return maps.unflatten(1, (-1, basis.shape[1])) + _per_channel(self.bias)


class PublishedScaleConv(nn.Module):
    """Convolve every scale, and optionally the next scale_size - 1 along with it, with its own widths of one filter.

    [F * psi](o, s, x) = b_o + sum_c sum_{j < scale_size} sum_y F_c(s + j, x + y) sum_k w[o, c, j, k] psi_k(y; sigma_s)

    Beyond the end of the scale axis the last scale is repeated. Transposed, y is spread over the output instead:
    every F_c(s + j, x) adds its multiple of the filter at voxels stride * x + y, so that a stride enlarges the grid.

    maps (batch, in_channels, scale, x, y, z) -> (batch, out_channels, scale, x', y', z')
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        basis: PublishedBasis,
        scale_size: int = 1,
        stride: int = 1,
        padding: int = 0,
        transposed: bool = False,
    ) -> None:
        super().__init__()
        self.scale_size = scale_size
        self.stride = stride
        self.padding = padding
        self.transposed = transposed
        self.register_buffer("basis", basis.samples())
        self.weight = nn.Parameter(torch.empty(out_channels, in_channels, scale_size, len(self.get_buffer("basis"))))
        self.bias = nn.Parameter(torch.zeros(out_channels))
        _fill_uniformly(self.weight)

    def forward(self, maps: Tensor) -> Tensor:
        scales = maps.shape[2]
        windows = self._scale_windows(maps)  # (batch, scale * in_channels * scale_size, x, y, z)
        # Scales are groups: each is convolved with its own kernels.
        if self.transposed:
            kernel = self._kernel("sijoxyz").flatten(0, 2)
            mixed = F.conv_transpose3d(windows, kernel, stride=self.stride, padding=self.padding, groups=scales)
        else:
            kernel = self._kernel("soijxyz").flatten(2, 3).flatten(0, 1)
            mixed = F.conv3d(windows, kernel, stride=self.stride, padding=self.padding, groups=scales)
        return mixed.unflatten(1, (scales, -1)).transpose(1, 2) + _per_channel(self.bias)

    def _kernel(self, axes: str) -> Tensor:
        return torch.einsum(f"oijk,ksxyz->{axes}", self.weight, self.get_buffer("basis"))

    def _scale_windows(self, maps: Tensor) -> Tensor:
        """Beside each scale those it interacts with, the last one repeated past the end of the axis."""
        last = maps.shape[2] - 1
        scale = torch.arange(last + 1, device=maps.device)[:, None]
        neighbour = (scale + torch.arange(self.scale_size, device=maps.device)).clamp(max=last)
        windows = maps[:, :, neighbour]  # (batch, in_channels, scale, scale_size, x, y, z)
        return windows.transpose(1, 2).flatten(1, 3)


class PublishedPointwise(nn.Module):
    """Mix channels at each position and scale.

    F'(o, s, x) = sum_c w[o, c] F_c(s, x)

    A bias is held because published checkpoints hold one, and is not added because they were trained and measured
    without it; no gradient ever reaches it, so it is not trainable here.

    maps (batch, in_channels, scale, x, y, z) -> (batch, out_channels, scale, x, y, z)
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(out_channels, in_channels, 1, 1, 1))
        self.bias = nn.Parameter(torch.zeros(out_channels), requires_grad=False)
        _fill_uniformly(self.weight)

    def forward(self, maps: Tensor) -> Tensor:
        scales = maps.shape[2]
        mixed = F.conv3d(maps.flatten(2, 3), self.weight)  # scale and x as one axis
        return mixed.unflatten(2, (scales, -1))


def _fill_uniformly(weight: Tensor) -> None:
    """Uniform in +-1/sqrt(fan-in), the range the published initial weights fill."""
    bound = 1 / math.sqrt(weight[0].numel())
    nn.init.uniform_(weight, -bound, bound)


def _per_channel(values: Tensor) -> Tensor:
    return values.reshape(1, -1, 1, 1, 1, 1)
