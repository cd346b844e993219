"""`phantom`: synthetic volumes with exact labels, as a folder of cases."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..phantom import CHANNELS, PhantomSpec, make_phantom
from ..volume import write_volume
from ..whole_files import write_csv
from .console import EXIT_CODES, check_outputs, not_negative, positive, say


def add_phantom(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """The options of `phantom`."""
    parser = commands.add_parser(
        "phantom",
        help="make synthetic volumes with exact labels",
        epilog=EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("folder", type=Path, help="where to write images/, labels/ and cases.csv")
    parser.add_argument("--count", type=positive(int), default=1, help="how many (default: 1)")
    parser.add_argument("--seed", type=not_negative, default=0, help="seed of the first (default: 0)")
    parser.add_argument(
        "--size", type=positive(int), nargs=3, default=(64, 64, 64), metavar=("I", "J", "K"), help="voxels"
    )
    parser.add_argument(
        "--spacing",
        type=positive(float),
        nargs=3,
        default=(1.0, 1.0, 1.0),
        metavar=("I", "J", "K"),
        help="voxel size in mm",
    )
    parser.add_argument("--scale", type=positive(float), default=1.0, help="magnify the anatomy (default: 1)")
    parser.add_argument("--channels", type=int, choices=(1, len(CHANNELS)), default=1, help="T1, or all four")
    parser.add_argument("--overwrite", action="store_true", help="replace files that exist")
    parser.set_defaults(command=_phantom)


def _phantom(options: argparse.Namespace) -> None:
    listing = options.folder / "cases.csv"
    phantoms = {f"phantom_{seed:06d}": seed for seed in range(options.seed, options.seed + options.count)}
    outputs = {name: _outputs(options.folder, name, options.channels) for name in phantoms}
    check_outputs([listing, *(path for paths in outputs.values() for path in paths)], options.overwrite)
    for name, seed in phantoms.items():
        spec = PhantomSpec(
            seed=seed,
            size=tuple(options.size),
            spacing=tuple(options.spacing),
            scale=options.scale,
            channels=options.channels,
        )
        phantom = make_phantom(spec)
        for volume, path in zip((phantom.labels, *phantom.channels), outputs[name], strict=True):
            write_volume(volume, path, {"ScaleEquivSeg_phantom": repr(spec)})
    write_csv([("case", "split"), *((name, "test") for name in phantoms)], listing)
    say(f"{len(phantoms)} phantom(s) in {options.folder}")


def _outputs(folder: Path, name: str, channels: int) -> list[Path]:
    """Where the labels and the channels of a phantom go."""
    endings = [f"_{channel.lower()}" for channel in CHANNELS] if channels > 1 else [""]
    images = [folder / "images" / f"{name}{ending}.nrrd" for ending in endings]
    return [folder / "labels" / f"{name}.nrrd", *images]
