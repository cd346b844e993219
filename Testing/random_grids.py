"""Voxel grids as scanners and other programs make them: turned anyhow, left-handed, axes in any order, flat, oblong."""

from __future__ import annotations

from itertools import permutations

import numpy as np
from hypothesis import strategies as st

from ScaleEquivSegLib.volume import Geometry, make_geometry


def rotation(seed: int, left_handed: bool = False) -> np.ndarray:
    """A rotation drawn evenly from all; its last axis is turned round if left-handed."""
    q, r = np.linalg.qr(np.random.default_rng(seed).standard_normal((3, 3)))
    q = q * np.sign(np.diag(r))
    q = q if np.linalg.det(q) > 0 else -q
    return q @ np.diag([1, 1, -1]) if left_handed else q


@st.composite
def directions(draw: st.DrawFn) -> np.ndarray:
    """Oblique or along the world's axes in any order, of either handedness."""
    if draw(st.booleans()):
        return rotation(draw(st.integers(0, 10_000)), draw(st.booleans()))
    order = draw(st.sampled_from(list(permutations(range(3)))))
    return np.eye(3)[:, order] * [draw(st.sampled_from([-1.0, 1.0])) for _ in range(3)]


@st.composite
def geometries(draw: st.DrawFn, smallest: int = 1, largest: int = 9) -> Geometry:
    """A grid of few voxels, of 0.3 to 6 mm along each axis."""
    i, j, k = (draw(st.integers(smallest, largest)) for _ in range(3))
    spacing = [draw(st.floats(0.3, 6)) for _ in range(3)]
    center = [draw(st.floats(-300, 300)) for _ in range(3)]
    return make_geometry((i, j, k), spacing, draw(directions()), center)
