"""Measure a bundle on labelled cases, through the same engine that users run."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import astuple, dataclass, fields, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from ScaleEquivSegLib.bundles import Bundle, read_bundle
from ScaleEquivSegLib.comparison import compare_classes, mean_hd95
from ScaleEquivSegLib.errors import BadRequest
from ScaleEquivSegLib.layers.maps import ScaleAxis
from ScaleEquivSegLib.networks import UNet
from ScaleEquivSegLib.scaling import magnified, magnified_labels
from ScaleEquivSegLib.segmentation import Model, Settings, load_model, segment
from ScaleEquivSegLib.volume import Volume, resample
from ScaleEquivSegLib.whole_files import write_csv

from .cases import VALIDATION, BadData, LabelledCase, find_cases, told_of
from .checks import check_cases
from .config import CaseData, labelling
from .preparation import Task, in_native_voxels, read_labels, unlabelled_classes
from .progress import followed
from .reading import read_channels
from .splits import Labelled, as_held_out, to_measure, with_splits

T = TypeVar("T", bound=Labelled)


@dataclass(frozen=True)
class Row:
    """How well one class of a case was found at a scale: NaN if nobody had looked for it in the case, or if the scale
    left nothing of it to find."""

    case: str
    scale: float
    label: str
    dice: float
    hd95: float


def evaluate(
    bundle_folder: Path,
    data: Path,
    split: str | None = None,
    scales: Sequence[float] = (1.0,),
    scale_axis: ScaleAxis | None = None,
    settings: Mapping[str, Any] | None = None,
    table: Path | None = None,
    device: str = "auto",
) -> dict[str, float]:
    """Mean Dice and HD95 per label and over all, over labelled cases in any layout; of every case into a table, too.

    What the values of the label files mean is taken from the bundle's card, where it says so; settings of `CaseData`
    say otherwise.
    """
    rows: list[Row] = []
    with rows_kept(table) as keep:
        for of_case in measured_cases(bundle_folder, data, split, scales, scale_axis, settings, device):
            rows += of_case
            cells = ([("" if value != value else value) for value in astuple(row)] for row in rows)
            keep([[field.name for field in fields(Row)], *cells])
    return {"cases": float(len({row.case for row in rows})), **summary(rows)}


@contextmanager
def rows_kept(table: Path | None) -> Iterator[Callable[[Sequence[Sequence[object]]], None]]:
    """A way to keep what is known so far: it lies in a file beside the table, and becomes the table when all is done.

    A table that is there is that of all cases; what was measured before an error is not lost.
    """
    if table is None:
        yield lambda rows: None
        return
    yield lambda rows: write_csv(rows, unfinished(table))
    os.replace(unfinished(table), table)


def unfinished(table: Path) -> Path:
    """Where the rows of a table lie until it is done."""
    return table.with_name(f"{table.stem}.unfinished{table.suffix}")


def measured_rows(
    bundle_folder: Path,
    data: Path,
    split: str | None = None,
    scales: Sequence[float] = (1.0,),
    scale_axis: ScaleAxis | None = None,
    settings: Mapping[str, Any] | None = None,
) -> list[Row]:
    """Every class of every case at every scale."""
    return [row for rows in measured_cases(bundle_folder, data, split, scales, scale_axis, settings) for row in rows]


def measured_cases(
    bundle_folder: Path,
    data: Path,
    split: str | None,
    scales: Sequence[float],
    scale_axis: ScaleAxis | None,
    settings: Mapping[str, Any] | None,
    device: str = "auto",
) -> Iterator[list[Row]]:
    """Case by case every class at every scale.

    At every scale images and labels are magnified alike and measured on the magnified grid, so distances grow with it.
    That grid is in true millimetres even where the network is shown native voxels.
    """
    bundle = read_bundle(bundle_folder)
    model = load_model(bundle)
    if scale_axis:
        if not isinstance(model.network, UNet):
            raise BadRequest(f"{bundle.name} has no scale axis that could be exchanged")
        model.network.axis = scale_axis
    meant = replace(labelling(trained_on(bundle)), folder=data, **(settings or {}))
    how = Settings(device=device)
    for case in followed(chosen_cases(bundle, meant, data, split), "measuring"):
        with told_of(case.name):
            rows = list(_measured(model, case, meant, scales, how))
        yield rows


def trained_on(bundle: Bundle) -> Mapping[str, Any]:
    """What a bundle's card says of the data that it was trained on."""
    data: Mapping[str, Any] = bundle.card["training"].get("data", {})
    return data


def trained_names(bundle: Bundle) -> Collection[str]:
    """The names of the cases that a bundle was trained on, where its card says them."""
    return frozenset(trained_on(bundle).get("trained_on", ()))


