"""How to compute: the options of every command that runs a network, and the settings they amount to."""

from __future__ import annotations

import argparse
from dataclasses import fields
from typing import TYPE_CHECKING

from .console import positive

if TYPE_CHECKING:
    from ..segmentation import Settings

PRECISIONS = ("float32", "bfloat16", "float16")


def add_input_and_device(parser: argparse.ArgumentParser) -> None:
    """What every network is told of its input and its place."""
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, mps (default: auto)")
    parser.add_argument(
        "--replace-nonfinite",
        action="store_true",
        help="take the smallest value for NaN and infinite voxels, instead of refusing them",
    )


def add_computing(parser: argparse.ArgumentParser) -> None:
    """The same, and how a segmentation is computed."""
    add_input_and_device(parser)
    group = parser.add_argument_group("computing")
    group.add_argument("--precision", choices=PRECISIONS, default=PRECISIONS[0], help="fewer digits, less memory")
    group.add_argument(
        "--slab", type=positive(int), metavar="N", help="planes computed at once (default: as memory allows)"
    )
    group.add_argument(
        "--mirror", action="store_true", help="average with the mirror image, left for right; takes twice as long"
    )
    group.add_argument("--deterministic", action="store_true", help="the same bits in every run; slower on a GPU")


def settings_from(options: argparse.Namespace) -> Settings:
    """The settings that options ask for: each option is named as the setting."""
    from ..segmentation import Settings  # torch takes seconds to import

    given = vars(options)
    return Settings(**{field.name: given[field.name] for field in fields(Settings) if field.name in given})
