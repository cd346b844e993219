"""Group convolutions whose kernel the input chooses, by an attention that turns with the input."""

from __future__ import annotations

from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .group_conv import GroupConv, GroupPointwise, KernelBank, convolve
from .groups import Group

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
        # A buffer, so that saved weights remember how sharp the mixture was that they were trained with.
        self.register_buffer("temperature", torch.tensor(1.0))

    def forward(self, maps: Tensor) -> Tensor:
        descriptor = maps.mean(self.averaged, keepdim=True) if self.averaged else maps
        scores = self.last(F.silu(self.first(descriptor)))
        return torch.softmax(scores / self.get_buffer("temperature"), dim=1)


def _linear(group: Group, in_channels: int, out_channels: int, kind: AttentionKind, stride: int = 1) -> nn.Module:
    if kind == "invariant":
        return GroupPointwise(in_channels, out_channels)
    return GroupConv(group, in_channels, out_channels, 1, stride, bias=True)


class DynamicGroupConv(nn.Module):
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
        self._usage: Tensor | None = None

    def forward(self, maps: Tensor) -> Tensor:
        alpha = self.attention(maps)
        if self.training:
            self._usage = alpha.transpose(0, 1).flatten(1).mean(1)
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

    def load_balance(self) -> Tensor:
        """How unevenly the last training batch used the kernels: 0 when evenly, K - 1 when it used only one.

        K sum_k p_k^2 - 1,   p_k = mean of alpha_k over batch, group and space

        Added to the loss it keeps kernels alive that the attention would starve. A sample may still prefer a kernel.
        """
        if self._usage is None:
            raise RuntimeError("there is no load to balance before a forward pass in training mode")
        return len(self._usage) * self._usage.square().sum() - 1

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_usage": None}  # a node of a graph can't be copied


def dynamic_layers(network: nn.Module) -> list[DynamicGroupConv]:
    """The dynamic convolutions of a network."""
    return [m for m in network.modules() if isinstance(m, DynamicGroupConv)]


def set_temperature(network: nn.Module, temperature: float) -> None:
    """Set how soft all mixtures are. Training anneals it, say from 30 to 1: at first every kernel learns."""
    for layer in dynamic_layers(network):
        layer.attention.get_buffer("temperature").fill_(temperature)


def load_balance(network: nn.Module) -> Tensor:
    """The mean load-balance term of a network's dynamic convolutions, for the last training batch."""
    return torch.stack([layer.load_balance() for layer in dynamic_layers(network)]).mean()
