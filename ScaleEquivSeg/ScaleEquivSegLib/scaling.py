"""Magnify volumes and labels: the same anatomy larger or smaller, in voxels of the same size.
What a network makes of it shows whether the size of an object matters to it."""

from __future__ import annotations

import numpy as np

from .volume import Geometry, Volume, resample


def magnified(volume: Volume, scale: float) -> Volume:
    """The volume with its contents larger by a factor, in voxels of the same size."""
    source = volume.geometry
    shape = tuple(max(1, round(n * scale)) for n in source.shape)
    centre = source.to_ras((source.size - 1) / 2)

    def grid(spacing: float) -> Geometry:
        matrix = np.eye(4)
        matrix[:3, :3] = source.ijk_to_ras[:3, :3] * spacing
        matrix[:3, 3] = centre - matrix[:3, :3] @ ((np.array(shape[::-1]) - 1) / 2)
        return Geometry((shape[0], shape[1], shape[2]), matrix)

    return Volume(resample(volume, grid(1 / scale)).array, grid(1.0))


def magnified_labels(labels: Volume, scale: float, classes: int) -> Volume:
    """Labels magnified like `magnified`: each class as a mask, then the largest."""
    one_hot = [
        magnified(Volume((labels.array == value).astype(np.float32), labels.geometry), scale)
        for value in range(classes + 1)
    ]
    return Volume(np.stack([mask.array for mask in one_hot]).argmax(0).astype(np.uint8), one_hot[0].geometry)


def geometric_scales(low: float, high: float, steps: int) -> list[float]:
    """Scales each larger than the one before by the same factor, and 1, which everything is compared with."""
    return sorted({1.0, *(float(scale) for scale in np.geomspace(low, high, steps).round(3))})
