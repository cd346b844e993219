"""Segment a volume at several scales: does the network find the same when the anatomy is larger or smaller?
Each scale is measured on the magnified grid, so that the figures compare what the network saw."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from .comparison import check_same_grid, dice_per_label
from .scaling import magnified, magnified_labels
from .segmentation import Model, Progress, Settings, segment
from .volume import Volume

SCALES = (0.5, 0.7, 1.0, 1.4, 2.0)


@dataclass(frozen=True)
class AtScale:
    """Dice by class name of what was found at one scale: with the unscaled result and, if given, with the reference."""

    scale: float
    with_itself: Mapping[str, float]
    with_reference: Mapping[str, float] | None


def scale_sweep(
    channels: Sequence[Volume],
    model: Model,
    scales: Sequence[float] = SCALES,
    reference: Volume | None = None,
    settings: Settings = Settings(),
    progress: Progress = lambda phase, fraction: None,
) -> list[AtScale]:
    """Segment the volume as it is and magnified by each factor; the reference must lie on the volume's grid."""
    if reference is not None:
        check_same_grid(channels[0], reference, "the volume", "the reference")
    unscaled = segment(channels, model, settings, _part(progress, "Unscaled", 0, len(scales) + 1)).labels
    results = []
    for number, scale in enumerate(scales, 1):
        part = _part(progress, f"Scale {scale:g}", number, len(scales) + 1)
        larger = []
        for channel in channels:
            part("Magnifying", 0.0)
            larger.append(magnified(channel, scale))
        found = segment(larger, model, settings, part).labels
        part("Comparing", 1.0)
        with_itself = _dice(found, unscaled, scale, model)
        with_reference = None if reference is None else _dice(found, reference, scale, model)
        results.append(AtScale(scale, with_itself, with_reference))
    return results


def _dice(found: Volume, unscaled: Volume, scale: float, model: Model) -> dict[str, float]:
    labels = model.bundle.labels
    return dice_per_label(found, magnified_labels(unscaled, scale, len(labels)), labels)


def _part(progress: Progress, phase: str, number: int, count: int) -> Progress:
    return lambda _, fraction: progress(phase, (number + fraction) / count)
