"""`phantom`: synthetic volumes with exact labels, as a folder of cases."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..errors import OutputExists
from ..phantom import CHANNELS, PhantomSpec, make_phantom
from ..volume import write_volume
from ..whole_files import write_csv
from .console import not_negative, positive


def add_phantom(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """The options of `phantom`."""
    parser = commands.add_parser("phantom", help="make synthetic volumes with exact labels")
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
    parser.set_defaults(command=_phantom)


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
    write_csv([("case", "split"), *((name, "test") for name in names)], listing)
    print(f"{len(names)} phantom(s) in {options.folder}")
