"""How far two label volumes on one grid agree: overlap, distances, volumes, maps and regions of disagreement.
Masks and labels are arrays (k, j, i); distances are in millimetres."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
import SimpleITK as sitk

from .bundles import Label
from .errors import UnsuitableVolume
from .labelmap import box_around
from .volume import AxisOrder, Geometry, Volume

TOLERANCE_MM = 1.0
"""Surfaces this close count as the same in the surface Dice, unless told otherwise."""


Check = Callable[[], None]
"""Called often in what takes long; stops it by raising."""


def _go_on() -> None:
    pass


class Agreement(IntEnum):
    """What a voxel of an agreement map says. Against a reference B: false positive, false negative, true positive."""

    NONE = 0
    ONLY_A = 1
    ONLY_B = 2
    BOTH = 3
    OTHER_CLASS = 4
    """Both have found something there, but not the same."""


_TISSUE = {"category": ("85756007", "SCT", "Tissue"), "type": ("85756007", "SCT", "Tissue")}
_COLORS = ((230, 159, 0), (0, 114, 178), (0, 158, 115), (204, 121, 167))
"""Told apart by the colour-blind, too (Okabe and Ito)."""


def _map_labels(*names: str) -> tuple[Label, ...]:
    return tuple(
        Label(value, name, color, _TISSUE) for value, (name, color) in enumerate(zip(names, _COLORS, strict=True), 1)
    )


AGREEMENT_LABELS = _map_labels("Only A", "Only B", "Both", "Different classes")
ERROR_LABELS = _map_labels("False positive", "False negative", "True positive", "Wrong class")
"""What the values of an agreement map mean if B is the reference."""


@dataclass(frozen=True)
class ClassAgreement:
    """How far two segmentations agree on one class."""

    dice: float
    hd95: float
    surface_dice: float
    ml_a: float
    ml_b: float


@dataclass(frozen=True)
class Region:
    """A connected piece of disagreement; its centre of mass is in RAS."""

    voxels: int
    ml: float
    centre: tuple[float, float, float]


@dataclass(frozen=True)
class Comparison:
    """All figures of two segmentations, class by class, and where they differ, the largest region first."""

    classes: Mapping[str, ClassAgreement]
    regions: Sequence[Region]
    geometry: Geometry

    def figures(self, regions_at_most: int) -> dict[str, float]:
        """All of it, flat."""
        flat = figures(self.classes, self.geometry)
        for name, row in self.classes.items():
            flat |= {f"ml.{name}.a": row.ml_a, f"ml.{name}.b": row.ml_b}
        return flat | region_figures(self.regions, regions_at_most)


def check_same_grid(a: Volume, b: Volume, name_a: str = "one segmentation", name_b: str = "the other") -> None:
    """Refuse volumes that cannot be compared voxel by voxel."""
    if not a.geometry.agrees_with(b.geometry):
        raise UnsuitableVolume(
            f"The two lie on different grids: {name_a} {_described(a.geometry)}, {name_b} {_described(b.geometry)}"
            f"{_apart(a.geometry, b.geometry)}; resample one onto the other's volume first."
        )


def laid_like(volume: Volume, geometry: Geometry) -> Volume:
    """The same voxels with their axes in the order of another grid's: programs store one grid in different orders."""
    return AxisOrder.like(volume.geometry.direction, geometry.direction).apply(volume)


def _described(geometry: Geometry) -> str:
    size = " x ".join(str(n) for n in geometry.size)
    spacing = " x ".join(f"{s:g}" for s in geometry.spacing.round(4))
    corner = ", ".join(f"{x:g}" for x in geometry.ijk_to_ras[:3, 3].round(3))
    return f"has {size} voxels of {spacing} mm from ({corner})"


def _apart(a: Geometry, b: Geometry) -> str:
    """How far grids of one shape lie apart, which may be turned and described alike."""
    if a.shape != b.shape:
        return ""
    distance = float(np.linalg.norm(a.corners() - b.corners(), axis=1).max())
    return f", and their corners lie up to {distance:.4g} mm apart"


def dice(a: np.ndarray, b: np.ndarray) -> float:
    """2 |A and B| / (|A| + |B|) of two masks; 1 where both are empty."""
    total = int(a.sum()) + int(b.sum())
    return 2 * int((a & b).sum()) / total if total else 1.0


def dice_per_label(a: Volume, b: Volume, labels: Iterable[Label]) -> dict[str, float]:
    """Dice of each class by name; the two must lie on the same grid."""
    check_same_grid(a, b)
    return {label.name: dice(a.array == label.value, b.array == label.value) for label in labels}


