"""One run at a time in a folder of results, and nothing left in it of runs that were killed."""

from __future__ import annotations

import errno
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from .errors import UnwritableOutput
from .whole_files import UNFINISHED

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

LOCK = ".scaleequivseg.lock"
"""Stays in the folder, empty: to remove it would let in two runs at once, one by the old file and one by a new."""

_IN_USE = {errno.EACCES, errno.EAGAIN, errno.EDEADLK}


class FolderInUse(UnwritableOutput):
    """A folder that another run is working in."""


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Make a folder if there is none, keep other runs out of it, and remove the unfinished files of killed ones.

    The operating system gives the lock back however the process ends. A file system without locks gives none: then
    unfinished files may be another run's, and stay.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        stream = (folder / LOCK).open("ab")
    except OSError as error:
        raise UnwritableOutput(f"{folder} cannot be written to: {error.strerror}.") from error
    with stream:
        if _locked(stream, folder):
            for leftover in folder.glob(f"{UNFINISHED}*"):
                shutil.rmtree(leftover, ignore_errors=True)
        yield


def _locked(stream: IO[bytes], folder: Path) -> bool:
    """Whether the lock is ours; an error if it is another's, False if there are no locks here."""
    try:
        if sys.platform == "win32":
            msvcrt.locking(stream.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in _IN_USE:
            raise FolderInUse(
                f"Another run is working in {folder}; wait until it has ended, or give another folder."
            ) from error
        return False
    return True
