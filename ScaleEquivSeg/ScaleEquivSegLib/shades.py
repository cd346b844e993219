"""How the values of a channel become the shades that a network is shown: by percentiles of the volume, or by what
Hounsfield units mean. Computed on a whole volume, applied to parts of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

FARTHEST = 10.0
"""Values more ranges than this from the level are shown as if they were this far: one voxel gone wrong, a hundred times
brighter than all others, must not be all that the network sees."""

AIR, METAL = -1000.0, 2000.0
"""In Hounsfield units: what is less or more, such as the padding around a scan, is shown as if it were this."""

FAT, DENSE = -50.0, 300.0
"""In Hounsfield units: what is less is fat or darker; hardly anything but bone and metal is more."""

STORED_WATER = 1000.0
"""What water is where CT is stored without its rescale intercept, in whole numbers from zero."""


@dataclass(frozen=True)
class Shades:
    """Shades of values: straight lines between knots, level outside them."""

    values: tuple[float, ...]
    shown: tuple[float, ...]

    def __call__(self, array: np.ndarray) -> np.ndarray:
        return np.interp(array, self.values, self.shown).astype(np.float32)


@dataclass(frozen=True)
class Percentiles:
    """The percentiles of the volume that become 0 and 1; any linear scale of values is as good as any other.

    What surrounds the scan has no say: the same anatomy has the same shades in a wider view.
    """

    low: float
    high: float

    def of(self, array: np.ndarray) -> Shades:
        """The shades for a volume, judged by a sample of some million voxels."""
        sample = _sample(array)
        scanned = sample[sample > _surroundings(sample)]
        if not scanned.size or scanned.min() == scanned.max():
            scanned = sample
        low, high = np.percentile(scanned, (self.low, self.high)).tolist()
        span = high - low or float(np.ptp(scanned)) or 1.0
        return Shades((low - FARTHEST * span, low + FARTHEST * span), (-FARTHEST, FARTHEST))


@dataclass(frozen=True)
class Hounsfield:
    """A window of CT that takes the middle half of the shades from 0 to 1, air and metal at their ends: soft tissues
    differ by some tens of units in three thousand. The same tissue has the same shade in every volume."""

    low: float
    high: float

    def of(self, array: np.ndarray) -> Shades:
        """The shades for a volume."""
        water = STORED_WATER if stored_from_zero(array) else 0.0
        knots = [water + units for units in (AIR, self.low, self.high, METAL)]
        return Shades(tuple(knots), (0.0, 0.25, 0.75, 1.0))


Normalisation = Percentiles | Hounsfield


def read_normalisation(entry: Mapping[str, Sequence[float]]) -> Normalisation:
    """What a card says of a channel, whose form is known to be right."""
    ((kind, (low, high)),) = entry.items()
    if low >= high:
        raise ValueError(f"{kind} {low:g}, {high:g} must rise")
    return (Percentiles if kind == "percentiles" else Hounsfield)(float(low), float(high))


def stored_from_zero(array: np.ndarray) -> bool:
    """Whether CT is in the scanner's whole numbers and not in Hounsfield units: nothing in it is as dark as fat, and
    most of what is denser than soft tissue would be bone as dense as soft tissue is in those numbers.

    The air around the body, which may be all zero or noise, has no say.
    """
    sample = _sample(array)
    dense = sample[sample > DENSE]
    stored = np.abs(dense - STORED_WATER) < 200
    return bool(sample.min() >= FAT and dense.size >= 0.01 * sample.size and stored.mean() > 0.5)


def _surroundings(sample: np.ndarray) -> Any:
    """The value of what surrounds a scan: the least, or one that a tenth of the voxels have and hardly any falls below,
    where resampling has left a few darker ones."""
    values, counts = np.unique(sample, return_counts=True)
    commonest = int(counts.argmax())
    filled = counts[commonest] >= 0.1 * sample.size and counts[:commonest].sum() <= 0.01 * sample.size
    return values[commonest if filled else 0]


def _sample(array: np.ndarray) -> Any:
    step = max(1, round((array.size / 2e6) ** (1 / 3)))
    return array[::step, ::step, ::step]
