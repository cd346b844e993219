"""Scale convolutions whose kernel the input chooses, by an attention that follows the input through the scales."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .mixture import KernelMixture
from .resample import ScaleMaps
from .scale_conv import Pointwise, ScaleConv, convolve

ScaleAttentionKind = Literal["invariant", "scale", "local"]

REDUCTION = 4
"""How many times narrower than the input the attention's hidden layer is."""


class ScaleAttention(nn.Module):
    """The share of each of K kernels in a mixture, from the feature map they are to filter.

    alpha_k(s, x) = softmax_k(score_k(D)(s, x) / temperature),   score = linear, SiLU, linear, shared by all scales

    kind        D, the descriptor               alpha depends on
    invariant   mean of F over scale and space  the sample
    scale       mean of F over space            the sample and s
    local       F                               the sample, s and x

    Rescaling F shifts D along the scale axis and magnifies it, and alpha with it. The descriptor is a mean: a sum would
    grow with the cube of the scale. Voxels whose filter reaches over the border are left out of it. A mean over space
    depends on the whole volume, so only `local` attention can be computed tile by tile.

    maps: per scale (batch, channel, x, y, z) -> (batch, K, x, y, z), with 1 for axes alpha does not depend on
    """

    def __init__(self, channels: int, kernels: int, kind: ScaleAttentionKind, margin: int) -> None:
        super().__init__()
        if kind not in ("invariant", "scale", "local"):
            raise ValueError(f"unknown attention {kind!r}; known: invariant, scale, local")
        self.kind = kind
        self.margin = margin
        hidden = max(channels // REDUCTION, 4)
        self.first = Pointwise(channels, hidden)
        self.last = Pointwise(hidden, kernels)
        for parameter in self.last.parameters():
            nn.init.zeros_(parameter)  # alpha starts uniform
        self.register_buffer("temperature", torch.tensor(1.0))

    def forward(self, maps: ScaleMaps) -> ScaleMaps:
        scores = self.last([F.silu(x) for x in self.first(self._descriptor(maps))])
        return [torch.softmax(x / self.get_buffer("temperature"), dim=1) for x in scores]

    def _descriptor(self, maps: ScaleMaps) -> ScaleMaps:
        if self.kind == "local":
            return maps
        means = [_inner(x, self.margin).mean((2, 3, 4), keepdim=True) for x in maps]
        if self.kind == "invariant":
            means = [torch.stack(means).mean(0)] * len(means)
        return means


def _inner(maps: Tensor, margin: int) -> Tensor:
    """What is left without a margin; along an axis too short for that, its middle."""
    for axis in (2, 3, 4):
        cut = min(margin, (maps.shape[axis] - 1) // 2)
        maps = maps.narrow(axis, cut, maps.shape[axis] - 2 * cut)
    return maps


class DynamicScaleConv(KernelMixture):
    """K parallel scale convolutions, mixed by an equivariant attention (after Li, Cao and Cao, BIBM 2020).

    out_o(s, x) = sum_k alpha_k(s, x) [F * psi_k]_o(s, x)

    Scale convolutions commute with rescaling, and so does a product of maps rescaled together. Where alpha does
    not depend on x, the kernels are mixed first and each sample is convolved once; `local` attention needs K
    convolutions and K times the memory of the output.

    maps: per scale (batch, in_channels, x, y, z) -> (batch, out_channels, x, y, z). With K = 1 this is `ScaleConv`.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        order: int = 2,
        sigma: float = 1.0,
        kernels: int = 4,
        attention: ScaleAttentionKind = "local",
    ) -> None:
        super().__init__()
        self.kernels = kernels
        self.bank = ScaleConv(in_channels, kernels * out_channels, order, sigma)
        self.radius = self.bank.radius
        self.attention = ScaleAttention(in_channels, kernels, attention, self.radius)

    def forward(self, maps: ScaleMaps) -> ScaleMaps:
        alphas = self.attention(maps)
        self.note_usage(torch.stack([alpha.mean((0, 2, 3, 4)) for alpha in alphas]).mean(0))
        if self.attention.kind == "local":
            return [_mix_responses(x, alpha) for x, alpha in zip(self.bank(maps), alphas, strict=True)]
        kernel = self.bank.kernel().unflatten(0, (self.kernels, -1))  # (k, out, in, x, y, z)
        return [_mix_kernels(x, kernel, alpha, self.radius) for x, alpha in zip(maps, alphas, strict=True)]


def _mix_responses(responses: Tensor, alpha: Tensor) -> Tensor:
    responses = responses.unflatten(1, (alpha.shape[1], -1))  # (batch, k, out, x, y, z)
    return (alpha.unsqueeze(2).to(responses.dtype) * responses).sum(1)


def _mix_kernels(maps: Tensor, kernel: Tensor, alpha: Tensor, radius: int) -> Tensor:
    """Each sample has a kernel of its own: samples become groups of channels of a single image."""
    batch = maps.shape[0]
    mixed = torch.einsum("bk,koixyz->boixyz", alpha.flatten(1).to(kernel.dtype), kernel).flatten(0, 1)
    response = convolve(maps.flatten(0, 1).unsqueeze(0), mixed, radius, groups=batch)
    return response.unflatten(1, (batch, -1)).squeeze(0)
