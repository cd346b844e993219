"""The same cases cut, placed, scanned and stored in other ways: what a bundle must not mind."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ScaleEquivSegLib.bundles import Bundle, left_right_axis, read_bundle
from ScaleEquivSegLib.labelmap import box_around
from ScaleEquivSegLib.segmentation import Model, load_model, segment
from ScaleEquivSegLib.shades import Hounsfield
from ScaleEquivSegLib.volume import AxisOrder, Geometry, Volume, resample, working_geometry

from .cases import LabelledCase, told_of
from .config import CaseData, labelling
from .evaluate import Row, chosen_cases, rows_of, summary, trained_on, vanished
from .preparation import Task, in_native_voxels, labels_on, read_labels, unlabelled_classes
from .progress import followed
from .reading import read_channels


@dataclass(frozen=True)
class Scan:
    """The channels and the classes of a case on one grid, its axes as the bundle's orientation has them."""

    channels: tuple[Volume, ...]
    labels: Volume
    left_out: frozenset[int] = frozenset()
    """The classes that nobody looked for in the case, or of which a change has left nothing."""

    @property
    def geometry(self) -> Geometry:
        return self.labels.geometry

    def each(self, of_channel: Callable[[Volume], Volume], of_labels: Callable[[Volume], Volume]) -> Scan:
        channels = tuple(of_channel(channel) for channel in self.channels)
        return replace(self, channels=channels, labels=of_labels(self.labels))

    def without(self, classes: Iterable[int]) -> Scan:
        return replace(self, left_out=self.left_out.union(classes))


Change = Callable[[Scan, Bundle], Scan]


def as_it_is(scan: Scan, bundle: Bundle) -> Scan:
    """Unchanged."""
    return scan


def mirrored(scan: Scan, bundle: Bundle) -> Scan:
    """Left for right."""
    axis, swapped = _left_right(bundle), np.array(bundle.mirrored_classes, np.uint8)
    turned = scan.each(
        lambda channel: Volume(np.flip(channel.array, axis), channel.geometry),
        lambda labels: Volume(swapped[np.flip(labels.array, axis)], labels.geometry),
    )
    return replace(turned, left_out=frozenset(swapped[list(scan.left_out)].tolist()))


def both_sides(scan: Scan, bundle: Bundle) -> Scan:
    """Beside it its mirror image: one of each side."""
    other = mirrored(scan, bundle)

    def joined(one: Volume, two: Volume) -> Volume:
        array = np.concatenate([one.array, two.array], _left_right(bundle))
        return Volume(array, Geometry(array.shape, one.geometry.ijk_to_ras))

    channels = tuple(joined(*pair) for pair in zip(scan.channels, other.channels, strict=True))
    return Scan(channels, joined(scan.labels, other.labels), scan.left_out | other.left_out)


def _left_right(bundle: Bundle) -> int:
    """The axis of the arrays (k, j, i) along which left turns into right."""
    return 2 - left_right_axis(bundle.orientation)


