"""Normalisation that neither tells scales apart nor, at inference, depends on how the volume was cropped."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .resample import ScaleMaps


class ScaleBatchNorm(nn.Module):
    """Batch normalisation with one mean and variance per channel, shared by all scales.

    In training the statistics are taken jointly over batch, scale and space, every scale weighing the same however many
    voxels it has; at inference the running statistics are used. Statistics of each scale on its own would undo the
    equivariance and differ from the running ones at every scale.
    """

    def __init__(self, channels: int, momentum: float = 0.1, eps: float = 1e-5) -> None:
        super().__init__()
        self.momentum = momentum
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))

    def forward(self, maps: ScaleMaps) -> ScaleMaps:
        running_mean, running_var = self.get_buffer("running_mean"), self.get_buffer("running_var")
        if self.training:
            mean, variance = _joint_statistics(maps)
            running_mean.lerp_(mean.detach().to(running_mean), self.momentum)
            running_var.lerp_(variance.detach().to(running_var), self.momentum)
        else:
            mean, variance = running_mean, running_var
        gain = self.weight * torch.rsqrt(variance + self.eps)
        offset = self.bias - mean * gain
        return [torch.addcmul(_per_channel(offset, x), x, _per_channel(gain, x)) for x in maps]


def _joint_statistics(maps: ScaleMaps) -> tuple[Tensor, Tensor]:
    over_all_but_channel = (0, 2, 3, 4)
    mean = torch.stack([x.mean(over_all_but_channel) for x in maps]).mean(0)
    spread = [(x - _per_channel(mean, x)).square().mean(over_all_but_channel) for x in maps]
    return mean, torch.stack(spread).mean(0)


def _per_channel(values: Tensor, like: Tensor) -> Tensor:
    return values.reshape(1, -1, 1, 1, 1).to(like.dtype)
