"""The roster of a run: the names of the cases that it trains and validates on, each with the hash of its files."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

from .cases import TRAIN, VALIDATION
from .splits import Chosen

Roster: TypeAlias = Mapping[str, Mapping[str, str]]
"""Of `train` and `val` the hash of each case by its name."""
SHOWN = 5


def roster_of(cases: Chosen[Any]) -> Roster:
    """The roster of chosen cases; without any if phantoms are generated, which follow from the settings."""
    chosen = {TRAIN: cases.training, VALIDATION: cases.validation}
    return {split: {case.name: case.digest for case in of_split} for split, of_split in chosen.items()}


def changes(begun: Roster, now: Roster) -> list[str]:
    """In what two rosters differ, a line for each kind of change."""
    lines = []
    for split in (TRAIN, VALIDATION):
        before, after = begun[split], now[split]
        kinds = {
            "not there": [name for name in before if name not in after],
            "added": [name for name in after if name not in before],
            "with other files": [name for name in before if name in after and before[name] != after[name]],
        }
        lines += [f"{split}: {len(names)} {kind}: {_shown(names)}" for kind, names in kinds.items() if names]
    return lines


def _shown(names: list[str]) -> str:
    return ", ".join(names[:SHOWN]) + (", ..." if len(names) > SHOWN else "")
