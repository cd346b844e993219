"""The same cases cut, placed, scanned and stored in other ways: what a bundle must not mind."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from ScaleEquivSegLib.bundles import Bundle
from ScaleEquivSegLib.volume import AxisOrder, Geometry, Volume, resample, working_geometry

from .preparation import labels_on

Pair = tuple[Volume, Volume]
"""An image and its labels, upright in the bundle's orientation."""
Change = Callable[[Pair, Bundle], Pair]


def upright(pair: Pair, bundle: Bundle) -> Pair:
    """A case with its axes in the order of the bundle's orientation."""
    image, labels = (AxisOrder.towards(v.geometry.direction, bundle.orientation).apply(v) for v in pair)
    return image, labels


def as_it_is(pair: Pair, bundle: Bundle) -> Pair:
    """Unchanged."""
    return pair


def mirrored(pair: Pair, bundle: Bundle) -> Pair:
    """Left for right."""
    axis = _left_right(bundle)
    image, labels = (np.flip(volume.array, axis) for volume in pair)
    swapped = np.array(bundle.mirrored_classes, np.uint8)
    return Volume(image, pair[0].geometry), Volume(swapped[labels], pair[1].geometry)


def both_sides(pair: Pair, bundle: Bundle) -> Pair:
    """Beside it its mirror image: one of each side."""
    image, labels = (
        Volume(
            array := np.concatenate([v.array, m.array], _left_right(bundle)),
            Geometry(array.shape, v.geometry.ijk_to_ras),
        )
        for v, m in zip(pair, mirrored(pair, bundle), strict=True)
    )
    return image, labels


def _left_right(bundle: Bundle) -> int:
    """The axis of the arrays (k, j, i) along which left turns into right."""
    return 2 - next(axis for axis, letter in enumerate(bundle.orientation) if letter in "RL")


def in_wider_view(mode: str) -> Change:
    """In a volume twice as large along each axis, in a corner of it, surrounded as `numpy.pad` does it."""

    def change(pair: Pair, bundle: Bundle) -> Pair:
        before = [n // 4 for n in pair[0].array.shape]
        margins = [(b, n - b) for b, n in zip(before, pair[0].array.shape, strict=True)]
        matrix = pair[0].geometry.ijk_to_ras.copy()
        matrix[:3, 3] = pair[0].geometry.to_ras(-np.array(before[::-1]))
        image = np.pad(pair[0].array, margins, mode)  # type: ignore[call-overload]
        labels = np.pad(pair[1].array, margins, "reflect" if mode == "reflect" else "constant")
        grid = Geometry(image.shape, matrix)
        return Volume(image, grid), Volume(labels, grid)

    return change


def off_centre(pair: Pair, bundle: Bundle) -> Pair:
    """Cut so that what is sought for lies at the border: a third of the background is gone at one end of each axis."""
    found = np.argwhere(pair[1].array > 0)
    if not len(found):
        return pair
    start = found.min(0)
    matrix = pair[0].geometry.ijk_to_ras.copy()
    matrix[:3, 3] = pair[0].geometry.to_ras(start[::-1])
    cut = tuple(slice(int(s), None) for s in start)
    shape = pair[0].array[cut].shape
    image, labels = (Volume(volume.array[cut], Geometry(shape, matrix)) for volume in pair)
    return image, labels


def in_other_numbers(pair: Pair, bundle: Bundle) -> Pair:
    """With values between 500 and 30500, as if another scanner had written them."""
    array = pair[0].array.astype(np.float64)
    span = max(float(np.ptp(array)), 1e-9)
    return Volume((500 + 30_000 * (array - array.min()) / span).astype(np.int16), pair[0].geometry), pair[1]


def in_voxels(*spacing: float) -> Change:
    """Scanned with voxels of another size."""

    def change(pair: Pair, bundle: Bundle) -> Pair:
        grid = working_geometry(pair[0].geometry, np.array(spacing))
        return resample(pair[0], grid), Volume(labels_on(pair[1], grid, len(bundle.labels)), grid)

    return change


CHANGES: Mapping[str, Change] = {
    "as_it_is": as_it_is,
    "mirrored": mirrored,
    "both_sides": both_sides,
    "wider_zero": in_wider_view("constant"),
    "wider_edge": in_wider_view("edge"),
    "wider_reflect": in_wider_view("reflect"),
    "off_centre": off_centre,
    "other_numbers": in_other_numbers,
    "spacing_0.7": in_voxels(0.7, 0.7, 0.7),
    "spacing_1.5": in_voxels(1.5, 1.5, 1.5),
    "spacing_0.7_0.7_1.5": in_voxels(0.7, 0.7, 1.5),
}
