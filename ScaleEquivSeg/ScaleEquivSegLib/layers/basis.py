"""Isotropic Hermite-Gaussian jets: the functions every scale-equivariant filter is a combination of."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.polynomial import hermite, hermite_e
from torch import Tensor

from .arrays import tensor_of


def support_radius(sigma: float, widths: float = 3.0) -> int:
    """Voxels beyond which a Gaussian of width sigma is cut off: so many widths, rounded up."""
    return math.ceil(widths * sigma)


@dataclass(frozen=True)
class Jet:
    """All products of Hermite functions up to a total order, at one width or at a geometric row of widths.

    psi_nml(x, y, z; sigma) = h_n(x/sigma) h_m(y/sigma) h_l(z/sigma) / sigma^3,   n + m + l <= order
    h_n(t) = He_n(t) exp(-t^2/2) / ||He_n exp(-t^2/2)||

    The set is complete, so no axis is privileged. The factor sigma^-3 makes the response to a rescaled image equal at
    the rescaled position and scale.

    Where every scale's map lies on a grid of its own, one width in that grid's voxels serves them all. `ratio` and
    `scales` are for maps that share one grid: scale i then has the width sigma * ratio^i and its own, tight support.
    """

    order: int = 2
    sigma: float = 1.0
    ratio: float = 1.0
    scales: int = 1
    support: float = 3.0
    """Cut the functions off at this many widths."""

    def __post_init__(self) -> None:
        if not (self.order >= 0 and self.scales >= 1 and min(self.sigma, self.ratio, self.support) > 0):
            raise ValueError(f"{self} is no jet: sigma, ratio and support must be positive, scales at least 1")

    @property
    def widths(self) -> tuple[float, ...]:
        return tuple(self.sigma * self.ratio**i for i in range(self.scales))

    @property
    def orders(self) -> list[tuple[int, int, int]]:
        """(n, m, l) of every function."""
        line = range(self.order + 1)
        return [(n, m, l) for n in line for m in line for l in line if n + m + l <= self.order]

    def radius(self, width: float) -> int:
        return support_radius(width, self.support)

    def lines(self, width: float) -> Tensor:
        """h_n(t / width) / width on the voxel grid for n = 0, ..., order: (order + 1, 2 * radius + 1)."""
        radius = self.radius(width)
        offsets = np.arange(-radius, radius + 1) / width
        lines = np.stack([_hermite_function(n, offsets) for n in range(self.order + 1)])
        return tensor_of(lines / width)

    def functions(self, width: float) -> Tensor:
        """Every function on the voxel grid: (function, x, y, z)."""
        lines = self.lines(width)
        n, m, l = torch.tensor(self.orders).T
        return torch.einsum("fx,fy,fz->fxyz", lines[n], lines[m], lines[l])


def _hermite_function(n: int, t: np.ndarray) -> np.ndarray:
    coefficients = np.eye(n + 1)[n]
    # Gauss-Hermite quadrature with n + 1 nodes is exact for He_n(t)^2 exp(-t^2).
    nodes, weights = hermite.hermgauss(n + 1)
    norm = math.sqrt(float(weights @ hermite_e.hermeval(nodes, coefficients) ** 2))
    return hermite_e.hermeval(t, coefficients) * np.exp(-(t**2) / 2) / norm
