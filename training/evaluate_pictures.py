"""Measure a bundle for classification on labelled pictures, through the same engine that users run."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ScaleEquivSegLib.bundles import read_bundle
from ScaleEquivSegLib.classification import ClassifierModel, classify, load_classifier
from ScaleEquivSegLib.whole_files import write_csv

from .cases import told_of
from .config import labelling
from .evaluate import as_card_says, trained_names, trained_on
from .picture_metrics import figures
from .picture_samples import PictureTask, prepared
from .pictures import LabelledPicture, find_pictures
from .splits import to_measure, with_splits


@dataclass(frozen=True)
class Answer:
    """What a bundle says of a picture, and of which class it is."""

    case: str
    wanted: str
    probabilities: dict[str, float]


def evaluate_pictures(
    bundle_folder: Path, data: Path, split: str | None = None, table: Path | None = None, device: str = "auto"
) -> dict[str, float]:
    """Accuracy and areas under the ROC curve over labelled pictures; the probabilities of every one into a table.

    The area of a class that has no picture is left out.
    """
    answers = measured_pictures(bundle_folder, data, split, device)
    if table:
        rows = ([answer.case, answer.wanted, *answer.probabilities.values()] for answer in answers)
        write_csv([["case", "class", *answers[0].probabilities], *rows], table)
    known = {name: value for name, value in summary_of(answers).items() if not math.isnan(value)}
    return {"cases": float(len(answers)), **known}


def measured_pictures(bundle_folder: Path, data: Path, split: str | None = None, device: str = "auto") -> list[Answer]:
    """The answer for every picture of a split. Those that the card says were held out are `val`; if it
    names none, and the data neither, what training would hold out."""
    model = load_classifier(read_bundle(bundle_folder))
    task = PictureTask.from_card(model.bundle.card)
    share = labelling(trained_on(model.bundle)).validation
    found = as_card_says(with_splits(find_pictures(data, task.classes), share), model.bundle, data, split)
    chosen = to_measure(found, split, trained_names(model.bundle), data)
    prepared(chosen, task, data)  # what the engine would refuse is told before anything is measured
    return [_answer(picture, model, device) for picture in chosen]


def _answer(picture: LabelledPicture, model: ClassifierModel, device: str) -> Answer:
    with told_of(picture.name):
        return Answer(picture.name, picture.of_class, classify(picture.volume, model, device).probabilities)


def summary_of(answers: Sequence[Answer]) -> dict[str, float]:
    """The figures of all answers together."""
    classes = list(answers[0].probabilities)
    probabilities = np.array([list(answer.probabilities.values()) for answer in answers])
    return figures(probabilities, np.array([classes.index(answer.wanted) for answer in answers]), classes)
