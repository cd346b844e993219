"""What is held out to validate on is held out for ever, and whole groups of pictures are."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ScaleEquivSegLib.volume import Geometry, Volume
from training.cases import TEST, TRAIN, VALIDATION, BadData, LabelledCase
from training.pictures import LabelledPicture
from training.splits import for_training, of_split, with_splits

PIXEL = Volume(np.zeros((1, 1, 1)), Geometry((1, 1, 1), np.eye(4)))


def cases(count: int, split: str = "") -> list[LabelledCase]:
    return [LabelledCase(f"case {number}", (), Path(), split) for number in range(count)]


def held_out(of: list[LabelledCase], share: float = 0.15) -> set[str]:
    return {case.name for case in with_splits(of, share) if case.split == VALIDATION}


def test_a_case_is_held_out_for_its_own_name_whichever_others_there_are_and_in_whatever_order() -> None:
    known = cases(300)
    always = held_out(known)
    assert 0.1 < len(always) / 300 < 0.2
    shuffled = [known[n] for n in np.random.default_rng(0).permutation(300)]
    assert held_out(shuffled) == always
    assert held_out(known[::2]) == always & {case.name for case in known[::2]}
    assert held_out(known[:200]) <= held_out(known)
    assert held_out(known, 0.1) < always


def test_of_few_cases_one_is_held_out_at_least_unless_none_is_wanted() -> None:
    few = [case for case in cases(300) if case.name not in held_out(cases(300))][:4]
    (one,) = held_out(few)
    assert held_out(few, 0.01) == {one}
    assert held_out(few, 0) == set()


def test_some_are_held_out_to_test_on_if_that_is_asked_and_never_those_that_validate() -> None:
    known = cases(300)
    split = with_splits(known, 0.15, 0.15)
    tested = {case.name for case in split if case.split == TEST}
    # Neighbours by name may be of one person: no more than one pair of them is parted.
    assert tested == set(sorted(case.name for case in known)[-45:])
    assert {case.name for case in split if case.split == VALIDATION} == held_out(known) - tested
    named = [*cases(2, VALIDATION), *(replace(case, name=f"more {case.name}") for case in cases(300))]
    named = [replace(case, split=case.split or TRAIN) for case in named]
    again = with_splits(named, 0.15, 0.15)
    assert [case.split for case in again[:2]] == [VALIDATION] * 2
    assert {case.split for case in again[2:]} == {TRAIN, TEST}
    assert with_splits(again, 0.15, 0.5) == again


def test_only_cases_for_training_are_held_out_and_only_where_the_data_hold_out_none() -> None:
    tested = [LabelledCase("tested", (), Path(), "test"), *cases(50, TRAIN)]
    assert held_out(tested, 0.99) == {case.name for case in cases(50)}
    named = [LabelledCase("named", (), Path(), VALIDATION), *cases(50, TRAIN)]
    assert held_out(named, 0.99) == {"named"}


def test_pictures_of_one_group_go_together_and_one_alone_by_its_name() -> None:
    pictures = [LabelledPicture(f"picture {n}", PIXEL, "", group=f"case {n // 3}") for n in range(90)]
    names = {picture.group for picture in with_splits(pictures, 0.15) if picture.split == VALIDATION}
    assert names == held_out(cases(30))
    assert names.isdisjoint(picture.group for picture in with_splits(pictures, 0.15) if picture.split == TRAIN)
    alone = [LabelledPicture(case.name, PIXEL, "") for case in cases(30)]
    assert {picture.name for picture in with_splits(alone, 0.15) if picture.split == VALIDATION} == names


def test_a_part_of_the_cases_for_training_is_drawn_by_the_seed() -> None:
    known = [*cases(20, TRAIN), LabelledCase("tested", (), Path(), "test")]
    assert for_training(known, 0, 0) == known[:20]
    parts = [for_training(known, 5, seed) for seed in (0, 0, 1)]
    assert parts[0] == parts[1] != parts[2]
    assert all(len(part) == 5 and set(part) < set(known[:20]) for part in parts)


def test_a_split_without_a_case_is_refused_with_those_that_have_some() -> None:
    assert of_split(cases(3), None, Path()) == cases(3)
    with pytest.raises(BadData, match="no case of split 'test'; its splits: train"):
        of_split(cases(3, TRAIN), "test", Path("data"))
