"""One U-Net topology; the family of its convolutions and its scale axis make it plain or scale-equivariant."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from ..layers.basis import Jet
from ..layers.dropout import ScaleChannelDropout
from ..layers.dynamic import DynamicScaleConv, ScaleAttentionKind
from ..layers.maps import ScaleAxis, ScaleMaps
from ..layers.norm import ScaleBatchNorm
from ..layers.projection import ProjectionKind, ScaleProjection
from ..layers.resample import BlurredStride, OctaveUp, lift
from ..layers.scale_conv import PlainConv, Pointwise, ScaleConv
from .network import SegmentationNetwork

ConvFactory = Callable[[int, int], nn.Module]
"""Makes a convolution (in_channels, out_channels) on scale maps; it says its `reach` in voxels and can `absorb`."""


class UNet(SegmentationNetwork):
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
        dropout: float = 0.0,
        projection: ProjectionKind = "attention",
        taper: int = 0,
    ) -> None:
        super().__init__()
        self.axis = axis
        self.down: Any = BlurredStride()
        self.up = OctaveUp()
        before = [in_channels, *channels[:-1]]
        if len(channels) < 2:
            raise ValueError(f"channels {list(channels)} must be two or more: one for each stage")
        self.encoder = nn.ModuleList(
            nn.Sequential(ConvBlock(conv, i, o, dropout), ConvBlock(conv, o, o, dropout))
            for i, o in zip(before, channels, strict=True)
        )
        self.narrow = nn.ModuleList(Pointwise(coarse, fine, bias=False) for fine, coarse in pairwise(channels))
        self.decoder = nn.ModuleList(
            # What the projection sees is whole: there a missing channel is a missing vote for a class.
            ConvBlock(conv, fine, fine, dropout if stage else 0.0)
            for stage, fine in enumerate(channels[:-1])
        )
        self.projection = ScaleProjection(channels[0], classes, projection, taper)

    def forward(self, image: Tensor) -> Tensor:
        maps = lift(image, self.axis)
        skips: list[ScaleMaps] = []
        for stage, block in enumerate(self.encoder):
            maps = block(self.down(maps) if stage else maps)
            skips.append(maps)
        skips.pop()
        for skip, narrow, block in zip(skips[::-1], self.narrow[::-1], self.decoder[::-1], strict=True):
            raised = self.up(narrow(maps), skip)
            maps = block(skip.with_tensors([x + y for x, y in zip(raised.tensors, skip.tensors, strict=True)]))
        return self.projection(maps, tuple(image.shape[2:]))

    @property
    def sweepable(self) -> bool:
        """Whether slabs of a volume can be computed one after another, as no layer sees more than its surroundings.

        Scales that interact would have to be swept in step, and an attention to the mean needs the whole volume.
        """
        return all(block.conv.local for block in self.milestones())

    @property
    def widest(self) -> int:
        """The number of channels that a convolution makes at the image's own resolution."""
        width: int = self.milestones()[0].conv.width
        return width

    def milestones(self) -> list[ConvBlock]:
        return [m for m in self.modules() if isinstance(m, ConvBlock)]


class ConvBlock(nn.Module):
    """Convolution, normalisation, dropout of channels, SiLU: smooth, so that it creates few frequencies the grid cannot
    carry.

    maps: per scale (batch, in_channels, x, y, z) -> (batch, out_channels, x, y, z)
    """

    def __init__(self, conv: ConvFactory, in_channels: int, out_channels: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.conv: Any = conv(in_channels, out_channels)
        self.norm: nn.Module = ScaleBatchNorm(out_channels)
        self.dropout = ScaleChannelDropout(dropout)
        self.activation: nn.Module = nn.SiLU()

    def forward(self, maps: ScaleMaps) -> ScaleMaps:
        return self.dropout(self.norm(self.conv(maps))).each(self.activation)


def plain_unet(**arguments: Any) -> UNet:
    """Ordinary 3x3x3 convolutions on the image alone: the baseline."""
    return UNet(PlainConv, ScaleAxis(), **arguments)


def scale_equivariant_unet(
    scale_axis: Mapping[str, Any] | None = None,
    jet: Mapping[str, Any] | None = None,
    interaction: int = 1,
    **arguments: Any,
) -> UNet:
    """Jet convolutions on a scale axis."""
    axis = _scale_axis(scale_axis)
    functions = _jet(jet, axis)
    return UNet(lambda i, o: ScaleConv(i, o, functions, interaction), axis, **arguments)


def pyramid_unet(scale_axis: Mapping[str, Any], **arguments: Any) -> UNet:
    """Ordinary 3x3x3 convolutions, the same at every level of an image pyramid: the strongest simple rival."""
    return UNet(PlainConv, _scale_axis(scale_axis), **arguments)


def dynamic_scale_equivariant_unet(
    scale_axis: Mapping[str, Any] | None = None,
    jet: Mapping[str, Any] | None = None,
    kernels: int = 3,
    attention: ScaleAttentionKind = "local",
    **arguments: Any,
) -> UNet:
    """Jet convolutions on a scale axis, each a mixture of several that the input chooses."""
    axis = _scale_axis(scale_axis)
    functions = _jet(jet, axis)
    return UNet(lambda i, o: DynamicScaleConv(i, o, functions, kernels, attention), axis, **arguments)


def _jet(arguments: Mapping[str, Any] | None, axis: ScaleAxis) -> Jet:
    jet = Jet(**(arguments or {}))
    if jet.scales not in (1, axis.count):
        raise ValueError(f"a jet of {jet.scales} widths does not fit {axis.count} scales")
    return jet


def _scale_axis(arguments: Mapping[str, Any] | None) -> ScaleAxis:
    return ScaleAxis(**(arguments or {}))


def parameter_count(network: nn.Module) -> int:
    """Trainable numbers of a network."""
    return sum(p.numel() for p in network.parameters() if p.requires_grad)


@torch.no_grad()
def fold_normalisation(network: UNet) -> None:
    """Let every convolution absorb the normalisation after it: the same scores at inference, a pass less per block."""
    for block in network.milestones():
        if isinstance(block.norm, ScaleBatchNorm):
            block.conv.absorb(*block.norm.gain_and_offset())
            block.norm = nn.Identity()
