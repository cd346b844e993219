"""From the scale axis back to the image: the last step of an equivariant network."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn

from .maps import ScaleMaps
from .resample import sample_at_voxels
from .scale_conv import Pointwise

ProjectionKind = Literal["attention", "mean", "max"]


class ScaleProjection(nn.Module):
    """Class scores at every scale, brought together at the image's voxels.

    l(x, s) = class scores, a 1x1x1 convolution shared by all scales;   w_s = weight of a scale, see below

    mean        y(x) = sum_s w_s l(x, s) / sum_s w_s
    max         y(x) = max_s (l(x, s) + log w_s)
    attention   y(x) = sum_s softmax_s(a(x, s) + log w_s) l(x, s),   a learnt, a 1x1x1 convolution too

    Each commutes with a shift along the scale axis up to what enters and leaves at its ends. A `taper` of n lets the n
    outermost scales at either end fade in: w = 1/(n+1), 2/(n+1), ..., 1, so that less depends on where the axis ends.

    maps: per scale (batch, channels, ...) on that scale's grid -> (batch, classes, x, y, z) at the image's voxels
    """

    def __init__(self, channels: int, classes: int, kind: ProjectionKind = "attention", taper: int = 0) -> None:
        super().__init__()
        if kind not in ("attention", "mean", "max"):
            raise ValueError(f"unknown projection {kind!r}; known: attention, mean, max")
        self.classes = classes
        self.kind = kind
        self.taper = taper
        self.scores = Pointwise(channels, classes + 1 if kind == "attention" else classes)

    def forward(self, maps: ScaleMaps, shape: tuple[int, ...]) -> Tensor:
        scores = self.scores(maps)
        sampled = [sample_at_voxels(x, g, (0, 0, 0), shape) for x, g in zip(scores.tensors, scores.grids, strict=True)]
        return self.combine(sampled)

    def combine(self, sampled: list[Tensor]) -> Tensor:
        """The projection of every scale's scores, all at the same voxels."""
        log_weights = sampled[0].new_tensor(self._log_weights(len(sampled)))
        if self.kind == "max":
            return torch.stack([x + w for x, w in zip(sampled, log_weights, strict=True)]).amax(0)
        if self.kind == "attention":
            attention = torch.stack([x[:, self.classes :] for x in sampled])  # (scale, batch, 1, x, y, z)
        else:
            attention = torch.zeros_like(torch.stack([x[:, :1] for x in sampled]))
        shares = torch.softmax(attention + log_weights.reshape(-1, 1, 1, 1, 1, 1), dim=0)
        total = shares[0] * sampled[0][:, : self.classes]
        for share, x in zip(shares[1:], sampled[1:], strict=True):
            total = total + share * x[:, : self.classes]
        return total

    def _log_weights(self, scales: int) -> list[float]:
        from_end = [min(i, scales - 1 - i) for i in range(scales)]
        return [math.log(min(1.0, (i + 1) / (self.taper + 1))) for i in from_end]
