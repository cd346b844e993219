"""Group convolutions whose kernel the input chooses, by an attention that turns with the input."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .group_conv import GroupConv, GroupPointwise, KernelBank, convolve
from .groups import Group
from .mixture import KernelMixture

AttentionKind = Literal["invariant", "pose", "local"]

REDUCTION = 4
"""How many times narrower than the input the attention's hidden layer is."""


class KernelAttention(nn.Module):
    """The share of each of K kernels in a mixture, from the feature map they are to filter.

    alpha_k(h, x) = softmax_k(score_k(D)(h, x) / temperature),   score = linear, SiLU, linear

    kind        D, the descriptor              the linear maps                        alpha depends on
    invariant   mean of F over h and x         on channels                            the sample
    pose        mean of F over x               group correlations                     the sample and h
    local       F                              group correlations at each position    the sample, h and x

    A group correlation is sum_c sum_h' D_c(h') w_c(h^-1 h'), the group convolution of kernel size 1. Turning F by g
    turns D, hence alpha[L_g F](h, x) = alpha[F](g^-1 h, g^-1 x). The last map starts at zero: alpha starts uniform. The
    stride is that of the convolutions to be mixed: alpha is wanted where they are evaluated.

    maps (batch, channel, group, *space) -> (batch, K, group, *space), with 1 for the axes alpha does not depend on
    """

    def __init__(self, group: Group, channels: int, kernels: int, kind: AttentionKind, stride: int = 1) -> None:
        super().__init__()
        space = tuple(range(3, 3 + group.dimension))
        averaged: dict[str, tuple[int, ...]] = {"invariant": (2, *space), "pose": space, "local": ()}
        if kind not in averaged:
            raise ValueError(f"unknown attention {kind!r}; known: {', '.join(averaged)}")
        self.averaged = averaged[kind]
        hidden = max(channels // REDUCTION, 4)
        self.first = _linear(group, channels, hidden, kind, stride)
        self.last = _linear(group, hidden, kernels, kind)
        for parameter in self.last.parameters():
            nn.init.zeros_(parameter)
        self.register_buffer("temperature", torch.tensor(1.0))

    def forward(self, maps: Tensor) -> Tensor:
        descriptor = maps.mean(self.averaged, keepdim=True) if self.averaged else maps
        scores = self.last(F.silu(self.first(descriptor)))
        return torch.softmax(scores / self.get_buffer("temperature"), dim=1)


def _linear(group: Group, in_channels: int, out_channels: int, kind: AttentionKind, stride: int = 1) -> nn.Module:
    if kind == "invariant":
        return GroupPointwise(in_channels, out_channels)
    return GroupConv(group, in_channels, out_channels, 1, stride, bias=True)


class DynamicGroupConv(KernelMixture):
    """K parallel group convolutions, mixed by an equivariant attention (after Li, Cao and Cao, BIBM 2020).

    out(o, h, x) = sum_k alpha_k(h, x) [F * psi_k](o, h, x)

    Every group convolution commutes with the group, and so does a product of fields that turn together. Where alpha
    does not depend on x, sum_k alpha_k(h) L_h psi_k is one kernel per sample: the kernels are mixed first and the input
    is convolved once. `local` attention needs K convolutions and K times the memory of the output.

    maps (batch, in_channels, group, *space) -> (batch, out_channels, group, *space)

    Stride 2 as in `GroupConv`. With K = 1 this is `GroupConv`.
    """

    def __init__(
        self,
        group: Group,
        in_channels: int,
        out_channels: int,
        kernel_size: int = 3,
        stride: int = 1,
        kernels: int = 4,
        attention: AttentionKind = "pose",
    ) -> None:
        super().__init__()
        self.bank = KernelBank(group, in_channels, out_channels, kernel_size, on_maps=True, kernels=kernels)
        self.attention = KernelAttention(group, in_channels, kernels, attention, stride)
        self.mixes_responses = attention == "local"
        self.stride = stride

    def forward(self, maps: Tensor) -> Tensor:
        alpha = self.attention(maps)
        self.note_usage(alpha.transpose(0, 1).flatten(1).mean(1))
        if self.mixes_responses:
            return self._mix_responses(maps, alpha)
        return self._mix_kernels(maps, alpha)

    def _mix_responses(self, maps: Tensor, alpha: Tensor) -> Tensor:
        bank = self.bank()
        responses = convolve(maps.flatten(1, 2), bank.flatten(0, 2), stride=self.stride)
        responses = responses.unflatten(1, bank.shape[:3])  # (batch, k, o, h, *space)
        return (alpha.unsqueeze(2).to(responses.dtype) * responses).sum(1)

    def _mix_kernels(self, maps: Tensor, alpha: Tensor) -> Tensor:
        bank = self.bank()
        batch, (kernels, out_channels, poses) = maps.shape[0], bank.shape[:3]
        alpha = alpha.flatten(2).expand(batch, kernels, poses)
        mixed = torch.einsum("bkh,kohw->bohw", alpha.to(bank.dtype), bank.flatten(3))
        mixed = mixed.reshape(batch * out_channels * poses, *bank.shape[3:])
        # Each sample has a kernel of its own: samples become groups of channels of a single image.
        response = convolve(maps.flatten(0, 2).unsqueeze(0), mixed, stride=self.stride, groups=batch)
        return response.reshape(batch, out_channels, poses, *response.shape[2:])