def in_wider_view(scan: Scan, bundle: Bundle) -> Scan:
    """In a volume twice as large along each axis, nearer to one corner of it; the smallest value surrounds it."""
    shape = scan.labels.array.shape
    before = [n // 4 for n in shape]
    grid = _shifted(scan.geometry, [-n for n in before], [2 * n for n in shape])
    inside = tuple(slice(b, b + n) for b, n in zip(before, shape, strict=True))

    def surrounded(volume: Volume) -> Volume:
        array = np.full(grid.shape, volume.array.min())
        array[inside] = volume.array
        return Volume(array, grid)

    return scan.each(surrounded, surrounded)


def off_centre(scan: Scan, bundle: Bundle) -> Scan:
    """Cut so that what is sought lies at the border: nothing is left before it along each axis."""
    box = box_around(scan.labels.array)
    first = [part.start for part in box] if box else [0, 0, 0]
    rest = [n - start for n, start in zip(scan.labels.array.shape, first, strict=True)]
    grid = _shifted(scan.geometry, first, rest)

    def cut(volume: Volume) -> Volume:
        return Volume(volume.array[first[0] :, first[1] :, first[2] :], grid)

    return scan.each(cut, cut)


def _shifted(geometry: Geometry, first: list[int], shape: list[int]) -> Geometry:
    """The grid that begins at an index (k, j, i) of another one."""
    matrix = geometry.ijk_to_ras.copy()
    matrix[:3, 3] = geometry.to_ras(np.array(first[::-1]))
    return Geometry((shape[0], shape[1], shape[2]), matrix)


def in_other_numbers(scan: Scan, bundle: Bundle) -> Scan:
    """With whole numbers between 500 and 30500, as if another scanner had written them."""

    def rescaled(channel: Volume) -> Volume:
        array = channel.array.astype(np.float64)
        span = max(float(np.ptp(array)), 1e-9)
        return Volume((500 + 30_000 * (array - array.min()) / span).astype(np.int16), channel.geometry)

    return scan.each(rescaled, lambda labels: labels)


def in_voxels_of(factor: tuple[float, float, float]) -> Change:
    """Scanned with voxels so many times larger along i, j, k."""

    def change(scan: Scan, bundle: Bundle) -> Scan:
        grid = working_geometry(scan.geometry, scan.geometry.spacing * factor)
        classes = len(bundle.labels)
        coarser = scan.each(
            lambda channel: resample(channel, grid),
            lambda labels: Volume(labels_on(labels, grid, classes), grid),
        )
        return coarser.without(vanished(scan.labels, coarser.labels))

    return change


CHANGES: Mapping[str, Change] = {
    "as_it_is": as_it_is,
    "mirrored": mirrored,
    "both_sides": both_sides,
    "wider_view": in_wider_view,
    "off_centre": off_centre,
    "other_numbers": in_other_numbers,
    "voxels_x0.7": in_voxels_of((0.7, 0.7, 0.7)),
    "voxels_x1.5": in_voxels_of((1.5, 1.5, 1.5)),
    "slices_x2": in_voxels_of((0.7, 0.7, 1.4)),
}


def robustness(
    bundle_folder: Path, data: Path, split: str | None = None, splits: Path | None = None
) -> dict[str, float]:
    """Mean Dice after each change, and of the worst case, as `evaluate` has them; where nothing is left, no figure."""
    bundle = read_bundle(bundle_folder)
    model = load_model(bundle)
    meant = replace(labelling(trained_on(bundle)), folder=data, splits=splits)
    cases = chosen_cases(bundle, meant, data, split)
    changes = changes_for(bundle)
    rows: dict[str, list[Row]] = {name: [] for name in changes}
    for case in followed(cases, "measuring"):
        with told_of(case.name):
            scan = _upright(case, meant, bundle)
            for name, change in changes.items():
                rows[name] += _measured(case.name, change(scan, bundle), model, meant)
    figures = {"cases": float(len(cases))}
    for name in changes:
        means = summary(rows[name])
        for mean, key in (("dice.mean@1", f"dice.{name}"), ("dice.worst_case@1", f"dice.{name}.worst_case")):
            figures |= {key: means[mean]} if mean in means else {}
    return figures


def changes_for(bundle: Bundle) -> dict[str, Change]:
    """All changes that a bundle must not mind: the numbers of CT have a meaning."""
    is_ct = any(isinstance(channel.normalisation, Hounsfield) for channel in bundle.inputs)
    return {name: change for name, change in CHANGES.items() if not (is_ct and change is in_other_numbers)}


def _upright(case: LabelledCase, meant: CaseData, bundle: Bundle) -> Scan:
    channels = read_channels(case)
    geometry = channels[0].geometry
    task = Task.from_card(bundle.card)
    labels = Volume(read_labels(case, meant, task).array, geometry)
    order = AxisOrder.towards(geometry.direction, bundle.orientation)
    upright = Scan(tuple(order.apply(resample(channel, geometry)) for channel in channels), order.apply(labels))
    return upright.without(unlabelled_classes(labels, meant, task))


def _measured(case: str, scan: Scan, model: Model, meant: CaseData) -> list[Row]:
    shown = in_native_voxels(scan.channels, model.bundle) if meant.native_voxels else scan.channels
    found = Volume(segment(shown, model).labels.array, scan.geometry)
    names = {label.value: label.name for label in model.bundle.labels}
    return list(rows_of(case, 1.0, found, scan.labels, names, scan.left_out))
