"""A region of interest: a box in the world, turned anyhow, the voxels of a grid in it, and Slicer's file of it.
Positions are in RAS and lengths in millimetres."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from .card import strict_json
from .errors import BadRegion
from .volume import LPS_TO_RAS, Geometry

Vector = tuple[float, float, float]

ON_THE_FACE_MM = 1e-6
"""A voxel whose centre is this close to a face of the box lies in it: rounding must not decide."""

BYTES_AT_MOST = 2**20
"""A file of one region is far smaller; no more of another is read."""

FROM_SLICER = "save a Markups ROI from Slicer as .mrk.json and give that file."


@dataclass(frozen=True)
class Box:
    """A box around a centre, with three unit vectors at right angles and how long it is along each."""

    centre: Vector
    axes: tuple[Vector, Vector, Vector]
    sides: Vector

    def __post_init__(self) -> None:
        numbers = [*self.centre, *self.sides, *(x for axis in self.axes for x in axis)]
        axes = np.array(self.axes)
        if not all(map(math.isfinite, numbers)) or np.abs(axes @ axes.T - np.eye(3)).max() > 1e-3:
            raise BadRegion(
                "A region of interest needs a centre and three unit vectors at right angles to each other, in numbers."
            )
        if min(self.sides) <= 0:
            raise BadRegion("A region of interest must be longer than zero along each of its axes.")

    @staticmethod
    def from_values(values: Any) -> Box:
        """A box from the form that `as_values` gives."""
        if not isinstance(values, Mapping) or values.keys() != {"centre", "axes", "sides"}:
            raise BadRegion("A region of interest has 'centre', 'axes' and 'sides', and nothing else.")
        axes = values["axes"]
        if not isinstance(axes, Sequence) or len(axes) != 3:
            raise BadRegion("'axes' of a region of interest must be three unit vectors.")
        x, y, z = (_vector(axis, "axes") for axis in axes)
        return Box(_vector(values["centre"], "centre"), (x, y, z), _vector(values["sides"], "sides"))

    def as_values(self) -> dict[str, Any]:
        """Lists of numbers by name, as JSON has them."""
        return asdict(self)

    def text(self) -> str:
        """The same in a line."""
        return json.dumps(self.as_values())

    def bounds(self, geometry: Geometry) -> tuple[range, range, range]:
        """The smallest ranges of i, j, k that no voxel in the box lies outside of."""
        half = np.array(self.sides) / 2 + ON_THE_FACE_MM
        corners = np.array(self.centre) + np.array(list(product((-1, 1), repeat=3))) * half @ np.array(self.axes)
        ijk = (corners - geometry.ijk_to_ras[:3, 3]) @ np.linalg.inv(geometry.ijk_to_ras[:3, :3]).T
        first = np.clip(np.ceil(ijk.min(0)), 0, geometry.size).astype(int)
        last = np.clip(np.floor(ijk.max(0)) + 1, first, geometry.size).astype(int)
        i, j, k = (range(int(a), int(b)) for a, b in zip(first, last, strict=True))
        return i, j, k

    def voxels_in(self, geometry: Geometry) -> tuple[tuple[range, range, range], np.ndarray]:
        """The bounds of its voxels in a grid, and which of those (k, j, i) are in it; if it has none, an error."""
        bounds = self.bounds(geometry)
        i, j, k = bounds
        to_box = np.array(self.axes) @ geometry.ijk_to_ras[:3, :3]
        corner = np.array(self.axes) @ (geometry.ijk_to_ras[:3, 3] - np.array(self.centre))
        inside = np.ones((len(k), len(j), len(i)), bool)
        for number, plane in zip(k, inside, strict=True):  # one at a time: coordinates take eight times a mask's memory
            for (per_i, per_j, per_k), start, side in zip(to_box, corner, self.sides, strict=True):
                along = (start + per_k * number + per_j * np.arange(j.start, j.stop))[:, None]
                plane &= np.abs(along + per_i * np.arange(i.start, i.stop)) <= side / 2 + ON_THE_FACE_MM
        if not inside.any():
            raise self._misses(geometry)
        return bounds, inside

    def _misses(self, geometry: Geometry) -> BadRegion:
        corners = geometry.corners()
        low, high, centre = (
            " ".join(f"{x:g}" for x in np.round(point, 1)) for point in (corners.min(0), corners.max(0), self.centre)
        )
        return BadRegion(
            f"The region of interest around ({centre}) holds no voxel of the volume, which lies between ({low}) and "
            f"({high}) in RAS; move it there, or make it larger."
        )


def _vector(values: Any, name: str) -> Vector:
    numbers = isinstance(values, Sequence) and all(
        isinstance(x, int | float) and not isinstance(x, bool) for x in values
    )
    if not numbers or len(values) != 3:
        raise BadRegion(f"'{name}' of a region of interest must be of three numbers, not {ascii(values)[:60]}.")
    x, y, z = map(float, values)
    return x, y, z


def read_roi(path: Path) -> Box:
    """The box in a file that Slicer wrote of a Markups ROI; what is anything else is an error."""
    try:
        with path.open("rb") as stream:
            content = strict_json(stream.read(BYTES_AT_MOST))
    except (OSError, ValueError, RecursionError) as error:
        raise BadRegion(f"{path} cannot be read as a region of interest ({error}); {FROM_SLICER}") from error
    markups = content.get("markups") if isinstance(content, dict) else None
    if not isinstance(markups, list) or len(markups) != 1 or not isinstance(markups[0], dict):
        raise BadRegion(f"{path} does not hold one region of interest; {FROM_SLICER}")
    try:
        return _box_of(markups[0])
    except BadRegion as error:
        raise BadRegion(f"{path}: {error}") from error


def _box_of(markup: Mapping[str, Any]) -> Box:
    expected = {
        "type": ("ROI",),
        "roiType": ("Box",),
        "coordinateSystem": ("LPS", "RAS"),
        "coordinateUnits": ("mm", None),  # the first files of this kind did not say
        "insideOut": (False, None),
    }
    for key, values in expected.items():
        if markup.get(key) not in values:
            raise BadRegion(f"'{key}' is {ascii(markup.get(key))[:60]}, must be {values[0]!r}; {FROM_SLICER}")
    orientation = markup.get("orientation")
    if not isinstance(orientation, list) or len(orientation) != 9:
        raise BadRegion("'orientation' must be nine numbers, a row after the other.")
    to_ras = LPS_TO_RAS if markup["coordinateSystem"] == "LPS" else np.eye(3)
    rows = [_vector(orientation[start : start + 3], "orientation") for start in (0, 3, 6)]
    axes = (to_ras @ np.array(rows)).T.tolist()
    centre = (to_ras @ np.array(_vector(markup.get("center"), "center"))).tolist()
    return Box.from_values({"centre": centre, "axes": axes, "sides": markup.get("size")})
