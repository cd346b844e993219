"""`python -m training`: fit a network and export its bundle, measure bundles and networks."""

from __future__ import annotations

import argparse
import sys

from ScaleEquivSegLib.errors import SegmentationError

from .commands.experiments import add_experiments
from .commands.measuring import add_measuring
from .commands.runs import add_runs


def main() -> None:
    """Run one command."""
    parser = argparse.ArgumentParser(prog="python -m training", description="Train and measure networks.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    add_runs(commands)
    add_measuring(commands)
    add_experiments(commands)
    options = parser.parse_args()
    try:
        options.command(options)
    except SegmentationError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