def surface_distances(
    a: np.ndarray, b: np.ndarray, spacing: np.ndarray, check: Check = _go_on
) -> tuple[np.ndarray, np.ndarray]:
    """Distances from A's surface voxels to the nearest of B's, and back; infinite where the other mask is empty.

    A surface voxel has one of its six neighbours outside the mask or outside the grid. Spacing counts i, j, k.
    """
    box = box_around(a | b)
    if box is None:
        return np.empty(0), np.empty(0)
    check()
    of_a, of_b = (_surface(np.pad(mask[box], 1)) for mask in (a, b))
    check()
    return _distance_to(of_b, spacing, check)[of_a], _distance_to(of_a, spacing, check)[of_b]


def _surface(mask: np.ndarray) -> np.ndarray:
    inside = mask.copy()
    for axis in range(3):
        # The mask has an empty margin, so what is rolled in from the other end is empty, too.
        inside &= np.roll(mask, 1, axis) & np.roll(mask, -1, axis)
    return mask & ~inside


def _distance_to(surface: np.ndarray, spacing: np.ndarray, check: Check) -> np.ndarray:
    if not surface.any():
        return np.full(surface.shape, np.inf)
    image = sitk.GetImageFromArray(surface.astype(np.uint8))
    image.SetSpacing(spacing.tolist())
    distances = sitk.SignedMaurerDistanceMapImageFilter()
    distances.SetSquaredDistance(False)
    distances.SetUseImageSpacing(True)
    return np.abs(_filtered(distances, image, check))


def _filtered(maker: sitk.ImageFilter, image: sitk.Image, check: Check) -> np.ndarray:
    """What a filter makes of an image, unless the check stops it: what it raises cannot pass through ITK."""
    stops: list[Exception] = []

    def ask() -> None:
        try:
            check()
        except Exception as stop:
            stops.append(stop)
            maker.Abort()

    maker.AddCommand(sitk.sitkProgressEvent, ask)
    try:
        made = maker.Execute(image)
    except RuntimeError:
        if not stops:
            raise
    if stops:
        raise stops[0]
    return sitk.GetArrayFromImage(made)


def hausdorff95(there: np.ndarray, back: np.ndarray) -> float:
    """The larger of the 95th percentiles of both ways' surface distances.

    0 where both masks are empty, as their Dice is 1; infinite where one is.
    """
    if not there.size and not back.size:
        return 0.0
    if not there.size or not back.size:
        return math.inf
    return float(max(np.percentile(there, 95), np.percentile(back, 95)))


def surface_dice(there: np.ndarray, back: np.ndarray, tolerance_mm: float) -> float:
    """The share of both surfaces within a tolerance of the other; 1 where both masks are empty, 0 where one is."""
    total = there.size + back.size
    # Distances are single precision: one that equals the tolerance must not fail by its last digit.
    limit = tolerance_mm * (1 + 1e-5)
    return (int((there <= limit).sum()) + int((back <= limit).sum())) / total if total else 1.0


def compare_masks(
    a: np.ndarray, b: np.ndarray, geometry: Geometry, tolerance_mm: float = TOLERANCE_MM, check: Check = _go_on
) -> ClassAgreement:
    """All figures of two masks on one grid."""
    there, back = surface_distances(a, b, geometry.spacing, check)
    return ClassAgreement(
        dice=dice(a, b),
        hd95=hausdorff95(there, back),
        surface_dice=surface_dice(there, back, tolerance_mm),
        ml_a=int(a.sum()) * geometry.voxel_ml,
        ml_b=int(b.sum()) * geometry.voxel_ml,
    )


def compare_classes(
    a: Volume, b: Volume, names: Mapping[int, str], tolerance_mm: float = TOLERANCE_MM, check: Check = _go_on
) -> dict[str, ClassAgreement]:
    """All figures of each class by name; the two must lie on the same grid."""
    check_same_grid(a, b)
    return {
        name: compare_masks(a.array == value, b.array == value, a.geometry, tolerance_mm, check)
        for value, name in names.items()
    }


def compare(
    a: Volume, b: Volume, names: Mapping[int, str], tolerance_mm: float = TOLERANCE_MM, check: Check = _go_on
) -> Comparison:
    """How far two segmentations agree on each class, and where they differ."""
    classes = compare_classes(a, b, names, tolerance_mm, check)
    return Comparison(classes, disagreement_regions(a, b, check), a.geometry)


def mean_hd95(values: Iterable[float], geometry: Geometry) -> float:
    """Mean distance in which an infinite one counts as the grid's diagonal: to miss an object is never better than to
    find it badly, and one object missed does not hide all others."""
    diagonal = float(np.linalg.norm(geometry.size * geometry.spacing))
    finite = [min(value, diagonal) for value in values]
    return sum(finite) / len(finite) if finite else math.nan


