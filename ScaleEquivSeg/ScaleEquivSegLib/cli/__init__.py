"""The command line: one module per command, the exit codes here."""

from __future__ import annotations

import argparse
import io
import sys
from collections.abc import Callable, Sequence

from .. import __version__
from ..errors import Cancelled, OutOfMemory, SegmentationError
from .classify import add_classify
from .compare import add_compare
from .console import EXIT_CODES, silence
from .models import add_models
from .phantom import add_phantom
from .scale_sweep import add_scale_sweep
from .segment import add_segment


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a case may have a name that the terminal cannot show
    options = build_parser().parse_args(arguments)
    command: Callable[[argparse.Namespace], None] = options.command
    try:
        command(options)
        sys.stdout.flush()
    except BrokenPipeError:
        silence()
        return 141
    except Cancelled as stop:
        print(f"interrupted: {stop}", file=sys.stderr)
        return stop.exit_code
    except SegmentationError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except MemoryError:
        print("error: there is not enough memory; close other programs, or crop the volume.", file=sys.stderr)
        return OutOfMemory.exit_code
    except OSError as error:  # such as a name that is too long for a file
        print(f"error: {error}", file=sys.stderr)
        return SegmentationError.exit_code
    except KeyboardInterrupt:
        print("interrupted: nothing unfinished was left.", file=sys.stderr)
        return 130
    return 0


def build_parser() -> argparse.ArgumentParser:
    """All that can be typed."""
    parser = argparse.ArgumentParser(
        prog="scaleequivseg",
        description="Segment 3D volumes with scale-equivariant networks. For research use only.",
        epilog=EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"ScaleEquivSeg {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    add_segment(commands)
    add_compare(commands)
    add_scale_sweep(commands)
    add_classify(commands)
    add_phantom(commands)
    add_models(commands)
    return parser
