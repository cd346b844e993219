"""`compare`: how far two segmentations agree, with each other and with a reference, and where they don't."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..bundles import Label, bundle_named
from ..comparison import (
    AGREEMENT_LABELS,
    ERROR_LABELS,
    TOLERANCE_MM,
    ClassAgreement,
    agreement_map,
    compare,
    compare_classes,
    confusion_figures,
    figures,
    means,
)
from ..errors import UnsuitableVolume
from ..label_files import read_comparable, write_map
from ..provenance import provenance_path
from ..volume import Volume, ending_of
from .console import EXIT_CODES, check_outputs, positive, print_table, say, write_json

REGIONS_SHOWN = 10


@dataclass(frozen=True)
class Map:
    """A file to write: where one segmentation agrees with another, and what its values mean."""

    path: Path
    found: Volume
    other: Volume
    labels: Sequence[Label]


def add_compare(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """The options of `compare`."""
    parser = commands.add_parser(
        "compare",
        help="how far two segmentations agree",
        description="Compare two segmentations on one grid. Classes are matched by their segments' names where both "
        "files have them, by value otherwise; one that a file with names does not name is left out.",
        epilog=EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("a", type=Path, metavar="A", help="labels, e.g. one.seg.nrrd")
    parser.add_argument("b", type=Path, metavar="B", help="other labels on the same grid")
    parser.add_argument("--reference", type=Path, metavar="R", help="also compare each with these labels")
    parser.add_argument("--bundle", help="name classes as this bundle does, where the files don't")
    parser.add_argument(
        "--tolerance",
        type=positive(float),
        default=TOLERANCE_MM,
        metavar="MM",
        help=f"surfaces this close are the same in the surface Dice (default: {TOLERANCE_MM:g})",
    )
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        metavar="MAP",
        help="write where only A, only B and both found something; with a reference also MAP with .a and .b before "
        "its ending: true and false positives and false negatives of each",
    )
    parser.add_argument("--label", metavar="NAME", help="the maps show this class alone")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures here")
    parser.add_argument("--overwrite", action="store_true", help="replace outputs that exist")
    parser.set_defaults(command=_compare)


def _compare(options: argparse.Namespace) -> None:
    outputs = _output_paths(options)
    paths = [options.a, options.b, *([options.reference] if options.reference else [])]
    beside = [provenance_path(path) for path in outputs]
    check_outputs([*outputs, *beside, options.json], options.overwrite, paths)
    known = {label.value: label.name for label in bundle_named(options.bundle).labels} if options.bundle else None
    volumes, names, left_out = read_comparable(paths, known)
    if left_out:
        print(f"note: not compared, as not all files have it: {', '.join(left_out)}", file=sys.stderr)
    if options.label and options.label not in names.values():
        raise UnsuitableVolume(f"There is no class {options.label!r}; known: {', '.join(names.values())}.")
    content = _compare_pair(volumes, names, options.tolerance)
    if options.reference:
        content |= _compare_with_reference(volumes, names, options.tolerance)
    sources = dict(zip(("a", "b", "reference"), paths, strict=False))
    value = next((value for value, name in names.items() if name == options.label), None)
    for wanted in _maps(outputs, volumes):
        write_map(agreement_map(wanted.found, wanted.other, value), wanted.path, wanted.labels, sources)
        say(f"{wanted.path}: {', '.join(f'{label.value} {label.name}' for label in wanted.labels)}")
    if options.json:
        write_json(content, options.json)


def _output_paths(options: argparse.Namespace) -> list[Path]:
    """The map of A and B and, with a reference, one for each of them."""
    path: Path | None = options.output
    if path is None:
        return []
    ending = ending_of(path)
    if not options.reference:
        return [path]
    stem = path.name[: -len(ending)]
    return [path, *(path.with_name(f"{stem}.{one}{ending}") for one in "ab")]


def _maps(paths: Sequence[Path], volumes: Sequence[Volume]) -> list[Map]:
    if not paths:
        return []
    pair = Map(paths[0], volumes[0], volumes[1], AGREEMENT_LABELS)
    errors = [
        Map(path, found, volumes[2], ERROR_LABELS)
        for path, found in zip(paths[1:], volumes[: len(paths) - 1], strict=True)
    ]
    return [pair, *errors]


def _compare_pair(volumes: Sequence[Volume], names: Mapping[int, str], tolerance: float) -> dict[str, float]:
    compared = compare(volumes[0], volumes[1], names, tolerance)
    regions = compared.regions
    _print_classes("A and B", compared.classes, volumes[0], ("ml A", "ml B"))
    say(f"\n{len(regions)} region(s) of disagreement, {sum(region.ml for region in regions):.3f} ml")
    if regions:
        rows: list[tuple[str, ...]] = [("", "voxels", "ml", "R", "A", "S")]
        for number, region in enumerate(regions[:REGIONS_SHOWN], 1):
            rows.append((str(number), str(region.voxels), f"{region.ml:.3f}", *(f"{x:.1f}" for x in region.centre)))
        print_table(rows, numbers=True)
    return compared.figures(REGIONS_SHOWN)


def _compare_with_reference(volumes: Sequence[Volume], names: Mapping[int, str], tolerance: float) -> dict[str, float]:
    *pair, reference = volumes
    content: dict[str, float] = {}
    for one, volume in zip("ab", pair, strict=True):
        classes = compare_classes(volume, reference, names, tolerance)
        say()
        _print_classes(f"{one.upper()} and reference", classes, volume, (f"ml {one.upper()}", "ml reference"))
        found = figures(classes, volume.geometry) | confusion_figures(volume, reference, names)
        content |= {f"{one}.{key}": value for key, value in found.items()}
        content |= {f"ml.{name}.reference": c.ml_b for name, c in classes.items()}
    return content


def _print_classes(
    title: str, classes: Mapping[str, ClassAgreement], volume: Volume, volume_titles: tuple[str, str]
) -> None:
    rows = [(title, "Dice", "HD95 mm", "surface Dice", *volume_titles)]
    for name, c in classes.items():
        rows.append((name, f"{c.dice:.4f}", f"{c.hd95:.2f}", f"{c.surface_dice:.4f}", f"{c.ml_a:.3f}", f"{c.ml_b:.3f}"))
    if classes:
        mean = means(classes.values(), volume.geometry)
        rows.append(("mean", f"{mean['dice']:.4f}", f"{mean['hd95']:.2f}", f"{mean['surface_dice']:.4f}", "", ""))
    print_table(rows, numbers=True)
