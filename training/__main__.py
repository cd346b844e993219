"""`python -m training`: fit a network and export its bundle, measure bundles and networks."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from ScaleEquivSegLib.errors import Cancelled, SegmentationError

from .commands.experiments import add_experiments
from .commands.measuring import add_measuring
from .commands.runs import add_runs


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """What was typed. Settings KEY=VALUE may stand anywhere; argparse by itself finds them before options only."""
    parser = argparse.ArgumentParser(prog="python -m training", description="Train and measure networks.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    add_runs(commands)
    add_measuring(commands)
    add_experiments(commands)
    options, rest = parser.parse_known_args(arguments)
    if unknown := [word for word in rest if "overrides" not in options or word.startswith("-")]:
        parser.error(f"unrecognized arguments: {' '.join(unknown)}")
    if rest:
        options.overrides += rest
    return options


def main() -> None:
    """Run one command."""
    options = parse(sys.argv[1:])
    try:
        options.command(options)
    except SegmentationError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        sys.exit(Cancelled.exit_code)


if __name__ == "__main__":
    main()
