"""The U-Net of Wimmer et al. 2023 (arXiv:2304.05864) as published, faults included, and its checkpoints."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..layers.published_basis import PublishedBasis
from ..layers.published_conv import PublishedLiftingConv, PublishedPointwise, PublishedScaleConv
from ..layers.published_norm import PublishedBatchNorm
from .network import SegmentationNetwork

STRIDE = 2


class PublishedUNet(SegmentationNetwork):
    """Residual encoder and decoder with concatenated skip connections; all scales on the image's one grid.

    image (batch, in_channels, x, y, z) of any size -> class scores (batch, classes, x, y, z)

    Strided convolutions take no padding and their transposes undo exactly that, which fits sizes 29, 37, 45, ... of
    the published configuration. Such an image is scored as published. The ends of any other are repeated up to the
    next size that fits, and the scores are cut back.

    Kept as published: nothing is smoothed before a stride, the last transposed convolution is normalised over the
    image and its channels, one per class, are dropped in training, and without interaction the scales meet only in the
    normalisation and the projection. The network as a whole does not commute with rescaling.

    The modules are nested and named so that the state's names are those of published checkpoints.
    """

    def __init__(
        self,
        in_channels: int,
        classes: int,
        channels: Sequence[int],
        blocks: PublishedBlocks,
        projection: str,
    ) -> None:
        super().__init__()
        if len(channels) < 2:
            raise ValueError(f"channels {list(channels)} must be two or more: one for each stride and the bottom's")
        self.levels = len(channels) - 1
        self.kernel_size = blocks.basis.kernel_size
        down = ResidualUnit(
            [blocks.unit(blocks.lifting(in_channels, channels[0])), blocks.unit(blocks.conv(channels[0], channels[0]))],
            blocks.bare(blocks.lifting(in_channels, channels[0])),
        )
        beneath, from_beneath = _beneath(blocks, channels)
        up = _way_up(blocks, channels[0] + from_beneath, classes, last=True)
        self.model = nn.Sequential(down, Skip(beneath), nn.Sequential(up, PublishedProjection(projection)))

    def forward(self, image: Tensor) -> Tensor:
        shape = image.shape[2:]
        missing = [self.fitting_size(size) - size for size in shape]
        before = [m // 2 for m in missing]
        padding = [p for m, b in zip(missing[::-1], before[::-1], strict=True) for p in (b, m - b)]
        scores = self.model(F.pad(image, padding, mode="replicate"))
        x, y, z = (slice(b, b + size) for b, size in zip(before, shape, strict=True))
        return scores[:, :, x, y, z]

    def milestones(self) -> list[nn.Module]:
        return [m for m in self.modules() if isinstance(m, ResidualUnit)]

    def fitting_size(self, size: int) -> int:
        """The smallest size, not below `size`, whose strided convolutions leave no voxel out."""
        smallest = 1  # a single voxel at the bottom
        for _ in range(self.levels):
            smallest = STRIDE * (smallest - 1) + self.kernel_size
        step = STRIDE**self.levels
        return smallest + max(0, -(-(size - smallest) // step)) * step


@dataclass(frozen=True)
class PublishedBlocks:
    """Makes the blocks of one network, which have basis, interaction of scales and dropout in common.

    A convolution with a stride takes no padding; one without keeps the size.
    """

    basis: PublishedBasis
    scale_size: int
    dropout: float

    def lifting(self, in_channels: int, out_channels: int) -> PublishedLiftingConv:
        return PublishedLiftingConv(in_channels, out_channels, self.basis, stride=STRIDE)

    def conv(self, in_channels: int, out_channels: int) -> PublishedScaleConv:
        reach = self.basis.kernel_size // 2
        return PublishedScaleConv(in_channels, out_channels, self.basis, self.scale_size, padding=reach)

    def strided(self, in_channels: int, out_channels: int, transposed: bool = False) -> PublishedScaleConv:
        return PublishedScaleConv(
            in_channels, out_channels, self.basis, self.scale_size, stride=STRIDE, transposed=transposed
        )

    def unit(self, conv: PublishedLiftingConv | PublishedScaleConv) -> nn.Sequential:
        """Convolution, normalisation, dropout of whole channels, SiLU.

        At inference dropout does nothing, so that its place before the SiLU is not confirmed by published outputs.
        """
        unit = self.bare(conv)
        unit.add_module("batch_norm", PublishedBatchNorm(len(conv.bias)))
        unit.add_module("dropout", ChannelDropout(self.dropout))
        unit.add_module("activation", nn.SiLU())
        return unit

    def bare(self, conv: PublishedLiftingConv | PublishedScaleConv) -> nn.Sequential:
        """A convolution alone, under its published name."""
        name = "conv_z_h" if isinstance(conv, PublishedLiftingConv) else "conv_h_h"
        return nn.Sequential(OrderedDict([(name, conv)]))


def _beneath(blocks: PublishedBlocks, channels: Sequence[int]) -> tuple[nn.Module, int]:
    """All that lies below a level of channels[0], and how many channels it gives back."""
    here, below = channels[0], channels[1]
    if len(channels) == 2:
        units = [blocks.unit(blocks.conv(here, below)), blocks.unit(blocks.conv(below, below))]
        return ResidualUnit(units, PublishedPointwise(here, below)), below
    down = ResidualUnit(
        [blocks.unit(blocks.strided(here, below)), blocks.unit(blocks.conv(below, below))],
        blocks.bare(blocks.strided(here, below)),
    )
    beneath, from_beneath = _beneath(blocks, channels[1:])
    return nn.Sequential(down, Skip(beneath), _way_up(blocks, below + from_beneath, here)), here


def _way_up(blocks: PublishedBlocks, in_channels: int, out_channels: int, last: bool = False) -> nn.Sequential:
    """Transposed convolution and a residual unit, which at the end of the network is a bare convolution."""
    conv = blocks.conv(out_channels, out_channels)
    refine = blocks.bare(conv) if last else blocks.unit(conv)
    raised = blocks.unit(blocks.strided(in_channels, out_channels, transposed=True))
    return nn.Sequential(raised, ResidualUnit([refine], nn.Identity()))


class ResidualUnit(nn.Module):
    """units(F) + residual(F): nothing follows the sum."""

    def __init__(self, units: Sequence[nn.Module], residual: nn.Module) -> None:
        super().__init__()
        self.conv = nn.Sequential(OrderedDict((f"unit{i}", unit) for i, unit in enumerate(units)))
        self.residual = residual

    def forward(self, maps: Tensor) -> Tensor:
        return self.conv(maps) + self.residual(maps)


class Skip(nn.Module):
    """The channels of F, then those of submodule(F)."""

    def __init__(self, submodule: nn.Module) -> None:
        super().__init__()
        self.submodule = submodule

    def forward(self, maps: Tensor) -> Tensor:
        return torch.cat([maps, self.submodule(maps)], dim=1)


class ChannelDropout(nn.Module):
    """In training, zero a channel at all scales and voxels with probability p and raise the others by 1 / (1 - p)."""

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    def forward(self, maps: Tensor) -> Tensor:
        return F.dropout3d(maps.flatten(2, 3), self.p, self.training).unflatten(2, maps.shape[2:4])


class PublishedProjection(nn.Module):
    """Mean or maximum over the scale axis: (batch, channel, scale, x, y, z) -> (batch, channel, x, y, z)."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        if kind not in ("mean", "max"):
            raise ValueError(f"unknown projection {kind!r}; known: mean, max")
        self.kind = kind

    def forward(self, maps: Tensor) -> Tensor:
        return maps.mean(2) if self.kind == "mean" else maps.amax(2)


