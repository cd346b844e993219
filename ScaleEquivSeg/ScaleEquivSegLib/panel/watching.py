"""Looking again when a chosen node changes: its voxels, its place, its frame."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import slicer
import vtk
from slicer.util import VTKObservationMixin

EVENTS = (
    vtk.vtkCommand.ModifiedEvent,
    slicer.vtkMRMLVolumeNode.ImageDataModifiedEvent,
    slicer.vtkMRMLTransformableNode.TransformModifiedEvent,
)
"""Not how a node is displayed: who drags brightness about should not wait for us."""


class Watch(VTKObservationMixin):
    """Calls `on_change` for what happens to the voxels, the place or the frame of the nodes watched last, or for other
    events."""

    def __init__(self, on_change: Callable[[], None], events: Sequence[int] = EVENTS) -> None:
        super().__init__()
        self._on_change = on_change
        self._events = events
        self._watched: list[slicer.vtkMRMLNode] = []

    def watch(self, nodes: Sequence[slicer.vtkMRMLNode]) -> None:
        """Watch these nodes, and no others any more."""
        if list(nodes) != self._watched:
            self.removeObservers()
            self._watched = list(nodes)
            for node in dict.fromkeys(nodes):
                for event in self._events:
                    self.addObserver(node, event, self._on_event)

    def _on_event(self, caller: slicer.vtkMRMLNode, event: str) -> None:
        self._on_change()
