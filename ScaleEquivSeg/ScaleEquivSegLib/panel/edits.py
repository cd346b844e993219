"""Noticing that a segmentation is edited, wherever in Slicer, and marking what was measured of it as out of date."""

from __future__ import annotations

import slicer
import vtk

from ..mrml.contents import Contents, contents_of
from ..mrml.products import mark_out_of_date, products_of
from .desk import Desk
from .segmenting import VOLUMES_ML
from .watching import Watch

EVENTS = (
    vtk.vtkCommand.ModifiedEvent,
    slicer.vtkMRMLTransformableNode.TransformModifiedEvent,
    slicer.vtkSegmentation.SourceRepresentationModified,
    slicer.vtkSegmentation.SegmentAdded,
    slicer.vtkSegmentation.SegmentRemoved,
    slicer.vtkSegmentation.SegmentModified,
    slicer.vtkSegmentation.SegmentsOrderModified,
)
"""All that may come with an edit; whether it was one, the contents tell."""


class Edits:
    """Nothing is measured anew here: that may take long, and an edit seldom comes alone."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._watch = Watch(self._on_event, EVENTS)
        self._contents: dict[slicer.vtkMRMLSegmentationNode, Contents] = {}

    def refresh(self) -> None:
        """Watch all segmentations there are."""
        none = self._desk.parameters is None
        nodes = [] if none else slicer.util.getNodesByClass("vtkMRMLSegmentationNode")
        self._contents = {node: self._contents.get(node) or contents_of(node) for node in nodes}
        self._watch.watch(nodes)

    def _on_event(self) -> None:
        for node, before in list(self._contents.items()):
            now = contents_of(node)
            if now != before:
                self._contents[node] = now
                for made in products_of(node):
                    mark_out_of_date(made)
                if node.GetAttribute(VOLUMES_ML):
                    mark_out_of_date(node)
                self._desk.changed_soon()
