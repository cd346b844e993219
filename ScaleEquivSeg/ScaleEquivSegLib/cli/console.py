"""What all commands share: kinds of arguments, checks of outputs, tables, a progress bar, and how to be stopped."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

from ..errors import Cancelled, OutputExists, UnwritableOutput
from ..progress import Remaining
from ..whole_files import finite, write_text

EXIT_CODES = """exit codes:
  0 done   1 other error   2 wrong usage   3 unreadable volume   4 unsuitable volume   5 bad bundle
  6 device not available   7 output exists   8 output cannot be written   9 out of memory
  10 some cases failed   11 bad list of cases   12 package missing   13 package unsuitable
  14 bad region of interest   130 interrupted   141 output cut off (as by head)"""


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


def check_outputs(paths: Iterable[Path | None], overwrite: bool, inputs: Iterable[Path] = ()) -> None:
    """Stop before anything is computed if outputs are one file, an input, or there already and not to be replaced, or
    cannot be written."""
    taken = {path.resolve() for path in inputs}
    for path in paths:
        if path is None:
            continue
        if path.resolve() in taken:
            raise OutputExists(f"{path} would replace an input or another output; give another name.")
        taken.add(path.resolve())
        if path.is_dir():
            raise OutputExists(f"{path} is a folder; give the name of a file.")
        if path.exists() and not overwrite:
            raise OutputExists(f"{path} exists; give another name or add --overwrite.")
        check_writable(path)


def check_writable(path: Path) -> None:
    """Try whether a file can be made where a path leads, or as far as its folders are there."""
    folder = next(parent for parent in path.absolute().parents if parent.exists())
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise UnwritableOutput(f"{path} cannot be written: {folder}: {error.strerror or error}.") from error


def write_json(content: Mapping[str, object], path: Path) -> None:
    """Write one JSON object; figures that are not finite become null."""
    write_text(json.dumps(finite(content), indent=2) + "\n", path)


def say(line: str = "") -> None:
    """Print a line at once; if nobody reads any longer, as after `| head`, the run goes on in silence."""
    try:
        print(line, flush=True)
    except BrokenPipeError:
        silence()


def silence() -> None:
    """Send what is still to be printed nowhere."""
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), sys.stdout.fileno())


@contextmanager
def stoppable() -> Iterator[Callable[[], None]]:
    """A check that stops the run if Ctrl-C or SIGTERM has come; a second one does not wait for a check."""
    before: dict[int, Any] = {}
    came = False

    def take_note(number: int, frame: FrameType | None) -> None:
        nonlocal came
        came = True
        restore()

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def check() -> None:
        if came:
            raise Cancelled("nothing unfinished was left.")

    for number in (signal.SIGINT, signal.SIGTERM):
        before[number] = signal.signal(number, take_note)
    try:
        yield check
    finally:
        restore()


def print_table(rows: Sequence[Sequence[str]], numbers: bool = False) -> None:
    """Print rows in columns; those of numbers, all but the first, end at the same place."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        cells = [
            cell.rjust(width) if numbers and column else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        say("  ".join(cells).rstrip())


class ProgressBar:
    """One line on a terminal, with the time to go; nothing where stderr is not one."""

    def __init__(self, title: str = "", check: Callable[[], None] = lambda: None) -> None:
        self.visible = sys.stderr.isatty()
        self._title = title
        self._check = check
        self._remaining = Remaining()

    def update(self, phase: str, fraction: float) -> None:
        """Show how far a phase is, unless the check stops the run."""
        self._check()
        if self.visible:
            filled = "#" * round(20 * fraction)
            seconds = self._remaining.update(phase, fraction)
            left = "" if seconds is None else f"{int(seconds) // 60}:{int(seconds) % 60:02d} left"
            self._show(f"{self._title}{phase:12s} [{filled:20s}] {fraction:4.0%}  {left}")

    def close(self) -> None:
        """Clear the line."""
        if self.visible:
            self._show("")
            print("\r", end="", file=sys.stderr, flush=True)

    def _show(self, line: str) -> None:
        width = shutil.get_terminal_size().columns - 1
        print(f"\r{line[:width]:{width}s}", end="", file=sys.stderr, flush=True)
