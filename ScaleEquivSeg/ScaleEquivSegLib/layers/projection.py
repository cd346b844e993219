"""From the scale axis back to the image: the last step of an equivariant network."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .resample import Grid, Origin, ScaleMaps, sample_at_voxels
from .scale_conv import Pointwise


class AttentionProjection(nn.Module):
    """Average the class scores of all scales, each voxel weighing the scales by a learnt attention.

    y(x) = sum_s softmax_s(a(x, s)) l(x, s),   a and l being 1x1x1 convolutions shared by all scales

    Softmax and sum commute with a shift along the scale axis, so the projection commutes with rescaling up to what
    enters and leaves at the ends of the axis.

    maps: per scale (batch, channels, ...) on that scale's grid -> (batch, classes, x, y, z) at the image's voxels
    """

    def __init__(self, channels: int, classes: int) -> None:
        super().__init__()
        self.classes = classes
        self.scores = Pointwise(channels, classes + 1)

    def forward(self, maps: ScaleMaps, grids: list[list[Grid]], origin: Origin, shape: tuple[int, ...]) -> Tensor:
        sampled = [sample_at_voxels(x, axes, origin, shape) for x, axes in zip(self.scores(maps), grids, strict=True)]
        scores = torch.stack(sampled)  # (scale, batch, classes + 1, x, y, z)
        attention = torch.softmax(scores[:, :, self.classes :], dim=0)
        return (attention * scores[:, :, : self.classes]).sum(0)
