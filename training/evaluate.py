"""Measure a bundle on labelled cases, through the same engine that users run."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ScaleEquivSegLib.bundles import read_bundle
from ScaleEquivSegLib.comparison import compare_classes, mean_hd95
from ScaleEquivSegLib.layers.maps import ScaleAxis
from ScaleEquivSegLib.networks import UNet
from ScaleEquivSegLib.scaling import magnified, magnified_labels
from ScaleEquivSegLib.segmentation import Model, load_model, segment
from ScaleEquivSegLib.volume import Volume, read_volume


def evaluate(
    bundle_folder: Path,
    data: Path,
    split: str | None,
    scales: Sequence[float] = (1.0,),
    scale_axis: ScaleAxis | None = None,
) -> dict[str, float]:
    """Mean Dice and HD95 per label and over all, over the cases of a folder with images/, labels/ and cases.csv.

    At every scale image and labels are magnified alike and measured on the magnified grid, so distances grow with it.
    """
    model = load_model(read_bundle(bundle_folder))
    if scale_axis:
        if not isinstance(model.network, UNet):
            raise ValueError(f"{model.bundle.name} has no scale axis that could be exchanged")
        model.network.axis = scale_axis
    rows: dict[float, list[_Row]] = {scale: [] for scale in scales}
    for image, label in _cases(data, split):
        volume, wanted = read_volume(image), read_volume(label)
        for scale in scales:
            rows[scale].append(_measure(model, volume, wanted, scale))
    cases = len(rows[scales[0]])
    if not cases:
        raise ValueError(f"{data} has no case{f' of split {split!r}' if split else ''}")
    figures = {"cases": float(cases)}
    for scale in scales:
        figures |= {f"{key}@{scale:g}": value for key, value in _summary(rows[scale]).items()}
    return figures


@dataclass(frozen=True)
class _Row:
    """A case at a scale: Dice and HD95 by class."""

    dice: Mapping[str, float]
    hd95: Mapping[str, float]


def _measure(model: Model, volume: Volume, wanted: Volume, scale: float) -> _Row:
    labels = model.bundle.labels
    found = segment([magnified(volume, scale)], model).labels
    reference = magnified_labels(wanted, scale, len(labels))
    classes = compare_classes(found, reference, {label.value: label.name for label in labels})
    return _Row(
        {name: of_class.dice for name, of_class in classes.items()},
        {name: mean_hd95([of_class.hd95], found.geometry) for name, of_class in classes.items()},
    )


def _summary(rows: Sequence[_Row]) -> dict[str, float]:
    dice = {name: float(np.mean([row.dice[name] for row in rows])) for name in rows[0].dice}
    hd95 = {name: float(np.mean([row.hd95[name] for row in rows])) for name in rows[0].hd95}
    return {
        "dice.mean": float(np.mean(list(dice.values()))),
        "dice.worst_case": min(float(np.mean(list(row.dice.values()))) for row in rows),
        **{f"dice.{name}": value for name, value in dice.items()},
        "hd95.mean": float(np.mean(list(hd95.values()))),
        **{f"hd95.{name}": value for name, value in hd95.items()},
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
