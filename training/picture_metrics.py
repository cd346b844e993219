"""How well pictures are told apart: accuracy, accuracy balanced over classes, area under the ROC curve."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np


def figures(probabilities: np.ndarray, wanted: np.ndarray, classes: Sequence[str]) -> dict[str, float]:
    """Of probabilities (case, class) and the numbers of the true classes (case,); a class without cases does not count.

    `auc.NAME` is for a class against all others (NaN if it has no case, or all), `auc.mean` the mean over classes.
    """
    right = probabilities.argmax(1) == wanted
    recalls = [right[wanted == number].mean() for number in range(len(classes)) if (wanted == number).any()]
    areas = [area_under_curve(probabilities[:, number], wanted == number) for number in range(len(classes))]
    values = [float(right.mean()), float(np.mean(recalls)), mean_area(areas), *areas]
    return dict(zip(figure_names(classes), values, strict=True))


def figure_names(classes: Sequence[str]) -> list[str]:
    """What `figures` tells."""
    return ["accuracy", "balanced_accuracy", "auc.mean", *(f"auc.{name}" for name in classes)]


def mean_area(areas: Sequence[float]) -> float:
    """Over the classes that have an area; NaN if none has."""
    known = [area for area in areas if not math.isnan(area)]
    return sum(known) / len(known) if known else math.nan


def area_under_curve(scores: np.ndarray, positive: np.ndarray) -> float:
    """Of pairs of a positive and a negative case the share in which the positive has the higher score, ties counting
    half (Mann and Whitney).

    (R - p (p + 1) / 2) / (p n), R the sum of the ranks of the p positive cases
    """
    count = int(positive.sum())
    others = len(positive) - count
    if not count or not others:
        return math.nan
    _, place, times = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(times) - (times - 1) / 2)[place]  # equal scores share their mean rank
    return float((ranks[positive].sum() - count * (count + 1) / 2) / (count * others))
