"""Isotropic Hermite-Gaussian jets: the functions every scale-equivariant filter is a combination of."""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.polynomial import hermite, hermite_e
from torch import Tensor


def jet_orders(max_order: int) -> list[tuple[int, int, int]]:
    """All (n, m, l) with n + m + l <= max_order: a complete set, so no axis is privileged."""
    orders = range(max_order + 1)
    return [(n, m, l) for n in orders for m in orders for l in orders if n + m + l <= max_order]


def support_radius(sigma: float) -> int:
    """Voxels beyond which a Gaussian of width sigma is cut off."""
    return math.ceil(3 * sigma)


def jet_basis(max_order: int, sigma: float) -> Tensor:
    """The complete jet of a given order, sampled on the voxel grid.

    psi_nml(x, y, z) = h_n(x/sigma) h_m(y/sigma) h_l(z/sigma) / sigma^3
    h_n(t) = He_n(t) exp(-t^2/2) / ||He_n exp(-t^2/2)||

    The factor sigma^-3 makes the response to a rescaled image equal at the rescaled position and scale.

    Returns (function, x, y, z) with 2 * support_radius(sigma) + 1 samples per axis.
    """
    radius = support_radius(sigma)
    offsets = np.arange(-radius, radius + 1) / sigma
    line = {n: _hermite_function(n, offsets) for n in range(max_order + 1)}
    functions = [np.einsum("i,j,k->ijk", line[n], line[m], line[l]) for n, m, l in jet_orders(max_order)]
    return torch.from_numpy(np.stack(functions) / sigma**3).float()


def _hermite_function(n: int, t: np.ndarray) -> np.ndarray:
    coefficients = np.eye(n + 1)[n]
    # Gauss-Hermite quadrature with n + 1 nodes is exact for He_n(t)^2 exp(-t^2).
    nodes, weights = hermite.hermgauss(n + 1)
    norm = math.sqrt(float(weights @ hermite_e.hermeval(nodes, coefficients) ** 2))
    return hermite_e.hermeval(t, coefficients) * np.exp(-(t**2) / 2) / norm
