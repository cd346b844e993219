"""Labelled cases on disk: which images and labels belong together, and which are for training.

A folder is read by what lies in it; each layout is a function here.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ScaleEquivSegLib.bundles import Channel
from ScaleEquivSegLib.cases import read_cases

ENDINGS = (".nrrd", ".nii.gz", ".nii", ".mha", ".seg.nrrd")
TRAIN, VALIDATION = "train", "val"


@dataclass(frozen=True)
class LabelledCase:
    """An image for each channel and the labels drawn on them; `split` is empty where the data name none."""

    name: str
    images: tuple[Path, ...]
    labels: Path
    split: str = ""


class BadData(ValueError):
    """Labelled cases that cannot be used; the message lists every reason."""


def find_cases(folder: Path, channels: Sequence[Channel]) -> list[LabelledCase]:
    """The cases of a folder in any known layout."""
    return _images_and_labels(folder, channels)


def with_splits(cases: Sequence[LabelledCase], validation: float) -> list[LabelledCase]:
    """The cases with a split for each: where the data name none, a share drawn once and for all is for validation."""
    if any(case.split for case in cases):
        return list(cases)
    order = np.random.default_rng(0).permutation(len(cases))
    held_out = set(order[: round(validation * len(cases))].tolist())
    return [replace(case, split=VALIDATION if n in held_out else TRAIN) for n, case in enumerate(cases)]


def _images_and_labels(folder: Path, channels: Sequence[Channel]) -> list[LabelledCase]:
    """`images/`, `labels/` and `cases.csv` with the columns `case` and `split`."""
    with (folder / "cases.csv").open(newline="", encoding="utf-8-sig") as stream:
        splits = {row["case"]: row["split"] for row in csv.DictReader(stream)}
    images = {case.name: case.images for case in read_cases(folder / "images", channels).cases}
    return [LabelledCase(name, images[name], _file(folder / "labels", name), split) for name, split in splits.items()]


def _file(folder: Path, name: str) -> Path:
    return next((path for ending in ENDINGS if (path := folder / f"{name}{ending}").exists()), folder / f"{name}.nrrd")
