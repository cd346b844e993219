"""Noticing that a volume, a segmentation or a region is edited, wherever in Slicer, and marking what was measured of it
as out of date."""

from __future__ import annotations

import slicer
import vtk

from ..mrml.contents import Contents, Source, contents_of, edited_since
from ..mrml.products import mark_edited_unseen, mark_out_of_date, mark_products_out_of_date
from .desk import Desk
from .segmenting import VOLUMES_ML
from .watching import Watch

WATCHED = ("vtkMRMLScalarVolumeNode", "vtkMRMLSegmentationNode", "vtkMRMLMarkupsROINode")
EVENTS = (
    vtk.vtkCommand.ModifiedEvent,
    slicer.vtkMRMLVolumeNode.ImageDataModifiedEvent,
    slicer.vtkMRMLTransformableNode.TransformModifiedEvent,
    slicer.vtkSegmentation.SourceRepresentationModified,
    slicer.vtkSegmentation.SegmentAdded,
    slicer.vtkSegmentation.SegmentRemoved,
    slicer.vtkSegmentation.SegmentModified,
    slicer.vtkSegmentation.SegmentsOrderModified,
    slicer.vtkMRMLMarkupsNode.PointModifiedEvent,
)
"""All that may come with an edit; whether it was one, the contents tell."""


class Edits:
    """Nothing is measured anew here: that may take long, and an edit seldom comes alone."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._watch = Watch(self._on_event, EVENTS)
        self._contents: dict[Source, Contents] = {}

    def refresh(self) -> None:
        """Watch all there are."""
        nodes: list[Source] = []
        if self._desk.parameters is not None:
            nodes = [node for kind in WATCHED for node in slicer.util.getNodesByClass(kind)]
        if unseen := [node for node in nodes if node not in self._contents]:
            mark_edited_unseen(unseen)
        self._contents = {node: self._contents.get(node) or contents_of(node) for node in nodes}
        self._watch.watch(nodes)

    def _on_event(self) -> None:
        for node in edited_since(self._contents):
            self._contents[node] = contents_of(node)
            mark_products_out_of_date(node)
            if node.GetAttribute(VOLUMES_ML):
                mark_out_of_date(node)
            self._desk.changed_soon()
