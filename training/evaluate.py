"""Measure a bundle on labelled cases, through the same engine that users run."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from ScaleEquivSegLib.bundles import read_bundle
from ScaleEquivSegLib.comparison import dice_per_label
from ScaleEquivSegLib.segmentation import load_model, segment
from ScaleEquivSegLib.volume import read_volume


def evaluate(bundle_folder: Path, data: Path, split: str | None) -> dict[str, float]:
    """Mean Dice per label and over all over the cases of a folder with images/, labels/ and cases.csv."""
    model = load_model(read_bundle(bundle_folder))
    rows = []
    for image, label in _cases(data, split):
        result = segment([read_volume(image)], model)
        rows.append(dice_per_label(result.labels, read_volume(label), model.bundle.labels))
    if not rows:
        raise ValueError(f"{data} has no case{f' of split {split!r}' if split else ''}")
    names = list(rows[0])
    means = {name: float(np.mean([row[name] for row in rows])) for name in names}
    worst = min(float(np.mean(list(row.values()))) for row in rows)
    return {
        "cases": float(len(rows)),
        "dice.mean@1": float(np.mean(list(means.values()))),
        "dice.worst_case@1": worst,
        **{f"dice.{name}@1": value for name, value in means.items()},
    }


def _cases(data: Path, split: str | None) -> Iterator[tuple[Path, Path]]:
    with (data / "cases.csv").open(newline="", encoding="utf-8") as stream:
        for row in csv.DictReader(stream):
            if split is None or row["split"] == split:
                yield _file(data / "images", row["case"]), _file(data / "labels", row["case"])


def _file(folder: Path, case: str) -> Path:
    for ending in (".nrrd", ".nii.gz"):
        if (folder / f"{case}{ending}").exists():
            return folder / f"{case}{ending}"
    raise FileNotFoundError(f"{folder} has no {case}.nrrd or {case}.nii.gz")
