"""How far a layer is from commuting with a rescaling of its input, on random images that are exact at every scale."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import torch
from torch import Tensor

from ScaleEquivSegLib.layers.maps import ScaleAxis, ScaleMaps
from ScaleEquivSegLib.layers.resample import lift
from training.fields import field, relative_difference

SCALE = 0.9
SIZE = 64

COLOURS = ["natural", "white"]
BOUNDS = {"natural": 3e-5, "white": 3e-4}
"""What a single convolution keeps to."""
CLEARLY_BROKEN = 100
"""So many times the bound is what no equivariance at all comes to."""

AXIS = ScaleAxis(1 / SCALE, 1 / SCALE, 3)
"""The finest scale of the rescaled image is 1."""

Layer = Callable[[ScaleMaps], ScaleMaps]


@cache
def image_at(scale: float, colour: str, channels: int = 1, size: int = SIZE) -> Tensor:
    """An image (1, channel, x, y, z) that shows at voxel x what the one at scale 1 shows at x / scale."""
    return torch.cat([field(size, scale, colour, seed) for seed in range(channels)], 1)


def lifted(scale: float, colour: str = "natural", channels: int = 1, axis: ScaleAxis = AXIS) -> ScaleMaps:
    """The rescaled image on an axis that moves along with it: the same index is the same place of the image."""
    moved = ScaleAxis(scale * axis.first, axis.ratio, axis.count)
    return lift(image_at(scale, colour, channels), moved)


def difference_at_same_index(of_image: Tensor, of_rescaled: Tensor) -> float:
    """||a - b||^2 / ||b||^2 in the middle half of two maps."""
    shape = [min(sizes) for sizes in zip(of_image.shape[2:], of_rescaled.shape[2:], strict=True)]
    middle = (..., *(slice(n // 4, n - n // 4) for n in shape))
    return relative_difference(of_rescaled[middle], of_image[middle])


@torch.no_grad()
def error_between_scales(layer: Layer, colour: str, channels: int = 1, axis: ScaleAxis = AXIS) -> float:
    """How a layer differs at the worst scale between an image and the rescaled image, each scale on its own grid."""
    maps, rescaled = (layer(lifted(scale, colour, channels, axis)) for scale in (1.0, SCALE))
    return max(map(difference_at_same_index, maps.tensors, rescaled.tensors))


def difference_at_same_place(of_image: Tensor, of_rescaled: Tensor, margin: int = 10) -> float:
    """The same for maps on the voxels of the image: every tenth voxel of it lies on every ninth of the rescaled one."""
    tenths = torch.arange(-(-margin // 9), (SIZE - 1 - margin) // 10 + 1)
    return difference_at(of_image, 10 * tenths, of_rescaled, 9 * tenths)


def difference_at(of_image: Tensor, index: Tensor, of_rescaled: Tensor, moved_index: Tensor) -> float:
    """The same at the voxels whose three indices are all in a list, and at the voxels they move to."""
    return relative_difference(_at(of_rescaled, moved_index), _at(of_image, index))


def _at(maps: Tensor, index: Tensor) -> Tensor:
    return maps[:, :, index[:, None, None], index[:, None], index]


@torch.no_grad()
def error_on_one_grid(layer: Layer, colour: str) -> float:
    """How a layer differs between an image and the rescaled one if it is given both as they are, at a single scale."""
    maps, rescaled = (layer(ScaleMaps.on_one_grid(image_at(scale, colour), 1)) for scale in (1.0, SCALE))
    return difference_at_same_place(maps.tensors[0], rescaled.tensors[0])
