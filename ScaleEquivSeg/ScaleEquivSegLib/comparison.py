"""How far two segmentations of the same grid agree."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from .bundles import Label
from .errors import UnsuitableVolume
from .volume import Volume


def dice(a: np.ndarray, b: np.ndarray) -> float:
    """2 |A and B| / (|A| + |B|) of two masks; 1 where both are empty."""
    total = int(a.sum()) + int(b.sum())
    return 2 * int((a & b).sum()) / total if total else 1.0


def dice_per_label(a: Volume, b: Volume, labels: Iterable[Label]) -> dict[str, float]:
    """Dice of each class by name; the two must lie on the same grid."""
    if not a.geometry.agrees_with(b.geometry):
        raise UnsuitableVolume(
            "The two segmentations lie on different grids; resample one onto the other's volume first."
        )
    return {label.name: dice(a.array == label.value, b.array == label.value) for label in labels}
