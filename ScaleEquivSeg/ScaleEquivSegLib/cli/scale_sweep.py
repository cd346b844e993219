"""`scale-sweep`: what networks find when the anatomy is larger or smaller, as a table of Dice against scale."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from ..bundles import Bundle, bundles_named
from ..label_files import read_reference
from ..provenance import voxels_sha256
from ..requirements import check_computing
from ..roi import Box, read_roi
from ..scaling import check_scales
from ..volume import read_image
from ..whole_files import write_csv
from .computing import add_computing, settings_from
from .console import EXIT_CODES, ProgressBar, check_outputs, positive, print_table, write_json

if TYPE_CHECKING:
    from ..scale_sweep import AtScale

SCALES = "0.5,0.7,1,1.4,2"


def add_scale_sweep(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """The options of `scale-sweep`."""
    parser = commands.add_parser(
        "scale-sweep",
        help="segment a volume at several scales",
        description="Magnify a volume, segment it, and compare with the magnified segmentation of the volume as it is.",
        epilog=EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "images",
        nargs="+",
        type=Path,
        metavar="IMAGE",
        help="the volume; one file per channel, in the card's order",
    )
    parser.add_argument(
        "--bundle", action="append", required=True, help="a bundle's folder or name; again for another to compare"
    )
    parser.add_argument("--scales", type=_scales, default=SCALES, help=f"comma-separated (default: {SCALES})")
    parser.add_argument("--reference", type=Path, metavar="LABELS", help="also compare with these, magnified")
    parser.add_argument(
        "--roi",
        type=Path,
        metavar="FILE",
        help="count only inside this box, a Markups ROI that Slicer saved (.mrk.json)",
    )
    add_computing(parser)
    parser.add_argument("--csv", type=Path, metavar="FILE", help="also write a row per bundle, scale and class here")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures here")
    parser.add_argument("--overwrite", action="store_true", help="replace outputs that exist")
    parser.set_defaults(command=_scale_sweep)


def _scales(text: str) -> tuple[float, ...]:
    number = positive(float)
    scales = tuple(dict.fromkeys(number(part) for part in text.split(",")))
    try:
        check_scales(scales)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"scales {error}") from error
    return scales


def _scale_sweep(options: argparse.Namespace) -> None:
    inputs = [*options.images, *(path for path in (options.reference, options.roi) if path)]
    roi = read_roi(options.roi) if options.roi else None
    check_outputs([options.csv, options.json], options.overwrite, inputs)
    bundles = bundles_named(options.bundle)
    channels = [read_image(path) for path in options.images]
    references = {
        bundle.name: read_reference(options.reference, channels[0], bundle) if options.reference else None
        for bundle in bundles
    }
    check_computing()
    # torch takes seconds to import, and wrong arguments are found without it.
    from ..scale_sweep import scale_sweep
    from ..segmentation import load_model

    settings = settings_from(options)
    models = [load_model(bundle) for bundle in bundles]
    with closing(ProgressBar()) as bar:
        sweeps = {
            model.bundle.name: scale_sweep(
                channels, model, options.scales, references[model.bundle.name], settings, bar.update, roi
            )
            for model in models
        }
    image = " ".join(voxels_sha256(channel) for channel in channels)
    print_table(
        [
            ("Dice with", *(f"x{scale:g}" for scale in options.scales)),
            *((name, *(f"{value:.4f}" for value in row)) for name, row in _curves(sweeps).items()),
        ],
        numbers=True,
    )
    if options.csv:
        write_csv(_rows(sweeps, bundles, image, roi), options.csv)
    if options.json:
        figures: dict[str, object] = {
            f"{name}@{scale:g}": value
            for name, row in _curves(sweeps).items()
            for scale, value in zip(options.scales, row, strict=True)
        }
        origin = {f"{bundle.name}.sha256": bundle.sha256 for bundle in bundles}
        region = {"roi": roi.text()} if roi else {}
        write_json({**figures, **origin, "input_voxels_sha256": image, **region}, options.json)


def _curves(sweeps: Mapping[str, Sequence[AtScale]]) -> dict[str, list[float]]:
    """Dice along the scales: per bundle and class, and the mean of its classes."""
    curves: dict[str, list[float]] = {}
    for bundle, sweep in sweeps.items():
        for key, dices in (
            ("dice_with_itself", [at.with_itself for at in sweep]),
            ("dice_with_reference", [at.with_reference for at in sweep if at.with_reference is not None]),
        ):
            if dices:
                curves[f"{bundle}.{key}"] = [sum(dice.values()) / len(dice) for dice in dices]
                for label in dices[0]:
                    curves[f"{bundle}.{key}.{label}"] = [dice[label] for dice in dices]
    return curves


def _rows(
    sweeps: Mapping[str, Sequence[AtScale]], bundles: Sequence[Bundle], image: str, roi: Box | None
) -> Iterator[tuple[object, ...]]:
    yield (
        *("bundle", "scale", "label", "dice_with_itself", "dice_with_reference"),
        *("bundle_version", "weights_sha256", "input_voxels_sha256", "roi"),
    )
    for bundle in bundles:
        for at in sweeps[bundle.name]:
            for label, dice in at.with_itself.items():
                yield (
                    bundle.name,
                    f"{at.scale:g}",
                    label,
                    dice,
                    "" if at.with_reference is None else at.with_reference[label],
                    bundle.version,
                    bundle.sha256,
                    image,
                    roi.text() if roi else "",
                )
