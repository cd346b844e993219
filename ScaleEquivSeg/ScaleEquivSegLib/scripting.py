"""The module for scripts: the same work as the panel's, done here and now instead of beside Slicer.
`ScaleEquivSegLogic` passes its calls on to here."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeAlias

import slicer

from .answers import Models, Progress, answer, free_device_memory
from .bundles import bundle_named, bundles_named
from .mrml.all_or_nothing import all_or_nothing
from .mrml.products import earlier_product
from .panel.comparing import Compared, Comparing
from .panel.job import Work
from .panel.models import added_folders
from .panel.probing import CHART, TABLE, Probed, Probing
from .panel.segmenting import Result, Segmenting, Target
from .request import request_from

Volumes: TypeAlias = "slicer.vtkMRMLScalarVolumeNode | Sequence[slicer.vtkMRMLScalarVolumeNode]"
"""A volume, or one for each channel in the order of the bundle's card."""


def segment(
    volumes: Volumes,
    bundle: str | Path,
    region: slicer.vtkMRMLMarkupsROINode | None,
    output: slicer.vtkMRMLSegmentationNode | None,
    progress: Progress,
    settings: dict[str, Any],
) -> slicer.vtkMRMLSegmentationNode:
    """What a bundle finds in volumes, in a new segmentation or in place of what an existing one holds."""
    target = Target(bundle_named(bundle, folders=added_folders()), output)
    results: list[Result] = []
    _do(Segmenting(_each(volumes), region, [target], settings, results.extend), progress)
    return results[0].node


def compare(
    a: slicer.vtkMRMLSegmentationNode,
    b: slicer.vtkMRMLSegmentationNode,
    reference: slicer.vtkMRMLSegmentationNode | None,
    volume: slicer.vtkMRMLScalarVolumeNode | None,
    progress: Progress,
) -> tuple[slicer.vtkMRMLTableNode, list[slicer.vtkMRMLSegmentationNode]]:
    """The table of figures, and the maps: of agreement and, if there is a reference, of the errors of each."""
    compared = Compared.of(a, b, reference, volume)
    _do(Comparing(compared), progress)
    return compared.figures, [compared.agreement, *compared.errors]


def sweep(
    volumes: Volumes,
    bundles: str | Path | Sequence[str | Path],
    scales: Sequence[float],
    reference: slicer.vtkMRMLSegmentationNode | None,
    region: slicer.vtkMRMLMarkupsROINode | None,
    progress: Progress,
    settings: dict[str, Any],
) -> tuple[slicer.vtkMRMLTableNode, slicer.vtkMRMLPlotChartNode]:
    """The table of Dice by scale and its chart, which no view is made to show."""
    probed = Probed(_each(volumes), reference, region)
    found = bundles_named([bundles] if isinstance(bundles, str | Path) else bundles, added_folders())
    _do(Probing(probed, found, [float(scale) for scale in scales], settings, lambda chart: None), progress)
    return earlier_product(TABLE, probed.nodes), earlier_product(CHART, probed.nodes)


def _each(volumes: Volumes) -> list[slicer.vtkMRMLScalarVolumeNode]:
    return list(volumes) if isinstance(volumes, Sequence) else [volumes]


def _do(work: Work, progress: Progress) -> None:
    """Answer what the panel would ask its worker, then bring all of it into the scene; an error leaves nothing."""
    models = Models()
    with tempfile.TemporaryDirectory(prefix="ScaleEquivSeg-", ignore_cleanup_errors=True) as folder:
        replies = [
            answer(request_from({**request.content, "id": ""}), models, progress)
            for request in work.requests(Path(folder))
        ]
        free_device_memory()
        with all_or_nothing(slicer.mrmlScene):
            notes = work.finish(replies)
        for note in notes:
            logging.warning(note)
