"""Measure a bundle for classification on labelled pictures, through the same engine that users run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ScaleEquivSegLib.bundles import read_bundle
from ScaleEquivSegLib.classification import classify, load_classifier
from ScaleEquivSegLib.errors import OutputExists
from ScaleEquivSegLib.whole_files import write_csv

from .cases import BadData
from .picture_metrics import figures
from .pictures import find_pictures


@dataclass(frozen=True)
class Answer:
    """What a bundle says of a picture, and of which class it is."""

    case: str
    wanted: str
    probabilities: dict[str, float]


def evaluate_pictures(
    bundle_folder: Path, data: Path, split: str | None = None, table: Path | None = None
) -> dict[str, float]:
    """Accuracy and areas under the ROC curve over labelled pictures; the probabilities of every one into a table."""
    if table and table.exists():
        raise OutputExists(f"{table} exists; remove it, or name another file.")
    answers = measured_pictures(bundle_folder, data, split)
    if table:
        rows = ([answer.case, answer.wanted, *answer.probabilities.values()] for answer in answers)
        write_csv([["case", "class", *answers[0].probabilities], *rows], table)
    return {"cases": float(len(answers)), **summary_of(answers)}


def measured_pictures(bundle_folder: Path, data: Path, split: str | None = None) -> list[Answer]:
    """The answer for every picture of a split."""
    model = load_classifier(read_bundle(bundle_folder))
    pictures = find_pictures(data, [each.name for each in model.bundle.classes])
    chosen = [picture for picture in pictures if split is None or picture.split == split]
    if not chosen:
        known = ", ".join(sorted({picture.split for picture in pictures if picture.split})) or "none"
        raise BadData(data, [f"it has no picture of split {split!r}; its splits: {known}."])
    return [Answer(p.name, p.of_class, classify(p.volume, model).probabilities) for p in chosen]


def summary_of(answers: Sequence[Answer]) -> dict[str, float]:
    """The figures of all answers together."""
    classes = list(answers[0].probabilities)
    probabilities = np.array([list(answer.probabilities.values()) for answer in answers])
    return figures(probabilities, np.array([classes.index(answer.wanted) for answer in answers]), classes)
