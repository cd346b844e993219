"""One volume shown twice, each time with what one network has found in it, in linked slice and 3D views."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import slicer
import vtk

from .layouts import COMPARED_VIEWS, SIDE_BY_SIDE_LAYOUT, show_layout
from .segmentations import ATTRIBUTES

_LOOKED_AT = f"{ATTRIBUTES}LookedAt"
"""The id of the volume at which the views were aimed, kept with the first of them while two are side by side."""
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
    show_as_before(scene)
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
    """Show every segmentation as before; whoever compares again looks at it anew."""
    show_as_before(scene)
    first, _three_d_view = _views(scene, COMPARED_VIEWS[0])
    if first is not None:
        first.RemoveAttribute(_LOOKED_AT)


def show_as_before(scene: slicer.vtkMRMLScene) -> None:
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


def has_surfaces_shown(segmentation: slicer.vtkMRMLSegmentationNode) -> bool:
    """Whether its surfaces are shown in 3D views, and not only side by side."""
    surfaces = slicer.vtkSegmentationConverter.GetClosedSurfaceRepresentationName()
    display = segmentation.GetDisplayNode()
    if display is None or not segmentation.GetSegmentation().ContainsRepresentation(surfaces):
        return False
    is_passing = json.loads(display.GetAttribute(_SHOWN_BEFORE) or "{}").get("hidden3D")
    return bool(display.GetVisibility3D()) and not is_passing


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
    """Aim all views at what the segmentations hold, unless they are aimed at this volume already.

    That they show it says nothing: Slicer shows a volume that is loaded in all slice views.
    """
    manager = slicer.app.layoutManager()
    logics = [manager.sliceWidget(name).sliceLogic() for name in COMPARED_VIEWS]
    first = logics[0].GetSliceNode()
    shown = {logic.GetSliceCompositeNode().GetBackgroundVolumeID() for logic in logics}
    if shown == {volume.GetID()} and first.GetAttribute(_LOOKED_AT) == volume.GetID():
        return
    first.SetAttribute(_LOOKED_AT, volume.GetID())
    boxes = [box for box in map(_box_around, segmentations) if box.IsValid()]
    for logic in logics:
        _show_slice(volume, logic, _middle(boxes[0]) if boxes else None)
    if boxes:
        views = [
            three_d_view for _slice_view, three_d_view in (_views(volume.GetScene(), name) for name in COMPARED_VIEWS)
        ]
        _show_alike(boxes, views)


def _show_alike(boxes: Sequence[vtk.vtkBoundingBox], views: Sequence[slicer.vtkMRMLViewNode]) -> None:
    """Show all boxes in every 3D view, whole and at one scale, from where the first view is seen."""
    whole = vtk.vtkBoundingBox()
    for box in boxes:
        whole.AddBox(box)
    middle, radius = np.array(_middle(whole)), whole.GetDiagonalLength() / 2
    cameras = [slicer.modules.cameras.logic().GetViewActiveCameraNode(view) for view in views]
    first = cameras[0]
    towards_eye = np.subtract(first.GetPosition(), first.GetFocalPoint())
    towards_eye /= np.linalg.norm(towards_eye)
    for camera in cameras:
        distance = radius / math.sin(math.radians(camera.GetViewAngle()) / 2)
        with slicer.util.NodeModify(camera):
            camera.SetViewUp(first.GetViewUp())
            camera.SetFocalPoint(middle)
            camera.SetPosition(middle + distance * towards_eye)
            camera.SetParallelScale(radius)
        camera.ResetClippingRange()


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


def _box_around(segmentation: slicer.vtkMRMLSegmentationNode) -> vtk.vtkBoundingBox:
    """The box in the world of a segmentation's surfaces, not valid if it has none."""
    # The segmentation's own bounds are those of the image that its segments are drawn in.
    box, surface = vtk.vtkBoundingBox(), vtk.vtkPolyData()
    logic = slicer.vtkSlicerSegmentationsModuleLogic
    for segment_id in segmentation.GetSegmentation().GetSegmentIDs():
        if logic.GetSegmentClosedSurfaceRepresentation(segmentation, segment_id, surface):
            box.AddBounds(surface.GetBounds())
    return box


def _middle(box: vtk.vtkBoundingBox) -> tuple[float, float, float]:
    center = [0.0] * 3
    box.GetCenter(center)
    return (center[0], center[1], center[2])
