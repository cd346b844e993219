"""What each ingredient of the scale-equivariant U-Net buys: the untrained network with one thing changed at a time."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from ScaleEquivSegLib.layers.basis import Jet
from ScaleEquivSegLib.layers.maps import ScaleMaps
from ScaleEquivSegLib.layers.resample import BlurredStride
from ScaleEquivSegLib.layers.scale_conv import ScaleConv
from ScaleEquivSegLib.networks import UNet

from .equivariance import Figures, correlations, group_difference, plain_stride, random_source
from .equivariance_report import AXIS, untrained

Change = Callable[[UNet], None]


@dataclass(frozen=True)
class Variant:
    """One row of the table: arguments that differ, and what is exchanged in the built network."""

    name: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    change: Change = lambda network: None


class NearestUp(nn.Module):
    """One octave up by repeating voxels."""

    def forward(self, maps: ScaleMaps, like: ScaleMaps) -> ScaleMaps:
        pairs = zip(maps.tensors, like.tensors, strict=True)
        raised = [F.interpolate(x, scale_factor=2)[:, :, : y.shape[2], : y.shape[3], : y.shape[4]] for x, y in pairs]
        return like.with_tensors(raised)


@dataclass(frozen=True)
class CutJet(Jet):
    """The first functions of a jet in storage order, the last axis slowest, as the published basis is cut."""

    kept: int = 27

    @property
    def orders(self) -> list[tuple[int, int, int]]:
        return sorted(super().orders, key=lambda order: order[::-1])[: self.kept]


def _stride(blur: BlurredStride) -> Change:
    return lambda network: setattr(network, "down", blur)


def _activation(make: Callable[[], nn.Module]) -> Change:
    def change(network: UNet) -> None:
        for block in network.milestones():
            block.activation = make()

    return change


def _jet(jet: Jet) -> Change:
    def change(network: UNet) -> None:
        for block in network.milestones():
            out_channels, in_channels = block.conv.weight.shape[:2]
            block.conv = ScaleConv(in_channels, out_channels, jet)

    return change


def _axis(first: float = 1.0, ratio: float = 2**0.5, count: int = 5) -> dict[str, Any]:
    return {"scale_axis": {"first": first, "ratio": ratio, "count": count}}


VARIANTS = (
    Variant("as built"),
    Variant("sigma 0.5", {"jet": {"sigma": 0.5}}),
    Variant("sigma 0.7", {"jet": {"sigma": 0.7}}),
    Variant("sigma 1.4", {"jet": {"sigma": 1.4}}),
    Variant("support 1 sigma", {"jet": {"support": 1.0}}),
    Variant("support 2 sigma", {"jet": {"support": 2.0}}),
    Variant("support 4 sigma", {"jet": {"support": 4.0}}),
    Variant("order 1", {"jet": {"order": 1}}),
    Variant("order 3", {"jet": {"order": 3}}),
    Variant("order 4, complete", {"jet": {"order": 4}}),
    Variant("order 4, cut to 27 of 35", change=_jet(CutJet(order=4))),
    Variant("no blur before stride", change=_stride(plain_stride())),
    Variant("blur 0.7 before stride", change=_stride(BlurredStride(sigmas=(0.7,)))),
    Variant("blur 2 before stride", change=_stride(BlurredStride(sigmas=(2.0,)))),
    Variant("up by nearest", change=lambda network: setattr(network, "up", NearestUp())),
    Variant("no activation", change=_activation(nn.Identity)),
    Variant("ReLU", change=_activation(nn.ReLU)),
    Variant("GELU", change=_activation(nn.GELU)),
    Variant("interaction 2", {"interaction": 2}),
    Variant("interaction 3", {"interaction": 3}),
    Variant("mean projection", {"projection": "mean"}),
    Variant("max projection", {"projection": "max"}),
    Variant("taper 1", {"taper": 1}),
    Variant("3 scales", _axis(count=3)),
    Variant("guard: one coarser scale", _axis(count=6)),
    Variant("guard: one finer, one coarser", _axis(first=2**-0.5, count=7)),
    Variant("guard and taper 1", {"taper": 1, **_axis(first=2**-0.5, count=7)}),
    Variant("first scale 0.5, 7 scales, as bundled", _axis(first=0.5, count=7)),
    Variant("ratio 2^(1/3), 7 scales", _axis(ratio=2 ** (1 / 3), count=7)),
    Variant("ratio 2, 3 scales", _axis(ratio=2.0, count=3)),
)


def ablate(seed: int = 0, variants: tuple[Variant, ...] = VARIANTS) -> Figures:
    """Each variant's errors, with the same seeds of weights and fields.

    group.delta, white.group.delta   at the group level, on natural and white fields, at the two finest scales
    correlation                      of the scores on natural fields, with all scales
    turned                           see `turned_residual`
    """
    return {f"{v.name}: {key}": value for v in variants for key, value in _measured(v, seed).items()}


def _measured(variant: Variant, seed: int) -> Figures:
    network = untrained("se_unet", seed, {"scale_axis": AXIS, **variant.arguments}, variant.change)
    assert isinstance(network, UNet)
    figures = correlations(network, random_source("natural", seed), (0.9, 0.7))
    # At coarse scales the border of the image, of which each side knows another part, would hide all other errors.
    network.axis = network.axis.window(0, 2)
    return {
        "group.delta@0.9": group_difference(network, random_source("natural", seed), 0.9),
        "white.group.delta@0.9": group_difference(network, random_source("white", seed), 0.9),
        **figures,
        "turned": turned_residual(network.milestones()[0].conv.jet),
    }


def turned_residual(jet: Jet) -> float:
    """The largest share of a filter's energy that the basis loses when the filter is turned by 45 degrees about x.

    Nothing for a complete basis: it is the same seen from anywhere. On the analytic functions, so that no voxel grid
    has a say.
    """
    line = torch.linspace(-6, 6, 25, dtype=torch.float64)
    points = torch.stack(torch.meshgrid(line, line, line, indexing="ij"), -1).reshape(-1, 3)
    turn = torch.tensor([[1, 0, 0], [0, 1, 1], [0, -1, 1]], dtype=torch.float64)
    turn[1:] /= 2**0.5
    basis, turned = (_monomials(jet, where) for where in (points, points @ turn.T))
    # Orthonormal functions of the basis, then those of the turned one: what is left of them is lost.
    q, _ = torch.linalg.qr(basis.T)
    other, _ = torch.linalg.qr(turned.T)
    kept = torch.linalg.svdvals(q.T @ other).square()
    return max(0.0, 1 - float(kept.min()))


def _monomials(jet: Jet, points: torch.Tensor) -> torch.Tensor:
    """Functions that span what the jet's span: products of Hermite polynomials, times a Gaussian."""
    gauss = torch.exp(-points.square().sum(1) / 2)
    t = points.T
    he = [torch.ones_like(t), t]
    for n in range(2, jet.order + 1):
        he.append(t * he[-1] - (n - 1) * he[-2])
    return torch.stack([he[n][0] * he[m][1] * he[l][2] * gauss for n, m, l in jet.orders])
