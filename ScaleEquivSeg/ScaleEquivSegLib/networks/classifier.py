"""A small image classifier whose family of convolutions makes it plain or exactly invariant under a group."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Literal

import torch.nn.functional as F
from torch import Tensor, nn

from ..layers.dynamic_group_conv import DynamicGroupConv
from ..layers.group_conv import GroupBatchNorm, GroupConv, GroupPool, LiftingConv, halve
from ..layers.groups import Group, finite_group

FAMILIES = ("plain", "static", "dynamic")

ConvFactory = Callable[[int, int], nn.Module]
"""Makes a convolution (in_channels, out_channels) on feature maps of the group."""


class Classifier(nn.Module):
    """Lift the image to the group, convolve stage by stage on coarser grids, pool over the group and space, classify.

    image (batch, in_channels, *space) of any size -> class scores (batch, classes)

    Every step commutes with the group and the last one forgets the pose: turning the image changes no score, at any
    size, square or not.
    """

    def __init__(
        self,
        group: Group,
        conv: ConvFactory,
        in_channels: int,
        classes: int,
        channels: Sequence[int] = (8, 16, 32),
        pooling: Literal["mean", "max"] = "mean",
    ) -> None:
        super().__init__()
        self.lifting = Block(LiftingConv(group, in_channels, channels[0]), channels[0])
        before = [channels[0], *channels[:-1]]
        self.stages = nn.ModuleList(
            nn.Sequential(Block(conv(i, o), o), Block(conv(o, o), o)) for i, o in zip(before, channels, strict=True)
        )
        self.pool = GroupPool(pooling)
        self.head = nn.Linear(channels[-1], classes)

    def forward(self, image: Tensor) -> Tensor:
        maps = self.lifting(image)
        for index, stage in enumerate(self.stages):
            maps = stage(halve(maps) if index else maps)
        return self.head(self.pool(maps).flatten(2).mean(2))


class Block(nn.Module):
    """Convolution, normalisation over batch, group and space, SiLU."""

    def __init__(self, conv: nn.Module, channels: int) -> None:
        super().__init__()
        self.conv = conv
        self.norm = GroupBatchNorm(channels)

    def forward(self, maps: Tensor) -> Tensor:
        return F.silu(self.norm(self.conv(maps)))


def build_classifier(family: str, arguments: Mapping[str, Any]) -> Classifier:
    """Build a classifier by the family of its convolutions and its arguments.

    `plain`: ordinary convolutions, in the dimension of the group named. `static`: group convolutions. `dynamic`:
    `kernels` parallel group convolutions, mixed by an `attention` (invariant, pose or local).

    Between the same channels a static convolution has |G| times the weights of a plain one, a dynamic one K |G| times.
    Families compare at equal parameters with channels in the ratio 1 : 1/sqrt(|G|) : 1/sqrt(K |G|).
    """
    arguments = dict(arguments)
    named = finite_group(arguments.pop("group", "p4m"))
    mixture = {key: arguments.pop(key) for key in ("kernels", "attention") if family == "dynamic" and key in arguments}
    alone = Group.generated_by((), named.dimension)
    families: dict[str, tuple[Group, ConvFactory]] = {
        "plain": (alone, partial(GroupConv, alone)),
        "static": (named, partial(GroupConv, named)),
        "dynamic": (named, partial(DynamicGroupConv, named, **mixture)),
    }
    if family not in families:
        raise ValueError(f"unknown family {family!r}; known: {', '.join(families)}")
    return Classifier(*families[family], **arguments)
