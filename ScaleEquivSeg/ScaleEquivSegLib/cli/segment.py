"""`segment`: labels of one volume, with a report of volumes in millilitres."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from ..volume import check_format, read_volume
from .console import EXIT_CODES, ProgressBar, bundle_named, positive, refuse_existing, write_json

PRECISIONS = ("float32", "bfloat16", "float16")


def add_segment(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """The options of `segment`."""
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
    parser.add_argument("--precision", choices=PRECISIONS, default=PRECISIONS[0], help="fewer digits, less memory")
    parser.add_argument(
        "--slab", type=positive(int), metavar="N", help="planes computed at once (default: as memory allows)"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write bundle, hash, seconds and volumes here")
    parser.add_argument("--overwrite", action="store_true", help="replace outputs that exist")
    parser.set_defaults(command=_segment)


def _segment(options: argparse.Namespace) -> None:
    refuse_existing([options.output, options.json], options.overwrite)
    check_format(options.output)
    bundle = bundle_named(options.bundle)
    channels = [read_volume(path) for path in options.images]
    # torch takes seconds to import, and wrong arguments are found without it.
    from ..segmentation import Settings, load_model, report, segment, write_segmentation

    bar = ProgressBar()
    settings = Settings(device=options.device, slab=options.slab, precision=options.precision)
    result = segment(channels, load_model(bundle), settings, bar.update)
    bar.close()
    for warning in result.warnings:
        print(f"warning: {warning}", file=sys.stderr)
    write_segmentation(result, options.output)
    if options.json:
        write_json(report(result), options.json)
    volumes = ", ".join(f"{name} {ml:.2f} ml" for name, ml in result.ml.items())
    print(f"{options.output}: {volumes} ({bundle.name} {bundle.version}, {result.device}, {result.seconds:.1f} s)")
