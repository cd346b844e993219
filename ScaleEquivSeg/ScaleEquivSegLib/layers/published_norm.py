"""The normalisation of Wimmer et al. 2023: statistics of the input at hand, at inference too."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class PublishedBatchNorm(nn.Module):
    """Batch normalisation without running statistics.

    F'(c, s, x) = w_c (F(c, s, x) - mean_c) / sqrt(var_c + eps) + b_c

    mean_c and the unbiased var_c are taken over batch, scale and space of the input, in training and at inference.
    The output at a voxel therefore depends on how the volume was cropped and on what else is in the batch.

    maps (batch, channel, scale, x, y, z) -> the same shape
    """

    def __init__(self, channels: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, maps: Tensor) -> Tensor:
        variance, mean = torch.var_mean(maps, dim=(0, 2, 3, 4, 5), correction=1, keepdim=True)
        gain = self.weight.reshape(mean.shape) * torch.rsqrt(variance + self.eps)
        return torch.addcmul(self.bias.reshape(mean.shape) - mean * gain, maps, gain)
