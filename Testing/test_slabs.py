"""A layer makes of a slab what it makes of the whole map there; what cannot be known from a slab it refuses."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

from ScaleEquivSegLib.layers.basis import Jet
from ScaleEquivSegLib.layers.dynamic import DynamicScaleConv, ScaleAttentionKind
from ScaleEquivSegLib.layers.maps import Grid, ScaleMaps
from ScaleEquivSegLib.layers.norm import ScaleBatchNorm
from ScaleEquivSegLib.layers.resample import BlurredStride
from ScaleEquivSegLib.layers.scale_conv import PlainConv, Pointwise, ScaleConv
from untrained import sharpened

pytestmark = pytest.mark.usefixtures("seeded")

FIRST, COUNT = 4, 15
"""The planes of the slab."""

LAYERS: dict[str, Callable[[], nn.Module]] = {
    "dense": lambda: ScaleConv(2, 3, path="dense", bias=True),
    "separable": lambda: ScaleConv(2, 3, path="separable", bias=True),
    "strided": lambda: ScaleConv(2, 3, Jet(support=2.0), stride=2),
    "padded with zeros": lambda: ScaleConv(2, 3, padding="zeros"),
    "plain": lambda: PlainConv(2, 3),
    "pointwise": lambda: Pointwise(2, 3),
    "dynamic": lambda: sharpened(DynamicScaleConv(2, 3, attention="local")),
    "norm": lambda: ScaleBatchNorm(2).eval(),
    "blurred stride": lambda: BlurredStride((0.6,)),
}


def whole_and_slab(axis: int) -> tuple[ScaleMaps, ScaleMaps]:
    shape = [6, 6, 6]
    shape[axis] = 24
    whole = ScaleMaps.on_one_grid(torch.randn(1, 2, *shape), 1)
    grids = [Grid(1.0, FIRST, COUNT) if i == axis else grid for i, grid in enumerate(whole.grids[0])]
    planes = whole.tensors[0].narrow(2 + axis, FIRST, COUNT)
    return whole, ScaleMaps([planes], [(grids[0], grids[1], grids[2])], open_axis=axis)


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("name", LAYERS)
def test_a_slab_is_filtered_as_the_whole_map_is_there(name: str, axis: int) -> None:
    layer = LAYERS[name]().requires_grad_(False)
    whole, slab = whole_and_slab(axis)
    wanted, found = layer(whole), layer(slab)
    along = found.grids[0][axis]
    assert found.tensors[0].shape[2:] == tuple(grid.count for grid in found.grids[0])
    assert along.count > 0
    assert torch.allclose(found.tensors[0], wanted.tensors[0].narrow(2 + axis, along.first, along.count), atol=1e-5)


def test_several_widths_which_give_back_different_parts_of_a_slab_are_refused() -> None:
    _, slab = whole_and_slab(0)
    conv = ScaleConv(2, 1, Jet(ratio=1.5, scales=2))
    two = ScaleMaps(slab.tensors * 2, slab.grids * 2, slab.open_axis)
    with pytest.raises(ValueError, match="several widths"):
        conv(two)


@pytest.mark.parametrize("attention", ["invariant", "scale"])
def test_an_attention_to_the_mean_of_the_whole_map_is_refused_a_slab(attention: ScaleAttentionKind) -> None:
    _, slab = whole_and_slab(0)
    with pytest.raises(ValueError, match="whole map"):
        DynamicScaleConv(2, 1, attention=attention)(slab)