def means(classes: Iterable[ClassAgreement], geometry: Geometry) -> dict[str, float]:
    """Means of all figures over classes."""
    rows = list(classes)
    return {
        "dice": float(np.mean([row.dice for row in rows])),
        "hd95": mean_hd95([row.hd95 for row in rows], geometry),
        "surface_dice": float(np.mean([row.surface_dice for row in rows])),
    }


def figures(classes: Mapping[str, ClassAgreement], geometry: Geometry) -> dict[str, float]:
    """All figures of all classes and their means, flat: `dice.Head`, `hd95.mean`, ..."""
    flat: dict[str, float] = {}
    for name, row in classes.items():
        flat |= {f"dice.{name}": row.dice, f"hd95.{name}": row.hd95, f"surface_dice.{name}": row.surface_dice}
    if classes:
        flat |= {f"{key}.mean": value for key, value in means(classes.values(), geometry).items()}
    return flat


def agreement_map(a: Volume, b: Volume, value: int | None = None, check: Check = _go_on) -> Volume:
    """Where A and B have a class, as `Agreement` (uint8); any class without a value."""
    check_same_grid(a, b)
    codes = np.zeros(a.array.shape, np.uint8)
    for plane, of_a, of_b in zip(codes, a.array, b.array, strict=True):
        check()
        in_a, in_b = (of_a != 0, of_b != 0) if value is None else (of_a == value, of_b == value)
        plane[in_a & ~in_b] = Agreement.ONLY_A
        plane[in_b & ~in_a] = Agreement.ONLY_B
        plane[in_a & in_b] = Agreement.BOTH
        if value is None:
            plane[in_a & in_b & (of_a != of_b)] = Agreement.OTHER_CLASS
    return Volume(codes, a.geometry)


def confusion_matrix(found: Volume, reference: Volume, values: Iterable[int]) -> np.ndarray:
    """Voxels by class of the reference (rows) and class found (columns): the background first, then some values."""
    check_same_grid(found, reference)
    chosen = [0, *values]
    count = len(chosen) + 1  # the last takes all other values
    position = np.full(1 + max(*chosen, int(found.array.max()), int(reference.array.max())), count - 1)
    position[chosen] = np.arange(count - 1)
    matrix = np.zeros(count**2, np.int64)
    for true, seen in zip(reference.array, found.array, strict=True):  # a plane at a time, as indices take much memory
        matrix += np.bincount((position[true] * count + position[seen]).ravel(), minlength=count**2)
    return matrix.reshape(count, count)[:-1, :-1]


def confusion_figures(found: Volume, reference: Volume, names: Mapping[int, str]) -> dict[str, float]:
    """The confusion matrix, flat: `confusion.CLASS OF THE REFERENCE.CLASS FOUND` in voxels."""
    matrix = confusion_matrix(found, reference, names)
    titles = ["background", *names.values()]
    return {
        f"confusion.{row}.{column}": float(matrix[i, j])
        for i, row in enumerate(titles)
        for j, column in enumerate(titles)
    }


def disagreement_regions(a: Volume, b: Volume, check: Check = _go_on) -> list[Region]:
    """Connected pieces in which two segmentations differ, the largest first; corners connect."""
    check_same_grid(a, b)
    differing = a.array != b.array
    box = box_around(differing)
    if box is None:
        return []
    connect = sitk.ConnectedComponentImageFilter()
    connect.FullyConnectedOn()
    components = _filtered(connect, sitk.GetImageFromArray(differing[box].astype(np.uint8)), check)
    where = np.nonzero(components)
    number = components[where].astype(np.int64) - 1
    voxels = np.bincount(number)
    ijk = [np.bincount(number, index) / voxels + part.start for index, part in zip(where, box, strict=True)][::-1]
    centres = a.geometry.to_ras(np.stack(ijk, axis=1))
    ml = a.geometry.voxel_ml
    return [
        Region(int(voxels[n]), int(voxels[n]) * ml, (float(centres[n, 0]), float(centres[n, 1]), float(centres[n, 2])))
        for n in np.argsort(-voxels, kind="stable")
    ]


def region_figures(regions: Sequence[Region], most: int) -> dict[str, float]:
    """How many regions there are and in all how large, and the largest ones, flat."""
    flat = {"disagreement_regions": float(len(regions)), "disagreement_ml": sum(region.ml for region in regions)}
    for number, region in enumerate(regions[:most], 1):
        flat |= {f"region.{number}.ml": region.ml, f"region.{number}.voxels": float(region.voxels)}
        flat |= {f"region.{number}.{axis}": x for axis, x in zip("ras", region.centre, strict=True)}
    return flat
