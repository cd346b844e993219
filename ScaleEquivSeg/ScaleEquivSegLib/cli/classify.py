"""`classify`: how probable each class is, for one picture or many."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from ..bundles import bundle_named
from ..errors import UnsuitableVolume
from ..requirements import check_computing
from ..volume import read_slice
from ..whole_files import write_csv
from .computing import add_input_and_device
from .console import EXIT_CODES, check_outputs, print_table, stoppable, write_json

DESCRIPTION = """\
  classify tumour.png --bundle FOLDER
  classify *.png --bundle FOLDER -o probabilities.csv --json FILE

Pictures are PNG files in grey, or NRRD, NIfTI and MetaImage files of one slice. The network is shown the
central square of each. Nothing is written unless all of them could be classified."""


def add_classify(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """The options of `classify`."""
    parser = commands.add_parser(
        "classify",
        help="probabilities of classes for pictures of one slice",
        description=DESCRIPTION,
        epilog=EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("images", nargs="+", type=Path, metavar="IMAGE", help="a picture, or several")
    parser.add_argument("--bundle", required=True, help="the folder of a bundle for classification")
    parser.add_argument("-o", "--output", type=Path, metavar="CSV", help="also write a row for each picture here")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write what is known of each picture here")
    parser.add_argument("--overwrite", action="store_true", help="replace outputs that exist")
    add_input_and_device(parser)
    parser.set_defaults(command=_classify)


def _classify(options: argparse.Namespace) -> None:
    check_outputs([options.output, options.json], options.overwrite, options.images)
    bundle = bundle_named(options.bundle, "classification")
    check_computing()
    # torch takes seconds to import, and wrong arguments are found without it.
    from ..classification import classify, load_classifier, report

    reports: dict[str, Mapping[str, str | float]] = {}
    with stoppable() as check:
        model = load_classifier(bundle)
        for path in options.images:
            check()
            picture = read_slice(path)
            try:
                result = classify(picture, model, options.device, options.replace_nonfinite)
            except UnsuitableVolume as error:
                raise UnsuitableVolume(f"{path}: {error}") from error
            reports[str(path)] = report(result)
            for warning in result.warnings:
                print(f"warning: {path}: {warning}", file=sys.stderr)
    if options.output:
        write_csv(_rows(reports), options.output)
    if options.json:
        write_json(reports, options.json)
    names = [each.name for each in bundle.classes]
    shown = [
        [path, str(said["class"]), *(f"{said[f'probability.{n}']:.3f}" for n in names)]
        for path, said in reports.items()
    ]
    print_table([["", "class", *names], *shown])


def _rows(reports: Mapping[str, Mapping[str, str | float]]) -> Sequence[Sequence[object]]:
    """A table of all that is said of each picture."""
    heading = list(next(iter(reports.values())))
    return [["image", *heading], *([path, *said.values()] for path, said in reports.items())]
