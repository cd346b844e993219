"""The layout that shows one volume twice, each time with another segmentation."""

from __future__ import annotations

from collections.abc import Sequence

import slicer

SIDE_BY_SIDE_LAYOUT = 7301
"""Any number that no other layout uses."""
SIDE_BY_SIDE_VIEWS = ("ScaleEquivSegLeft", "ScaleEquivSegRight")
_VIEW_COLORS = ("#2A9D8F", "#E09F3E")


def show_side_by_side(
    volume: slicer.vtkMRMLScalarVolumeNode,
    segmentations: Sequence[tuple[str, slicer.vtkMRMLSegmentationNode]],
) -> None:
    """Two linked slice views of one volume, each with one titled segmentation, at the middle of the first."""
    titles = [title for title, _ in segmentations]
    manager = slicer.app.layoutManager()
    layout = manager.layoutLogic().GetLayoutNode()
    description = _layout_description(titles)
    if not layout.SetLayoutDescription(SIDE_BY_SIDE_LAYOUT, description):
        layout.AddLayoutDescription(SIDE_BY_SIDE_LAYOUT, description)
    manager.setLayout(SIDE_BY_SIDE_LAYOUT)
    _free_compared_views(volume.GetScene())
    center = _center_of(segmentations[0][1]) or _center_of(segmentations[1][1])
    for view, title, (_, segmentation) in zip(SIDE_BY_SIDE_VIEWS, titles, segmentations, strict=True):
        logic = manager.sliceWidget(view).sliceLogic()
        logic.GetSliceCompositeNode().SetBackgroundVolumeID(volume.GetID())
        logic.GetSliceCompositeNode().SetLinkedControl(True)
        slice_node = logic.GetSliceNode()
        slice_node.SetLayoutLabel(title)
        slice_node.SetOrientation("Axial")
        segmentation.GetDisplayNode().SetViewNodeIDs([*_other_views(volume.GetScene()), slice_node.GetID()])
        logic.FitSliceToAll()
        if center:
            slice_node.JumpSliceByOffsetting(*center)


def _other_views(scene: slicer.vtkMRMLScene) -> list[str]:
    """The ids of all slice and 3D views but the two that compare."""
    views = slicer.util.getNodesByClass("vtkMRMLAbstractViewNode", scene)
    return [view.GetID() for view in views if view.GetSingletonTag() not in SIDE_BY_SIDE_VIEWS]


def _free_compared_views(scene: slicer.vtkMRMLScene) -> None:
    """Take what an earlier comparison has put into the two views out of them; it stays in all others."""
    compared = {scene.GetSingletonNode(tag, "vtkMRMLSliceNode").GetID() for tag in SIDE_BY_SIDE_VIEWS}
    for node in slicer.util.getNodesByClass("vtkMRMLSegmentationNode", scene):
        display = node.GetDisplayNode()
        if display is not None and set(display.GetViewNodeIDs()) & compared:
            display.SetViewNodeIDs(_other_views(scene))


def _layout_description(titles: Sequence[str]) -> str:
    views = "".join(
        f'<item><view class="vtkMRMLSliceNode" singletontag="{tag}">'
        '<property name="orientation" action="default">Axial</property>'
        f'<property name="viewlabel" action="default">{title}</property>'
        f'<property name="viewcolor" action="default">{color}</property>'
        "</view></item>"
        for tag, title, color in zip(SIDE_BY_SIDE_VIEWS, titles, _VIEW_COLORS, strict=True)
    )
    return f'<layout type="horizontal">{views}</layout>'


def _center_of(segmentation: slicer.vtkMRMLSegmentationNode) -> tuple[float, float, float] | None:
    """The middle of a segmentation's box in the world, None if it is empty."""
    bounds = [0.0] * 6
    segmentation.GetRASBounds(bounds)
    if bounds[0] > bounds[1]:
        return None
    return (bounds[0] + bounds[1]) / 2, (bounds[2] + bounds[3]) / 2, (bounds[4] + bounds[5]) / 2
