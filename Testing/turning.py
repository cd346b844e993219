"""How far a layer is from commuting with a group of turns of the grid."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from ScaleEquivSegLib.layers.dynamic_group_conv import DynamicGroupConv
from ScaleEquivSegLib.layers.groups import Group
from ScaleEquivSegLib.layers.mixture import dynamic_layers

EXACT = 1e-12
CLEARLY_BROKEN = 1e-2

GROUPS = ["p4", "p4m", "O", "O_h"]
ATTENTIONS = ["invariant", "pose", "local"]

SIDES = (5, 3, 7)
"""All different, so that a turn that confuses two axes cannot pass, and odd, so that a stride of 2 is exact."""


def an_image(group: Group, channels: int = 2, batch: int = 2) -> Tensor:
    return torch.randn(batch, channels, *SIDES[: group.dimension])


def some_maps(group: Group, channels: int = 2, batch: int = 2) -> Tensor:
    return torch.randn(batch, channels, group.order, *SIDES[: group.dimension])


def dynamic(group: Group, attention: str, stride: int = 1, kernels: int = 3) -> DynamicGroupConv:
    """A dynamic convolution whose attention already prefers some kernels."""
    return opinionated(DynamicGroupConv(group, 2, 2, stride=stride, kernels=kernels, attention=attention))


def opinionated(network: nn.Module) -> nn.Module:
    """Give the attentions, which start indifferent, something to say."""
    for layer in dynamic_layers(network):
        for parameter in layer.attention.last.parameters():
            nn.init.normal_(parameter)
    return network


def difference(a: Tensor, b: Tensor) -> float:
    """||a - b|| / ||b||."""
    return float((a - b).norm() / b.norm())


Action = Callable[[int, Tensor], Tensor]


def worst_error(layer: Callable[[Tensor], Tensor], x: Tensor, group: Group, before: Action, after: Action) -> float:
    """How far the layer is from commuting with the element it commutes with worst."""
    with torch.no_grad():
        y = layer(x)
        return max(difference(layer(before(g, x)), after(g, y)) for g in range(group.order))


def error_between_maps(layer: Callable[[Tensor], Tensor], group: Group, x: Tensor | None = None) -> float:
    return worst_error(layer, some_maps(group) if x is None else x, group, group.act_on_maps, group.act_on_maps)


class Unconstrained(nn.Module):
    """Any linear map over channel and group."""

    def __init__(self, group: Group, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.order, self.out_channels = group.order, out_channels
        self.mix = nn.Linear(in_channels * group.order, out_channels * group.order)

    def forward(self, maps: Tensor) -> Tensor:
        mixed = self.mix(maps.flatten(1, 2).movedim(1, -1)).movedim(-1, 1)
        return mixed.unflatten(1, (self.out_channels, self.order))


def gradients_are_right(layer: nn.Module, x: Tensor) -> bool:
    names, weights = zip(*layer.named_parameters(), strict=True)
    weights = tuple(w.detach().clone().requires_grad_() for w in weights)

    def outputs(x: Tensor, *weights: Tensor) -> Tensor:
        return torch.func.functional_call(layer, dict(zip(names, weights, strict=True)), (x,))

    return torch.autograd.gradcheck(outputs, (x.requires_grad_(), *weights))
