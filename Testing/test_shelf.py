"""The examples of a run as files: each is read once for all processes, and read again if the data have changed."""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from ScaleEquivSegLib.volume import Volume, make_geometry, write_volume
from training.cases import BadData, LabelledCase
from training.preparation import Example
from training.shelf import Shelf

NAMES = ("a", "b", "c", "d/e")


def written(folder: Path, name: str, value: int) -> LabelledCase:
    grid = make_geometry((20, 20, 20), (1, 1, 1), np.eye(3), (0, 0, 0))
    paths = [folder / f"{name.replace('/', '')}{kind}.nrrd" for kind in ("", "_labels")]
    for path in paths:
        write_volume(Volume(np.full((20, 20, 20), value, np.int16), grid), path)
    return LabelledCase(name, (paths[0],), paths[1])


class Reader:
    """Reads cases, and knows which it has read."""

    def __init__(self) -> None:
        self.read: list[str] = []

    def __call__(self, case: LabelledCase) -> Example:
        self.read.append(case.name)
        value = float(len(case.name))
        return Example(case.name, torch.full((2, 3, 4, 5), value), torch.ones(1, 3, 4, 5, dtype=torch.uint8), (2, 3))


def test_what_one_process_has_read_another_does_not_read_and_both_have_the_same(tmp_path: Path) -> None:
    cases = [written(tmp_path, name, 0) for name in NAMES]
    first, second = Reader(), Reader()
    made = Shelf(tmp_path / "shelf", 0, 2).examples(cases, first)
    found = Shelf(tmp_path / "shelf", 1, 2).examples(cases, second)
    assert (first.read, second.read) == (list(NAMES), [])
    for one, two, name in zip(made, found, NAMES, strict=True):
        assert one.name == two.name == name
        assert torch.equal(one.image, two.image)
        assert torch.equal(one.label, two.label)
        assert one.image.dtype == torch.float32
        assert one.label.dtype == torch.uint8
        assert two.unlabelled == (2, 3)


def test_processes_begin_at_different_cases(tmp_path: Path) -> None:
    cases = [written(tmp_path, name, 0) for name in NAMES]
    read = Reader()
    assert [example.name for example in Shelf(tmp_path / "shelf", 1, 2).examples(cases, read)] == list(NAMES)
    assert read.read == ["c", "d/e", "a", "b"]


def test_a_case_whose_files_have_changed_is_read_again(tmp_path: Path) -> None:
    cases = [written(tmp_path, name, 0) for name in NAMES]
    Shelf(tmp_path / "shelf").examples(cases, Reader())
    changed = cases[1].labels
    os.utime(changed, ns=(0, 1))
    read = Reader()
    Shelf(tmp_path / "shelf").examples(cases, read)
    assert read.read == ["b"]


@pytest.mark.skipif(sys.platform != "linux", reason="/proc tells what is mapped")
def test_examples_lie_in_files_and_not_in_the_memory_of_each_process(tmp_path: Path) -> None:
    shelf, cases = Shelf(tmp_path / "shelf"), [written(tmp_path, name, 0) for name in NAMES]
    examples = shelf.examples(cases, Reader())
    maps = Path("/proc/self/maps").read_text()
    assert all(str(path) in maps for path in shelf.folder.iterdir())
    examples[0].image[0] = 7  # whatever somebody does to an example, others see what was read
    assert float(shelf.examples(cases, Reader())[0].image.max()) == 1


def test_cases_are_checked_again_only_if_their_files_or_splits_are_others(tmp_path: Path) -> None:
    cases = [written(tmp_path, name, 0) for name in NAMES]
    checks: list[int] = []
    for which in (cases, cases, [replace(cases[0], split="val"), *cases[1:]], cases):
        Shelf(tmp_path / "shelf").checked(which, lambda: checks.append(1))
    assert len(checks) == 2
    os.utime(cases[0].labels, (1, 1))
    Shelf(tmp_path / "shelf", 1, 2).checked(cases, lambda: checks.append(1))
    assert len(checks) == 3
    cases[0].labels.unlink()

    def found_bad() -> None:
        raise BadData(tmp_path, ["case a: no labels"])

    for _ in range(2):
        with pytest.raises(BadData):
            Shelf(tmp_path / "shelf").checked(cases, found_bad)
