"""How far a layer or a network follows its input through a change of scale: the measures."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache, partial
from typing import Any

import torch
from torch import Tensor, nn

from ScaleEquivSegLib.layers.dynamic import DynamicScaleConv
from ScaleEquivSegLib.layers.maps import ScaleAxis, ScaleMaps
from ScaleEquivSegLib.layers.published_basis import PublishedBasis
from ScaleEquivSegLib.layers.published_conv import PublishedLiftingConv
from ScaleEquivSegLib.layers.resample import BlurredStride, OctaveUp, apply_along_axes, lift
from ScaleEquivSegLib.layers.scale_conv import PlainConv, ScaleConv
from ScaleEquivSegLib.networks import UNet
from ScaleEquivSegLib.networks.published import PublishedProjection
from ScaleEquivSegLib.networks.unet import ConvBlock

from .fields import correlation, field, relative_difference

SCALES = (0.9, 0.8, 0.7, 0.5, 1.4)
SIZE = 93  # the published network takes 29, 37, ..., 93, ... voxels without padding
SINC_LOBES = 8

Figures = dict[str, float]
Source = Callable[[float], Tensor]
"""An image (1, channel, x, y, z) at any scale: source(s) shows at voxel x what source(1) shows at x / s."""


def random_source(colour: str, seed: int, channels: int = 1, size: int | None = None) -> Source:
    """A random field, exact at every scale."""
    return partial(_fields, colour, seed, channels, size or SIZE)


@lru_cache(maxsize=64)
def _fields(colour: str, seed: int, channels: int, size: int, scale: float) -> Tensor:
    return torch.cat([field(size, scale, colour, seed + 1000 * channel) for channel in range(channels)], 1)


def image_source(image: Tensor) -> Source:
    """The middle of a given image (1, channel, x, y, z), rescaled with everything its rescaled grid can carry."""
    for axis in (2, 3, 4):
        size = min(SIZE, image.shape[axis])
        image = image.narrow(axis, (image.shape[axis] - size) // 2, size)
    return lambda scale: image if scale == 1 else _rescaled(image, scale)


@torch.no_grad()
def layer_figures(colour: str, seed: int) -> Figures:
    """Relative squared error at x0.9 of single layers: the worst of three neighbouring pairs of scales.

    All but the lifting convolution take what it gives. The finest scale has spacing 1. `control` is an ordinary
    convolution on the image's own grid, no equivariance at all, `plain_stride` a stride without a blur before it and
    `published_lift` the published lifting convolution.
    """
    torch.manual_seed(seed)
    source = random_source(colour, seed)
    first = ScaleConv(1, 8)
    layers: Mapping[str, Callable[[ScaleMaps], ScaleMaps]] = {
        "lift": lambda maps: maps,
        "scale_conv": ScaleConv(8, 8),
        "interaction2": ScaleConv(8, 8, interaction=2),
        "interaction3": ScaleConv(8, 8, interaction=3),
        "dynamic": _decided(DynamicScaleConv(8, 8)),
        "silu": lambda maps: maps.each(nn.functional.silu),
        "stride": BlurredStride(),
        "plain_stride": plain_stride(),
        "up": lambda maps: OctaveUp()(BlurredStride()(maps), maps),
    }
    worst = dict.fromkeys(layers, 0.0)
    for step in range(3):
        spacing = 0.9 ** (step - 3)
        axis = ScaleAxis(spacing, 0.9**-1, 3)  # further scales for the layers in which scales interact
        of_image = first(lift(source(1.0), axis))
        of_rescaled = first(lift(source(0.9), _moved(axis, 0.9)))
        for name, layer in layers.items():
            pair = _same_index(layer(of_image).tensors[0], layer(of_rescaled).tensors[0])
            worst[name] = max(worst[name], relative_difference(*pair))
    plain = PlainConv(1, 8)
    both = [plain(ScaleMaps.on_one_grid(source(scale), 1)).tensors[0] for scale in (1.0, 0.9)]
    worst["control"] = relative_difference(*aligned(both[0], both[1], 0.9))
    worst["published_lift"] = _published_lift(source)
    return {f"{name}.{colour}.delta": delta for name, delta in worst.items()}


def plain_stride() -> BlurredStride:
    """A stride of two with no blur before it: the Gaussian is so narrow that it is a single voxel."""
    return BlurredStride(sigmas=(0.01,))


def _decided(layer: DynamicScaleConv) -> DynamicScaleConv:
    """A dynamic layer whose attention tells its kernels apart, as it does after training; at first it is uniform."""
    nn.init.normal_(layer.attention.get_parameter("last.conv.weight"), std=3.0)
    return layer


def _published_lift(source: Source) -> float:
    conv = PublishedLiftingConv(1, 8, PublishedBasis(), padding=2)
    of_image, of_rescaled = conv(source(1.0)), conv(source(0.9))
    pairs = [aligned(of_image[:, :, i], of_rescaled[:, :, i + 1], 0.9) for i in range(of_image.shape[2] - 1)]
    return max(relative_difference(*pair) for pair in pairs)


@torch.no_grad()
def network_figures(network: nn.Module, source: Source) -> Figures:
    """Per scale the error at the group level and the correlation of the scores.

    group.delta@S   relative squared error of all scales' features before the projection. A scale axis that may be
                    changed moves along with the input. A fixed one, whose ratio is 0.9, is shifted by one.
    correlation@S   of scores(rescaled image) with rescaled scores(image), the axis staying where it is
    """
    figures = {}
    if isinstance(network, UNet) and network.axis.count > 1:
        figures = {f"group.delta@{scale:g}": group_difference(network, source, scale) for scale in SCALES}
    elif not isinstance(network, UNet):
        of_image, of_rescaled = (features_before_projection(network, source(scale)) for scale in (1.0, 0.9))
        pairs = [aligned(a, b, 0.9) for a, b in zip(of_image[:-1], of_rescaled[1:], strict=True)]
        figures["group.delta@0.9"] = _joint_difference(pairs)
    return figures | correlations(network, source, SCALES)


@torch.no_grad()
def group_difference(network: UNet, source: Source, scale: float) -> float:
    """The error before the projection, on a scale axis that moves along with the input."""
    of_image = features_before_projection(network, source(1.0))
    with moved_axis(network, scale):
        of_rescaled = features_before_projection(network, source(scale))
    return _joint_difference([_same_index(a, b) for a, b in zip(of_image, of_rescaled, strict=True)])


@torch.no_grad()
def correlations(network: nn.Module, source: Source, scales: Sequence[float]) -> Figures:
    """Of the scores of rescaled images with the rescaled scores of the image."""
    scores = network(source(1.0))
    return {f"correlation@{scale:g}": correlation(*aligned(scores, network(source(scale)), scale)) for scale in scales}


@torch.no_grad()
def trace(network: UNet, source: Source, scale: float) -> Figures:
    """The error at the group level after every step of a U-Net, in the order in which they run."""
    of_image = _outputs_of_steps(network, source(1.0))
    with moved_axis(network, scale):
        of_rescaled = _outputs_of_steps(network, source(scale))
    return {
        f"layer.{name}.delta@{scale:g}": _joint_difference(
            [_same_index(a, b) for a, b in zip(maps.tensors, of_rescaled[name].tensors, strict=True)]
        )
        for name, maps in of_image.items()
    }


def _outputs_of_steps(network: UNet, image: Tensor) -> dict[str, ScaleMaps]:
    outputs: dict[str, ScaleMaps] = {}

    def keep(name: str, module: nn.Module, inputs: Any, output: ScaleMaps) -> None:
        times = sum(key.partition("#")[0] == name for key in outputs)
        outputs[f"{name}#{times + 1}" if isinstance(module, BlurredStride | OctaveUp) else name] = output

    steps = (ConvBlock, PlainConv, ScaleConv, DynamicScaleConv, BlurredStride, OctaveUp)
    hooks = [
        module.register_forward_hook(partial(keep, name))
        for name, module in network.named_modules()
        if isinstance(module, steps) and not name.endswith(".bank")
    ]
    network(image)
    for hook in hooks:
        hook.remove()
    return outputs


@contextmanager
def moved_axis(network: UNet, scale: float) -> Iterator[None]:
    """Within it the network's scale axis is moved along with an input rescaled by a factor."""
    axis, network.axis = network.axis, _moved(network.axis, scale)
    try:
        yield
    finally:
        network.axis = axis


