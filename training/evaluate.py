"""Measure a bundle on labelled cases, through the same engine that users run."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Sequence
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

from .preparation import in_native_voxels


def evaluate(
    bundle_folder: Path,
    data: Path,
    split: str | None,
    scales: Sequence[float] = (1.0,),
    scale_axis: ScaleAxis | None = None,
    native_voxels: bool = False,
) -> dict[str, float]:
    """Mean Dice and HD95 per label and over all, over the cases of a folder with images/, labels/ and cases.csv."""
    rows = measured_rows(bundle_folder, data, split, scales, scale_axis, native_voxels)
    return {"cases": float(len({row.case for row in rows})), **summary(rows)}


@dataclass(frozen=True)
class Row:
    """How well one class of a case was found at a scale."""

    case: str
    scale: float
    label: str
    dice: float
    hd95: float


def measured_rows(
    bundle_folder: Path,
    data: Path,
    split: str | None,
    scales: Sequence[float] = (1.0,),
    scale_axis: ScaleAxis | None = None,
    native_voxels: bool = False,
) -> list[Row]:
    """Every case at every scale.

    At every scale image and labels are magnified alike and measured on the magnified grid, so distances grow with it.
    In native voxels the network is shown the voxels of the files as if they had the card's spacing.
    """
    model = load_model(read_bundle(bundle_folder))
    if scale_axis:
        if not isinstance(model.network, UNet):
            raise ValueError(f"{model.bundle.name} has no scale axis that could be exchanged")
        model.network.axis = scale_axis
    rows: list[Row] = []
    for name, image, label in _cases(data, split):
        volume, wanted = read_volume(image), read_volume(label)
        for scale in scales:
            rows += _measure(model, name, volume, wanted, scale, native_voxels)
    if not rows:
        raise ValueError(f"{data} has no case{f' of split {split!r}' if split else ''}")
    return rows


def _measure(
    model: Model, case: str, volume: Volume, wanted: Volume, scale: float, native_voxels: bool
) -> Iterator[Row]:
    labels = model.bundle.labels
    image = magnified(volume, scale)
    shown = in_native_voxels([image], model.bundle) if native_voxels else [image]
    found = Volume(segment(shown, model).labels.array, image.geometry)
    reference = magnified_labels(wanted, scale, len(labels))
    for name, of_class in compare_classes(found, reference, {label.value: label.name for label in labels}).items():
        yield Row(case, scale, name, of_class.dice, mean_hd95([of_class.hd95], found.geometry))


def summary(rows: Sequence[Row]) -> dict[str, float]:
    """Means over cases, of each class and over classes, at each scale."""
    figures: dict[str, float] = {}
    for scale in dict.fromkeys(row.scale for row in rows):
        at_scale = [row for row in rows if row.scale == scale]
        figures |= {f"{key}@{scale:g}": value for key, value in _summary_of_scale(at_scale).items()}
    return figures


def _summary_of_scale(rows: Sequence[Row]) -> dict[str, float]:
    dice = _means([(row.label, row.dice) for row in rows])
    hd95 = _means([(row.label, row.hd95) for row in rows])
    return {
        "dice.mean": float(np.mean(list(dice.values()))),
        "dice.worst_case": min(_means([(row.case, row.dice) for row in rows]).values()),
        **{f"dice.{name}": value for name, value in dice.items()},
        "hd95.mean": float(np.mean(list(hd95.values()))),
        **{f"hd95.{name}": value for name, value in hd95.items()},
    }


def _means(entries: Iterable[tuple[str, float]]) -> dict[str, float]:
    values: dict[str, list[float]] = {}
    for key, value in entries:
        values.setdefault(key, []).append(value)
    return {key: float(np.mean(of_key)) for key, of_key in values.items()}


def _cases(data: Path, split: str | None) -> Iterator[tuple[str, Path, Path]]:
    with (data / "cases.csv").open(newline="", encoding="utf-8") as stream:
        for row in csv.DictReader(stream):
            if split is None or row["split"] == split:
                yield row["case"], _file(data / "images", row["case"]), _file(data / "labels", row["case"])


def _file(folder: Path, case: str) -> Path:
    for ending in (".nrrd", ".nii.gz"):
        if (folder / f"{case}{ending}").exists():
            return folder / f"{case}{ending}"
    raise FileNotFoundError(f"{folder} has no {case}.nrrd or {case}.nii.gz")
