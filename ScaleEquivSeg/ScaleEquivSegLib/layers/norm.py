"""Normalisation that neither tells scales apart nor, at inference, depends on how the volume was cropped."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .maps import ScaleMaps
from .processes import mean_over_processes


class ScaleBatchNorm(nn.Module):
    """Batch normalisation with one mean and variance per channel, shared by all scales.

    In training the statistics are taken jointly over batch, scale and space, every scale weighing the same however many
    voxels it has, and over all processes that share a batch; at inference the running statistics are used. Statistics
    of each scale on its own would make every scale look equally strong, and differ from the running ones at every
    scale.

    F'_c(s, x) = w_c (F_c(s, x) - mean_c) / sqrt(variance_c + eps) + b_c

    maps: per scale (batch, channel, x, y, z) -> the same shape
    """

    running_mean: Tensor
    running_var: Tensor

    def __init__(self, channels: int, momentum: float = 0.1, eps: float = 1e-5) -> None:
        super().__init__()
        self.momentum = momentum
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))

    def forward(self, maps: ScaleMaps) -> ScaleMaps:
        if self.training:
            mean, variance = _joint_statistics(maps.tensors)
            for running, value in ((self.running_mean, mean), (self.running_var, variance)):
                running.lerp_(value.detach().to(running), self.momentum)
            gain, offset = self._gain_and_offset(mean, variance)
        else:
            gain, offset = self.gain_and_offset()
        return maps.each(lambda x: torch.addcmul(_per_channel(offset, x), x, _per_channel(gain, x)))

    def gain_and_offset(self) -> tuple[Tensor, Tensor]:
        """What the normalisation amounts to at inference, per channel: gain * F + offset."""
        return self._gain_and_offset(self.running_mean, self.running_var)

    def _gain_and_offset(self, mean: Tensor, variance: Tensor) -> tuple[Tensor, Tensor]:
        gain = self.weight * torch.rsqrt(variance + self.eps)
        return gain, self.bias - mean * gain


def _joint_statistics(tensors: list[Tensor]) -> tuple[Tensor, Tensor]:
    over_all_but_channel = (0, 2, 3, 4)
    # In half precision the square of a value above 255 would be infinite, and the statistics for good.
    wide = [x.to(torch.promote_types(x.dtype, torch.float32)) for x in tensors]
    mean = mean_over_processes(torch.stack([x.mean(over_all_but_channel) for x in wide]).mean(0))
    spread = [(x - _per_channel(mean, x)).square().mean(over_all_but_channel) for x in wide]
    return mean, mean_over_processes(torch.stack(spread).mean(0))


def _per_channel(values: Tensor, like: Tensor) -> Tensor:
    return values.reshape(1, -1, 1, 1, 1).to(like.dtype)
