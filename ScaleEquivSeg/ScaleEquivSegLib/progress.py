"""How long a run still takes, from its pace so far."""

from __future__ import annotations

import time
from collections.abc import Callable


class Remaining:
    """Seconds to go in the phase that a run is in."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._phase = ""
        self._began = (0.0, 0.0)  # when, and at which fraction

    def update(self, phase: str, fraction: float) -> float | None:
        """Take note of how far a phase is; None while there is no pace to go by."""
        now = self._now()
        if phase != self._phase:
            self._phase, self._began = phase, (now, fraction)
        began, first = self._began
        return (now - began) / (fraction - first) * (1 - fraction) if fraction > first else None
