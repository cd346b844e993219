"""Texts and tables as files that are whole or not there."""

from __future__ import annotations

import csv
import io
import os
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path

from .errors import UnwritableOutput

UNFINISHED = ".writing-"
"""What the folders are called in which a file lies until it is whole; a killed process may leave one."""


def write_text(text: str, path: Path) -> None:
    """Write a text; what UTF-8 cannot hold, such as part of an odd file name, is written as an escape."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=UNFINISHED) as folder:
            unfinished = Path(folder) / path.name
            unfinished.write_text(text, encoding="utf-8", errors="backslashreplace", newline="")
            os.replace(unfinished, path)
    except OSError as error:
        raise UnwritableOutput(f"{path} cannot be written: {error.strerror}.") from error


def remove(path: Path) -> None:
    """Remove a file, if it is there."""
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise UnwritableOutput(f"{path} cannot be removed: {error.strerror}.") from error


def write_csv(rows: Iterable[Sequence[object]], path: Path) -> None:
    """Write a table, its heading first."""
    text = io.StringIO(newline="")
    csv.writer(text).writerows(rows)
    write_text(text.getvalue(), path)
