"""What all dynamic layers have in common: an attention with a temperature, and a watch over how kernels are used."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from .processes import mean_over_processes


class KernelMixture(nn.Module):
    """Base of the layers that mix K kernels by shares alpha_1 + ... + alpha_K = 1 = softmax(scores / temperature).

    `attention` gives the shares and has the buffer `temperature`, so that saved weights remember how sharp the mixture
    was that they were trained with.
    """

    attention: nn.Module

    def __init__(self) -> None:
        super().__init__()
        self._usage: Tensor | None = None

    def note_usage(self, shares: Tensor) -> None:
        """Remember the mean share of each kernel, (K,), in a training batch."""
        if self.training:
            self._usage = mean_over_processes(shares)

    def load_balance(self) -> Tensor:
        """How unevenly the last training batch used the kernels: 0 when evenly, K - 1 when it used only one.

        K sum_k p_k^2 - 1,   p_k = mean of alpha_k over the batch and all positions

        Added to the loss it keeps kernels alive that the attention would starve. A sample may still prefer a kernel.
        """
        if self._usage is None:
            raise RuntimeError("there is no load to balance before a forward pass in training mode")
        return len(self._usage) * self._usage.square().sum() - 1

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_usage": None}  # a node of a graph can't be copied


def dynamic_layers(network: nn.Module) -> list[KernelMixture]:
    """The dynamic layers of a network."""
    return [m for m in network.modules() if isinstance(m, KernelMixture)]


def set_temperature(network: nn.Module, temperature: float) -> None:
    """Set how soft all mixtures are. Training anneals it, say from 30 to 1: at first every kernel learns."""
    for layer in dynamic_layers(network):
        layer.attention.get_buffer("temperature").fill_(temperature)


def load_balance(network: nn.Module) -> Tensor:
    """The mean load-balance term of a network's dynamic layers, for the last training batch."""
    return torch.stack([layer.load_balance() for layer in dynamic_layers(network)]).mean()
