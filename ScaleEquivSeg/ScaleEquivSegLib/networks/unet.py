"""One U-Net topology; the family of its convolutions and its scale axis make it plain or scale-equivariant."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..layers.dynamic import DynamicScaleConv, ScaleAttentionKind
from ..layers.norm import ScaleBatchNorm
from ..layers.projection import AttentionProjection
from ..layers.resample import LIFT_BLUR, BlurredStride, Origin, ScaleAxis, ScaleMaps, lift, octave_up
from ..layers.scale_conv import PlainConv, Pointwise, ScaleConv

ConvFactory = Callable[[int, int], nn.Module]
"""Makes a convolution (in_channels, out_channels) on scale maps; the module says its `radius` in voxels."""


class UNet(nn.Module):
    """Encoder and decoder with additive skip connections, run at every scale of an axis with shared weights.

    image (batch, in_channels, x, y, z) of any size -> class scores (batch, classes, x, y, z)

    The scale axis is no part of the weights: `axis` may be replaced after training by a longer or shifted one.
    """

    def __init__(
        self,
        conv: ConvFactory,
        axis: ScaleAxis,
        in_channels: int,
        classes: int,
        channels: Sequence[int] = (8, 16, 32),
    ) -> None:
        super().__init__()
        self.axis = axis
        self.stages = len(channels)
        self.down = BlurredStride()
        before = [in_channels, *channels[:-1]]
        self.encoder = nn.ModuleList(
            nn.Sequential(ConvBlock(conv, i, o), ConvBlock(conv, o, o)) for i, o in zip(before, channels, strict=True)
        )
        self.narrow = nn.ModuleList(Pointwise(coarse, fine, bias=False) for fine, coarse in pairwise(channels))
        self.decoder = nn.ModuleList(ConvBlock(conv, fine, fine) for fine in channels[:-1])
        self.projection = AttentionProjection(channels[0], classes)

    def forward(self, image: Tensor, origin: Origin = (0, 0, 0)) -> Tensor:
        """Score an image, or a crop of a volume that starts at voxel `origin`."""
        maps, grids = lift(image, self.axis, origin, self.alignment)
        skips: list[ScaleMaps] = []
        for stage, block in enumerate(self.encoder):
            maps = block([self.down(x) for x in maps] if stage else maps)
            skips.append(maps)
        skips.pop()
        for skip, narrow, block in zip(skips[::-1], self.narrow[::-1], self.decoder[::-1], strict=True):
            raised = [octave_up(x, s.shape[2:]) for x, s in zip(narrow(maps), skip, strict=True)]
            maps = block([x + s for x, s in zip(raised, skip, strict=True)])
        return self.projection(maps, grids, origin, tuple(image.shape[2:]))

    @property
    def alignment(self) -> int:
        """Indices on a scale's grid that all stages share are the multiples of this."""
        return 2 ** (self.stages - 1)

    @property
    def halo(self) -> int:
        """How far, in voxels of the image, an output voxel can see; a crop needs this margin to be scored exactly."""
        conv = next(m.conv.radius for m in self.modules() if isinstance(m, ConvBlock))
        reach = 0  # in voxels of one scale's grid
        for stage in range(self.stages):
            octave = 2**stage
            last = stage == self.stages - 1
            convolutions = 2 if last else 3
            reach += octave * convolutions * conv
            reach += 0 if last else octave * (self.down.radius + 2)
        coarsest = self.axis.spacings[-1]
        return math.ceil((reach + self.alignment + 2 + 3 * LIFT_BLUR) * coarsest) + 2


class ConvBlock(nn.Module):
    """Convolution, normalisation, SiLU: smooth, so that it creates few frequencies the grid cannot carry."""

    def __init__(self, conv: ConvFactory, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv = conv(in_channels, out_channels)
        self.norm = ScaleBatchNorm(out_channels)

    def forward(self, maps: ScaleMaps) -> ScaleMaps:
        return [F.silu(x) for x in self.norm(self.conv(maps))]


def plain_unet(scale_axis: Mapping[str, Any] | None = None, **arguments: Any) -> UNet:
    """Ordinary 3x3x3 convolutions, on the image alone unless told otherwise: the baseline."""
    return UNet(PlainConv, _scale_axis(scale_axis), **arguments)


def scale_equivariant_unet(
    scale_axis: Mapping[str, Any] | None = None, jet_order: int = 2, jet_sigma: float = 1.0, **arguments: Any
) -> UNet:
    """Jet convolutions on a scale axis."""
    return UNet(lambda i, o: ScaleConv(i, o, jet_order, jet_sigma), _scale_axis(scale_axis), **arguments)


def pyramid_unet(scale_axis: Mapping[str, Any], **arguments: Any) -> UNet:
    """Ordinary 3x3x3 convolutions, the same at every level of an image pyramid: the strongest simple rival."""
    return UNet(PlainConv, _scale_axis(scale_axis), **arguments)


def dynamic_scale_equivariant_unet(
    scale_axis: Mapping[str, Any] | None = None,
    jet_order: int = 2,
    jet_sigma: float = 1.0,
    kernels: int = 3,
    attention: ScaleAttentionKind = "local",
    **arguments: Any,
) -> UNet:
    """Jet convolutions on a scale axis, each a mixture of several that the input chooses."""

    def conv(in_channels: int, out_channels: int) -> DynamicScaleConv:
        return DynamicScaleConv(in_channels, out_channels, jet_order, jet_sigma, kernels, attention)

    return UNet(conv, _scale_axis(scale_axis), **arguments)


def _scale_axis(arguments: Mapping[str, Any] | None) -> ScaleAxis:
    return ScaleAxis(**(arguments or {}))


def parameter_count(network: nn.Module) -> int:
    """Trainable numbers of a network."""
    return sum(p.numel() for p in network.parameters() if p.requires_grad)


@torch.no_grad()
def restate_statistics(network: nn.Module, batches: Sequence[Tensor]) -> None:
    """Replace all running statistics by plain averages over batches, with the weights as they are now.

    Running averages lag behind the weights they were gathered with; at inference that costs accuracy and equivariance.
    """
    norms = [m for m in network.modules() if isinstance(m, ScaleBatchNorm)]
    was_training, momenta = network.training, [m.momentum for m in norms]
    network.train()
    for count, batch in enumerate(batches, start=1):
        for norm in norms:
            norm.momentum = 1 / count
        network(batch)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    network.train(was_training)
