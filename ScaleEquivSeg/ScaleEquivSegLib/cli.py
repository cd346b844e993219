"""The command line: segment volumes, make phantoms, list models."""

from __future__ import annotations

import argparse
import csv
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from . import __version__
from .bundles import Bundle, bundled_models, find_bundles, read_bundle
from .errors import BadBundle, OutputExists, SegmentationError, UnwritableOutput
from .phantom import CHANNELS, PhantomSpec, make_phantom
from .volume import check_format, read_volume, write_volume

EXIT_CODES = """exit codes:
  0 done   1 other error   2 wrong usage   3 unreadable volume   4 unsuitable volume   5 bad bundle
  6 device not available   7 output exists   8 output cannot be written   9 out of memory
  130 interrupted"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    options = _parser().parse_args(arguments)
    command: Callable[[argparse.Namespace], None] = options.command
    try:
        command(options)
    except SegmentationError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("interrupted; no unfinished file was left", file=sys.stderr)
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="scaleequivseg",
        description="Segment 3D volumes with scale-equivariant networks. For research use only.",
        epilog=EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"ScaleEquivSeg {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_segment(commands)
    _add_phantom(commands)
    _add_models(commands)
    return parser


def _add_segment(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser("segment", help="segment one volume", epilog=EXIT_CODES)
    parser.add_argument(
        "images",
        nargs="+",
        type=Path,
        metavar="IMAGE",
        help="the volume; one file per channel, in the card's order",
    )
    parser.add_argument("-o", "--output", type=Path, required=True, help="labels to write, e.g. case.seg.nrrd")
    parser.add_argument("--bundle", required=True, help="a bundle's folder, or the name of a bundled model")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, mps (default: auto)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write bundle, hash, seconds and volumes here")
    parser.add_argument("--overwrite", action="store_true", help="replace an output that exists")
    parser.set_defaults(command=_segment)


def _segment(options: argparse.Namespace) -> None:
    if options.output.exists() and not options.overwrite:
        raise OutputExists(f"{options.output} exists; give another name or add --overwrite.")
    check_format(options.output)
    bundle = _bundle_named(options.bundle)
    channels = [read_volume(path) for path in options.images]
    # torch takes seconds to import, and wrong arguments are found without it.
    from .segmentation import Settings, load_model, report, segment, write_segmentation

    bar = _ProgressBar()
    result = segment(channels, load_model(bundle), Settings(device=options.device), bar.update)
    bar.close()
    for warning in result.warnings:
        print(f"warning: {warning}", file=sys.stderr)
    write_segmentation(result, options.output)
    if options.json:
        _write_json(report(result), options.json)
    volumes = ", ".join(f"{name} {ml:.2f} ml" for name, ml in result.ml.items())
    print(f"{options.output}: {volumes} ({bundle.name} {bundle.version}, {result.device}, {result.seconds:.1f} s)")


def _bundle_named(text: str) -> Bundle:
    folder = Path(text)
    if not folder.is_dir():
        folder = bundled_models() / text
    if not folder.is_dir():
        names = ", ".join(bundle.name for bundle in find_bundles([bundled_models()])[0])
        raise BadBundle(f"There is no bundle {text!r}; give a bundle's folder or one of: {names}.")
    return read_bundle(folder)


def _write_json(content: object, path: Path) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise UnwritableOutput(f"{path} cannot be written: {error.strerror}.") from error


def _add_phantom(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser("phantom", help="make synthetic volumes with exact labels")
    parser.add_argument("folder", type=Path, help="where to write images/, labels/ and cases.csv")
    parser.add_argument("--count", type=_positive(int), default=1, help="how many (default: 1)")
    parser.add_argument("--seed", type=_not_negative, default=0, help="seed of the first (default: 0)")
    parser.add_argument(
        "--size", type=_positive(int), nargs=3, default=(64, 64, 64), metavar=("I", "J", "K"), help="voxels"
    )
    parser.add_argument(
        "--spacing",
        type=_positive(float),
        nargs=3,
        default=(1.0, 1.0, 1.0),
        metavar=("I", "J", "K"),
        help="voxel size in mm",
    )
    parser.add_argument("--scale", type=_positive(float), default=1.0, help="magnify the anatomy (default: 1)")
    parser.add_argument("--channels", type=int, choices=(1, len(CHANNELS)), default=1, help="T1, or all four")
    parser.set_defaults(command=_phantom)


def _positive(kind: Callable[[str], float]) -> Callable[[str], float]:
    def parse(text: str) -> float:
        value = kind(text)
        if not 0 < value < float("inf"):
            raise argparse.ArgumentTypeError(f"{text} is not positive")
        return value

    return parse


def _not_negative(text: str) -> int:
    value = int(text)
    if value < 0:
        raise argparse.ArgumentTypeError(f"{text} is negative")
    return value


def _phantom(options: argparse.Namespace) -> None:
    listing = options.folder / "cases.csv"
    if listing.exists():
        raise OutputExists(f"{listing} exists; give another folder.")
    names = []
    for seed in range(options.seed, options.seed + options.count):
        spec = PhantomSpec(
            seed=seed,
            size=tuple(options.size),
            spacing=tuple(options.spacing),
            scale=options.scale,
            channels=options.channels,
        )
        phantom = make_phantom(spec)
        name = f"phantom_{seed:06d}"
        header = {"ScaleEquivSeg_phantom": repr(spec)}
        for channel, volume in zip(CHANNELS, phantom.channels, strict=False):
            suffix = "" if options.channels == 1 else f"_{channel.lower()}"
            write_volume(volume, options.folder / "images" / f"{name}{suffix}.nrrd", header)
        write_volume(phantom.labels, options.folder / "labels" / f"{name}.nrrd", header)
        names.append(name)
    with listing.open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows([("case", "split"), *((name, "test") for name in names)])
    print(f"{len(names)} phantom(s) in {options.folder}")


def _add_models(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser("models", help="what can be used to segment")
    actions = parser.add_subparsers(required=True, metavar="ACTION")
    listing = actions.add_parser("list", help="list the bundled models and those in further folders")
    listing.add_argument("folders", nargs="*", type=Path, metavar="FOLDER", help="a folder of bundles")
    listing.add_argument("--json", type=Path, metavar="FILE", help="also write the list here")
    listing.set_defaults(command=_list_models)


def _list_models(options: argparse.Namespace) -> None:
    found, refused = find_bundles([bundled_models(), *options.folders])
    rows = [("name", "version", "task", "network", "labels")]
    rows += [(b.name, b.version, b.task, b.network, ", ".join(label.name for label in b.labels)) for b in found]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    for bad in refused:
        print(f"refused: {bad.folder}: {bad.reason}", file=sys.stderr)
    if options.json:
        report = {
            "bundles": [{"name": b.name, "version": b.version, "folder": str(b.folder)} for b in found],
            "refused": [{"folder": str(b.folder), "reason": b.reason} for b in refused],
        }
        _write_json(report, options.json)


class _ProgressBar:
    """One line on a terminal; nothing where stderr is not one."""

    def __init__(self) -> None:
        self._visible = sys.stderr.isatty()

    def update(self, phase: str, fraction: float) -> None:
        if self._visible:
            filled = round(30 * fraction)
            print(f"\r{phase:20s} [{'#' * filled:30s}] {fraction:4.0%}", end="", file=sys.stderr, flush=True)

    def close(self) -> None:
        if self._visible:
            print(file=sys.stderr)
