"""Which labelled cases are for what: the splits that the data name, what is held out where they name none to
validate or to test on, and the cases that a run trains on. For volumes and pictures alike."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Generic, Protocol, TypeVar

import numpy as np

from .cases import TEST, TRAIN, VALIDATION, BadData
from .config import CaseData


class Labelled(Protocol):
    """A labelled case, of whatever kind."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    @property
    def name(self) -> str:
        """No two have one."""

    @property
    def split(self) -> str:
        """Empty where the data name none."""

    @property
    def unit(self) -> str:
        """What it belongs to that is held out as a whole: cases of one unit show nearly the same."""

    @property
    def digest(self) -> str:
        """The hash of what it is made of, wherever that lies."""


T = TypeVar("T", bound=Labelled)


@dataclass(frozen=True)
class Chosen(Generic[T]):
    """The cases that a run trains on, those that it validates on, and all others. Of generated phantoms none."""

    training: Sequence[T] = ()
    validation: Sequence[T] = ()
    unused: Sequence[T] = ()

    def all(self) -> list[T]:
        """Every case that there is."""
        return [*self.training, *self.validation, *self.unused]

    def __str__(self) -> str:
        told = f"{len(self.training)} cases train, {len(self.validation)} validate"
        if not self.unused:
            return told
        sizes = Counter(case.split for case in self.unused)
        which = ", ".join(f"{split}: {size}" for split, size in sorted(sizes.items()))
        return f"{told}, {len(self.unused)} are not used ({which})"


def with_splits(cases: Sequence[T], validation: float, test: float = 0.0) -> list[T]:
    """The cases with some to validate on and some to test on: if the data name none, about a share of those for
    training, unless that is 0. Cases of data that name no split at all are for training.

    Those to test on are the last by name: cases of one person often have neighbouring names, and what is trained on
    must have no sibling among them. Whether another unit validates depends on its name alone, whichever others there
    are and in whatever order: a case that a network was trained on is not held out from it because some were added or
    removed. Only where no name falls into the share, the one that comes nearest is held out.
    """
    if not any(case.split for case in cases):
        cases = [replace(case, split=TRAIN) for case in cases]
    named = {case.split for case in cases}
    units = sorted({case.unit for case in cases if case.split == TRAIN})
    tested = 0 if TEST in named or not test else max(1, round(test * len(units)))
    rest, to_test = units[: len(units) - tested], units[len(units) - tested :]
    to_validate = _first({unit: _place(unit) for unit in rest}, 0 if VALIDATION in named else validation)
    split_of = {**dict.fromkeys(to_test, TEST), **dict.fromkeys(to_validate, VALIDATION)}
    return [replace(case, split=split_of.get(case.unit, TRAIN)) if case.split == TRAIN else case for case in cases]


def _first(places: Mapping[str, float], share: float) -> set[str]:
    """The units whose place is within a share, one at least."""
    if share == 0:
        return set()
    last = max(share, min(places.values(), default=share))
    return {unit for unit, place in places.items() if place <= last}


def as_held_out(cases: Sequence[T], names: Collection[str]) -> list[T]:
    """The cases with these to validate on and no others."""
    others = {VALIDATION: TRAIN, "": TRAIN}
    return [
        replace(case, split=VALIDATION if case.name in names else others.get(case.split, case.split)) for case in cases
    ]


def _place(unit: str) -> float:
    """A number from 0 to 1 that a name has for ever: names are spread evenly."""
    return int.from_bytes(hashlib.sha256(unit.encode(errors="backslashreplace")).digest()[:8], "big") / 2**64


def for_training(cases: Sequence[T], count: int, seed: int) -> list[T]:
    """The cases to train on, or so many of them, drawn by the seed."""
    training = [case for case in cases if case.split == TRAIN]
    if not count:
        return training
    order = np.random.default_rng(seed).permutation(len(training))
    return [training[n] for n in sorted(order[:count])]


def chosen_of(cases: Sequence[T], data: CaseData, seed: int) -> Chosen[T]:
    """The cases of a run; the seed draws those to train on, if it is not to be all."""
    cases = with_splits(cases, data.validation, data.test)
    training = for_training(cases, data.train, seed)
    validation = [case for case in cases if case.split == VALIDATION]
    used = {case.name for case in (*training, *validation)}
    return Chosen(training, validation, [case for case in cases if case.name not in used])


def of_split(cases: Sequence[T], split: str | None, source: Path) -> list[T]:
    """The cases of a split, or all; there must be one."""
    chosen = [case for case in cases if split is None or case.split == split]
    if not chosen:
        known = ", ".join(sorted({case.split for case in cases if case.split})) or "none"
        raise BadData(source, [f"it has no case{f' of split {split!r}; its splits: {known}' if split else ''}."])
    return chosen


def to_measure(cases: Sequence[T], split: str | None, trained: Collection[str], source: Path) -> list[T]:
    """The cases of a split, or all, for a network of which it may be known on which names it was trained: these are
    `train`, and no other split has one of them."""
    if split == TRAIN and trained:
        cases = [replace(case, split=TRAIN if case.name in trained else "") for case in cases]
    chosen = of_split(cases, split, source)
    if split in (None, TRAIN) or not (seen := sorted(case.name for case in chosen if case.name in trained)):
        return chosen
    raise BadData(
        source,
        [
            f"of split {split!r} the network was trained on {', '.join(seen)}. Measure cases that it has not seen: "
            "put back those that were left out when it was trained, or name other cases."
        ],
    )