def as_card_says(cases: list[T], bundle: Bundle, data: Path, split: str | None) -> list[T]:
    """The cases with those to validate on that the card says were held out; to measure these, all must be there."""
    held_out = trained_on(bundle).get("held_out", [])
    if split == VALIDATION and (absent := sorted(set(held_out) - {case.name for case in cases})):
        raise BadData(
            data,
            [
                f"{bundle.name} held out cases that are not there: {', '.join(absent)}. A table of splits, given "
                "with --splits, says otherwise what to measure."
            ],
        )
    return as_held_out(cases, held_out) if held_out else cases


def chosen_cases(bundle: Bundle, meant: CaseData, data: Path, split: str | None) -> list[LabelledCase]:
    """The cases of a split, checked. Those that the card says were held out are `val`, whatever the data say, unless a
    table of splits is given; those that it says were trained on are `train`, and in no other split."""
    table = trained_on(bundle).get("splits")
    if split and table and not meant.splits and not (split == VALIDATION and trained_on(bundle).get("held_out")):
        raise BadRequest(
            f"{bundle.name} was trained with the table of splits {table}: only with --splits it is known which cases "
            f"are {split!r} and which it was trained on."
        )
    problems: list[str] = []
    cases = with_splits(find_cases(data, bundle.inputs, meant.splits, problems), meant.validation, meant.test)
    if not meant.splits:
        cases = as_card_says(cases, bundle, data, split)
    chosen = to_measure(cases, split, trained_names(bundle), data)
    check_cases(chosen, meant, Task.from_card(bundle.card), known=problems)
    return chosen


def _measured(
    model: Model, case: LabelledCase, meant: CaseData, scales: Sequence[float], how: Settings
) -> Iterator[Row]:
    task = Task.from_card(model.bundle.card)
    channels = read_channels(case)
    # Exactly on the image's grid, where they may be off by a rounding error, which would grow with the scale.
    labels = Volume(read_labels(case, meant, task).array, channels[0].geometry)
    unlabelled = unlabelled_classes(labels, meant, task)
    names = {label.value: label.name for label in task.labels}
    for scale in scales:
        images = _magnified(channels, scale)
        shown = in_native_voxels(images, task) if meant.native_voxels else images
        found = Volume(segment(shown, model, how).labels.array, images[0].geometry)
        wanted = magnified_labels(labels, scale, len(names))
        yield from rows_of(case.name, scale, found, wanted, names, {*unlabelled, *vanished(labels, wanted)})


def vanished(before: Volume, after: Volume) -> set[int]:
    """The classes of which a change of scale or voxels left nothing: to find nothing of them is no merit."""
    return set(np.unique(before.array).tolist()) - set(np.unique(after.array).tolist())


def rows_of(
    case: str, scale: float, found: Volume, wanted: Volume, names: Mapping[int, str], left_out: Collection[int]
) -> Iterator[Row]:
    """A row for each class, with figures of those that are not left out."""
    measured = compare_classes(found, wanted, {value: name for value, name in names.items() if value not in left_out})
    for name in names.values():
        if name in measured:
            distance = mean_hd95([measured[name].hd95], found.geometry)
            yield Row(case, scale, name, measured[name].dice, distance)
        else:
            yield Row(case, scale, name, math.nan, math.nan)


def _magnified(channels: Sequence[Volume], scale: float) -> list[Volume]:
    """All channels magnified about the centre of the first."""
    if scale == 1:
        return list(channels)
    return [magnified(resample(channel, channels[0].geometry), scale) for channel in channels]


def summary(rows: Sequence[Row]) -> dict[str, float]:
    """Means over cases, of each class and over classes, at each scale; a class that no case was measured for is left
    out."""
    figures: dict[str, float] = {}
    for scale in dict.fromkeys(row.scale for row in rows):
        at_scale = [row for row in rows if row.scale == scale and not math.isnan(row.dice)]
        figures |= {f"{key}@{scale:g}": value for key, value in _summary_at_scale(at_scale).items()}
    return figures


def _summary_at_scale(rows: Sequence[Row]) -> dict[str, float]:
    if not rows:
        return {}
    dice = _means((row.label, row.dice) for row in rows)
    hd95 = _means((row.label, row.hd95) for row in rows)
    return {
        "dice.mean": float(np.mean(list(dice.values()))),
        "dice.worst_case": min(_means((row.case, row.dice) for row in rows).values()),
        **{f"dice.{name}": value for name, value in dice.items()},
        "hd95.mean": float(np.mean(list(hd95.values()))),
        **{f"hd95.{name}": value for name, value in hd95.items()},
    }


def _means(entries: Iterable[tuple[str, float]]) -> dict[str, float]:
    values: dict[str, list[float]] = {}
    for key, value in entries:
        values.setdefault(key, []).append(value)
    return {key: float(np.mean(of_key)) for key, of_key in values.items()}
