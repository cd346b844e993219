"""Finite groups of rotations and reflections that map the pixel or voxel grid exactly onto itself."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from .arrays import tensor_of

Matrix = Sequence[Sequence[int]]

QUARTER_TURN = ((0, -1), (1, 0))
REFLECTION = ((1, 0), (0, -1))
TURN_ABOUT_Z = ((0, -1, 0), (1, 0, 0), (0, 0, 1))
TURN_ABOUT_X = ((1, 0, 0), (0, 0, -1), (0, 1, 0))
POINT_REFLECTION = ((-1, 0, 0), (0, -1, 0), (0, 0, -1))

GENERATORS: dict[str, tuple[int, tuple[Matrix, ...]]] = {
    "p1": (2, ()),
    "p4": (2, (QUARTER_TURN,)),
    "p4m": (2, (QUARTER_TURN, REFLECTION)),
    "C_1": (3, ()),
    "O": (3, (TURN_ABOUT_Z, TURN_ABOUT_X)),
    "O_h": (3, (TURN_ABOUT_Z, TURN_ABOUT_X, POINT_REFLECTION)),
}
"""Dimension and generators of each group by name; p1 and C_1 hold the identity alone."""


@dataclass(frozen=True, eq=False)
class Group:
    """A group of signed permutation matrices; its elements are named by their index, the identity being 0.

    matrices (element, row, column); cayley[a, b] is the element a b, inverse[a] the element a^-1.
    """

    matrices: Tensor
    cayley: Tensor
    inverse: Tensor

    @staticmethod
    def generated_by(generators: Sequence[Matrix], dimension: int) -> Group:
        """All products of the generators, found by multiplying until nothing new appears."""
        identity = np.eye(dimension, dtype=np.int64)
        found = {identity.tobytes(): identity}
        frontier = [identity]
        while frontier:
            products = [np.asarray(g, dtype=np.int64) @ m for m in frontier for g in generators]
            new = {m.tobytes(): m for m in products if m.tobytes() not in found}
            found |= new
            frontier = list(new.values())
        matrices = tensor_of(np.stack(list(found.values())))
        products_of_all = torch.einsum("aij,bjk->abik", matrices, matrices)
        matches = (products_of_all[:, :, None] == matrices).flatten(3).all(-1)  # (a, b, which element a b is)
        cayley = matches.long().argmax(-1)
        inverse = (cayley == 0).long().argmax(-1)
        return Group(matrices, cayley, inverse)

    @property
    def order(self) -> int:
        """The number of elements."""
        return len(self.matrices)

    @property
    def dimension(self) -> int:
        """The dimension of the space the group acts on: 2 or 3."""
        return self.matrices.shape[-1]

    def act_on_image(self, element: int, image: Tensor) -> Tensor:
        """[L_g f](x) = f(g^-1 x), turning about the centre of the last two or three axes.

        image (..., *space) -> (..., *space with its axes permuted)
        """
        rows = self.matrices[element].tolist()
        leading = image.dim() - self.dimension
        # Row i of g holds one entry, at j: axis i of the result is axis j of the image, reversed if the entry is -1.
        sources = [leading + [abs(entry) for entry in row].index(1) for row in rows]
        reversed_axes = [leading + axis for axis, row in enumerate(rows) if sum(row) < 0]
        return image.permute(*range(leading), *sources).flip(reversed_axes)

    def act_on_maps(self, element: int, maps: Tensor) -> Tensor:
        """[L_g F](h, x) = F(g^-1 h, g^-1 x).

        maps (batch, channel, group, *space) -> the same with the axes of space permuted
        """
        origins = self.cayley[self.inverse[element]]
        return self.act_on_image(element, maps[:, :, origins.to(maps.device)])


@functools.cache
def finite_group(name: str) -> Group:
    """A group by name: p1, p4 (4 rotations), p4m (8, with reflections) in 2D; C_1, O (24), O_h (48) in 3D."""
    if name not in GENERATORS:
        raise ValueError(f"unknown group {name!r}; known: {', '.join(GENERATORS)}")
    dimension, generators = GENERATORS[name]
    return Group.generated_by(generators, dimension)
