"""Files that are whole or not there, and texts and tables written so."""

from __future__ import annotations

import csv
import io
import math
import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from .errors import UnwritableOutput

UNFINISHED = ".writing-"
"""What the folders are called in which a file lies until it is whole; a killed process may leave one."""


@contextmanager
def in_one_piece(path: Path) -> Iterator[Path]:
    """Where to write a file that takes its place only when it is whole; its folder is made if it is missing."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=UNFINISHED) as folder:
            unfinished = Path(folder) / path.name
            yield unfinished
            os.replace(unfinished, path)
    except OSError as error:
        raise UnwritableOutput(f"{path} cannot be written: {error.strerror or error}.") from error


def write_text(text: str, path: Path) -> None:
    """Write a text; what UTF-8 cannot hold, such as part of an odd file name, is written as an escape."""
    with in_one_piece(path) as unfinished:
        unfinished.write_text(text, encoding="utf-8", errors="backslashreplace", newline="")


def finite(content: Mapping[str, object]) -> dict[str, object]:
    """What JSON can hold: it has no infinity, so figures that are not finite become null."""
    return {
        key: None if isinstance(value, float) and not math.isfinite(value) else value for key, value in content.items()
    }


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
