"""Of structures that are in one piece, the largest piece: what was found far from it is something else."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import SimpleITK as sitk


def keep_largest(labels: np.ndarray, values: Sequence[int], before_each: Callable[[], None] = lambda: None) -> None:
    """Leave of each value the largest piece, in place; voxels that touch at a corner are of one piece."""
    for value in values:
        before_each()
        box = _bounds(labels == value)
        if box is None:
            continue
        found = labels[box] == value
        numbered = sitk.ConnectedComponent(sitk.GetImageFromArray(found.astype(np.uint8)), True)
        pieces = sitk.GetArrayViewFromImage(numbered)
        sizes = np.bincount(pieces.ravel())
        sizes[0] = 0
        labels[box][found & (pieces != sizes.argmax())] = 0


def _bounds(found: np.ndarray) -> tuple[slice, ...] | None:
    """The box that holds all there is, None if there is nothing."""
    box = []
    for axis in range(found.ndim):
        along = np.flatnonzero(found.any(axis=tuple(other for other in range(found.ndim) if other != axis)))
        if not along.size:
            return None
        box.append(slice(int(along[0]), int(along[-1]) + 1))
    return tuple(box)
