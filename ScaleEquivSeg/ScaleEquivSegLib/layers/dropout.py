"""Dropout that neither tells scales apart nor leaves a channel half silent."""

from __future__ import annotations

import torch
from torch import nn

from .maps import ScaleMaps


class ScaleChannelDropout(nn.Module):
    """In training, silence whole channels of a sample, the same ones at every scale, and make up for it in the others.

    F'_c(s, x) = F_c(s, x) m_c / (1 - p),   m_c = 0 with probability p, else 1

    maps: per scale (batch, channel, x, y, z) -> the same shape
    """

    def __init__(self, p: float) -> None:
        super().__init__()
        if not 0 <= p < 1:
            raise ValueError(f"a share of {p:g} channels cannot be dropped; it must be at least 0 and below 1")
        self.p = p

    def forward(self, maps: ScaleMaps) -> ScaleMaps:
        if not self.training or self.p == 0:
            return maps
        first = maps.tensors[0]
        kept = torch.rand(first.shape[0], first.shape[1], 1, 1, 1, device=first.device) >= self.p
        return maps.each(lambda x: x * (kept.to(x.dtype) / (1 - self.p)))