def _moved(axis: ScaleAxis, scale: float) -> ScaleAxis:
    return ScaleAxis(scale * axis.first, axis.ratio, axis.count)


def features_before_projection(network: nn.Module, image: Tensor) -> list[Tensor]:
    """Per scale the map that the projection takes."""
    kept: list[Any] = []
    projection = next(m for n, m in network.named_modules() if n == "projection" or isinstance(m, PublishedProjection))
    hook = projection.register_forward_pre_hook(lambda module, inputs: kept.append(inputs[0]))
    network(image)
    hook.remove()
    return kept[0].tensors if isinstance(kept[0], ScaleMaps) else list(kept[0].unbind(2))


def _joint_difference(pairs: list[tuple[Tensor, Tensor]]) -> float:
    found, wanted = (torch.cat([pair[side].flatten() for pair in pairs]) for side in (0, 1))
    return relative_difference(found, wanted)


def _same_index(of_image: Tensor, of_rescaled: Tensor) -> tuple[Tensor, Tensor]:
    """The middle of maps on grids that moved along with the input: the same index is the same place."""
    inner = _middle([min(a, b) for a, b in zip(of_image.shape[2:], of_rescaled.shape[2:], strict=True)])
    return of_rescaled[inner], of_image[inner]


def aligned(of_image: Tensor, of_rescaled: Tensor, scale: float) -> tuple[Tensor, Tensor]:
    """The middle of a map of the rescaled image, and there the rescaled map of the image."""
    wanted = _rescaled(of_image, scale)
    inner = _middle(list(wanted.shape[2:]))
    return of_rescaled[inner], wanted[inner]


def _rescaled(image: Tensor, scale: float) -> Tensor:
    """The image at x / scale, as far as it is known, with what the new grid can carry."""
    weights = []
    for size in image.shape[2:]:
        reach = min(size, int((size - 1) * scale) + 1)
        weights.append(_ideal_weights(torch.arange(reach, dtype=torch.float64) / scale, size, min(1.0, scale)))
    return apply_along_axes(image, weights)


def _ideal_weights(positions: Tensor, size: int, cutoff: float) -> Tensor:
    """Rows that interpolate and keep only frequencies below a share of the highest: a sinc in a wide Hann window."""
    offsets = positions[:, None] - torch.arange(size, dtype=torch.float64)
    window = torch.cos(0.5 * torch.pi * (offsets * cutoff / SINC_LOBES).clamp(-1, 1)).square()
    weights = torch.sinc(cutoff * offsets) * window
    return weights / weights.sum(1, keepdim=True)


def _middle(shape: list[int]) -> tuple[slice, ...]:
    return (slice(None), slice(None), *(slice(size // 4, size - size // 4) for size in shape))
