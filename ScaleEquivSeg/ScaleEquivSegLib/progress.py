"""How long a phase of a run still takes, from its pace so far."""

from __future__ import annotations

import time
from collections.abc import Callable

SECONDS_TO_LEARN_A_PACE = 1.0


class Remaining:
    """Asked at every step of a run; a new phase, or one that starts over, has a pace of its own."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._phase = ""
        self._begun = (0.0, 0.0)
        self._fraction = 0.0

    def update(self, phase: str, fraction: float) -> float | None:
        """Seconds to go in this phase, of which a fraction is done; None as long as its pace is unknown."""
        now = self._clock()
        if phase != self._phase or fraction < self._fraction:
            self._phase, self._begun = phase, (now, fraction)
        self._fraction = fraction
        elapsed, done = now - self._begun[0], fraction - self._begun[1]
        if elapsed < SECONDS_TO_LEARN_A_PACE or done <= 0:
            return None
        return elapsed * (1 - fraction) / done
