"""What all commands share: kinds of arguments, tables, a progress bar, and files that are whole or not there."""

from __future__ import annotations

import argparse
import csv
import io
import json
import math
import os
import sys
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from ..bundles import Bundle, bundled_models, find_bundles, read_bundle
from ..errors import BadBundle, OutputExists, UnwritableOutput

EXIT_CODES = """exit codes:
  0 done   1 other error   2 wrong usage   3 unreadable volume   4 unsuitable volume   5 bad bundle
  6 device not available   7 output exists   8 output cannot be written   9 out of memory
  130 interrupted"""


def positive(kind: Callable[[str], float]) -> Callable[[str], float]:
    """A kind of argument: a finite number above zero."""

    def parse(text: str) -> float:
        value = kind(text)
        if not 0 < value < float("inf"):
            raise argparse.ArgumentTypeError(f"{text} is not positive")
        return value

    return parse


def not_negative(text: str) -> int:
    """A kind of argument: a whole number from zero."""
    value = int(text)
    if value < 0:
        raise argparse.ArgumentTypeError(f"{text} is negative")
    return value


def bundle_named(text: str) -> Bundle:
    """A bundle by its folder or, if it is bundled, by its name."""
    folder = Path(text)
    if not folder.is_dir():
        folder = bundled_models() / text
    if not folder.is_dir():
        names = ", ".join(bundle.name for bundle in find_bundles([bundled_models()])[0])
        raise BadBundle(f"There is no bundle {text!r}; give a bundle's folder or one of: {names}.")
    return read_bundle(folder)


def refuse_existing(paths: Iterable[Path | None], overwrite: bool) -> None:
    """Stop before anything is computed if an output is there already, unless it may be replaced."""
    for path in paths:
        if path and path.exists() and not overwrite:
            raise OutputExists(f"{path} exists; give another name or add --overwrite.")


def write_json(content: Mapping[str, object], path: Path) -> None:
    """Write one JSON object; JSON has no infinity, so figures that are not finite become null."""
    finite = {
        key: None if isinstance(value, float) and not math.isfinite(value) else value for key, value in content.items()
    }
    _write_whole(json.dumps(finite, indent=2) + "\n", path)


def write_csv(rows: Iterable[Sequence[object]], path: Path) -> None:
    """Write a table, its heading first."""
    text = io.StringIO(newline="")
    csv.writer(text).writerows(rows)
    _write_whole(text.getvalue(), path)


def _write_whole(text: str, path: Path) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=".writing-") as folder:
            unfinished = Path(folder) / path.name
            unfinished.write_text(text, encoding="utf-8", newline="")
            os.replace(unfinished, path)
    except OSError as error:
        raise UnwritableOutput(f"{path} cannot be written: {error.strerror}.") from error


def print_table(rows: Sequence[Sequence[str]], numbers: bool = False) -> None:
    """Print rows in columns; those of numbers, all but the first, end at the same place."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        cells = [
            cell.rjust(width) if numbers and column else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        print("  ".join(cells).rstrip())


class ProgressBar:
    """One line on a terminal; nothing where stderr is not one."""

    def __init__(self) -> None:
        self._visible = sys.stderr.isatty()

    def update(self, phase: str, fraction: float) -> None:
        """Show how far a phase is."""
        if self._visible:
            filled = round(30 * fraction)
            print(f"\r{phase:20s} [{'#' * filled:30s}] {fraction:4.0%}", end="", file=sys.stderr, flush=True)

    def close(self) -> None:
        """Leave the line."""
        if self._visible:
            print(file=sys.stderr)
