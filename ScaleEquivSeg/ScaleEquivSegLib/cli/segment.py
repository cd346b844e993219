"""`segment`: labels of one volume or of many, with volumes in millilitres."""

from __future__ import annotations

import argparse
import sys
from contextlib import closing
from pathlib import Path

from ..bundles import bundle_named
from ..errors import BadRegion
from ..provenance import provenance_path
from ..requirements import check_computing
from ..roi import read_roi
from ..volume import read_image
from .computing import add_computing, settings_from
from .console import EXIT_CODES, ProgressBar, check_outputs, say, stoppable, write_json
from .segment_cases import segment_cases

DESCRIPTION = """\
Segment one case:
  segment brain.nii.gz -o brain.seg.nrrd --bundle phantom-unet
A case of several channels, one file each, in the card's order:
  segment a_t1.nrrd a_t1ce.nrrd a_t2.nrrd a_flair.nrrd -o a.seg.nrrd --bundle FOLDER
Many cases, into a folder with volumes.csv and, if some failed, failures.csv:
  segment --cases images -o results --bundle phantom-unet
  segment --cases cases.csv -o results --bundle phantom-unet

LIST is one of
  a folder   One channel: each image, and each sub-folder with a DICOM series, is a case.
             Several channels: images named <case>_<channel>.nrrd and so on, or a sub-folder
             per case with an image per channel.
  a CSV      with the columns `case` and one per channel, named as in the bundle's card (for one
             channel `image` will do): files or DICOM folders, seen from the CSV's own folder.
The same command again goes on where a run was stopped and tries failed cases once more. It does not
look at finished cases: to segment one anew, because its image has changed, remove its result."""


def add_segment(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """The options of `segment`."""
    parser = commands.add_parser(
        "segment",
        help="segment one volume, or many",
        usage="%(prog)s (IMAGE... | --cases LIST) -o OUT --bundle BUNDLE [options]",
        description=DESCRIPTION,
        epilog=EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument(
        "images",
        nargs="*",
        type=Path,
        default=[],
        metavar="IMAGE",
        help="the volume, a file or a DICOM folder; one per channel, in the card's order",
    )
    what.add_argument("--cases", type=Path, metavar="LIST", help="many volumes: a folder of images, or a CSV")
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        metavar="OUT",
        required=True,
        help="labels to write, e.g. case.seg.nrrd; with --cases a folder",
    )
    parser.add_argument("--bundle", required=True, help="a bundle's folder, or the name of a bundled model")
    parser.add_argument(
        "--roi",
        type=Path,
        metavar="FILE",
        help="label only inside this box, a Markups ROI that Slicer saved (.mrk.json)",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write bundle, hash, seconds and volumes here")
    parser.add_argument(
        "--overwrite", action="store_true", help="replace outputs that exist, with --cases those of all cases"
    )
    add_computing(parser)
    parser.set_defaults(command=_segment)


def _segment(options: argparse.Namespace) -> None:
    if options.cases and options.roi:
        raise BadRegion("A region of interest is of one volume; with --cases there can be none.")
    if options.cases:
        segment_cases(options)
    else:
        _segment_one(options)


def _segment_one(options: argparse.Namespace) -> None:
    outputs = [options.output, provenance_path(options.output), options.json]
    roi = read_roi(options.roi) if options.roi else None
    check_outputs(outputs, options.overwrite, [*options.images, *([options.roi] if options.roi else [])])
    bundle = bundle_named(options.bundle)
    channels = [read_image(path) for path in options.images]
    check_computing()
    # torch takes seconds to import, and wrong arguments are found without it.
    from ..segmentation import load_model, report, segment, write_segmentation

    with stoppable() as check:
        model, settings = load_model(bundle), settings_from(options)
        with closing(ProgressBar(check=check)) as bar:
            result = segment(channels, model, settings, bar.update, roi)
        write_segmentation(result, options.output)
    for warning in result.warnings:
        print(f"warning: {warning}", file=sys.stderr)
    if options.json:
        write_json(report(result), options.json)
    volumes = ", ".join(f"{name} {ml:.2f} ml" for name, ml in result.ml.items())
    say(f"{options.output}: {volumes} ({bundle.name} {bundle.version}, {result.device}, {result.seconds:.1f} s)")