def published_se_unet(
    in_channels: int,
    classes: int,
    channels: Sequence[int] = (4, 8, 16, 32),
    projection: str = "mean",
    dropout: float = 0.07,
    scale_size: int = 1,
    basis: Mapping[str, Any] | None = None,
) -> PublishedUNet:
    """Build the published network; the arguments left out are the published ones.

    With four input channels and one class it holds 75,555 numbers beside the fixed basis: every weight and bias. Of
    these 75,523 are trainable; the 32 of the pointwise bias are held and never used.
    """
    blocks = PublishedBlocks(PublishedBasis(**(basis or {})), scale_size, dropout)
    return PublishedUNet(in_channels, classes, channels, blocks, projection)


def load_published_checkpoint(
    state_dict: Mapping[str, Tensor], projection: str = "mean"
) -> tuple[PublishedUNet, list[str]]:
    """Build the network of a published checkpoint and load it, for inference; also says which parts of it do nothing.

    Input channels and classes follow from the state; the projection leaves no trace in it. Every number is loaded
    under its own name, and the network computes what the published one does with it:

    * the bias of a pointwise convolution is held and never added;
    * the bias of a convolution before a normalisation is added, and goes again with the mean;
    * the basis is the checkpoint's own, also when it is not that of the published scales.
    """
    try:
        in_channels = state_dict["model.0.conv.unit0.conv_z_h.weight"].shape[1]
        classes = len(state_dict["model.2.0.0.conv_h_h.weight"])
        network = published_se_unet(in_channels, classes, projection=projection)
        network.load_state_dict(dict(state_dict))
    except KeyError as error:
        raise ValueError(f"not a checkpoint of the published network: {error} is missing") from error
    except RuntimeError as error:
        raise ValueError(
            f"not a checkpoint of the published configuration: {error}. For another one build the network with its "
            "own arguments and load the state into it."
        ) from error
    return network.eval(), _remarks(network)


def _remarks(network: PublishedUNet) -> list[str]:
    published = PublishedBasis().samples()
    never_added, cancelled = idle_biases(network)
    foreign = [n for n, basis in network.named_buffers() if not torch.allclose(basis, published, rtol=1e-4, atol=1e-5)]
    remarks = [
        f"held and never added: {_listed(network, never_added)}",
        f"added and taken away by the normalisation that follows: {_listed(network, cancelled)}",
    ]
    if foreign:
        remarks.append(f"not the basis of the published scales, used as it is: {', '.join(foreign)}")
    return remarks


def idle_biases(network: nn.Module) -> tuple[list[str], list[str]]:
    """The names of biases that are never added, and of those that a normalisation takes away again."""
    never_added, cancelled = [], []
    for name, module in network.named_modules():
        children = [child for child, _ in module.named_children()]
        if isinstance(module, PublishedPointwise):
            never_added.append(f"{name}.bias")
        elif "batch_norm" in children:
            cancelled.append(f"{name}.{children[0]}.bias")
    return never_added, cancelled


def _listed(network: nn.Module, names: Sequence[str]) -> str:
    numbers = sum(network.get_parameter(name).numel() for name in names)
    return f"{numbers} numbers in {', '.join(names)}"
