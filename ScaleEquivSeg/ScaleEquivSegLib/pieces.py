"""Of structures that are in one piece, the largest piece: what was found far from it is something else."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import SimpleITK as sitk

from .labelmap import box_around


def keep_largest(labels: np.ndarray, values: Sequence[int], before_each: Callable[[], None] = lambda: None) -> None:
    """Leave of each value the largest piece, in place; voxels that touch at a corner are of one piece."""
    for value in values:
        before_each()
        box = box_around(labels == value)
        if box is None:
            continue
        found = labels[box] == value
        numbered = sitk.ConnectedComponent(sitk.GetImageFromArray(found.astype(np.uint8)), True)
        pieces = sitk.GetArrayViewFromImage(numbered)
        sizes = np.bincount(pieces.ravel())
        sizes[0] = 0
        labels[box][found & (pieces != sizes.argmax())] = 0
