"""One volume shown twice, each time with what one network has found in it, in linked slice and 3D views."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import slicer

from .layouts import COMPARED_VIEWS, SIDE_BY_SIDE_LAYOUT, show_layout
from .segmentations import ATTRIBUTES

_SHOWN_BEFORE = f"{ATTRIBUTES}ShownBefore"
"""How a segmentation was shown before it was compared; kept with it, whatever becomes of scene and panel."""


@dataclass(frozen=True)
class Side:
    """What one half of the layout shows; the first segmentation has its surface shown below."""

    title: str
    segmentations: Sequence[slicer.vtkMRMLSegmentationNode]


def show_side_by_side(volume: slicer.vtkMRMLScalarVolumeNode, sides: Sequence[Side]) -> None:
    """Show each side's segmentations in its own views alone, at the middle of the first that has one."""
    end_side_by_side(volume.GetScene())
    show_layout(SIDE_BY_SIDE_LAYOUT)
    centers = [_center_of(side.segmentations[0]) for side in sides]
    center = centers[0] or centers[1]
    for name, side in zip(COMPARED_VIEWS, sides, strict=True):
        slice_view, three_d_view = _views(volume.GetScene(), name)
        for view in (slice_view, three_d_view):
            view.SetLayoutLabel(side.title)
        views = [*_other_views(volume.GetScene()), slice_view.GetID(), three_d_view.GetID()]
        for number, segmentation in enumerate(side.segmentations):
            _show_only_in(views, segmentation, as_surface=number == 0)
        three_d_view.SetLinkedControl(True)
        _show_slice(volume, name, center)
    _look_at_all()


def end_side_by_side(scene: slicer.vtkMRMLScene) -> None:
    """Show every segmentation again as before it was compared."""
    for node in compared_segmentations(scene):
        display = node.GetDisplayNode()
        before = json.loads(display.GetAttribute(_SHOWN_BEFORE))
        display.RemoveAttribute(_SHOWN_BEFORE)
        display.SetViewNodeIDs(before["views"])
        display.SetVisibility(before["visible"])
        display.SetVisibility3D(before["visible3D"])


def compared_segmentations(scene: slicer.vtkMRMLScene) -> list[slicer.vtkMRMLSegmentationNode]:
    """What has views of its own at present."""
    nodes = slicer.util.getNodesByClass("vtkMRMLSegmentationNode", scene)
    return [n for n in nodes if n.GetDisplayNode() is not None and n.GetDisplayNode().GetAttribute(_SHOWN_BEFORE)]


def _show_only_in(views: Sequence[str], segmentation: slicer.vtkMRMLSegmentationNode, as_surface: bool) -> None:
    segmentation.CreateDefaultDisplayNodes()
    display = segmentation.GetDisplayNode()
    before = {
        "views": list(display.GetViewNodeIDs()),
        "visible": bool(display.GetVisibility()),
        "visible3D": bool(display.GetVisibility3D()),
    }
    display.SetAttribute(_SHOWN_BEFORE, json.dumps(before))
    display.SetViewNodeIDs(views)
    if as_surface:
        segmentation.CreateClosedSurfaceRepresentation()
        display.SetVisibility(True)
        display.SetVisibility3D(True)


def _show_slice(volume: slicer.vtkMRMLScalarVolumeNode, name: str, center: tuple[float, float, float] | None) -> None:
    logic = slicer.app.layoutManager().sliceWidget(name).sliceLogic()
    logic.GetSliceCompositeNode().SetBackgroundVolumeID(volume.GetID())
    logic.GetSliceCompositeNode().SetLinkedControl(True)
    logic.GetSliceNode().SetOrientation("Axial")
    logic.FitSliceToAll()
    if center:
        logic.GetSliceNode().JumpSliceByOffsetting(*center)


def _look_at_all() -> None:
    """Aim the cameras of our 3D views at what they show."""
    manager = slicer.app.layoutManager()
    for number in range(manager.threeDViewCount):
        widget = manager.threeDWidget(number)
        if widget.mrmlViewNode().GetSingletonTag() in COMPARED_VIEWS:
            widget.threeDView().resetFocalPoint()
            widget.threeDView().resetCamera()


def _views(scene: slicer.vtkMRMLScene, name: str) -> tuple[Any, Any]:
    """The slice view and the 3D view of a half."""
    return scene.GetSingletonNode(name, "vtkMRMLSliceNode"), scene.GetSingletonNode(name, "vtkMRMLViewNode")


def _other_views(scene: slicer.vtkMRMLScene) -> list[str]:
    """The ids of all slice and 3D views but those that compare."""
    views = slicer.util.getNodesByClass("vtkMRMLAbstractViewNode", scene)
    return [view.GetID() for view in views if view.GetSingletonTag() not in COMPARED_VIEWS]


def _center_of(segmentation: slicer.vtkMRMLSegmentationNode) -> tuple[float, float, float] | None:
    """The middle of a segmentation's box in the world, None if it is empty."""
    bounds = [0.0] * 6
    segmentation.GetRASBounds(bounds)
    if bounds[0] > bounds[1]:
        return None
    return (bounds[0] + bounds[1]) / 2, (bounds[2] + bounds[3]) / 2, (bounds[4] + bounds[5]) / 2
