"""Scale convolutions whose kernel the input chooses, by an attention that follows the input through the scales."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .basis import Jet
from .jet_filter import Padding, Path
from .maps import ScaleMaps
from .mixture import KernelMixture
from .resample import spatial_means
from .scale_conv import Pointwise, ScaleConv

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
    depends on the whole volume, so only `local` attention can be computed slab by slab.

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
        scores = self.last(self.first(self._descriptor(maps)).each(F.silu))
        return scores.each(lambda x: torch.softmax(x / self.get_buffer("temperature").to(x.dtype), dim=1))

    def _descriptor(self, maps: ScaleMaps) -> ScaleMaps:
        if self.kind == "local":
            return maps
        means = spatial_means(maps, self.margin)
        if self.kind == "invariant":
            means = [torch.stack(means).mean(0)] * len(means)
        return maps.with_tensors(means)


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
        jet: Jet | None = None,
        kernels: int = 4,
        attention: ScaleAttentionKind = "local",
        padding: Padding = "replicate",
        path: Path | Literal["auto"] = "auto",
    ) -> None:
        super().__init__()
        self.kernels = kernels
        self.bank = ScaleConv(in_channels, kernels * out_channels, jet, padding=padding, path=path)
        self.attention = ScaleAttention(in_channels, kernels, attention, self.bank.reach)

    @property
    def reach(self) -> int:
        """How many voxels of a scale's grid, along each axis, a response depends on."""
        return self.bank.reach

    @property
    def local(self) -> bool:
        """Whether a response depends only on what is within reach: a mean over space does not."""
        return self.attention.kind == "local" and self.bank.local

    @property
    def width(self) -> int:
        """How many channels it computes."""
        return self.bank.width

    def forward(self, maps: ScaleMaps) -> ScaleMaps:
        alphas = self.attention(maps.without_ends(self.reach)).tensors
        self.note_usage(torch.stack([alpha.mean((0, 2, 3, 4)) for alpha in alphas]).mean(0))
        if self.attention.kind == "local":
            responses = self.bank(maps)
            mixed = [_mixed(x, alpha) for x, alpha in zip(responses.tensors, alphas, strict=True)]
            return responses.with_tensors(mixed)
        if maps.open_axis is not None:
            raise ValueError(f"{self.attention.kind} attention needs the whole map, not a slab of it")
        pairs = enumerate(zip(maps.tensors, alphas, strict=True))
        return maps.with_tensors([self._respond(x, alpha, scale) for scale, (x, alpha) in pairs])

    def absorb(self, gain: Tensor, offset: Tensor) -> None:
        """Become the layer whose output is gain * output + offset, per channel; the shares add up to one."""
        self.bank.absorb(gain.repeat(self.kernels), offset.repeat(self.kernels))

    def _respond(self, maps: Tensor, alpha: Tensor, scale: int) -> Tensor:
        """Mix the kernels of each sample, then convolve: samples become groups of channels of a single image."""
        batch = maps.shape[0]
        weight = self.bank.weight.unflatten(0, (self.kernels, -1))  # (k, out, in, function)
        mixed = torch.einsum("bk,koif->boif", alpha.flatten(1), weight).flatten(0, 1)
        bias = self.bank.bias
        if bias is not None:
            bias = (alpha.flatten(1) @ bias.unflatten(0, (self.kernels, -1))).flatten()
        kernel = self.bank.kernel_of(mixed, scale)
        response = self.bank.respond(maps.flatten(0, 1).unsqueeze(0), kernel, bias, scale, groups=batch)
        return response.unflatten(1, (batch, -1)).squeeze(0)


def _mixed(responses: Tensor, alpha: Tensor) -> Tensor:
    responses = responses.unflatten(1, (alpha.shape[1], -1))  # (batch, k, out, x, y, z)
    return (alpha.unsqueeze(2).to(responses.dtype) * responses).sum(1)
