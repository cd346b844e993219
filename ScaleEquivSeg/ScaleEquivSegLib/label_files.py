"""Files of labels to be compared: reading them onto one grid with one numbering, writing the map of where they agree.
What the command line and the worker do alike."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from . import __version__
from .bundles import Bundle, Label
from .comparison import check_same_grid, laid_like
from .errors import UnsuitableVolume
from .labelmap import class_key, in_common_classes, read_labelmap, segment_header, without_others
from .provenance import origin_of, write_with_provenance
from .volume import Volume


def read_comparable(
    paths: Sequence[Path], names: Mapping[int, str] | None = None, check: Callable[[], None] = lambda: None
) -> tuple[list[Volume], dict[int, str], list[str]]:
    """Labels on the first one's grid, each class with one value, the names of the classes, those given first, and what
    is left out: a class that is not among the names of a file that has names.

    The check is called often and stops it by raising.
    """
    labelmaps = [read_labelmap(path, check) for path in paths]
    volumes, found = in_common_classes(labelmaps, names)
    shared = set.intersection(set(found), *(_named(own.names, found) for own in labelmaps if own.names))
    common = {value: name for value, name in found.items() if value in shared}
    if found and not common:
        lists = "; ".join(
            f"{path}: {', '.join(own.names.values())}" for path, own in zip(paths, labelmaps, strict=True)
        )
        raise UnsuitableVolume(f"The files have no class in common; rename the segments that mean the same. {lists}.")
    left_out = [name for value, name in found.items() if value not in shared]
    if left_out:
        volumes = [without_others(volume, common) for volume in volumes]
    volumes = [volumes[0], *(laid_like(volume, volumes[0].geometry) for volume in volumes[1:])]
    for path, volume in zip(paths[1:], volumes[1:], strict=True):
        check_same_grid(volumes[0], volume, str(paths[0]), str(path))
    return volumes, common, left_out


def _named(names: Mapping[int, str], among: Mapping[int, str]) -> set[int]:
    """The values of those classes that a file has a name for."""
    keys = {class_key(name) for name in names.values()}
    return {value for value, name in among.items() if class_key(name) in keys}


def read_reference(path: Path, volume: Volume, bundle: Bundle) -> Volume:
    """Reference labels on a volume's grid, counted as a bundle counts its classes; names, if any, must be theirs."""
    labelmap = read_labelmap(path)
    known = {class_key(name) for name in labelmap.names.values()}
    if known and (absent := [label.name for label in bundle.labels if class_key(label.name) not in known]):
        raise UnsuitableVolume(f"{path} has no segment named {', '.join(absent)}; rename its segments first.")
    (labels,), _ = in_common_classes([labelmap], {label.value: label.name for label in bundle.labels})
    labels = laid_like(labels, volume.geometry)
    check_same_grid(volume, labels, "the image", str(path))
    return labels


def write_map(
    shown: Volume, path: Path, labels: Sequence[Label], sources: Mapping[str, Path], compress: bool = True
) -> None:
    """Write a map of agreement as a segmentation that says of which files, by their roles, it was made."""
    facts = {"software": f"ScaleEquivSeg {__version__}"}
    for role, source in sources.items():
        if source.is_file():
            facts |= {f"{role}_{key}": value for key, value in origin_of(source).items()}
    write_with_provenance(shown, path, facts, segment_header(labels, shown.geometry), compress)
