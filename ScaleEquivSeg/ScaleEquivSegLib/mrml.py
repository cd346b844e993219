"""Between the engine's values and Slicer's scene: volumes out of nodes, results into nodes, the side-by-side layout."""

from __future__ import annotations

from collections.abc import Sequence

import slicer
import vtk

from .bundles import Label
from .volume import Geometry, Volume

SIDE_BY_SIDE_LAYOUT = 7301
"""Any number that no other layout uses."""
SIDE_BY_SIDE_VIEWS = ("ScaleEquivSegLeft", "ScaleEquivSegRight")
_VIEW_COLORS = ("#2A9D8F", "#E09F3E")


def volume_from_node(node: slicer.vtkMRMLScalarVolumeNode) -> Volume:
    """The node's voxels and grid, in the node's own coordinates: a parent transform is not applied."""
    matrix = vtk.vtkMatrix4x4()
    node.GetIJKToRASMatrix(matrix)
    array = slicer.util.arrayFromVolume(node)
    return Volume(array, Geometry(array.shape, slicer.util.arrayFromVTKMatrix(matrix)))


def import_segmentation(
    labels: Volume, classes: Sequence[Label], reference: slicer.vtkMRMLScalarVolumeNode, name: str
) -> slicer.vtkMRMLSegmentationNode:
    """Make a segmentation node from labels on the reference volume's grid; it goes where the reference goes."""
    scene = reference.GetScene()
    node = scene.AddNewNodeByClass("vtkMRMLSegmentationNode", scene.GenerateUniqueName(name))
    node.CreateDefaultDisplayNodes()
    node.SetReferenceImageGeometryParameterFromVolumeNode(reference)
    segment_ids = vtk.vtkStringArray()
    for label in classes:
        segment_id = f"Segment_{label.value}"
        color = [part / 255 for part in label.color]
        node.GetSegmentation().AddEmptySegment(segment_id, label.name, color)
        node.GetSegmentation().GetSegment(segment_id).SetTag(
            slicer.vtkSegment.GetTerminologyEntryTagName(), label.terminology_tag
        )
        segment_ids.InsertNextValue(segment_id)
    _import_labels(labels, node, segment_ids)
    node.SetAndObserveTransformNodeID(reference.GetTransformNodeID())
    _put_beside(node, reference)
    return node


def _import_labels(labels: Volume, node: slicer.vtkMRMLSegmentationNode, segment_ids: vtk.vtkStringArray) -> None:
    """Import all classes at once: label k goes to the k-th segment even when a class is absent."""
    labelmap = slicer.util.addVolumeFromArray(
        labels.array, labels.geometry.ijk_to_ras, nodeClassName="vtkMRMLLabelMapVolumeNode"
    )
    try:
        logic = slicer.modules.segmentations.logic()
        if not logic.ImportLabelmapToSegmentationNode(labelmap, node, segment_ids):
            raise RuntimeError("Slicer could not import the labels into a segmentation.")
    finally:
        node.GetScene().RemoveNode(labelmap)


def _put_beside(node: slicer.vtkMRMLNode, reference: slicer.vtkMRMLNode) -> None:
    """Into the same folder or study of the subject hierarchy as the reference."""
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(node.GetScene())
    item, beside = hierarchy.GetItemByDataNode(node), hierarchy.GetItemByDataNode(reference)
    if item and beside:
        hierarchy.SetItemParent(item, hierarchy.GetItemParent(beside))


def reference_volume(node: slicer.vtkMRMLSegmentationNode) -> slicer.vtkMRMLScalarVolumeNode | None:
    """The volume a segmentation was made from, None if it is gone."""
    return node.GetNodeReference(slicer.vtkMRMLSegmentationNode.GetReferenceImageGeometryReferenceRole())


def show_closed_surfaces(nodes: Sequence[slicer.vtkMRMLSegmentationNode], visible: bool) -> None:
    """Show segmentations in the 3D views, or no longer."""
    for node in nodes:
        if visible:
            node.CreateClosedSurfaceRepresentation()
        node.GetDisplayNode().SetVisibility3D(visible)


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
