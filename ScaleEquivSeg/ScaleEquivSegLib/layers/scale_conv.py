"""Convolutions on the scale-translation group: one set of filters, the same at every scale."""

from __future__ import annotations

import math
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .basis import Jet
from .jet_filter import Padding, Path, apply_kernel, cheaper_path, correlate, make_kernel
from .kernel_cache import CachedKernels
from .maps import ScaleMaps
from .resample import sample_on


class ScaleConv(CachedKernels):
    """Convolve every scale, and what lies on it of the next coarser ones, with filters made of Hermite-Gaussian jets.

    [F * psi]_o(s_i, x) = sum_c sum_{j < interaction} integral F_c(s_{i+j}, y) psi_ocj((y - x) / s_{i+j}) dy / s_{i+j}^3
    psi_ocj = sum_b w[o, c, j, b] psi_b,   psi_b the functions of the jet

    A map at scale s lies on a grid of spacing s, so that in that grid's own voxels the filter is the same at every
    scale and is made once. (Maps that share one grid take a jet with a width for each.) Beyond the coarsest scale, that
    one is repeated.

    `path` chooses how it is computed, not what: `dense` with kernels of three dimensions, `separable` line by line, or
    `auto`, whichever is expected to be faster. It may be changed at any time; the weights are the same.

    maps: per scale (batch, in_channels, x, y, z) -> (batch, out_channels, ceil(x / stride), ...)

    Every stride-th voxel is kept as it is: to stay equivariant, band-limit first (`BlurredStride`).
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        jet: Jet | None = None,
        interaction: int = 1,
        stride: int = 1,
        padding: Padding = "replicate",
        bias: bool = False,
        path: Path | Literal["auto"] = "auto",
    ) -> None:
        super().__init__()
        self.jet = jet or Jet()
        self.interaction = interaction
        self.stride = stride
        self.padding: Padding = padding
        self._path = path
        for index, width in enumerate(self.jet.widths):
            self.register_buffer(f"lines{index}", self.jet.lines(width).float(), persistent=False)
        functions = interaction * len(self.jet.orders)
        self.weight = nn.Parameter(torch.empty(out_channels, in_channels, functions))
        nn.init.normal_(self.weight, std=math.sqrt(2 / (in_channels * functions)))
        self.bias = nn.Parameter(torch.zeros(out_channels)) if bias else None

    @property
    def path(self) -> Path | Literal["auto"]:
        return self._path

    @path.setter
    def path(self, path: Path | Literal["auto"]) -> None:
        self._path = path
        self._forget()

    @property
    def reach(self) -> int:
        """How many voxels of the coarsest grid involved, along each axis, a response depends on."""
        return self.jet.radius(max(self.jet.widths)) + (2 if self.interaction > 1 else 0)

    @property
    def local(self) -> bool:
        """Whether each scale's responses depend on its own map alone, and on what is within reach."""
        return self.interaction == 1 and self.jet.scales == 1

    @property
    def width(self) -> int:
        """How many channels it computes."""
        return self.interaction * self.weight.shape[0]

    def forward(self, maps: ScaleMaps) -> ScaleMaps:
        if self.jet.scales not in (1, len(maps.tensors)):
            raise ValueError(f"a jet of {self.jet.scales} widths does not fit a map of {len(maps.tensors)} scales")
        kernels = self.kernels()
        bias = self.bias
        # Added once, not with every scale that a response takes part of.
        once = None if bias is None else F.pad(bias, (0, (self.interaction - 1) * len(bias)))
        responses = [
            self.respond(x, kernels[self._width(i)], once, i, open_axis=maps.open_axis)
            for i, x in enumerate(maps.tensors)
        ]
        if maps.open_axis is not None and self.jet.scales > 1:
            raise ValueError("a slab cannot be filtered with several widths, which give back different parts of it")
        filtered = maps.filtered(responses, self.jet.radius(self.jet.sigma), self.stride)
        return filtered if self.interaction == 1 else self._meet(filtered)

    def respond(
        self,
        scale_map: Tensor,
        kernel: Tensor,
        bias: Tensor | None,
        scale: int,
        groups: int = 1,
        open_axis: int | None = None,
    ) -> Tensor:
        """One scale's map filtered with a given kernel: (batch, interaction * out_channels, x, y, z)."""
        lines = self._lines(scale)
        path = self._path_of(lines)
        return apply_kernel(path, scale_map, kernel, lines, self.padding, self.stride, groups, bias, open_axis)

    def kernel_of(self, weight: Tensor, scale: int) -> Tensor:
        """The kernel that weights shaped like this layer's make at a scale."""
        lines = self._lines(scale)
        by_offset = weight.unflatten(2, (self.interaction, -1)).permute(2, 0, 1, 3).flatten(0, 1)
        return make_kernel(self._path_of(lines), by_offset, self.jet, lines)

    def absorb(self, gain: Tensor, offset: Tensor) -> None:
        """Become the layer whose output is gain * output + offset, per channel."""
        bias = offset if self.bias is None else gain * self.bias + offset
        self.weight = nn.Parameter(self.weight.detach() * gain.reshape(-1, 1, 1))
        self.bias = nn.Parameter(bias)

    def _build(self) -> list[Tensor]:
        return [self.kernel_of(self.weight, scale) for scale in range(self.jet.scales)]

    def _meet(self, filtered: ScaleMaps) -> ScaleMaps:
        """Sum, at every scale, the responses of that scale and of those it interacts with."""
        by_offset = [x.unflatten(1, (self.interaction, -1)) for x in filtered.tensors]
        last = len(by_offset) - 1
        met = []
        for here, grids in enumerate(filtered.grids):
            total = by_offset[here][:, 0]
            for offset in range(1, self.interaction):
                there = min(here + offset, last)
                total = total + sample_on(by_offset[there][:, offset], filtered.grids[there], grids)
            met.append(total)
        return filtered.with_tensors(met)

    def _path_of(self, lines: Tensor) -> Path:
        if self._path != "auto":
            return self._path
        out_channels, in_channels = self.weight.shape[:2]
        return cheaper_path(self.jet, lines.shape[1] // 2, in_channels, self.interaction * out_channels)

    def _width(self, scale: int) -> int:
        return 0 if self.jet.scales == 1 else scale

    def _lines(self, scale: int) -> Tensor:
        return self.get_buffer(f"lines{self._width(scale)}")


class PlainConv(nn.Module):
    """An ordinary 3x3x3 convolution with free weights, applied to every scale: the baseline's layer.

    [F * k]_o(s, x) = sum_c sum_y F_c(s, x + s y) k_oc(y),   y = the 27 neighbours -1 ... 1 along each axis

    maps: per scale (batch, in_channels, x, y, z) -> (batch, out_channels, x, y, z)
    """

    reach = 1
    local = True

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv3d(in_channels, out_channels, 3, bias=False)
        self.width = out_channels

    def forward(self, maps: ScaleMaps) -> ScaleMaps:
        weight, bias = self.conv.weight, self.conv.bias
        filtered = [correlate(x, weight, bias=bias, open_axis=maps.open_axis) for x in maps.tensors]
        return maps.filtered(filtered, self.reach)

    def absorb(self, gain: Tensor, offset: Tensor) -> None:
        """Become the layer whose output is gain * output + offset, per channel."""
        bias = offset if self.conv.bias is None else gain * self.conv.bias + offset
        self.conv.weight = nn.Parameter(self.conv.weight.detach() * gain.reshape(-1, 1, 1, 1, 1))
        self.conv.bias = nn.Parameter(bias)


class Pointwise(nn.Module):
    """Mix channels at each position and scale.

    y_o(s, x) = sum_c w[o, c] F_c(s, x) + b[o]

    maps: per scale (batch, in_channels, x, y, z) -> (batch, out_channels, x, y, z)
    """

    def __init__(self, in_channels: int, out_channels: int, bias: bool = True) -> None:
        super().__init__()
        self.conv = nn.Conv3d(in_channels, out_channels, 1, bias=bias)

    def forward(self, maps: ScaleMaps) -> ScaleMaps:
        return maps.each(self.conv)
