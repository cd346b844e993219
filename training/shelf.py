"""The examples of a run as files, which its processes map into memory together: it holds what crops are cut from."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from ScaleEquivSegLib.whole_files import in_one_piece, write_text

from .cases import LabelledCase
from .preparation import Example
from .progress import followed


@dataclass(frozen=True)
class Shelf:
    """A folder of examples, and which of several processes this is."""

    folder: Path
    rank: int = 0
    processes: int = 1

    def examples(self, cases: Sequence[LabelledCase], read: Callable[[LabelledCase], Example]) -> list[Example]:
        """An example of each case; what another process has put there is not read again.

        Each process begins elsewhere in the list, so that they share the work without waiting for each other.
        """
        first = self.rank * len(cases) // self.processes
        order = [*cases[first:], *cases[:first]]
        of_case = {case.name: self._example(case, read) for case in followed(order, "reading")}
        return [of_case[case.name] for case in cases]

    def checked(self, cases: Sequence[LabelledCase], check: Callable[[], None]) -> None:
        """Check cases, unless a process has done so since their files were written."""
        mark = self.folder / f"{_keys(cases)}.checked"
        if not mark.exists():
            check()
            write_text("", mark)

    def _example(self, case: LabelledCase, read: Callable[[LabelledCase], Example]) -> Example:
        path = self.folder / f"{_key(case)}.pt"
        if not path.exists():
            example = read(case)
            content = {"image": example.image, "label": example.label, "unlabelled": example.unlabelled}
            with in_one_piece(path) as unfinished:
                torch.save(content, unfinished)
        return Example(case.name, **torch.load(path, mmap=True, weights_only=True))


def _key(case: LabelledCase) -> str:
    """Another one if the case's files are others, or have changed."""
    return _digest((case.name, [_file(path) for path in (*case.images, case.labels)]))


def _keys(cases: Sequence[LabelledCase]) -> str:
    """Another one if one of the cases has another key, or another split."""
    return _digest([(_key(case), case.split) for case in cases])


def _file(path: Path) -> tuple[str, int, int]:
    """Where a file lies, its size, and when it was written; of one that is not there, nothing."""
    there = path.stat() if path.exists() else None
    return (str(path.resolve()), there.st_size, there.st_mtime_ns) if there else (str(path), 0, 0)


def _digest(of: object) -> str:
    return hashlib.sha256(repr(of).encode(errors="backslashreplace")).hexdigest()[:16]
