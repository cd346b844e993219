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
    """Show each side's segmentations in its own views, and no others there; other views show what they did."""
    scene = volume.GetScene()
    end_side_by_side(scene)
    show_layout(SIDE_BY_SIDE_LAYOUT)
    for side in sides:
        for node in side.segmentations:
            node.CreateDefaultDisplayNodes()  # a script may have made it without
    others = _other_views(scene)
    halves = [_views(scene, name) for name in COMPARED_VIEWS]
    for node in _segmentations(scene):
        half_ids = [
            view.GetID()
            for views, side in zip(halves, sides, strict=True)
            for view in views
            if node in side.segmentations
        ]
        _show_only_in([*others, *half_ids], node)
    for side, views in zip(sides, halves, strict=True):
        _show_whole(side.segmentations[0])
        for view in views:
            view.SetLayoutLabel(side.title)
        views[1].SetLinkedControl(True)
    _look_at(volume, [side.segmentations[0] for side in sides])


def end_side_by_side(scene: slicer.vtkMRMLScene) -> None:
    """Show every segmentation again as before it was compared, and as others have shown or hidden it since."""
    for display in map(slicer.vtkMRMLSegmentationNode.GetDisplayNode, _segmentations(scene)):
        if not display.GetAttribute(_SHOWN_BEFORE):
            continue
        before = json.loads(display.GetAttribute(_SHOWN_BEFORE))
        display.RemoveAttribute(_SHOWN_BEFORE)
        display.SetViewNodeIDs(before["views"])
        # Only what was switched on here is switched off: the rest is as somebody wanted it.
        if before.get("hidden"):
            display.SetVisibility(False)
        if before.get("hidden3D"):
            display.SetVisibility3D(False)


def are_side_by_side(scene: slicer.vtkMRMLScene, sides: Sequence[Side]) -> bool:
    """Whether each half shows what its side has; what has come since stays where it is."""
    for name, side in zip(COMPARED_VIEWS, sides, strict=True):
        slice_view, _three_d_view = _views(scene, name)
        placed = [node for node in _segmentations(scene) if node.GetDisplayNode().GetAttribute(_SHOWN_BEFORE)]
        shown = {node.GetID() for node in placed if node.GetDisplayNode().IsDisplayableInView(slice_view.GetID())}
        if shown != {node.GetID() for node in side.segmentations}:
            return False
    return True


def _segmentations(scene: slicer.vtkMRMLScene) -> list[slicer.vtkMRMLSegmentationNode]:
    """All that can be shown."""
    nodes = slicer.util.getNodesByClass("vtkMRMLSegmentationNode", scene)
    return [node for node in nodes if node.GetDisplayNode() is not None]


def _show_only_in(views: Sequence[str], segmentation: slicer.vtkMRMLSegmentationNode) -> None:
    display = segmentation.GetDisplayNode()
    display.SetAttribute(_SHOWN_BEFORE, json.dumps({"views": list(display.GetViewNodeIDs())}))
    display.SetViewNodeIDs(views)


def _show_whole(segmentation: slicer.vtkMRMLSegmentationNode) -> None:
    display = segmentation.GetDisplayNode()
    before = json.loads(display.GetAttribute(_SHOWN_BEFORE))
    before |= {"hidden": not display.GetVisibility(), "hidden3D": not display.GetVisibility3D()}
    display.SetAttribute(_SHOWN_BEFORE, json.dumps(before))
    segmentation.CreateClosedSurfaceRepresentation()
    display.SetVisibility(True)
    display.SetVisibility3D(True)


def _look_at(volume: slicer.vtkMRMLScalarVolumeNode, segmentations: Sequence[slicer.vtkMRMLSegmentationNode]) -> None:
    """Aim all views at the middle of the first segmentation that has one, unless they show this volume already."""
    centers = [_center_of(node) for node in segmentations]
    manager = slicer.app.layoutManager()
    logics = [manager.sliceWidget(name).sliceLogic() for name in COMPARED_VIEWS]
    if all(logic.GetSliceCompositeNode().GetBackgroundVolumeID() == volume.GetID() for logic in logics):
        return
    for logic in logics:
        _show_slice(volume, logic, centers[0] or centers[1])
    for number in range(manager.threeDViewCount):
        widget = manager.threeDWidget(number)
        if widget.mrmlViewNode().GetSingletonTag() in COMPARED_VIEWS:
            widget.threeDView().resetFocalPoint()
            widget.threeDView().resetCamera()


def _show_slice(
    volume: slicer.vtkMRMLScalarVolumeNode,
    logic: slicer.vtkMRMLSliceLogic,
    center: tuple[float, float, float] | None,
) -> None:
    logic.GetSliceCompositeNode().SetBackgroundVolumeID(volume.GetID())
    logic.GetSliceCompositeNode().SetLinkedControl(True)
    logic.GetSliceNode().SetOrientation("Axial")
    logic.FitSliceToAll()
    if center:
        logic.GetSliceNode().JumpSliceByOffsetting(*center)


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
