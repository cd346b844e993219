"""The filter bases of Wimmer et al. 2023 (arXiv:2304.05864), kept as published: small supports, orders left out."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.polynomial import hermite_e
from torch import Tensor

from .arrays import tensor_of

MULTI_ORDER = 4
"""The highest total order of the "multi" basis before it is cut."""


@dataclass(frozen=True)
class PublishedBasis:
    """Hermite-Gaussian functions on a cube of kernel_size^3 voxels, one width sigma per scale.

    psi_nml(x, y, z; sigma) = He_n(x/sigma) He_m(y/sigma) He_l(z/sigma) exp(-r^2 / 2 sigma^2) / (sigma^3 N_nml)

    N_nml is the L2 norm of the samples at the first scale, so that a function keeps its relation between scales.

    kind "multi": of all n + m + l <= 4 the first effective_size^3 in storage order, l slowest and n fastest. With 27
    of 35 the axes are not alike: x and y keep orders up to 4, z up to 2.
    kind "single": all n, m, l < effective_size.

    kernel_padding shrinks the support with sigma, to int(kernel_size sigma / max sigma) made odd, and pads it with 0.
    """

    kind: str = "multi"
    scales: tuple[float, ...] = (1.0, 0.9, 0.9**2, 0.9**3)
    kernel_size: int = 5
    effective_size: int = 3
    kernel_padding: bool = False

    def __post_init__(self) -> None:
        if self.kind not in ("multi", "single"):
            raise ValueError(f"unknown published basis {self.kind!r}; known: multi, single")
        if self.kernel_size % 2 == 0:
            raise ValueError(f"a kernel of {self.kernel_size} voxels has no centre voxel; the size must be odd")
        if not self.scales or min(self.scales) <= 0:
            raise ValueError(f"scales {self.scales} must be one or more positive numbers of voxels")

    def orders(self) -> list[tuple[int, int, int]]:
        """The orders (n, m, l) along x, y, z of every function, in storage order."""
        wanted = self.effective_size**3
        highest = MULTI_ORDER if self.kind == "multi" else self.effective_size - 1
        line = range(highest + 1)
        orders = [(n, m, l) for l in line for m in line for n in line]
        if self.kind == "multi":
            orders = [o for o in orders if sum(o) <= MULTI_ORDER]
        if len(orders) < wanted:
            raise ValueError(
                f"the multi basis has {len(orders)} functions, effective size {self.effective_size} wants more"
            )
        return orders[:wanted]

    def supports(self) -> list[int]:
        """Voxels per axis where the functions of each scale are not cut off."""
        if not self.kernel_padding:
            return [self.kernel_size] * len(self.scales)
        widest = max(self.scales)
        return [int(self.kernel_size * sigma / widest) // 2 * 2 + 1 for sigma in self.scales]

    def samples(self) -> Tensor:
        """All functions at all scales on the voxel grid, (function, scale, x, y, z)."""
        per_scale = [self._sampled_at(sigma, size) for sigma, size in zip(self.scales, self.supports(), strict=True)]
        stack = np.stack(per_scale, axis=1)
        norms = np.sqrt(np.square(stack[:, 0]).sum(axis=(1, 2, 3)))
        return tensor_of(stack / norms[:, None, None, None, None]).float()

    def _sampled_at(self, sigma: float, support: int) -> np.ndarray:
        reach = self.kernel_size // 2
        offsets = np.arange(-reach, reach + 1)
        inside = np.abs(offsets) <= support // 2
        t = offsets / sigma
        line = hermite_e.hermevander(t, max(map(max, self.orders()))).T * np.exp(-(t**2) / 2) * inside
        functions = [np.einsum("x,y,z->xyz", line[n], line[m], line[l]) for n, m, l in self.orders()]
        return np.stack(functions) / math.pow(sigma, 3)
