"""Whether volumes are what a bundle takes: what is refused with its reason, and what is mended with a note."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .bundles import Bundle, Channel
from .errors import UnsuitableVolume
from .shades import STORED_WATER, Hounsfield, stored_from_zero
from .volume import Geometry, Volume, looks_like_labels

LARGEST = 1e30
"""Beyond this a number is no measurement, and sums of such numbers leave the range of float32."""

NO_AIR = -200
"""In Hounsfield units: in CT without anything less there is no air, or its values are other numbers."""

COVERED = 0.99
"""A channel that covers less of the first one's box than this is worth a note."""


def suitable(
    channels: Sequence[Volume], hashes: Sequence[str], bundle: Bundle, replace_nonfinite: bool = False
) -> tuple[list[Volume], list[str]]:
    """The volumes as a bundle can take them, and notes on what is unusual about them."""
    names = [channel.name for channel in bundle.inputs]
    if len(channels) != len(names):
        raise UnsuitableVolume(f"{bundle.name} takes {len(names)} volume(s) ({', '.join(names)}), got {len(channels)}.")
    notes: list[str] = []
    checked = [checked_image(c, v, replace_nonfinite, notes) for c, v in zip(bundle.inputs, channels, strict=True)]
    return checked, [*notes, *notes_together(names, channels, hashes)]


def checked_image(channel: Channel, volume: Volume, replace_nonfinite: bool, notes: list[str]) -> Volume:
    """An image that has a place in the world, is no label map and is made of numbers, some of them mended if noted."""
    _check_grid(channel.name, volume.geometry)
    if looks_like_labels(volume.array):
        raise UnsuitableVolume(
            f"{channel.name} looks like a label map: it has a few whole numbers as values. "
            "Pick the image it was drawn on."
        )
    image = finite_image(channel.name, volume, replace_nonfinite, notes)
    if isinstance(channel.normalisation, Hounsfield) and image.array.min() >= NO_AIR:
        water = STORED_WATER if stored_from_zero(image.array) else 0.0
        notes.append(
            f"Nothing in {channel.name} is as dark as air in Hounsfield units; water is taken to be {water:g} in it."
        )
    return image


def notes_together(names: Sequence[str], channels: Sequence[Volume], hashes: Sequence[str]) -> list[str]:
    """Notes on how channels lie to each other; one image given twice, or no place in common, is an error."""
    for number, voxels in enumerate(hashes):
        first = hashes.index(voxels)
        if first < number and np.ptp(channels[number].array):  # blank images are all alike
            raise UnsuitableVolume(
                f"{names[first]} and {names[number]} are the same image; pick a different volume for each channel."
            )
    return [
        note
        for name, volume in zip(names[1:], channels[1:], strict=True)
        for note in _grid_notes(name, volume.geometry, names[0], channels[0].geometry)
    ]


def _check_grid(name: str, geometry: Geometry) -> None:
    if not np.isfinite(geometry.ijk_to_ras).all() or geometry.voxel_ml == 0:
        raise UnsuitableVolume(f"{name} has no usable place in the world: voxel size or position is zero or no number.")
    if np.abs(geometry.direction.T @ geometry.direction - np.eye(3)).max() > 1e-3:
        raise UnsuitableVolume(
            f"{name} lies on a sheared grid, its axes are not at right angles; resample it onto a straight one first."
        )


def finite_image(name: str, volume: Volume, replace: bool, notes: list[str]) -> Volume:
    """A volume of numbers alone; what is none is replaced and noted, or an error."""
    array = volume.array
    if not np.issubdtype(array.dtype, np.floating):
        return volume
    good = np.abs(array) < LARGEST
    bad = array.size - int(good.sum())
    if not bad:
        return volume
    if bad == array.size:
        raise UnsuitableVolume(f"All {bad} voxels of {name} are NaN or infinite; pick another volume.")
    if not replace:
        raise UnsuitableVolume(
            f"{name} has {bad} of {array.size} voxels that are NaN or infinite; "
            "replace them by a number, or ask for that to be done, then run again."
        )
    lowest = array[good].min()
    notes.append(f"{bad} voxels of {name} that were NaN or infinite were taken as its smallest value, {lowest:g}.")
    return Volume(np.where(good, array, lowest), volume.geometry)


def _grid_notes(name: str, geometry: Geometry, first_name: str, first: Geometry) -> list[str]:
    """What to say of a channel on another grid than the first one's."""
    if geometry.agrees_with(first):
        return []
    covered = _share_covered(first, geometry)
    if not covered:
        raise UnsuitableVolume(f"{name} and {first_name} have no place in common; pick volumes of one examination.")
    partly = f", of which it covers {covered:.0%}" if covered < COVERED else ""
    return [f"{name} lies on another grid than {first_name} and was resampled onto that one{partly}."]


def _share_covered(of: Geometry, by: Geometry) -> float:
    """How much of a grid's box lies in another's, by probing it at 20 x 20 x 20 points."""
    steps = (np.indices((20, 20, 20)).reshape(3, -1).T + 0.5) / 20
    points = of.to_ras(steps * of.size - 0.5)
    ijk = (points - by.ijk_to_ras[:3, 3]) @ np.linalg.inv(by.ijk_to_ras[:3, :3]).T
    return float(((ijk >= -0.5) & (ijk <= by.size - 0.5)).all(1).mean())
