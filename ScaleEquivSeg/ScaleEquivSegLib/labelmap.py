"""Label volumes with the names of their classes, as `.seg.nrrd` files keep them.
Two files may count the same classes differently; here they are brought to one numbering by name."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from .bundles import LARGEST_LABEL, Label
from .errors import UnreadableVolume, UnsuitableVolume
from .names import itk_name
from .volume import Geometry, Volume, read_volume

MOST_CLASSES = 256
"""A volume with more different values is taken for an image."""


@dataclass(frozen=True, eq=False)
class Labelmap:
    """Labels, the values among them but 0, and the names of those that have one."""

    volume: Volume
    values: tuple[int, ...]
    names: Mapping[int, str]


def read_labelmap(path: Path, check: Callable[[], None] = lambda: None) -> Labelmap:
    """Read labels from any file that holds a volume; class names from the segments of a `.seg.nrrd`.

    The check is called often and stops it by raising.
    """
    volume = read_volume(path)
    low, high = float(volume.array.min()), float(volume.array.max())
    if not (low >= 0 and high <= LARGEST_LABEL):  # false for NaN, too
        raise UnsuitableVolume(
            f"{path} has values from {low:g} to {high:g}; labels are whole numbers from 0 to {LARGEST_LABEL}. "
            "Pick a segmentation."
        )
    present = np.zeros(LARGEST_LABEL + 1, bool)
    labels = np.empty(volume.array.shape, np.uint16)
    for plane, values in zip(labels, volume.array, strict=True):
        check()
        plane[:] = values
        if not np.array_equal(plane, values):
            raise UnsuitableVolume(f"{path} has fractions among its values; pick a segmentation, not an image.")
        present[plane] = True
    if present.sum() > MOST_CLASSES:
        raise UnsuitableVolume(f"{path} has {int(present.sum())} different values; pick a segmentation, not an image.")
    found = tuple(int(value) for value in np.flatnonzero(present) if value)
    return Labelmap(Volume(labels, volume.geometry), found, segment_names(path))


def segment_names(path: Path) -> dict[int, str]:
    """The names that a file gives to its values: none, if it is no segmentation."""
    if Path(path).is_dir():
        return {}
    reader = sitk.ImageFileReader()
    reader.SetFileName(itk_name(path))
    reader.ReadImageInformation()
    keys = set(reader.GetMetaDataKeys())
    names: dict[int, str] = {}
    number = 0
    while f"Segment{number}_Name" in keys and f"Segment{number}_LabelValue" in keys:
        value = reader.GetMetaData(f"Segment{number}_LabelValue").strip()
        if not value.isdecimal():
            raise UnreadableVolume(f"{path} gives segment {number} the value {value!r}, which is no label.")
        names[int(value)] = reader.GetMetaData(f"Segment{number}_Name")
        number += 1
    # Slicer lets two segments have the same name.
    often = Counter(map(class_key, names.values()))
    return {value: name if often[class_key(name)] == 1 else f"{name} ({value})" for value, name in names.items()}


def class_key(name: str) -> str:
    """The same for names that mean the same class, whatever their case."""
    return name.strip().casefold()


def class_title(name: str) -> str:
    """What a class is called where its figures are told: "mean" is what the mean of all is called."""
    name = name.strip()
    return f"{name} (class)" if name == "mean" else name


def in_common_classes(
    labelmaps: Sequence[Labelmap], names: Mapping[int, str] | None = None
) -> tuple[list[Volume], dict[int, str]]:
    """The volumes with one value per class name, and those names: the given ones first, or else the first that any has.

    Labels without names are taken to mean those; a value that nobody names is called by its number.
    """
    known = names or next((labelmap.names for labelmap in labelmaps if labelmap.names), {})
    names, values = dict(known), {class_key(name): value for value, name in known.items()}
    taken = {*known, *(value for labelmap in labelmaps for value in (*labelmap.values, *labelmap.names))}
    free = (value for value in range(1, LARGEST_LABEL + 1) if value not in taken)
    volumes = []
    for labelmap in labelmaps:
        own = labelmap.names or known
        lookup = np.arange(LARGEST_LABEL + 1, dtype=np.uint16)
        for value in sorted({*labelmap.values, *labelmap.names}):
            name = own.get(value, str(value))
            key = class_key(name)
            if key not in values:
                values[key] = next(free) if value in names else value
                names[values[key]] = name
            lookup[value] = values[key]
        volumes.append(Volume(lookup[labelmap.volume.array], labelmap.volume.geometry))
    return volumes, {value: class_title(name) for value, name in sorted(names.items())}


def without_others(labels: Volume, values: Iterable[int]) -> Volume:
    """Labels with these values alone; all others become background."""
    kept = np.zeros(LARGEST_LABEL + 1, np.uint16)
    kept[list(values)] = list(values)
    return Volume(kept[labels.array], labels.geometry)


def box_around(found: np.ndarray) -> tuple[slice, ...] | None:
    """The smallest part of an array that has all that is not 0, None if there is nothing."""
    box = []
    for axis in range(found.ndim):
        along = np.flatnonzero(found.any(axis=tuple(other for other in range(found.ndim) if other != axis)))
        if not along.size:
            return None
        box.append(slice(int(along[0]), int(along[-1]) + 1))
    return tuple(box)


def segment_header(labels: Iterable[Label], geometry: Geometry) -> dict[str, str]:
    """What makes a label file a segmentation for Slicer: each class with its name, colour and coded terms."""
    i, j, k = (int(n) - 1 for n in geometry.size)
    header = {
        "Segmentation_ContainedRepresentationNames": "Binary labelmap|",
        "Segmentation_MasterRepresentation": "Binary labelmap",
        "Segmentation_ReferenceImageExtentOffset": "0 0 0",
    }
    for number, label in enumerate(labels):
        prefix = f"Segment{number}_"
        header[prefix + "ID"] = f"Segment_{label.value}"
        header[prefix + "Name"] = label.name
        header[prefix + "NameAutoGenerated"] = "0"
        header[prefix + "Color"] = " ".join(f"{part / 255:.6f}" for part in label.color)
        header[prefix + "ColorAutoGenerated"] = "0"
        header[prefix + "LabelValue"] = str(label.value)
        header[prefix + "Layer"] = "0"
        header[prefix + "Extent"] = f"0 {i} 0 {j} 0 {k}"
        # Slicer ends a tag at the next bar.
        header[prefix + "Tags"] = f"TerminologyEntry:{label.terminology_tag.replace('|', ' ')}|"
    return header
