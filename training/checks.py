"""What is wrong with labelled cases: their names, splits, files, grids and values.
All of it is told at once, before anything is computed."""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np

from ScaleEquivSegLib.comparison import check_same_grid
from ScaleEquivSegLib.errors import SegmentationError
from ScaleEquivSegLib.inputs import checked_image, notes_together
from ScaleEquivSegLib.labelmap import segment_names
from ScaleEquivSegLib.provenance import voxels_sha256
from ScaleEquivSegLib.volume import Volume, read_volume

from .cases import TRAIN, BadData, LabelledCase
from .config import CaseData
from .preparation import Task, in_native_voxels, meanings, values_of_classes
from .progress import followed
from .reading import read_channels

VALUES_SHOWN = 10


def check_cases(
    cases: Sequence[LabelledCase],
    data: CaseData,
    task: Task,
    splits: Sequence[str] = (),
    known: Sequence[str] = (),
) -> None:
    """Refuse cases that cannot be used. With splits, each must have a case, and only their files are looked at.

    Problems that are known already are told with those found here.
    """
    problems = [*known, *_meaning_problems(data, task), *_name_problems(cases), *_split_problems(cases, data, splits)]
    used = [case for case in cases if not splits or case.split in splits]
    for case in followed(used, "checking"):
        problems += [f"case {case.name}: {problem}" for problem in _case_problems(case, data, task)]
    if problems:
        raise BadData(data.folder or Path(), problems)


def _meaning_problems(data: CaseData, task: Task) -> Iterator[str]:
    if data.classes and len(data.classes) != len(task.labels):
        yield f"data.classes has {len(data.classes)} entries and the card {len(task.labels)} labels; give one for each."
    values = [*(value for sources in values_of_classes(data, task) for value in sources), *data.background]
    for value, times in Counter(values).items():
        if times > 1:
            yield f"data.classes and data.background have the value {value} {times} times; it can mean one thing only."


def _name_problems(cases: Sequence[LabelledCase]) -> Iterator[str]:
    same: dict[str, list[LabelledCase]] = {}
    for case in cases:
        same.setdefault(case.name, []).append(case)
    for name, those in same.items():
        if len(those) > 1:
            splits = sorted({case.split for case in those if case.split})
            where = f", in the splits {' and '.join(splits)}" if len(splits) > 1 else ""
            yield f"case {name}: it is there {len(those)} times{where}."
    owners: dict[str, set[str]] = {}
    for case in cases:
        for path in (*case.images, case.labels):
            if path.exists():
                owners.setdefault(os.path.realpath(path), set()).add(case.name)
    for file, names in owners.items():
        if len(names) > 1 and os.path.isfile(file):
            yield f"cases {', '.join(sorted(names))}: they share the file {file}."


def _split_problems(cases: Sequence[LabelledCase], data: CaseData, splits: Sequence[str]) -> Iterator[str]:
    sizes = Counter(case.split for case in cases)
    for split in splits:
        if not sizes[split]:
            known = ", ".join(f"{size} {name}" for name, size in sizes.items() if name) or "none"
            yield f"it has no case for {split!r}; cases by split: {known}."
    if any(sizes) and sizes[""]:
        yield from (f"case {case.name}: it has no split, and others have." for case in cases if not case.split)
    if TRAIN in splits and data.train > sizes[TRAIN]:
        yield f"data.train asks for {data.train} cases, and there are {sizes[TRAIN]} to train on."


def _case_problems(case: LabelledCase, data: CaseData, task: Task) -> Iterator[str]:
    if not case.images:
        yield "there are no images of this name."
        return
    problems: list[str] = []
    is_complete = len(case.images) == len(task.inputs)  # else it is known what it lacks
    channels = _sound_channels(case, task, problems) if is_complete else [None]
    with _among(problems):
        labels = read_volume(case.labels)
        problems += _unknown_values(labels, case.labels, data, task)
        if channels[0]:
            check_same_grid(channels[0], labels, str(case.images[0]), str(case.labels))
    sound = [volume for volume in channels if volume]
    if len(sound) == len(channels):
        with _among(problems):
            _check_together(sound, data, task)
    yield from problems


def _sound_channels(case: LabelledCase, task: Task, problems: list[str]) -> list[Volume | None]:
    """The images of a case; instead of one that the engine would refuse, None."""
    of_each = [replace(case, images=(path,)) for path in case.images]
    parts = [(task.inputs, case)] if case.frames else [((c,), p) for c, p in zip(task.inputs, of_each, strict=True)]
    sound: list[Volume | None] = []
    for channels, part in parts:
        read: Sequence[Volume | None] = [None] * len(channels)
        with _among(problems):
            read = read_channels(part)
        for channel, volume in zip(channels, read, strict=True):
            image = None
            with _among(problems):
                image = volume and checked_image(channel, volume, False, [])
            sound.append(image)
    return sound


def _check_together(channels: Sequence[Volume], data: CaseData, task: Task) -> None:
    notes_together([channel.name for channel in task.inputs], channels, [voxels_sha256(image) for image in channels])
    if data.native_voxels:
        in_native_voxels(channels, task)


@contextmanager
def _among(problems: list[str]) -> Iterator[None]:
    """An error in here is one of several problems."""
    try:
        yield
    except SegmentationError as error:
        problems.append(str(error))


def _unknown_values(labels: Volume, path: Path, data: CaseData, task: Task) -> Iterator[str]:
    names = segment_names(path)
    known = meanings(data, task, names)
    unknown = [value for value in np.unique(labels.array).tolist() if value not in known]
    if unknown:
        shown = ", ".join(_shown(value, names) for value in unknown[:VALUES_SHOWN])
        more = f" and {len(unknown) - VALUES_SHOWN} more" if len(unknown) > VALUES_SHOWN else ""
        or_name = f", or name them {', '.join(label.name for label in task.labels)}" if names else ""
        yield (
            f"{path} has the values {shown}{more}, which mean neither a class nor background; say which "
            f"they mean by data.classes and data.background, of `evaluate` --classes and --background{or_name}."
        )


def _shown(value: float, names: Mapping[int, str]) -> str:
    if math.isnan(value):
        return "NaN"
    return f"{value:g} ({names[int(value)]})" if value in names else f"{value:g}"
