"""Every layer on scale maps by name, small enough for exhaustive checks."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from ScaleEquivSegLib.layers.basis import Jet
from ScaleEquivSegLib.layers.dynamic import DynamicScaleConv
from ScaleEquivSegLib.layers.maps import ScaleAxis, ScaleMaps
from ScaleEquivSegLib.layers.norm import ScaleBatchNorm
from ScaleEquivSegLib.layers.projection import ScaleProjection
from ScaleEquivSegLib.layers.resample import BlurredStride, OctaveUp, grids_covering, lift, sample_on
from ScaleEquivSegLib.layers.scale_conv import PlainConv, Pointwise, ScaleConv
from untrained import sharpened

JET = Jet(order=2, sigma=0.8, support=2.0)


class Projected(nn.Module):
    """A projection whose result is a map like those of the other layers."""

    def __init__(self, layer: ScaleProjection) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, maps: ScaleMaps) -> ScaleMaps:
        return ScaleMaps([self.layer(maps, (3, 4, 2))], [grids_covering((3, 4, 2), 1.0)])


class RaisedAgain(nn.Module):
    """An octave up, to the grids a stride of two came from."""

    def forward(self, maps: ScaleMaps) -> ScaleMaps:
        coarse = maps.filtered([x[:, :, ::2, ::2, ::2] for x in maps.tensors], 0, stride=2)
        return OctaveUp()(coarse, maps)


class OnFinestGrid(nn.Module):
    """Every scale interpolated to the finest grid."""

    def forward(self, maps: ScaleMaps) -> ScaleMaps:
        pairs = zip(maps.tensors, maps.grids, strict=True)
        return maps.with_tensors([sample_on(x, grids, maps.grids[0]) for x, grids in pairs])


class Lifted(nn.Module):
    """The finest map taken as an image and lifted to an axis of its own."""

    def forward(self, maps: ScaleMaps) -> ScaleMaps:
        return lift(maps.tensors[0], ScaleAxis(0.8, 1.6, 2))


EVERY_LAYER: dict[str, Callable[[], nn.Module]] = {
    "dense": lambda: ScaleConv(2, 2, JET, bias=True, path="dense"),
    "separable": lambda: ScaleConv(2, 2, JET, bias=True, path="separable"),
    "dense interaction": lambda: ScaleConv(2, 1, JET, interaction=2, path="dense"),
    "separable interaction": lambda: ScaleConv(2, 1, JET, interaction=2, bias=True, path="separable"),
    "strided": lambda: ScaleConv(2, 1, JET, stride=2, padding="zeros", path="separable"),
    "several widths": lambda: ScaleConv(2, 1, Jet(sigma=1.0, ratio=0.8, scales=2, support=2.0)),
    "plain": lambda: PlainConv(2, 2),
    "pointwise": lambda: Pointwise(2, 3),
    "dynamic invariant": lambda: sharpened(DynamicScaleConv(2, 1, JET, 2, "invariant")),
    "dynamic scale": lambda: sharpened(DynamicScaleConv(2, 1, JET, 2, "scale")),
    "dynamic local": lambda: sharpened(DynamicScaleConv(2, 1, JET, 2, "local")),
    "norm in training": lambda: ScaleBatchNorm(2),
    "norm at inference": lambda: ScaleBatchNorm(2).eval(),
    "attention": lambda: Projected(ScaleProjection(2, 2, "attention", taper=1)),
    "mean": lambda: Projected(ScaleProjection(2, 2, "mean", taper=1)),
    "max": lambda: Projected(ScaleProjection(2, 2, "max", taper=1)),
    "blurred stride": BlurredStride,
    "octave up": RaisedAgain,
    "sampled on a finer grid": OnFinestGrid,
    "lifted": Lifted,
}
"""Each takes maps of two channels at two scales, the first of (3, 4, 2) voxels."""
