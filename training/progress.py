"""How far a run is: a bar on a terminal; elsewhere, as in the log of a batch job, a line now and then."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from typing import TypeVar

from ScaleEquivSegLib.cli.console import ProgressBar, say
from ScaleEquivSegLib.progress import Remaining

SECONDS_BETWEEN_LINES = 20.0

T = TypeVar("T")


def followed(entries: Sequence[T], phase: str, clock: Callable[[], float] = time.monotonic) -> Iterator[T]:
    """The entries one after another, with how many are done and how long the rest will take.

    Of several processes the first alone says so.
    """
    if not _is_first():
        yield from entries
        return
    remaining, told = Remaining(clock), clock()
    with closing(ProgressBar()) as bar:
        for number, entry in enumerate(entries):
            bar.update(phase, number / len(entries))
            seconds = remaining.update(phase, number / len(entries))
            if not bar.visible and clock() - told >= SECONDS_BETWEEN_LINES:
                told = clock()
                say(f"{phase}: {number} of {len(entries)}{left(seconds)}")
            yield entry


def _is_first() -> bool:
    """By what torchrun, Slurm or Lightning have told this process, long before any trainer is asked."""
    known = (os.environ.get(name) for name in ("RANK", "LOCAL_RANK", "SLURM_PROCID"))
    return next((rank for rank in known if rank), "0") == "0"


def left(seconds: float | None) -> str:
    """How long something still takes, at the end of a line; nothing if nobody knows."""
    return "" if seconds is None else f", {duration(seconds)} left"


def duration(seconds: float) -> str:
    """A time as people say it."""
    return f"{seconds / 3600:.1f} h" if seconds >= 3600 else f"{seconds / 60:.1f} min"
