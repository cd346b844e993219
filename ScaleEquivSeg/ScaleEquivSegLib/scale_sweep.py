"""Segment a volume at several scales: does the network find the same when the anatomy is larger or smaller?
Each scale is measured on the magnified grid, so that the figures compare what the network saw."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from .comparison import check_same_grid, dice_per_label
from .errors import BadRegion
from .inputs import finite_image
from .roi import Box
from .scaling import magnified, magnified_box, magnified_grid, magnified_labels, surroundings
from .segmentation import Model, Progress, Settings, segment
from .volume import Geometry, Volume


@dataclass(frozen=True)
class AtScale:
    """Dice by class name of what was found at one scale: with the unscaled result and, if given, with the reference."""

    scale: float
    with_itself: Mapping[str, float]
    with_reference: Mapping[str, float] | None


def scale_sweep(
    channels: Sequence[Volume],
    model: Model,
    scales: Sequence[float],
    reference: Volume | None = None,
    settings: Settings = Settings(),
    progress: Progress = lambda phase, fraction: None,
    roi: Box | None = None,
) -> list[AtScale]:
    """Segment the volume as it is and magnified by each factor; the reference must lie on the volume's grid.

    With a region of interest the figures are of what lies in it, which is magnified with all the rest; the context
    around is still seen.
    """
    if reference is not None:
        check_same_grid(channels[0], reference, "the volume", "the reference")
    boxes = [_magnified_region(roi, channels[0].geometry, scale) for scale in scales]
    around = None if roi is None else surroundings(roi, channels[0].geometry, min(scales))
    voxels = np.array([1.0, *scales]) ** 3  # what takes time; a region is magnified, too
    ends = np.cumsum(voxels) / voxels.sum()
    unscaled = segment(channels, model, settings, _part(progress, "Unscaled", 0.0, ends[0]), around).labels
    # Magnified, what is no number would make none of its neighbours.
    channels = [finite_image(c.name, v, True, []) for c, v in zip(model.bundle.inputs, channels, strict=True)]
    results = []
    for scale, box, begin, end in zip(scales, boxes, ends, ends[1:], strict=False):
        part = _part(progress, f"Scale {scale:g}", begin, end)
        larger = []
        for channel in channels:
            part("Magnifying", 0.0)
            larger.append(magnified(channel, scale))
        found = segment(larger, model, settings, part, box).labels
        part("Comparing", 1.0)
        with_itself = _dice(found, unscaled, scale, box, model)
        with_reference = None if reference is None else _dice(found, reference, scale, box, model)
        results.append(AtScale(scale, with_itself, with_reference))
    return results


def _magnified_region(roi: Box | None, geometry: Geometry, scale: float) -> Box | None:
    """The region in the magnified volume; one that is too thin to hold a voxel there is an error, before the work."""
    if roi is None:
        return None
    box = magnified_box(roi, geometry, scale)
    try:
        box.voxels_in(magnified_grid(geometry, scale))
    except BadRegion as error:
        raise BadRegion(f"At scale {scale:g}: {error}") from error
    return box


def _dice(found: Volume, unscaled: Volume, scale: float, box: Box | None, model: Model) -> dict[str, float]:
    labels = model.bundle.labels
    expected = magnified_labels(unscaled, scale, len(labels))
    return dice_per_label(found, expected if box is None else _inside(box, expected), labels)


def _inside(box: Box, labels: Volume) -> Volume:
    """The labels in a box, background around it."""
    (i, j, k), inside = box.voxels_in(labels.geometry)
    part, kept = np.ix_(k, j, i), np.zeros_like(labels.array)
    kept[part] = labels.array[part] * inside
    return Volume(kept, labels.geometry)


def _part(progress: Progress, phase: str, begin: float, end: float) -> Progress:
    return lambda _, fraction: progress(phase, float(begin + fraction * (end - begin)))
