"""Magnify volumes and labels: the same anatomy larger or smaller, in voxels of the same size.
What a network makes of it shows whether the size of an object matters to it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from .roi import Box
from .volume import Geometry, Volume, interpolation_reach, resample

SCALES_AT_MOST = 50
SCALES_BETWEEN = (0.1, 10.0)
"""Beyond, a volume is hardly more than a voxel, or a thousand times as large as it was."""


def check_scales(scales: Sequence[float]) -> None:
    """Raise `ValueError` with what scales to probe must be, unless they are."""
    low, high = SCALES_BETWEEN
    if len(set(scales)) < len(scales) or len(scales) > SCALES_AT_MOST:
        raise ValueError(f"must be at most {SCALES_AT_MOST} different numbers")
    if not all(low <= scale <= high for scale in scales):
        raise ValueError(f"must lie between {low:g} and {high:g}")


def magnified(volume: Volume, scale: float) -> Volume:
    """The volume with its contents larger by a factor, in voxels of the same size."""
    seen = _grid_about_the_middle(volume.geometry, scale, 1 / scale)
    return Volume(resample(volume, seen).array, magnified_grid(volume.geometry, scale))


def magnified_grid(source: Geometry, scale: float) -> Geometry:
    """Where a magnified volume lies: about the same middle, in voxels of the same size."""
    return _grid_about_the_middle(source, scale, 1.0)


def magnified_box(box: Box, source: Geometry, scale: float) -> Box:
    """The box around the same anatomy in a magnified volume."""
    middle = _middle(source)
    centre = middle + (np.array(box.centre) - middle) * scale
    sides = np.array(box.sides) * scale
    return Box.from_values({**box.as_values(), "centre": centre.tolist(), "sides": sides.tolist()})


def surroundings(box: Box, source: Geometry, scale: float) -> Box:
    """The box with as much around it as decides what is inside when that is magnified."""
    reach = interpolation_reach(source, _grid_about_the_middle(source, scale, 1 / scale))
    sides = np.array(box.sides) + 2 * reach * np.linalg.norm(source.spacing)
    return Box.from_values({**box.as_values(), "sides": sides.tolist()})


def _middle(geometry: Geometry) -> np.ndarray:
    return geometry.to_ras((geometry.size - 1) / 2)


def _grid_about_the_middle(source: Geometry, scale: float, spacing: float) -> Geometry:
    shape = tuple(max(1, round(n * scale)) for n in source.shape)
    matrix = np.eye(4)
    matrix[:3, :3] = source.ijk_to_ras[:3, :3] * spacing
    matrix[:3, 3] = _middle(source) - matrix[:3, :3] @ ((np.array(shape[::-1]) - 1) / 2)
    return Geometry((shape[0], shape[1], shape[2]), matrix)


def magnified_labels(labels: Volume, scale: float, classes: int) -> Volume:
    """Labels magnified like `magnified`: each class as a mask, then the largest."""
    masks = (magnified(mask, scale).array for mask in class_masks(labels, classes))
    return Volume(largest(masks), magnified_grid(labels.geometry, scale))


def class_masks(labels: Volume, classes: int) -> Iterator[Volume]:
    """Each class as a mask, the background first; one at a time, for all of them may not fit in memory."""
    return (Volume((labels.array == value).astype(np.float32), labels.geometry) for value in range(classes + 1))


def largest(masks: Iterator[np.ndarray]) -> np.ndarray:
    """For each voxel the number of the mask that is the largest there, the first of equal ones, with no more of them in
    memory than one and the largest so far."""
    most = next(masks)
    winner = np.zeros(most.shape, np.uint8)
    for number, mask in enumerate(masks, start=1):
        winner[mask > most] = number
        most = np.maximum(most, mask)
    return winner


def geometric_scales(low: float, high: float, steps: int) -> list[float]:
    """Scales each larger than the one before by the same factor, and 1, which everything is compared with."""
    return sorted({1.0, *(float(scale) for scale in np.geomspace(low, high, steps).round(3))})
